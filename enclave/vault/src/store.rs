//! What the vault keeps in a store that it does not trust.
//!
//! The store is the front's: the vault sends it ciphertext and believes nothing that comes back. Three layers find what
//! it may have done:
//!
//! - each record is encrypted for its table, its key and its version ([`crate::sealed::record`]), so that it cannot be
//!   read, changed, or passed off as another;
//! - the **manifest**, itself encrypted, holds for every master, host and document its version and the SHA-256 of what
//!   is stored. It is split into 1024 shards; an index names the shards' hashes, and one root the index and the newest audit
//!   record. Each change rewrites record, shard, index and root in one transaction, so the store is always whole;
//! - the running vault keeps the manifest in memory and compares every answer with it.
//!
//! So a record that was removed, added, changed, swapped or replayed is found: at the start, when everything is
//! enumerated, and at each read after it. While the vault runs, that includes a store that was rolled back as a whole.
//! **Not found** is a store that was replaced, as a whole and while the vault was down, by an earlier state of itself.
//! [`Records::counter`] counts every change; whoever anchors it outside the store (in a TPM's NV counter) finds that
//! too. What a store can always do is refuse to answer.

mod backup;
mod blobs;
mod held;
pub(crate) mod keys;
pub(crate) mod log;
mod manifest;
#[cfg(test)]
pub(crate) mod memory;
mod renew;
#[cfg(test)]
mod tests;
mod turn;
mod typed;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::{CodecError, TooLong};
use blindferry_proto::front::{Key, Operation, StoreReply, StoreRequest, Table, Value};
use blindferry_proto::limits::MAX_PAGE;
use ring::rand::SystemRandom;
use thiserror::Error;

use crate::sealed::{KeyEncryptionKey, PolicyAuthority, SealError};

pub(crate) use self::blobs::AUDIT_SEED;
pub use self::blobs::{SealedName, audit_seed, erase, sealed_alone, sealed_get, sealed_put};
pub use self::typed::{Credential, Document, IfPresent, Master, Removed, StoredDocument};

use self::held::Held;
use self::keys::Keys;
use self::manifest::{Change, Entry, Manifest, Place};

/// Whoever carries requests to the store: the link to the front, or a map in tests.
pub trait Backing: Send + Sync {
    /// Asks the store and waits for its answer.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when there is no answer; whether a change was made is then not known.
    fn request(&self, request: StoreRequest) -> impl Future<Output = Result<StoreReply, StoreError>> + Send;
}

impl<B: Backing> Backing for Arc<B> {
    fn request(&self, request: StoreRequest) -> impl Future<Output = Result<StoreReply, StoreError>> + Send {
        B::request(self, request)
    }
}

