//! What a configuration names must be there on this machine, and be kept from others.

use crate::fault::{Fault, Faults, Severity};
use crate::source::Source;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Questions about a configuration, each by the key that it is about. Nothing on the machine is changed.
#[derive(Debug)]
pub struct Checks<'a> {
    source: &'a Source,
    faults: Vec<Fault>,
}

impl<'a> Checks<'a> {
    /// Of the configuration that `source` is.
    #[must_use]
    pub fn of(source: &'a Source) -> Self {
        let mut checks = Self { source, faults: Vec::new() };
        checks.kept_from_others(None, source.path());
        checks
    }

    /// Something that is wrong with `key`.
    pub fn say(&mut self, severity: Severity, key: &str, problem: String, cause: Option<String>, fix: &str) {
        let place = self.source.place_of(key);
        self.faults.push(Fault { severity, place, problem, cause, fix: Some(fix.to_owned()) });
    }

    /// `key` names a file that is read, and that decides whom this service trusts.
    pub fn file(&mut self, key: &str, path: &Path) {
        let Some(metadata) = self.present(key, path, "make it, or name the one that is there") else { return };
        if metadata.is_file() {
            self.kept_from_others(Some(key), path);
        } else {
            let problem = format!("`{key}` is {}, which is no file", path.display());
            self.say(Severity::Error, key, problem, None, "name a file");
        }
    }

    /// The keys `tcti` and `pins`: how the TPM is reached, and which one it must be.
    pub fn tpm(&mut self, tcti: &str, pins: &Path) {
        if let Some(node) = tcti.strip_prefix("device:") {
            let _metadata = self.present("tcti", Path::new(node), "name the TPM that is there, such as /dev/tpmrm0");
        }
        if self.present("pins", pins, "make it: blindferry-device provision --tcti TCTI --pins FILE").is_some() {
            self.file("pins", pins);
        }
    }

    /// `key` names an executable.
    pub fn executable(&mut self, key: &str, path: &Path) {
        let Some(metadata) = self.present(key, path, "install it there, or name where it is") else { return };
        if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
            let problem = format!("`{key}` is {}, which cannot be executed", path.display());
            self.say(Severity::Error, key, problem, None, "name an executable");
        } else {
            self.kept_from_others(Some(key), path);
        }
    }

    /// `key` names a file that the service makes: the directory must be there.
    pub fn directory_of(&mut self, key: &str, path: &Path) {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(metadata) = self.present(key, directory, "make the directory, for the service's user") else { return };
        if !metadata.is_dir() {
            let problem = format!("`{key}` lies in {}, which is no directory", directory.display());
            self.say(Severity::Error, key, problem, None, "name a directory");
        } else if metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0 {
            self.say(
                Severity::Warning,
                key,
                format!("others can write to {}", directory.display()),
                Some(mode_of(&metadata)),
                "chmod go-w, so that nobody puts something else in its place",
            );
        }
    }

    /// Two addresses that one machine cannot listen on at once.
    pub fn apart(&mut self, (one, first): (&str, SocketAddr), (other, second): (&str, SocketAddr)) {
        let overlap = first.ip() == second.ip() || first.ip().is_unspecified() || second.ip().is_unspecified();
        if first.port() == second.port() && first.port() != 0 && overlap {
            let problem = format!("`{other}` and `{one}` are the same port");
            self.say(Severity::Error, other, problem, Some(format!("{first} and {second}")), "give one another port");
        }
    }

    /// All that is wrong, in the order of the file.
    #[must_use]
    pub fn done(mut self) -> Faults {
        self.faults.sort_by_key(|fault| (fault.severity, fault.place.as_ref().map_or(0, |place| place.line)));
        Faults { path: self.source.path().to_owned(), faults: self.faults }
    }

    fn present(&mut self, key: &str, path: &Path, fix: &str) -> Option<Metadata> {
        match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) => {
                // Whoever checks may be another user than the service.
                let severity =
                    if error.kind() == ErrorKind::PermissionDenied { Severity::Warning } else { Severity::Error };
                let problem = match error.kind() {
                    ErrorKind::NotFound => format!("{} is not there", path.display()),
                    _ => format!("{} cannot be looked at", path.display()),
                };
                self.say(severity, key, problem, Some(format!("`{key}` needs it: {error}")), fix);
                None
            }
        }
    }

    /// A file that others can change lets them say what it says.
    fn kept_from_others(&mut self, key: Option<&str>, path: &Path) {
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.is_file() && metadata.mode() & 0o022 != 0 {
            let place = key.and_then(|key| self.source.place_of(key));
            self.faults.push(Fault {
                severity: Severity::Warning,
                place,
                problem: format!("others can change {}", path.display()),
                cause: Some(mode_of(&metadata)),
                fix: Some(format!("chmod go-w {}", PathBuf::from(path).display())),
            });
        }
    }
}

fn mode_of(metadata: &Metadata) -> String {
    format!("its mode is {:04o}", metadata.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn asked(ask: impl FnOnce(&mut Checks<'_>, &Path)) -> Vec<(Severity, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        fs::write(&path, "store = \"x\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let source = Source::read(&path).unwrap();
        let mut checks = Checks::of(&source);
        ask(&mut checks, directory.path());
        checks.done().faults.into_iter().map(|fault| (fault.severity, fault.problem)).collect()
    }

    #[test]
    fn what_is_in_order_is_not_spoken_of() {
        let said = asked(|checks, directory| {
            checks.file("store", &directory.join("a.toml"));
            checks.directory_of("store", &directory.join("new"));
            checks.executable("store", Path::new("/bin/sh"));
            checks.apart(("a", "127.0.0.1:1".parse().unwrap()), ("b", "127.0.0.1:2".parse().unwrap()));
        });
        assert_eq!(said, []);
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_an_error_with_its_line() {
        let said = asked(|checks, directory| {
            checks.file("store", &directory.join("none"));
            checks.file("store", directory);
            checks.directory_of("store", &directory.join("none/new"));
            checks.directory_of("store", &directory.join("a.toml/new"));
            checks.executable("store", &directory.join("a.toml"));
            checks.apart(("a", "0.0.0.0:1".parse().unwrap()), ("b", "127.0.0.1:1".parse().unwrap()));
            assert!(checks.faults.iter().take(5).all(|fault| fault.place.as_ref().is_some_and(|p| p.line == 1)));
        });
        assert_eq!(said.len(), 6, "{said:?}");
        assert!(said.iter().all(|(severity, _)| *severity == Severity::Error), "{said:?}");
    }

    #[test]
    fn what_others_can_change_is_a_warning() {
        let said = asked(|checks, directory| {
            let file = directory.join("pins");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
            checks.file("store", &file);
        });
        assert!(matches!(said.as_slice(), [(Severity::Warning, problem)] if problem.contains("others can change")));
    }
}
