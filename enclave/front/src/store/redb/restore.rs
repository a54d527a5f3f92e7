//! Makes a store of a backup: beside its place, and moved there when the whole file was read and found undamaged.
//!
//! A process that is killed before that leaves a file that nobody takes for a store, and whatever was there as it was.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use ::redb::Database;
use blindferry_proto::backup::{Assembly, MAGIC, MAX_PART, Manifest, NoAssembly, Part};
use blindferry_proto::bounded::CodecError;
use blindferry_proto::front::{Operation, Table};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Fault, OpenStoreError, Tables, Transaction, apply, builder, file, prepared};
use blindferry_proto::causes::with_causes;

/// What to do with a store that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// Leave it and say so.
    Refuse,
    /// Put the backup in its place: what it holds is lost.
    Replace,
}

/// A store that was made.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// How many values it had.
    pub values: u64,
}

/// Makes the store at `path` of the backup that `source` gives.
///
/// # Errors
/// [`RestoreError`]; then whatever was at `path` is as it was.
pub fn restore(path: &Path, source: &mut impl Read, present: Present) -> Result<Restored, RestoreError> {
    let before = free_or_ours(path, present)?;
    let unfinished = file::beside(path, ".restoring");
    let failed = |source| RestoreError::File { path: unfinished.clone(), source };
    let made = file::options().create(true).truncate(false).open(&unfinished).map_err(failed)?;
    file::lock(&made, path).map_err(RestoreError::Open)?;
    made.set_len(0).and_then(|()| file::owners_alone(&made)).map_err(failed)?;
    let done = filled(made, &unfinished, source).and_then(|restored| {
        fs::rename(&unfinished, path).and_then(|()| file::sync_directory(path)).map_err(failed)?;
        Ok(restored)
    });
    if done.is_err() {
        // What is left of it is harmless, and the error at hand matters more.
        let _removed = fs::remove_file(&unfinished);
    }
    drop(before); // nobody opened the one that was there meanwhile
    done
}

/// Nothing is there, or a store that may go and that no front holds; locked for as long as it is kept.
fn free_or_ours(path: &Path, present: Present) -> Result<Option<File>, RestoreError> {
    match file::options().open(path) {
        Ok(_) if present == Present::Refuse => Err(RestoreError::Exists { path: path.to_owned() }),
        Ok(there) => file::lock(&there, path).map(|()| Some(there)).map_err(RestoreError::Open),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RestoreError::File { path: path.to_owned(), source }),
    }
}

fn filled(file: File, path: &Path, source: &mut impl Read) -> Result<Restored, RestoreError> {
    let made = builder().create_file(file).map_err(|source| OpenStoreError::Database { path: path.to_owned(), source });
    let database = made.and_then(|database| prepared(database, path)).map_err(RestoreError::Open)?;
    let mut parts = Parts::begin(source)?;
    let Part::Begin(manifest) = parts.next()? else { return Err(RestoreError::Order) };
    let mut restored = Restored { manifest, values: 0 };
    let (mut assembly, mut pieces) = (Assembly::default(), 0_u64);
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    let mut vault = Vault::default();
    loop {
        let before = parts.digest();
        match parts.next()? {
            Part::Begin(_) => return Err(RestoreError::Order),
            Part::Piece(piece) => {
                pieces += 1;
                if let Some((table, key, value)) = assembly.add(piece).map_err(RestoreError::Assembly)? {
                    restored.values += 1;
                    bytes += value.as_slice().len();
                    vault.see(table, key.as_slice());
                    waiting.push(Operation::Put { table, key, value });
                }
                if bytes >= AT_ONCE || waiting.len() >= OPERATIONS_AT_ONCE {
                    write(&database, &mut waiting)?;
                    bytes = 0;
                }
            }
            Part::End { pieces: said, digest } => {
                parts.expect_end()?;
                if digest.0 != before || said != pieces || !assembly.is_whole() {
                    return Err(RestoreError::Damaged);
                }
                vault.whole()?;
                write(&database, &mut waiting)?;
                return Ok(restored);
            }
        }
    }
}

fn write(database: &Database, waiting: &mut Vec<Operation>) -> Result<(), RestoreError> {
    let transaction = Transaction(std::mem::take(waiting));
    let written = || -> Result<(), Fault> {
        let writing = database.begin_write()?;
        let _committed = apply(&mut Tables::of(&writing), &transaction)?;
        Ok(writing.commit()?)
    };
    written().map_err(|fault| RestoreError::Write { why: fault.to_string() })
}