/// Why something could not be read or kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No answer came.
    #[error("the store does not answer: {why}")]
    Unreachable {
        /// What happened to the link.
        why: String,
    },
    /// The store says that it could not; nothing was changed.
    #[error("the store could not: {why}")]
    Refused {
        /// In the store's words.
        why: String,
    },
    /// The store gave an answer that does not belong to the question.
    #[error("the store's answer does not belong to the question")]
    OutOfTurn,
    /// The store holds something else than was stored.
    #[error("the store was tampered with: {table:?} record {key:?} {what}")]
    Tampered {
        /// In which table.
        table: Table,
        /// Which record, as text.
        key: String,
        /// What was found.
        what: Tampering,
    },
    /// There is one of that name, and it was not to be replaced.
    #[error("{key} exists already")]
    Exists {
        /// Its name.
        key: String,
    },
    /// An earlier change of keys is not finished.
    #[error("the store is still encrypted anew after the last change of its keys")]
    KeysChanging,
    /// The store holds no manifest: `init` never ran on it, or it was emptied.
    #[error("the store was never initialised")]
    NotInitialised,
    /// There is a manifest already.
    #[error("the store is initialised already")]
    AlreadyInitialised,
    /// A shard of the manifest is at its bound; some 190 to 600 names fit each of 1024.
    #[error("the store is full: no more records can be listed in its manifest")]
    Full,
    /// A record is longer than the store takes.
    #[error("the record is too long to be stored")]
    RecordTooLong(#[source] TooLong),
    /// A record cannot be encoded, or what was decrypted is none of ours.
    #[error("cannot encode or decode a record")]
    Codec(#[source] CodecError),
    /// A record could not be encrypted, or a master not be opened.
    #[error("cannot encrypt or decrypt a record")]
    Seal(#[source] SealError),
}

/// What was found in a store that was tampered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Tampering {
    /// It should be there and is not.
    #[error("is missing")]
    Missing,
    /// It should not be there.
    #[error("was added")]
    Added,
    /// It is not what was stored: changed, swapped or an earlier version.
    #[error("is not what was stored")]
    Changed,
    /// A listing is not in order.
    #[error("is out of order")]
    Disorder,
}

/// The vault's records: masters, hosts, documents, and the head of the audit.
#[derive(Debug)]
pub struct Records<B> {
    backing: B,
    keys: Mutex<Arc<Keys>>,
    random: SystemRandom,
    manifest: Mutex<Manifest>,
    held: Held,
    /// Held by whoever changes something. Inside: a change whose outcome is not known, because the answer did not come
    /// or was not waited for.
    turn: tokio::sync::Mutex<Option<Change>>,
}

impl<B: Backing> Records<B> {
    /// Initialises an empty store: an empty manifest, and beside it the blobs that are sealed by nature, all or
    /// nothing.
    ///
    /// # Errors
    /// [`StoreError::AlreadyInitialised`] when it holds any of them; see [`erase`].
    pub async fn create(
        backing: B,
        kek: &KeyEncryptionKey,
        sealed: Vec<(SealedName, Vec<u8>)>,
    ) -> Result<Self, StoreError> {
        let records = Self::new(backing, kek, Manifest::default())?;
        let mut operations = vec![records.create_root()?];
        for (name, blob) in sealed {
            operations.push(Operation::Create { table: Table::Sealed, key: name.key()?, value: value(blob)? });
        }
        match records.backing.request(StoreRequest::Commit { operations }).await? {
            StoreReply::Committed => Ok(records),
            StoreReply::Exists => Err(StoreError::AlreadyInitialised),
            other => Err(unexpected(other)),
        }
    }

    /// Opens a store: reads the manifest, then enumerates everything and compares.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] names the first record that is not as it was left; [`StoreError::NotInitialised`].
    pub async fn open(backing: B, kek: &KeyEncryptionKey) -> Result<Self, StoreError> {
        let mut records = Self::new(backing, kek, Manifest::default())?;
        records.load_keys_before().await?;
        let manifest = records.load_manifest().await?;
        for table in [Table::Masters, Table::Hosts, Table::Documents] {
            records.enumerate(table, &manifest).await?;
        }
        records.manifest = Mutex::new(manifest);
        Ok(records)
    }

    /// How many changes this store has seen. Never counts down: an anchor against rollback of the whole.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.manifest().counter()
    }

    fn new(backing: B, kek: &KeyEncryptionKey, manifest: Manifest) -> Result<Self, StoreError> {
        Ok(Self {
            backing,
            keys: Mutex::new(Arc::new(Keys::of(kek)?)),
            random: SystemRandom::new(),
            manifest: Mutex::new(manifest),
            held: Held::default(),
            turn: tokio::sync::Mutex::new(None),
        })
    }

    /// The record of a policy authority, under the keys in force.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub(crate) fn seal_authority(&self, authority: &PolicyAuthority) -> Result<Vec<u8>, SealError> {
        authority.seal(&self.random, &self.keys().record)
    }

    /// The audit's seed, where the store keeps one for the key-encryption key in force.
    ///
    /// # Errors
    /// [`StoreError::Tampered`].
    pub(crate) async fn audit_seed(&self) -> Result<Option<SecretBytes>, StoreError> {
        audit_seed(&self.backing, &self.keys().record).await
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        // Its writers replace whole parts and do not panic in between.
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one record; `None` when there is none. Does not wait for changes to other records.
    async fn read(&self, place: &Place) -> Result<Option<Stored>, StoreError> {
        let known = self.manifest().entry(place);
        let got = get(&self.backing, place).await?;
        if matches(known, got.as_deref()).is_ok() {
            return self.decrypt(place, known, got);
        }
        // It was perhaps changed under our eyes. Once nobody is changing anything, what differs is tampered with.
        self.turn().await?.read(place).await
    }

    /// Decrypts what [`matches`] found to be as it was stored.
    fn decrypt(&self, place: &Place, known: Option<Entry>, got: Option<Vec<u8>>) -> Result<Option<Stored>, StoreError> {
        let (Some(entry), Some(bytes)) = (known, got) else {
            return Ok(None);
        };
        let changed = || place.tampered(Tampering::Changed);
        let opened = self.keys().open(place.table, &place.key, &bytes).map_err(|_| changed())?;
        if opened.version != entry.version {
            return Err(changed());
        }
        Ok(Some(Stored { version: opened.version, plaintext: opened.plaintext }))
    }

    /// Compares a whole table with the manifest.
    async fn enumerate(&self, table: Table, manifest: &Manifest) -> Result<(), StoreError> {
        let mut missing = manifest.places(table);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = list(&self.backing, table, after.as_deref()).await?;
            if page.is_empty() {
                break;
            }
            for (key, stored) in page {
                let place = Place { table, key: key.into_vec() };
                if after.as_ref().is_some_and(|before| *before >= place.key) {
                    return Err(place.tampered(Tampering::Disorder));
                }
                matches(manifest.entry(&place), Some(stored.as_slice())).map_err(|what| place.tampered(what))?;
                missing.remove(&place);
                after = Some(place.key);
            }
        }
        missing.first().map_or(Ok(()), |place| Err(place.tampered(Tampering::Missing)))
    }
}

