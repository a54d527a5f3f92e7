//! Looks through a directory that will be shown for what must not be: secret files by name, and sockets.

use crate::secrets::is_secret_by_name;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What came out.
#[derive(Debug)]
pub(crate) struct Searched {
    /// Paths of the files themselves, not of links to them.
    pub(crate) found: Vec<PathBuf>,
    /// Whether everything was looked at.
    pub(crate) complete: bool,
}

/// Looks at what lies at the top first, and at no more than [`MOST_ENTRIES`].
///
/// A link is followed only to learn what it means: its target is hidden where that lies in the same directory.
pub(crate) fn search(top: &Path) -> Searched {
    let mut searched = Searched { found: Vec::new(), complete: true };
    let mut next = VecDeque::from([top.to_owned()]);
    let mut left = MOST_ENTRIES;
    while let Some(directory) = next.pop_front() {
        // A file, or what this user cannot list, and so the program neither.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => {
                    searched.complete = false;
                    return searched;
                }
            };
            let Ok(kind) = entry.file_type() else { continue };
            let secret = kind.is_socket() || entry.file_name().to_str().is_some_and(is_secret_by_name);
            match (secret, kind.is_dir()) {
                (true, _) => {
                    searched.found.extend(entry.path().canonicalize().ok().filter(|path| path.starts_with(top)))
                }
                (false, true) => next.push_back(entry.path()),
                (false, false) => {}
            }
        }
    }
    searched
}

/// Of all directories together: a large repository with what was built in it.
const MOST_ENTRIES: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn secrets_and_sockets_are_found_at_every_depth_and_behind_links() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("a/b")).unwrap();
        for name in [".env", "a/b/.env.local", "a/plain", "a/real"] {
            fs::write(top.join(name), "x").unwrap();
        }
        symlink("real", top.join("a/.env")).unwrap();
        symlink("/etc/hostname", top.join("a/b/.env")).unwrap();
        let _listener = UnixListener::bind(top.join("a/agent")).unwrap();
        let mut found = search(&top).found;
        found.sort();
        assert_eq!(found, [".env", "a/agent", "a/b/.env.local", "a/real"].map(|name| top.join(name)));
    }
}
