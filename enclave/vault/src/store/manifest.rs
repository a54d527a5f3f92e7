//! The manifest: what else the store must hold, in 64 shards under one root.
//!
//! The root holds a counter of all changes, the head of the audit, and version and hash of each shard; a shard holds
//! version and hash of the records that fall to it, by the first six bits of SHA-256 over table and key. Each part is
//! a record like any other (see [`crate::sealed::record`]), under the counter's value at the change that wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blindferry_proto::bounded::{Bytes, decode, encode};
use blindferry_proto::front::{Key, Operation, Table};
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_STORED;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::{Backing, Records, StoreError, Tampering, get, matches, value};
use crate::audit::Head;
use crate::sealed::record::{OVERHEAD, table_byte};

const SHARDS: usize = 64;
/// Bytes of a part in the clear.
const MAX_PART: usize = MAX_STORED - OVERHEAD;
const ROOT: &[u8] = b"root";

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) table: Table,
    pub(super) key: Vec<u8>,
}

impl Place {
    pub(super) fn new(table: Table, key: &str) -> Self {
        Self { table, key: key.as_bytes().to_vec() }
    }

    pub(super) fn wire(&self) -> Result<Key, StoreError> {
        Bytes::new(self.key.clone()).map_err(StoreError::RecordTooLong)
    }

    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }

    pub(super) fn tampered(&self, what: Tampering) -> StoreError {
        StoreError::Tampered { table: self.table, key: self.name(), what }
    }

    fn root() -> Self {
        Self { table: Table::Manifest, key: ROOT.to_vec() }
    }

    pub(super) fn shard(index: usize) -> Self {
        Self { table: Table::Manifest, key: format!("shard {index:02}").into_bytes() }
    }

    fn falls_to(&self) -> usize {
        let Digest([first, ..]) = hash(&[&[table_byte(self.table)], self.key.as_slice()].concat());
        usize::from(first) % SHARDS
    }
}

/// What is stored at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) version: u64,
    /// SHA-256 of the stored bytes.
    pub(super) hash: Digest,
}

/// The manifest as the vault has it in memory.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    counter: u64,
    audit: Option<Head>,
    shards: BTreeMap<usize, Shard>,
}

#[derive(Debug)]
struct Shard {
    stored: Entry,
    entries: BTreeMap<Place, Entry>,
}

/// One change: what goes to the store in one transaction, and what the manifest is then.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) operations: Vec<Operation>,
    counter: u64,
    audit: Option<Head>,
    shard: Option<(usize, Shard)>,
    /// The keys that are in force then, where they change.
    pub(super) keys: Option<Arc<Keys>>,
}

#[derive(Serialize, Deserialize)]
struct WireRoot {
    counter: u64,
    audit: Option<Head>,
    /// By number, ascending.
    shards: Vec<(u8, Entry)>,
}

#[derive(Serialize, Deserialize)]
struct WireShard(Vec<(Table, Key, Entry)>);

impl Manifest {
    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    pub(super) fn audit(&self) -> Option<Head> {
        self.audit
    }

    pub(super) fn entry(&self, place: &Place) -> Option<Entry> {
        self.shards.get(&place.falls_to())?.entries.get(place).copied()
    }

    /// All records of a table.
    pub(super) fn places(&self, table: Table) -> BTreeSet<Place> {
        let all = self.shards.values().flat_map(|shard| shard.entries.keys());
        all.filter(|place| place.table == table).cloned().collect()
    }

    /// The keys of a table after `after`, in order.
    pub(super) fn page(&self, table: Table, after: Option<&str>, most: usize) -> Vec<Place> {
        let after = after.map(str::as_bytes);
        let places = self.places(table).into_iter();
        places.filter(|place| after.is_none_or(|after| place.key.as_slice() > after)).take(most).collect()
    }

    /// The numbers of all shards.
    pub(super) fn shards(&self) -> Vec<usize> {
        self.shards.keys().copied().collect()
    }

    /// Takes over a change that the store has made.
    pub(super) fn apply(&mut self, change: Change) {
        self.counter = change.counter;
        self.audit = change.audit;
        if let Some((index, shard)) = change.shard {
            self.shards.insert(index, shard);
        }
    }

    fn root(&self) -> WireRoot {
        let number = |index: usize| u8::try_from(index).unwrap_or(u8::MAX);
        let shards = self.shards.iter().map(|(index, shard)| (number(*index), shard.stored)).collect();
        WireRoot { counter: self.counter, audit: self.audit, shards }
    }
}

impl<B: Backing> Records<B> {
    /// The root of an empty manifest, to be written where there is none.
    pub(super) fn create_root(&self) -> Result<Operation, StoreError> {
        let root = self.manifest().root();
        let place = Place::root();
        let sealed = self.seal_part(&place, root.counter, &root)?;
        Ok(Operation::Create { table: place.table, key: place.wire()?, value: value(sealed)? })
    }

    /// The change that stores `record` at `place` under a version, or removes what is there.
    pub(super) fn change(&self, place: &Place, record: Option<(u64, Vec<u8>)>) -> Result<Change, StoreError> {
        let index = place.falls_to();
        let mut entries = self.entries(index);
        let (table, key) = (place.table, place.wire()?);
        let operation = match record {
            Some((version, record)) => {
                entries.insert(place.clone(), Entry { version, hash: hash(&record) });
                Operation::Put { table, key, value: value(record)? }
            }
            None => {
                entries.remove(place);
                Operation::Delete { table, key }
            }
        };
        self.shard_change(index, entries, vec![operation])
    }

