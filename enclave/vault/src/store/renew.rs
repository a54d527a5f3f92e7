//! Replaces the keys of a store while it is used, and encrypts everything anew.
//!
//! 1. One transaction puts the new key's sealed forms in place of the old one's, keeps the old keys under the new, and
//!    writes the root of the manifest under the new. Before it the store opens by the old key, after it by the new one.
//! 2. Record by record is encrypted anew, each in a transaction with its shard and the root. Whoever reads meanwhile opens
//!    either. A vault that is killed goes on where it was.
//! 3. One transaction removes the old keys.
//!
//! A record keeps its version: it is the same record, and whoever was promised this version is served.

use std::sync::{Arc, PoisonError};

use blindferry_proto::bounded::Bytes;
use blindferry_proto::front::{Operation, StoreReply, StoreRequest, Table};
use blindferry_proto::limits::MAX_OPERATIONS;

use super::blobs::put;
use super::keys::Keys;
use super::manifest::Place;
use super::typed::with_master;
use super::{
    Backing, Records, SealedName, StoreError, Stored, Tampering, get, list, matches, sealed_get, unexpected, value,
};
use crate::sealed::KeyEncryptionKey;

impl<B: Backing> Records<B> {
    /// Whether there are records that may be under keys that were replaced.
    pub(crate) fn are_keys_changing(&self) -> bool {
        self.keys().are_changing()
    }

    /// Puts the keys of `next` in force; `blobs` take the place of those before, `gone` goes, all in one transaction.
    ///
    /// # Errors
    /// [`StoreError::KeysChanging`] while an earlier change is not finished; those of the store.
    pub(crate) async fn change_keys(
        &self,
        next: &KeyEncryptionKey,
        blobs: Vec<(SealedName, Vec<u8>)>,
        gone: SealedName,
    ) -> Result<(), StoreError> {
        let mut turn = self.turn().await?;
        let old = self.keys();
        if old.are_changing() {
            return Err(StoreError::KeysChanging);
        }
        let new = Keys::of(next)?;
        let mut operations = vec![put(SealedName::RetiredKeys, new.retire(&old, &self.random)?)?];
        for (name, blob) in blobs {
            operations.push(put(name, blob)?);
        }
        operations.push(Operation::Delete { table: Table::Sealed, key: gone.key()? });
        let change = self.key_change(operations, new.after(&old))?;
        turn.commit(change).await
    }

    /// Takes the keys before from the store, where a change of keys was not finished.
    pub(super) async fn load_keys_before(&mut self) -> Result<(), StoreError> {
        if let Some(stored) = sealed_get(&self.backing, SealedName::RetiredKeys).await? {
            let place = Place::new(Table::Sealed, "retired-keys");
            let keys = self.keys().after_stored(&stored).map_err(|_| place.tampered(Tampering::Changed))?;
            self.install(Arc::new(keys));
        }
        Ok(())
    }

    /// Encrypts everything anew that is not under the keys in force, and then forgets those before. Can be begun again
    /// wherever it was left; others may read and write meanwhile. Gives how many records were encrypted anew.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Tampered`] at a record that neither opens.
    pub(crate) async fn renew_all(&self) -> Result<u64, StoreError> {
        let mut renewed = 0;
        for table in [Table::Masters, Table::Hosts, Table::Documents] {
            let places = self.manifest().places(table);
            for place in places {
                renewed += u64::from(self.renew(&place).await?);
            }
        }
        let shards = self.manifest().shards();
        for shard in shards {
            self.renew_shard(shard).await?;
        }
        renewed += self.renew_audit().await?;
        let mut turn = self.turn().await?;
        let gone = Operation::Delete { table: Table::Sealed, key: SealedName::RetiredKeys.key()? };
        let change = self.key_change(vec![gone], self.keys().alone())?;
        turn.commit(change).await?;
        Ok(renewed)
    }

    async fn renew(&self, place: &Place) -> Result<bool, StoreError> {
        let mut turn = self.turn().await?;
        let keys = self.keys();
        let Some(known) = self.manifest().entry(place) else { return Ok(false) };
        let stored = get(&self.backing, place).await?;
        matches(Some(known), stored.as_deref()).map_err(|what| place.tampered(what))?;
        if stored.as_deref().is_some_and(|stored| keys.made(place.table, &place.key, stored)) {
            return Ok(false);
        }
        let Some(opened) = self.decrypt(place, Some(known), stored)? else { return Ok(false) };
        let version = opened.version;
        let plain = match place.table {
            Table::Masters => self.renewed_master(place, &keys, &opened)?,
            _ => opened.plaintext,
        };
        let sealed = keys.record.seal(&self.random, place.table, &place.key, version, &plain);
        let change = self.change(place, Some((version, sealed.map_err(StoreError::Seal)?)))?;
        turn.commit(change).await?;
        Ok(true)
    }

    async fn renew_shard(&self, number: u16) -> Result<(), StoreError> {
        let mut turn = self.turn().await?;
        let place = Place::shard(number);
        let Some(stored) = get(&self.backing, &place).await? else {
            return Err(place.tampered(Tampering::Missing));
        };
        if self.keys().made(place.table, &place.key, &stored) {
            return Ok(());
        }
        let change = self.same_shard(number)?;
        turn.commit(change).await
    }

    /// Rows of the audit are in no shard and never change, so they need no turn.
    async fn renew_audit(&self) -> Result<u64, StoreError> {
        let mut renewed = 0;
        let keys = self.keys();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = list(&self.backing, Table::Audit, after.as_deref()).await?;
            let Some((last, _)) = page.last() else { return Ok(renewed) };
            after = Some(last.as_slice().to_vec());
            let mut operations = Vec::new();
            for (key, stored) in page {
                if keys.made(Table::Audit, key.as_slice(), stored.as_slice()) {
                    continue;
                }
                let place = Place { table: Table::Audit, key: key.as_slice().to_vec() };
                let opened = keys.open(Table::Audit, &place.key, stored.as_slice());
                let opened = opened.map_err(|_| place.tampered(Tampering::Changed))?;
                let sealed =
                    keys.record.seal(&self.random, Table::Audit, &place.key, opened.version, &opened.plaintext);
                let sealed = value(sealed.map_err(StoreError::Seal)?)?;
                operations.push(Operation::Put { table: Table::Audit, key, value: sealed });
                renewed += 1;
            }
            while !operations.is_empty() {
                let rest = operations.split_off(operations.len().min(MAX_OPERATIONS));
                let operations = std::mem::replace(&mut operations, rest);
                match self.backing.request(StoreRequest::Commit { operations }).await? {
                    StoreReply::Committed => {}
                    other => return Err(unexpected(other)),
                }
            }
        }
    }

    fn renewed_master(&self, place: &Place, keys: &Keys, opened: &Stored) -> Result<Vec<u8>, StoreError> {
        with_master(opened, |sealed| {
            let (version, master) = keys.open_master(place.table, &place.key, sealed).map_err(StoreError::Seal)?;
            if version != opened.version {
                return Err(place.tampered(Tampering::Changed));
            }
            let sealed = keys.masters.seal_secret(&self.random, place.table, &place.key, version, &master);
            Bytes::new(sealed.map_err(StoreError::Seal)?).map_err(StoreError::RecordTooLong)
        })
    }

    pub(super) fn install(&self, keys: Arc<Keys>) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

#[cfg(test)]
mod tests;
