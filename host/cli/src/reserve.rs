//! Files that are made before what goes into them exists, so that a result is not lost for want of a place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A new file beside `path`, which takes its name in the end, or goes away when this is dropped before.
#[derive(Debug)]
pub(crate) struct Reserved {
    file: File,
    path: PathBuf,
    beside: PathBuf,
    settled: bool,
}

impl Reserved {
    /// Makes `path.new`, with these permission bits at most; it must not exist.
    ///
    /// # Errors
    /// [`ReserveError::Create`].
    pub(crate) fn create(path: &Path, mode: u32) -> Result<Self, ReserveError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside);
        let file = made.map_err(|source| ReserveError::Create { path: beside.clone(), source })?;
        Ok(Self { file, path: path.to_owned(), beside, settled: false })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`ReserveError::Write`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ReserveError> {
        self.file.write_all(bytes).map_err(|source| ReserveError::Write { path: self.beside.clone(), source })
    }

    /// Gives it its name, in place of whatever has it.
    ///
    /// # Errors
    /// [`ReserveError::Write`].
    pub(crate) fn replace(mut self) -> Result<PathBuf, ReserveError> {
        let failed = |source| ReserveError::Write { path: self.path.clone(), source };
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.beside, &self.path).map_err(failed)?;
        self.settled = true;
        Ok(self.path.clone())
    }

    /// Gives it its name if nothing has it yet, else leaves it where it is; says where it lies.
    ///
    /// # Errors
    /// [`ReserveError::Write`].
    pub(crate) fn settle(mut self) -> Result<PathBuf, ReserveError> {
        let failed = |source| ReserveError::Write { path: self.beside.clone(), source };
        self.file.sync_all().map_err(failed)?;
        self.settled = true;
        match fs::hard_link(&self.beside, &self.path) {
            // A second name that cannot be taken away does no harm.
            Ok(()) => fs::remove_file(&self.beside).map_or_else(failed_to(&self.beside), |()| Ok(self.path.clone())),
            Err(_) => Ok(self.beside.clone()),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.settled {
            // An empty file that cannot be taken away is harmless, and the error at hand matters more.
            let _removed = fs::remove_file(&self.beside);
        }
    }
}

fn failed_to(path: &Path) -> impl FnOnce(io::Error) -> Result<PathBuf, ReserveError> + '_ {
    move |source| Err(ReserveError::Write { path: path.to_owned(), source })
}

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReserveError {
    #[error("cannot create {path}", path = path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nothing_is_left_of_a_file_that_was_not_needed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        drop(Reserved::create(&path, 0o600).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_exists_is_not_overwritten_unless_that_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut reserved = Reserved::create(&path, 0o600).unwrap();
        assert!(matches!(Reserved::create(&path, 0o600), Err(ReserveError::Create { .. })));
        reserved.write(b"new").unwrap();
        let lies = reserved.settle().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read(&lies).unwrap(), b"new");
        assert_eq!(fs::metadata(&lies).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(lies).unwrap();
        let mut reserved = Reserved::create(&path, 0o600).unwrap();
        reserved.write(b"new").unwrap();
        assert_eq!(reserved.replace().unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::remove_file(&path).unwrap();
        assert_eq!(Reserved::create(&path, 0o600).unwrap().settle().unwrap(), path);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
