//! The store in one file, by redb: read, page through, and apply a group of transactions durably.
//!
//! After an error of the disk redb refuses to go on with the file as it knew it. It is then closed and opened anew
//! before the next request, and a number that every group writes tells whether the group in doubt arrived on the disk:
//! an answer of [`StoreReply::Failed`] to a commit is given only when its changes are not there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use ::redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};
use blindferry_proto::bounded::{Text, TooLong};
use blindferry_proto::front::{Key, Operation, StoreReply, Table, Value};
use blindferry_proto::limits::{MAX_OPERATIONS, MAX_PACKET, MAX_PAGE};
use thiserror::Error;

mod file;
pub mod restore;
mod snapshot;

/// The open database. Not shared: one thread owns it.
pub struct Redb {
    /// `None` after an error of the disk, until it could be opened anew.
    database: Option<Database>,
    open: Opener,
    snapshots: snapshot::Snapshots,
}

/// How the database is opened: at the start, and again after an error of the disk.
type Opener = Box<dyn Fn() -> Result<Database, OpenStoreError> + Send>;

/// Changes that are all made or none; at most [`MAX_OPERATIONS`] of them.
#[derive(Debug)]
pub struct Transaction(Vec<Operation>);

/// A commit has more operations than a transaction may have.
#[derive(Debug, Error)]
#[error("{count} operations where a transaction has at most {MAX_OPERATIONS}")]
pub struct TooManyOperations {
    count: usize,
}

/// Why the store could not be opened.
#[derive(Debug, Error)]
pub enum OpenStoreError {
    /// The file cannot be opened or made.
    #[error("cannot open {}", path.display())]
    File {
        /// The store's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A running front holds the store.
    #[error("another front is using {}; a store has one front at a time", path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is not a store, or a damaged one.
    #[error("{} does not open as a store", path.display())]
    Database {
        /// The store's file.
        path: PathBuf,
        /// What redb found.
        #[source]
        source: DatabaseError,
    },
    /// The tables could not be made.
    #[error("cannot make the tables of {}", path.display())]
    Tables {
        /// The store's file.
        path: PathBuf,
        /// What redb found.
        #[source]
        source: Box<::redb::Error>,
    },
}

impl Redb {
    /// Opens the store at `path`, or makes it, readable and writable by its owner alone. Its directory must be there.
    ///
    /// # Errors
    /// [`OpenStoreError`]; a second front on the same file is [`OpenStoreError::InUse`].
    pub fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let path = path.to_owned();
        Self::opened_by(Box::new(move || {
            file::open(&path, |file| {
                let database = builder().create_file(file).map_err(|source| match source {
                    DatabaseError::DatabaseAlreadyOpen => OpenStoreError::InUse { path: path.clone() },
                    source => OpenStoreError::Database { path: path.clone(), source },
                })?;
                prepared(database, &path)
            })
        }))
    }

    fn opened_by(open: Opener) -> Result<Self, OpenStoreError> {
        Ok(Self { database: Some(open()?), open, snapshots: snapshot::Snapshots::default() })
    }

    /// One value.
    #[must_use]
    pub fn get(&mut self, table: Table, key: &Key) -> StoreReply {
        self.read(|database| {
            let table = database.begin_read()?.open_table(definition(table))?;
            let found = table.get(key.as_slice())?;
            Ok(StoreReply::Got(found.map(|value| Value::new(value.value().to_vec())).transpose()?))
        })
    }

    /// The keys after `after` with their values, in order: at most `most`, at most [`MAX_PAGE`], and as many as fit a
    /// packet, which is at least one.
    #[must_use]
    pub fn list(&mut self, table: Table, after: Option<&Key>, most: u16) -> StoreReply {
        self.read(|database| {
            let table = database.begin_read()?.open_table(definition(table))?;
            let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
            let mut page = Vec::new();
            let mut room = PAGE_ROOM;
            for entry in table.range::<&[u8]>((from, Bound::Unbounded))?.take(usize::from(most).min(MAX_PAGE)) {
                let (key, value) = entry?;
                let needed = key.value().len() + value.value().len() + ENTRY_OVERHEAD;
                let Some(left) = room.checked_sub(needed) else { break };
                room = left;
                page.push((Key::new(key.value().to_vec())?, Value::new(value.value().to_vec())?));
            }
            Ok(StoreReply::Page(page))
        })
    }

