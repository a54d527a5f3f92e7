//! The machine that is looked at: files below a root, read within bounds, and what its kernel did when tried.

use crate::tried::Tried;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The most that is read of one file, in bytes. A table of a thousand mounts has some 200 KiB.
pub const MAX_READ: u64 = 1 << 20;

/// The most entries that are looked at in one directory.
const MAX_ENTRIES: usize = 1024;

/// A machine.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    pub(crate) tried: Tried,
}

/// What there is in a file.
#[derive(Debug)]
pub(crate) enum Look {
    /// Its text, without blanks around it.
    Text(String),
    /// There is no such file, and there is where it would be.
    Absent,
    /// It cannot be told.
    Unreadable(String),
}

impl Machine {
    /// The machine whose files are below `root`, `/` for this one.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, tried: Tried) -> Self {
        Self { root: root.into(), tried }
    }

    /// The text of a file that is `base` and then `name`. Where `base` is missing too, nothing is known: `/proc` or `/sys`
    /// is not mounted.
    pub(crate) fn look(&self, base: &str, name: &str) -> Look {
        let directory = self.path(base);
        match read(&directory.join(name)) {
            Ok(text) => Look::Text(text.trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound && is_filled(&directory) => Look::Absent,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Look::Unreadable(format!("/{base} is empty or not there"))
            }
            Err(error) => Look::Unreadable(format!("/{base}/{name}: {error}")),
        }
    }

    /// The bytes of a small file.
    pub(crate) fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        read_bytes(&self.path(path))
    }

    /// The names in a directory; none where it is missing.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        entries.take(MAX_ENTRIES).filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Whether a file can be opened for reading and writing. It is closed again at once.
    pub(crate) fn open(&self, path: &str) -> io::Result<()> {
        OpenOptions::new().read(true).write(true).open(self.path(path)).map(drop)
    }

    /// Whether a directory can be listed.
    pub(crate) fn list(&self, path: &str) -> io::Result<()> {
        fs::read_dir(self.path(path)).map(drop)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// An empty directory is where something would be mounted.
fn is_filled(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

fn read(path: &Path) -> io::Result<String> {
    read_bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(MAX_READ + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= MAX_READ) {
        Ok(bytes)
    } else {
        Err(io::Error::new(ErrorKind::FileTooLarge, format!("longer than {MAX_READ} bytes")))
    }
}
