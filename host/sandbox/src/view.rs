//! What the program shall see of the file system, decided before anything is done.

use crate::search::{Searched, search};
use crate::secrets::{OF_A_HOME, OF_THE_SYSTEM, TOOLS_OF_A_HOME};
use std::io;
use std::path::{Path, PathBuf};

/// What it may do at a place and below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A file or directory that is shown where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
}

/// All that is shown, and what of that is not.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Parents before what lies in them.
    pub(crate) places: Vec<Place>,
    /// Files, directories and sockets within those places.
    pub(crate) hidden: Vec<PathBuf>,
    /// Where the program's home is: empty, and its own.
    pub(crate) home: Option<PathBuf>,
    /// What was asked for, or is the working directory: the places that may hold secrets that nobody lists.
    given: Vec<PathBuf>,
    /// What was named: it is meant.
    named: Vec<PathBuf>,
    /// What whoever started us should know.
    pub(crate) notes: Vec<String>,
}

/// What is asked for, and where.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) read: &'a [PathBuf],
    pub(crate) write: &'a [PathBuf],
    /// The working directory.
    pub(crate) directory: PathBuf,
    /// Of this user: by its environment, and by the user database.
    pub(crate) homes: Vec<PathBuf>,
}

/// A place that was asked for and cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("cannot show {path}", path = path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{path} cannot be shown: the program has one of its own, name what lies in it", path = path.display())]
    Whole { path: PathBuf },
}

impl View {
    /// Looks at what there is, and decides.
    ///
    /// # Errors
    /// [`ViewError`] for what was asked for by name.
    pub(crate) fn of(wanted: &Wanted<'_>) -> Result<Self, ViewError> {
        let mut notes = Vec::new();
        let mut given = Vec::new();
        for (paths, access) in [(wanted.read, Access::Read), (wanted.write, Access::Write)] {
            for path in paths {
                let path = path.canonicalize().map_err(|source| ViewError::Open { path: path.clone(), source })?;
                if WHOLES.iter().any(|whole| path == Path::new(whole)) || path.starts_with("/proc") {
                    return Err(ViewError::Whole { path });
                }
                given.push(Place { path, access });
            }
        }
        let named: Vec<PathBuf> = given.iter().map(|place| place.path.clone()).collect();
        let homes = homes_around(wanted, &named);
        match why_shut(&wanted.directory, &homes) {
            None => given.push(Place { path: wanted.directory.clone(), access: Access::Write }),
            Some(_) if named.iter().any(|path| wanted.directory.starts_with(path)) => {}
            Some(why) => {
                notes.push(format!("the working directory is not shown, since {why}; --write or --read shows it"))
            }
        }
        let hidden_of = |home: &PathBuf| OF_A_HOME.iter().map(|name| home.join(name)).collect::<Vec<_>>();
        let mut hidden: Vec<PathBuf> = homes.iter().flat_map(hidden_of).collect();
        hidden.extend(OF_THE_SYSTEM.iter().map(PathBuf::from));
        hidden.retain(|secret| is_meant_to_be_hidden(secret, &named));
        let mut places: Vec<Place> =
            SYSTEM.iter().map(|path| Place { path: PathBuf::from(path), access: Access::Read }).collect();
        let tools = |home: &PathBuf| TOOLS_OF_A_HOME.iter().map(|name| home.join(name)).collect::<Vec<_>>();
        let tools = wanted.homes.iter().flat_map(tools).filter(|path| path.exists());
        places.extend(tools.map(|path| Place { path, access: Access::Read }));
        places.extend(resolver());
        let searched = given.iter().map(|place| place.path.clone()).collect();
        places.extend(given);
        places.retain(|place| place.path.symlink_metadata().is_ok());
        places.sort_by_key(|place| (place.path.components().count(), place.path.clone()));
        // Named twice: the greater right counts, and comes second.
        places.dedup_by(|later, earlier| {
            let same = later.path == earlier.path;
            if same && later.access == Access::Write {
                earlier.access = Access::Write;
            }
            same
        });
        let home = wanted.homes.first().cloned();
        Ok(Self { places, hidden, home, given: searched, named, notes })
    }

    /// Hides as well what a search through the given places brings up.
    pub(crate) fn searched(mut self) -> Self {
        for path in &self.given {
            let Searched { found, complete } = search(path);
            self.hidden.extend(found.into_iter().filter(|secret| is_meant_to_be_hidden(secret, &self.named)));
            if !complete {
                let path = path.display();
                let note = format!("{path} is too large to be searched for secrets: what lies deep in it is shown");
                self.notes.push(note);
            }
        }
        self.hidden.sort();
        self.hidden.dedup();
        self
    }
}