/// Whether there is what a vault needs to open it.
#[derive(Default)]
struct Vault {
    root: bool,
    recovery: bool,
}

impl Vault {
    fn see(&mut self, table: Table, key: &[u8]) {
        self.root |= table == Table::Manifest && key == b"root";
        self.recovery |= table == Table::Sealed && key == b"recovery";
    }

    fn whole(&self) -> Result<(), RestoreError> {
        if self.root && self.recovery { Ok(()) } else { Err(RestoreError::NoVault) }
    }
}

/// Reads parts, each within its bound, and digests what it reads.
struct Parts<'a, R> {
    source: &'a mut R,
    digest: Sha256,
    body: Vec<u8>,
}

impl<'a, R: Read> Parts<'a, R> {
    fn begin(source: &'a mut R) -> Result<Self, RestoreError> {
        let mut magic = [0; MAGIC.len()];
        match source.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) => return Err(RestoreError::NoBackup),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(RestoreError::NoBackup),
            Err(source) => return Err(RestoreError::Read { source }),
        }
        let mut digest = Sha256::new();
        digest.update(magic);
        Ok(Self { source, digest, body: Vec::new() })
    }

    fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    fn next(&mut self) -> Result<Part, RestoreError> {
        let mut length = [0; 4];
        self.source.read_exact(&mut length).map_err(cut_off)?;
        let whole = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= MAX_PART);
        self.body.resize(whole.ok_or(RestoreError::Damaged)?, 0);
        self.source.read_exact(&mut self.body).map_err(cut_off)?;
        self.digest.update(length);
        self.digest.update(&self.body);
        Part::from_body(&self.body).map_err(RestoreError::Part)
    }

    fn expect_end(&mut self) -> Result<(), RestoreError> {
        match self.source.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(RestoreError::Damaged),
            Err(source) => Err(RestoreError::Read { source }),
        }
    }
}

fn cut_off(source: io::Error) -> RestoreError {
    match source.kind() {
        ErrorKind::UnexpectedEof => RestoreError::Damaged,
        _ => RestoreError::Read { source },
    }
}

/// There is no store from this backup.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// There is a store.
    #[error("{} exists and nothing was changed; --force puts the backup in its place, and what it holds is lost", path.display())]
    Exists {
        /// The store's file.
        path: PathBuf,
    },
    /// A file cannot be made, or moved to its place.
    #[error("cannot make {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is a store that a front holds, or none can be made.
    #[error("no store can be made there")]
    Open(#[source] OpenStoreError),
    /// The database takes no more.
    #[error("cannot write the store: {why}")]
    Write {
        /// What redb said.
        why: String,
    },
    /// The backup cannot be read.
    #[error("cannot read the backup")]
    Read {
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else, or of another version.
    #[error("this is no backup of this version")]
    NoBackup,
    /// A part of it is none.
    #[error("the backup is damaged: a part of it does not parse")]
    Part(#[source] CodecError),
    /// Its parts are not in order.
    #[error("the backup is damaged: its parts are out of order")]
    Order,
    /// Its values do not come together.
    #[error("the backup is damaged")]
    Assembly(#[source] NoAssembly),
    /// It was cut off, or changed since it was made.
    #[error("the backup is damaged: it was cut off, or its digest does not fit")]
    Damaged,
    /// It is a whole backup of nothing.
    #[error("the backup holds no vault: there is no manifest or no wrapped key in it")]
    NoVault,
}

impl From<&RestoreError> for Refusal {
    fn from(error: &RestoreError) -> Self {
        let code = match error {
            RestoreError::Exists { .. } => RefusalCode::Exists,
            RestoreError::Open(OpenStoreError::InUse { .. }) => RefusalCode::Busy,
            RestoreError::File { .. }
            | RestoreError::Open(_)
            | RestoreError::Write { .. }
            | RestoreError::Read { .. } => RefusalCode::Store,
            RestoreError::NoBackup
            | RestoreError::Part(_)
            | RestoreError::Order
            | RestoreError::Assembly(_)
            | RestoreError::Damaged
            | RestoreError::NoVault => RefusalCode::Malformed,
        };
        Self::new(code, &with_causes(error))
    }
}

/// Bytes of values that one transaction of the database takes.
const AT_ONCE: usize = 4 * 1024 * 1024;
/// Values that one transaction of the database takes.
const OPERATIONS_AT_ONCE: usize = 4096;

#[cfg(test)]
mod tests;
