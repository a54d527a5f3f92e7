//! The manifest: what else the store must hold, in 1024 shards under one index under one root.
//!
//! The root holds a counter of all changes, the head of the audit, and version and hash of the index; the index holds
//! those of each shard, and a shard those of the records that fall to it, by the first ten bits of SHA-256 over table and
//! key. So the audit, which every crossing adds to, rewrites the root alone, some hundred bytes. Each part is a record like
//! any other (see [`crate::sealed::record`]), under the counter's value at the change that wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use blindferry_proto::bounded::{Bytes, decode, encode};
use blindferry_proto::front::{Key, Operation, Table};
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_STORED;
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::{Backing, Records, StoreError, Tampering, get, matches, value};
use crate::audit::Head;
use crate::sealed::record::{OVERHEAD, table_byte};

const SHARDS: u16 = 1024;
/// Bytes of a part in the clear.
const MAX_PART: usize = MAX_STORED - OVERHEAD;
/// Bytes of a shard in the clear: with the index and the longest record it has to fit one packet to the front.
const MAX_SHARD: usize = 32 * 1024;
const ROOT: &[u8] = b"root";
const INDEX: &[u8] = b"index";

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

    fn index() -> Self {
        Self { table: Table::Manifest, key: INDEX.to_vec() }
    }

    pub(super) fn shard(number: u16) -> Self {
        Self { table: Table::Manifest, key: format!("shard {number:04}").into_bytes() }
    }

    pub(super) fn falls_to(&self) -> u16 {
        let Digest([first, second, ..]) = hash(&[&[table_byte(self.table)], self.key.as_slice()].concat());
        u16::from_be_bytes([first, second]) / (u16::MAX / SHARDS + 1)
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
    index: Option<Entry>,
    shards: BTreeMap<u16, Shard>,
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
    shard: Option<ShardChange>,
    /// The keys that are in force then, where they change.
    pub(super) keys: Option<Arc<Keys>>,
}

#[derive(Debug)]
struct ShardChange {
    number: u16,
    shard: Shard,
    /// The index that names it.
    index: Entry,
}

#[derive(Serialize, Deserialize)]
struct WireRoot {
    counter: u64,
    audit: Option<Head>,
    /// `None` while there is no shard.
    index: Option<Entry>,
}

/// Shards by number, ascending.
#[derive(Serialize, Deserialize)]
struct WireIndex(Vec<(u16, Entry)>);

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
        let from = Place::new(table, after.unwrap_or_default());
        let from = if after.is_some() { Bound::Excluded(from) } else { Bound::Included(from) };
        let range = (from, Bound::Unbounded);
        let mut first = Vec::new();
        for shard in self.shards.values() {
            let of_shard = shard.entries.range(range.clone()).map(|(place, _)| place);
            first.extend(of_shard.take_while(|place| place.table == table).take(most));
        }
        first.sort_unstable();
        first.into_iter().take(most).cloned().collect()
    }

    /// The numbers of all shards.
    pub(super) fn shards(&self) -> Vec<u16> {
        self.shards.keys().copied().collect()
    }

    /// Takes over a change that the store has made.
    pub(super) fn apply(&mut self, change: Change) {
        self.counter = change.counter;
        self.audit = change.audit;
        if let Some(ShardChange { number, shard, index }) = change.shard {
            self.shards.insert(number, shard);
            self.index = Some(index);
        }
    }

    fn root(&self) -> WireRoot {
        WireRoot { counter: self.counter, audit: self.audit, index: self.index }
    }

    /// The index with another shard in the place of the one of this number.
    fn index_with(&self, number: u16, stored: Entry) -> WireIndex {
        let mut shards: BTreeMap<u16, Entry> =
            self.shards.iter().map(|(number, shard)| (*number, shard.stored)).collect();
        shards.insert(number, stored);
        WireIndex(shards.into_iter().collect())
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
        let number = place.falls_to();
        let mut entries = self.entries(number);
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
        self.shard_change(number, entries, vec![operation])
    }

    /// The change that writes a shard once more as it is.
    pub(super) fn same_shard(&self, number: u16) -> Result<Change, StoreError> {
        self.shard_change(number, self.entries(number), Vec::new())
    }

    fn entries(&self, number: u16) -> BTreeMap<Place, Entry> {
        self.manifest().shards.get(&number).map(|shard| shard.entries.clone()).unwrap_or_default()
    }

    fn shard_change(
        &self,
        number: u16,
        entries: BTreeMap<Place, Entry>,
        mut operations: Vec<Operation>,
    ) -> Result<Change, StoreError> {
        let mut root = self.manifest().root();
        root.counter = root.counter.saturating_add(1);
        let wire: Result<Vec<_>, StoreError> =
            entries.iter().map(|(place, entry)| Ok((place.table, place.wire()?, *entry))).collect();
        let mut put_part = |place: &Place, sealed: Vec<u8>| {
            let entry = Entry { version: root.counter, hash: hash(&sealed) };
            operations.push(self.put(place, sealed)?);
            Ok::<_, StoreError>(entry)
        };
        let place = Place::shard(number);
        let stored = put_part(&place, self.seal_within(MAX_SHARD, &place, root.counter, &WireShard(wire?))?)?;
        let place = Place::index();
        let shards = self.manifest().index_with(number, stored);
        let index = put_part(&place, self.seal_part(&place, root.counter, &shards)?)?;
        root.index = Some(index);
        operations.push(self.put_root(&root)?);
        let shard = Some(ShardChange { number, shard: Shard { stored, entries }, index });
        Ok(Change { operations, counter: root.counter, audit: root.audit, shard, keys: None })
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
        if let Some(stored) = root.index {
            let WireIndex(index) = self.load_part(&Place::index(), stored).await?;
            for (number, stored) in index {
                shards.insert(number, self.load_shard(number, stored).await?);
            }
        }
        Ok(Manifest { counter: root.counter, audit: root.audit, index: root.index, shards })
    }

    async fn load_shard(&self, number: u16, stored: Entry) -> Result<Shard, StoreError> {
        let WireShard(wire) = self.load_part(&Place::shard(number), stored).await?;
        let entries = wire.into_iter().map(|(table, key, entry)| (Place { table, key: key.into_vec() }, entry));
        Ok(Shard { stored, entries: entries.collect() })
    }

    /// A part that another part names.
    async fn load_part<T: DeserializeOwned>(&self, place: &Place, stored: Entry) -> Result<T, StoreError> {
        let got = get(&self.backing, place).await?;
        matches(Some(stored), got.as_deref()).map_err(|what| place.tampered(what))?;
        let opened = self.decrypt(place, Some(stored), got)?.ok_or_else(|| place.tampered(Tampering::Missing))?;
        decode(&opened.plaintext, MAX_PART).map_err(StoreError::Codec)
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
        self.seal_within(MAX_PART, place, version, part)
    }

    fn seal_within<T: Serialize>(
        &self,
        most: usize,
        place: &Place,
        version: u64,
        part: &T,
    ) -> Result<Vec<u8>, StoreError> {
        let plain = encode(part, most).map_err(|_| StoreError::Full)?;
        self.keys().record.seal(&self.random, place.table, &place.key, version, &plain).map_err(StoreError::Seal)
    }
}

pub(super) fn hash(bytes: &[u8]) -> Digest {
    let mut out = [0; Digest::LEN];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest(out)
}