    /// The last key of a table and its value.
    #[must_use]
    pub fn last(&mut self, table: Table) -> StoreReply {
        self.read(|database| {
            let table = database.begin_read()?.open_table(definition(table))?;
            Ok(StoreReply::Last(match table.last()? {
                Some((key, value)) => Some((Key::new(key.value().to_vec())?, Value::new(value.value().to_vec())?)),
                None => None,
            }))
        })
    }

    /// Applies transactions in order and makes them durable together; one answer for each, in the same order.
    ///
    /// A transaction that would create what exists (before it, or by an earlier one of the group) is left out whole and
    /// answered with [`StoreReply::Exists`]; the others are not affected. When the disk fails, nothing of the group was
    /// written.
    #[must_use]
    pub fn commit_group(&mut self, group: &[Transaction]) -> Vec<StoreReply> {
        let mut number = None;
        match self.with_database(|database| write_group(database, group, &mut number)) {
            Ok(answers) => answers,
            Err(error) => {
                let answer = match (number, self.arrived()) {
                    // The flush failed, or its answer got lost, after all was on the disk.
                    (Some((number, answers)), Ok(arrived)) if number == arrived => return answers,
                    (_, Ok(_)) | (None, Err(_)) => failure(&error),
                    (Some(_), Err(_)) => StoreReply::Failed {
                        why: Text::cut(&format!("it cannot be told whether it is written: {error}")),
                    },
                };
                group.iter().map(|_| answer.clone()).collect()
            }
        }
    }

    /// The number of the last group that is on the disk.
    fn arrived(&mut self) -> Result<u64, Fault> {
        self.with_database(|database| Ok(group_number(&database.begin_read()?.open_table(GROUPS)?)?))
    }

    fn read(&mut self, read: impl FnOnce(&Database) -> Result<StoreReply, Fault>) -> StoreReply {
        self.with_database(read).unwrap_or_else(|fault| failure(&fault))
    }

    /// Runs `work` on the database, which is opened anew if an error of the disk has closed it.
    fn with_database<T>(&mut self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)()?,
        };
        let result = work(&database);
        match &result {
            // Closed here: redb answers nothing more after such an error.
            Err(fault) if fault.is_of_the_disk() => {
                tracing::error!(name: "store-opened-anew", %fault, "the store is opened anew");
                self.snapshots = self.snapshots.given_up();
            }
            _ => self.database = Some(database),
        }
        result
    }
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").field("open", &self.database.is_some()).finish()
    }
}

impl Transaction {
    /// Takes the operations of a commit.
    ///
    /// # Errors
    /// [`TooManyOperations`] for more than [`MAX_OPERATIONS`].
    pub fn new(operations: Vec<Operation>) -> Result<Self, TooManyOperations> {
        if operations.len() > MAX_OPERATIONS {
            return Err(TooManyOperations { count: operations.len() });
        }
        Ok(Self(operations))
    }
}

/// What a group was about to be when the commit began: its number, and the answers if it arrives.
type InDoubt = Option<(u64, Vec<StoreReply>)>;

fn write_group(database: &Database, group: &[Transaction], in_doubt: &mut InDoubt) -> Result<Vec<StoreReply>, Fault> {
    let writing = database.begin_write()?;
    let mut answers = Vec::with_capacity(group.len());
    {
        let mut tables = Tables::of(&writing);
        for transaction in group {
            answers.push(apply(&mut tables, transaction)?);
        }
    }
    if answers.iter().all(|answer| *answer == StoreReply::Exists) {
        writing.abort()?;
        return Ok(answers);
    }
    let number = {
        let mut groups = writing.open_table(GROUPS)?;
        let number = group_number(&groups)?.wrapping_add(1);
        groups.insert((), number)?;
        number
    };
    *in_doubt = Some((number, answers.clone()));
    writing.commit()?;
    Ok(answers)
}

