//! The store's file: opened where it is, or made whole beside its place and then moved there.
//!
//! redb makes a new file in several steps, and does not open one that was left between them. So a new store gets its name
//! only when it is whole: a front that is killed before that leaves a file that nobody takes for a store.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ::redb::Database;

use super::OpenStoreError;

/// Opens the store at `path`, or makes it; `database` makes a database of a file, whether it has one already or is empty.
pub(super) fn open(
    path: &Path,
    database: impl Fn(File) -> Result<Database, OpenStoreError>,
) -> Result<Database, OpenStoreError> {
    let failed = |source| OpenStoreError::File { path: path.to_owned(), source };
    if let Some(file) = existing(path).map_err(failed)? {
        return database(file);
    }
    let unfinished = beside(path, ".new");
    let file = options().create(true).truncate(false).open(&unfinished).map_err(failed)?;
    lock(&file, path)?;
    // Between the two another front may have finished it, and what we locked may be the store.
    if let Some(file) = existing(path).map_err(failed)? {
        return database(file);
    }
    // Nothing in it was ever acknowledged to anybody.
    file.set_len(0).map_err(failed)?;
    owners_alone(&file).map_err(failed)?;
    let made = database(file)?;
    fs::rename(&unfinished, path).and_then(|()| sync_directory(path)).map_err(failed)?;
    Ok(made)
}

/// Locks what is the store at `path` or shall be, or says that another front has it.
pub(super) fn lock(file: &File, path: &Path) -> Result<(), OpenStoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenStoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenStoreError::File { path: path.to_owned(), source }),
    }
}

fn existing(path: &Path) -> io::Result<Option<File>> {
    match options().open(path) {
        Ok(file) => owners_alone(&file).map(|()| Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    options
}

pub(super) fn owners_alone(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

/// A new file's name is durable only with its directory.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