    /// The change that writes a shard once more as it is.
    pub(super) fn same_shard(&self, index: usize) -> Result<Change, StoreError> {
        self.shard_change(index, self.entries(index), Vec::new())
    }

    fn entries(&self, index: usize) -> BTreeMap<Place, Entry> {
        self.manifest().shards.get(&index).map(|shard| shard.entries.clone()).unwrap_or_default()
    }

    fn shard_change(
        &self,
        index: usize,
        entries: BTreeMap<Place, Entry>,
        mut operations: Vec<Operation>,
    ) -> Result<Change, StoreError> {
        let (mut root, audit) = {
            let manifest = self.manifest();
            (manifest.root(), manifest.audit)
        };
        root.counter = root.counter.saturating_add(1);
        let wire: Result<Vec<_>, StoreError> =
            entries.iter().map(|(place, entry)| Ok((place.table, place.wire()?, *entry))).collect();
        let shard_place = Place::shard(index);
        let shard = self.seal_part(&shard_place, root.counter, &WireShard(wire?))?;
        let stored = Entry { version: root.counter, hash: hash(&shard) };

        let number = u8::try_from(index).unwrap_or(u8::MAX);
        root.shards.retain(|(other, _)| *other != number);
        root.shards.push((number, stored));
        root.shards.sort_by_key(|(number, _)| *number);

        operations.extend([self.put(&shard_place, shard)?, self.put_root(&root)?]);
        let shard = Some((index, Shard { stored, entries }));
        Ok(Change { operations, counter: root.counter, audit, shard, keys: None })
    }

    /// The change after which these keys are in force; the root is written under them.
    pub(super) fn key_change(&self, mut operations: Vec<Operation>, keys: Keys) -> Result<Change, StoreError> {
        let mut root = self.manifest().root();
        root.counter = root.counter.saturating_add(1);
        let place = Place::root();
        let plain = encode(&root, MAX_PART).map_err(|_| StoreError::Full)?;
        let sealed = keys.record.seal(&self.random, place.table, &place.key, root.counter, &plain);
        operations.push(self.put(&place, sealed.map_err(StoreError::Seal)?)?);
        let (counter, audit) = (root.counter, root.audit);
        Ok(Change { operations, counter, audit, shard: None, keys: Some(Arc::new(keys)) })
    }

    /// The change that appends audit records, already encrypted, and moves the head.
    pub(super) fn audit_change(&self, mut operations: Vec<Operation>, head: Head) -> Result<Change, StoreError> {
        let mut root = self.manifest().root();
        root.counter = root.counter.saturating_add(1);
        root.audit = Some(head);
        operations.push(self.put_root(&root)?);
        Ok(Change { operations, counter: root.counter, audit: root.audit, shard: None, keys: None })
    }

    pub(super) async fn load_manifest(&self) -> Result<Manifest, StoreError> {
        let place = Place::root();
        let changed = || place.tampered(Tampering::Changed);
        let stored = get(&self.backing, &place).await?.ok_or(StoreError::NotInitialised)?;
        let opened = self.keys().open(place.table, &place.key, &stored).map_err(|_| changed())?;
        let root: WireRoot = decode(&opened.plaintext, MAX_PART).map_err(|_| changed())?;
        if opened.version != root.counter {
            return Err(changed());
        }
        let mut shards = BTreeMap::new();
        for (number, stored) in root.shards {
            shards.insert(usize::from(number), self.load_shard(usize::from(number), stored).await?);
        }
        Ok(Manifest { counter: root.counter, audit: root.audit, shards })
    }

    async fn load_shard(&self, index: usize, stored: Entry) -> Result<Shard, StoreError> {
        let place = Place::shard(index);
        let got = get(&self.backing, &place).await?;
        matches(Some(stored), got.as_deref()).map_err(|what| place.tampered(what))?;
        let opened = self.decrypt(&place, Some(stored), got)?.ok_or_else(|| place.tampered(Tampering::Missing))?;
        let WireShard(wire) = decode(&opened.plaintext, MAX_PART).map_err(StoreError::Codec)?;
        let entries = wire.into_iter().map(|(table, key, entry)| (Place { table, key: key.into_vec() }, entry));
        Ok(Shard { stored, entries: entries.collect() })
    }

    fn put_root(&self, root: &WireRoot) -> Result<Operation, StoreError> {
        let place = Place::root();
        let sealed = self.seal_part(&place, root.counter, root)?;
        self.put(&place, sealed)
    }

    fn put(&self, place: &Place, sealed: Vec<u8>) -> Result<Operation, StoreError> {
        Ok(Operation::Put { table: place.table, key: place.wire()?, value: value(sealed)? })
    }

    fn seal_part<T: Serialize>(&self, place: &Place, version: u64, part: &T) -> Result<Vec<u8>, StoreError> {
        let plain = encode(part, MAX_PART).map_err(|_| StoreError::Full)?;
        self.keys().record.seal(&self.random, place.table, &place.key, version, &plain).map_err(StoreError::Seal)
    }
}

pub(super) fn hash(bytes: &[u8]) -> Digest {
    let mut out = [0; Digest::LEN];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest(out)
}