/// Whether it is there, and is neither what was named nor lies around it.
fn is_meant_to_be_hidden(secret: &Path, named: &[PathBuf]) -> bool {
    !named.iter().any(|path| path.starts_with(secret)) && secret.symlink_metadata().is_ok()
}

/// This user's, and those of others that something lies in which is shown.
fn homes_around(wanted: &Wanted<'_>, named: &[PathBuf]) -> Vec<PathBuf> {
    let mut homes = wanted.homes.clone();
    for path in named.iter().chain([&wanted.directory]) {
        let mut parts = path.components();
        match (parts.next(), parts.next(), parts.next()) {
            (_, Some(top), Some(name)) if top.as_os_str() == "home" => homes.push(Path::new("/home").join(name)),
            (_, Some(top), _) if top.as_os_str() == "root" => homes.push(PathBuf::from("/root")),
            _ => {}
        }
        if path == Path::new("/home") {
            homes.extend(std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    homes.sort();
    homes.dedup();
    homes
}

/// Why the working directory is not shown for the asking alone.
fn why_shut(directory: &Path, homes: &[PathBuf]) -> Option<&'static str> {
    if homes.iter().any(|home| home.starts_with(directory)) {
        return Some("it is a home or holds one");
    }
    let secret = |name: &str| homes.iter().any(|home| directory.starts_with(home.join(name)));
    if OF_A_HOME.iter().any(|name| secret(name)) || OF_THE_SYSTEM.iter().any(|path| directory.starts_with(path)) {
        return Some("it is a place of secrets");
    }
    let of_system = |path: &&&str| directory.starts_with(path);
    if SYSTEM.iter().chain(SHUT).find(of_system).is_some()
        || ONLY_ITSELF.iter().any(|path| directory == Path::new(path))
    {
        return Some("it belongs to the system");
    }
    None
}

/// Where names are resolved, if that file lies in a directory that is not shown.
fn resolver() -> Option<Place> {
    let path = Path::new("/etc/resolv.conf").canonicalize().ok()?;
    path.starts_with("/run").then_some(Place { path, access: Access::Read })
}

/// Programs, libraries, and what they are set up by.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/sys",
];

/// Every program has its own.
const WHOLES: &[&str] = &["/", "/dev", "/dev/pts"];

/// Never for the asking alone.
const SHUT: &[&str] = &["/proc", "/dev", "/run", "/var/run", "/boot", "/var/lib", "/var/log"];

/// The same, but not what lies in them.
const ONLY_ITSELF: &[&str] = &["/", "/tmp", "/var", "/var/tmp", "/srv", "/mnt", "/media"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn view(home: &Path, directory: &Path, read: &[PathBuf]) -> View {
        let wanted = Wanted { read, write: &[], directory: directory.to_owned(), homes: vec![home.to_owned()] };
        View::of(&wanted).unwrap()
    }

    fn shows(view: &View, path: &Path) -> bool {
        view.places.iter().any(|place| path.starts_with(&place.path))
            && !view.hidden.iter().any(|secret| path.starts_with(secret))
    }

    #[test]
    fn a_home_is_shown_only_where_it_was_asked_for_and_then_without_its_secrets() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        for name in [".ssh", "project", ".aws"] {
            fs::create_dir(home.join(name)).unwrap();
        }
        let seen = view(&home, &home.join("project"), &[]);
        assert!(shows(&seen, &home.join("project/file")));
        assert!(!shows(&seen, &home.join("other")) && !shows(&seen, &home.join(".ssh/id")));
        let seen = view(&home, &home, &[]);
        assert!(!shows(&seen, &home.join("other")) && seen.notes.len() == 1);
        let seen = view(&home, &home, std::slice::from_ref(&home));
        assert!(shows(&seen, &home.join("other")) && !shows(&seen, &home.join(".ssh/id")));
        let seen = view(&home, &home, &[home.clone(), home.join(".aws")]);
        assert!(shows(&seen, &home.join(".aws/config")) && !shows(&seen, &home.join(".ssh/id")));
    }

    #[test]
    fn what_every_program_has_of_its_own_is_not_shown_even_when_it_is_named() {
        for path in ["/", "/proc", "/proc/1", "/dev"] {
            let read = [PathBuf::from(path)];
            let directory = PathBuf::from("/usr");
            let wanted = Wanted { read: &read, write: &[], directory, homes: Vec::new() };
            assert!(matches!(View::of(&wanted), Err(ViewError::Whole { .. })), "{path}");
        }
    }

    #[test]
    fn a_place_of_the_systems_is_not_written_because_it_is_the_working_directory() {
        let home = Path::new("/home/nobody-here");
        for directory in ["/", "/etc", "/usr/lib", "/proc/self", "/run/user/1", "/tmp", "/home"] {
            let seen = view(home, Path::new(directory), &[]);
            assert!(seen.places.iter().all(|place| place.access == Access::Read), "{directory}");
        }
    }
}