/// Makes the changes of one transaction if every `Create` among them finds nothing in its place; otherwise none.
fn apply(tables: &mut Tables<'_>, Transaction(operations): &Transaction) -> Result<StoreReply, Fault> {
    // Looks first and writes after, so that nothing has to be undone. What the transaction's own earlier operations
    // will have done by then is kept here.
    let mut will_exist = BTreeMap::new();
    for operation in operations {
        match operation {
            Operation::Put { table, key, .. } => {
                will_exist.insert((*table, key.as_slice()), true);
            }
            Operation::Delete { table, key } => {
                will_exist.insert((*table, key.as_slice()), false);
            }
            Operation::Create { table, key, .. } => {
                let exists = match will_exist.insert((*table, key.as_slice()), true) {
                    Some(exists) => exists,
                    None => tables.get(*table)?.get(key.as_slice())?.is_some(),
                };
                if exists {
                    return Ok(StoreReply::Exists);
                }
            }
        }
    }
    for operation in operations {
        match operation {
            Operation::Put { table, key, value } | Operation::Create { table, key, value } => {
                tables.get(*table)?.insert(key.as_slice(), value.as_slice())?;
            }
            Operation::Delete { table, key } => {
                tables.get(*table)?.remove(key.as_slice())?;
            }
        }
    }
    Ok(StoreReply::Committed)
}

/// The tables of one group, each opened once: opening and closing one costs as much as a change in it.
struct Tables<'a> {
    writing: &'a WriteTransaction,
    open: BTreeMap<Table, ::redb::Table<'a, &'static [u8], &'static [u8]>>,
}

impl<'a> Tables<'a> {
    fn of(writing: &'a WriteTransaction) -> Self {
        Self { writing, open: BTreeMap::new() }
    }

    fn get(&mut self, table: Table) -> Result<&mut ::redb::Table<'a, &'static [u8], &'static [u8]>, TableError> {
        Ok(match self.open.entry(table) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(closed) => closed.insert(self.writing.open_table(definition(table))?),
        })
    }
}

fn group_number(groups: &impl ReadableTable<(), u64>) -> Result<u64, ::redb::StorageError> {
    Ok(groups.get(())?.map_or(0, |number| number.value()))
}

/// Why a request was not answered from the database.
#[derive(Debug, Error)]
enum Fault {
    #[error("{0}")]
    Database(#[from] Box<::redb::Error>),
    #[error("a stored value is over its bound: {0}")]
    Stored(#[from] TooLong),
    #[error("the store does not open: {0}")]
    Closed(#[from] OpenStoreError),
}

impl Fault {
    fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// redb has an error type for each call; all of them become its widest.
macro_rules! faults_from {
    ($($error:ty),+) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )+};
}
faults_from!(::redb::StorageError, TableError, ::redb::TransactionError, ::redb::CommitError);

fn failure(fault: &Fault) -> StoreReply {
    StoreReply::Failed { why: Text::cut(&fault.to_string()) }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Makes the tables that are not there, so that reading never finds one missing.
fn prepared(database: Database, path: &Path) -> Result<Database, OpenStoreError> {
    let make = || -> Result<(), ::redb::Error> {
        let writing = database.begin_write()?;
        for table in TABLES {
            writing.open_table(definition(table))?;
        }
        writing.open_table(GROUPS)?;
        writing.commit()?;
        Ok(())
    };
    make().map_err(|source| OpenStoreError::Tables { path: path.to_owned(), source: Box::new(source) })?;
    Ok(database)
}

/// Names are part of the file's format.
fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Sealed => "sealed",
        Table::Manifest => "manifest",
        Table::Masters => "masters",
        Table::Hosts => "hosts",
        Table::Documents => "documents",
        Table::Audit => "audit",
    })
}

const TABLES: [Table; 6] =
    [Table::Sealed, Table::Manifest, Table::Masters, Table::Hosts, Table::Documents, Table::Audit];

/// The front's own: one number, which every group raises.
const GROUPS: TableDefinition<'static, (), u64> = TableDefinition::new("front-groups");

/// A packet, less room for what is around a page in it: the kind of packet and reply, the request's number, the count.
const PAGE_ROOM: usize = MAX_PACKET - 64;
/// postcard writes each length in at most 3 bytes, the bounds of a key and a value being under 2^21.
const ENTRY_OVERHEAD: usize = 6;
/// Bytes of pages that redb keeps in memory. The file system caches as well; more of it only grows with the audit.
const CACHE: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests;