/// A record in the clear, verified to be the newest.
#[derive(Debug)]
struct Stored {
    version: u64,
    plaintext: Vec<u8>,
}

/// Whether what the store gave is what the manifest names.
fn matches(known: Option<Entry>, got: Option<&[u8]>) -> Result<(), Tampering> {
    match (known, got) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(Tampering::Missing),
        (None, Some(_)) => Err(Tampering::Added),
        (Some(entry), Some(bytes)) if manifest::hash(bytes) == entry.hash => Ok(()),
        (Some(_), Some(_)) => Err(Tampering::Changed),
    }
}

async fn get<B: Backing>(backing: &B, place: &Place) -> Result<Option<Vec<u8>>, StoreError> {
    match backing.request(StoreRequest::Get { table: place.table, key: place.wire()? }).await? {
        StoreReply::Got(found) => Ok(found.map(Value::into_vec)),
        other => Err(unexpected(other)),
    }
}

async fn list<B: Backing>(backing: &B, table: Table, after: Option<&[u8]>) -> Result<Vec<(Key, Value)>, StoreError> {
    let after = after.map(|key| Key::new(key.to_vec())).transpose().map_err(StoreError::RecordTooLong)?;
    let most = u16::try_from(MAX_PAGE).unwrap_or(u16::MAX);
    match backing.request(StoreRequest::List { table, after, most }).await? {
        StoreReply::Page(page) if page.len() <= MAX_PAGE => Ok(page),
        other => Err(unexpected(other)),
    }
}

fn value(bytes: Vec<u8>) -> Result<Value, StoreError> {
    Value::new(bytes).map_err(StoreError::RecordTooLong)
}

fn unexpected(reply: StoreReply) -> StoreError {
    match reply {
        StoreReply::Failed { why } => StoreError::Refused { why: why.as_str().to_owned() },
        _ => StoreError::OutOfTurn,
    }
}
