//! What the configuration of the enclave names must be there on this machine.

use super::Configuration;
use blindferry_configuration::{Checks, Faults, Severity, Source};
use blindferry_proto::platform::DeviceProcess;
use std::path::Path;

/// Everything that is wrong with the file at `path`, of whose enclave `own` is the executable. Changes nothing.
#[must_use]
pub fn check(path: &Path, own: Option<&Path>) -> Faults {
    let source = match Source::read(path) {
        Ok(source) => source,
        Err(faults) => return faults,
    };
    match source.parse::<Configuration>() {
        Ok(configuration) => on_this_machine(&source, &configuration, own),
        Err(faults) => faults,
    }
}

fn on_this_machine(source: &Source, configuration: &Configuration, own: Option<&Path>) -> Faults {
    let mut checks = Checks::of(source);
    checks.apart(("listen", configuration.listen), ("public", configuration.public));
    if let Some(page) = &configuration.page {
        checks.apart(("listen", configuration.listen), ("page.listen", page.listen()));
        checks.apart(("public", configuration.public), ("page.listen", page.listen()));
    }
    checks.directory_of("store", &configuration.store);
    if let Ok(vault) = configuration.vault(own) {
        checks.executable("vault", &vault);
    }
    match configuration.device_process(Path::exists) {
        Ok(platform) => {
            if let Ok(device) = configuration.device(&platform, own) {
                checks.executable("device", &device);
            }
            if let DeviceProcess::Tpm { tcti, pins, .. } = &platform {
                checks.tpm(tcti, pins);
            }
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let fix = "give `tcti` and `pins`, or run it in an SEV-SNP guest";
            checks.say(Severity::Error, "platform", error.to_string(), cause, fix);
        }
    }
    if let Some(cause) = configuration.traces.and_then(|traces| traces.endpoint.exposed()) {
        let problem = "`traces.endpoint` is not on this machine".to_owned();
        let fix = "send to a collector on this machine, which sends on by TLS";
        checks.say(Severity::Warning, "traces.endpoint", problem, Some(cause), fix);
    }
    checks.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_configuration::unexplained;
    use std::fs;

    #[test]
    fn the_example_is_a_configuration_and_explains_every_key() {
        let example = include_str!("../../../../deploy/configuration/enclave.toml");
        assert_eq!(unexplained::<Configuration>(example).unwrap_or_else(|faults| panic!("{faults}")), [""; 0]);
    }

    fn checked(change: impl FnOnce(String) -> String) -> Faults {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display();
        let path = directory.path().join("enclave.toml");
        fs::write(directory.path().join("pins.toml"), "").unwrap();
        let text = format!(
            "listen = \"127.0.0.1:7443\"\npublic = \"127.0.0.1:7480\"\nstore = \"{place}/store.redb\"\n\
             tcti = \"swtpm:host=127.0.0.1,port=1\"\npins = \"{place}/pins.toml\"\nvault = \"/bin/sh\"\ndevice = \"/bin/sh\"\n"
        );
        fs::write(&path, change(text)).unwrap();
        check(&path, None)
    }

    #[test]
    fn what_can_start_is_in_order_and_what_cannot_is_told_with_its_line() {
        assert_eq!(checked(|text| text).faults, []);
        for (right, wrong, line, word) in [
            ("7480", "7443", 2, "same port"),
            ("/store.redb", "/none/store.redb", 3, "not there"),
            ("/pins.toml", "/none.toml", 5, "not there"),
            ("vault = \"/bin/sh\"", "vault = \"/etc/passwd\"", 6, "cannot be executed"),
            ("swtpm:host=127.0.0.1,port=1", "device:/dev/none", 4, "not there"),
            ("listen", "listem", 1, "unknown key"),
            ("device = \"/bin/sh\"", "device = \"/bin/sh\"\n[page]\nlisten = \"127.0.0.1:7480\"", 9, "same port"),
            ("device = \"/bin/sh\"", "device = \"/bin/sh\"\n[page]\nlisten = \"192.0.2.1:7490\"", 8, "TLS proxy"),
        ] {
            let faults = checked(|text| text.replacen(right, wrong, 1)).fatal().unwrap_err();
            let [fault] = faults.faults.as_slice() else { panic!("{faults}") };
            assert_eq!(fault.place.as_ref().map(|place| place.line), Some(line), "{faults}");
            assert!(fault.problem.contains(word) && fault.fix.is_some(), "{faults}");
        }
        let faults = checked(|text| text.replace("pins =", "# pins"));
        assert!(faults.to_string().contains("a TPM takes both"), "{faults}");
    }
}
