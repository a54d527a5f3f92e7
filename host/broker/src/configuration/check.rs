//! What the configuration of the broker names must be there on this machine.

use super::Configuration;
use blindferry_configuration::{Checks, Faults, Severity, Source};
use blindferry_proto::causes::with_causes;
use blindferry_proto::limits::MAX_DOCUMENT;
use blindferry_proto::platform::DeviceProcess;
use blindferry_session::VaultReference;
use blindferry_session::client::VaultReferenceError;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Everything that is wrong with the file at `path`. Changes nothing.
#[must_use]
pub fn check(path: &Path) -> Faults {
    let source = match Source::read(path) {
        Ok(source) => source,
        Err(faults) => return faults,
    };
    match source.parse::<Configuration>() {
        Ok(configuration) => on_this_machine(&source, &configuration),
        Err(faults) => faults,
    }
}

fn on_this_machine(source: &Source, configuration: &Configuration) -> Faults {
    let mut checks = Checks::of(source);
    checks.file("vault_reference", &configuration.vault_reference);
    if let Some(error) = unusable_reference(&configuration.vault_reference) {
        let problem = format!("{} is not a vault's reference", configuration.vault_reference.display());
        let fix = "use the file that `blindferry init` wrote as --reference-out";
        checks.say(Severity::Error, "vault_reference", problem, Some(with_causes(&error)), fix);
    }
    checks.directory_of("parents", &configuration.parents);
    checks.directory_of("workers", &configuration.workers);
    if configuration.parents == configuration.workers {
        let problem = "`parents` and `workers` are the same socket".to_owned();
        checks.say(Severity::Error, "workers", problem, None, "give one another path");
    }
    match configuration.platform(Path::exists) {
        Ok(platform) => {
            checks.executable("device", &configuration.device(&platform));
            if let DeviceProcess::Tpm { tcti, pins, .. } = &platform {
                checks.tpm(tcti, pins);
            }
        }
        Err(error) => {
            let fix = "give `tcti` and `pins`, or run it in an SEV-SNP guest";
            checks.say(Severity::Error, "platform", error.to_string(), None, fix);
        }
    }
    if let Some(cause) = configuration.traces.and_then(|traces| traces.endpoint.exposed()) {
        let problem = "`traces.endpoint` is not on this machine".to_owned();
        let fix = "send to a collector on this machine, which sends on by TLS";
        checks.say(Severity::Warning, "traces.endpoint", problem, Some(cause), fix);
    }
    checks.done()
}

/// Why what can be read is no reference. What cannot be read was told already.
fn unusable_reference(path: &Path) -> Option<VaultReferenceError> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_DOCUMENT as u64).read_to_string(&mut text).ok()?;
    VaultReference::parse(&text).err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_configuration::unexplained;
    use std::fs;

    #[test]
    fn the_example_is_a_configuration_and_explains_every_key() {
        let example = include_str!("../../../../deploy/configuration/broker.toml");
        assert_eq!(unexplained::<Configuration>(example).unwrap_or_else(|faults| panic!("{faults}")), [""; 0]);
    }

    fn checked(change: impl FnOnce(String) -> String) -> Faults {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display();
        let path = directory.path().join("broker.toml");
        fs::write(directory.path().join("pins.toml"), "").unwrap();
        fs::write(directory.path().join("broken.toml"), "version = 1\n").unwrap();
        let reference = format!(
            "ak = \"000b{}\"\nversion = 1\nrole = \"vault\"\n[[tpm]]\nname = \"any\"\nfirmware = \"any\"\n\
             dangerously_accept_any_pcrs = \"a test\"\n",
            "7".repeat(64)
        );
        fs::write(directory.path().join("vault.toml"), reference).unwrap();
        let text = format!(
            "name = \"worker-7\"\nvault = \"vault.example:7443\"\nvault_reference = \"{place}/vault.toml\"\n\
             parents = \"{place}/p.sock\"\nworkers = \"{place}/w.sock\"\ndevice = \"/bin/sh\"\n\
             tcti = \"swtpm:host=127.0.0.1,port=1\"\npins = \"{place}/pins.toml\"\n"
        );
        fs::write(&path, change(text)).unwrap();
        check(&path)
    }

    #[test]
    fn what_can_start_is_in_order_and_what_cannot_is_told_with_its_line() {
        assert_eq!(checked(|text| text).faults, []);
        for (right, wrong, line, word) in [
            ("/vault.toml", "/none.toml", 3, "not there"),
            ("/vault.toml", "/broken.toml", 3, "not a vault's reference"),
            ("/p.sock", "/none/p.sock", 4, "not there"),
            ("/w.sock", "/p.sock", 5, "same socket"),
            ("/bin/sh", "/etc/passwd", 6, "cannot be executed"),
            ("/pins.toml", "/none.toml", 8, "not there"),
            ("vault.example:7443", "vault.example", 2, "not an address"),
        ] {
            let faults = checked(|text| text.replacen(right, wrong, 1)).fatal().unwrap_err();
            let [fault] = faults.faults.as_slice() else { panic!("{faults}") };
            assert_eq!(fault.place.as_ref().map(|place| place.line), Some(line), "{faults}");
            assert!(fault.problem.contains(word) && fault.fix.is_some(), "{faults}");
        }
    }
}
