//! The keys that records are encrypted under: those in force, and while the store is encrypted anew those before.
//!
//! Everything is written under the keys in force, and read under either. What a record is worth does not depend on which
//! it was: the manifest, itself under the keys in force, names the hash of each.

use std::sync::Arc;

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::front::Table;
use ring::rand::SystemRandom;

use super::StoreError;
use crate::sealed::retired::{self, RetiredKeys};
use crate::sealed::{KeyEncryptionKey, Opened, RecordKey, SealError};

/// The keys.
#[derive(Debug)]
pub(crate) struct Keys {
    /// Encrypts records.
    pub(super) record: Arc<RecordKey>,
    /// Encrypts masters inside their records.
    pub(super) masters: Arc<RecordKey>,
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    record: Arc<RecordKey>,
    masters: Arc<RecordKey>,
}

impl Keys {
    /// Those of a key-encryption key.
    pub(crate) fn of(kek: &KeyEncryptionKey) -> Result<Self, StoreError> {
        let record = Arc::new(kek.record_key().map_err(StoreError::Seal)?);
        let masters = Arc::new(kek.master_key().map_err(StoreError::Seal)?);
        Ok(Self { record, masters, before: None })
    }

    /// The record under these that holds `old`.
    pub(super) fn retire(&self, old: &Self, random: &SystemRandom) -> Result<Vec<u8>, StoreError> {
        retired::seal(random, &self.record, &old.record, &old.masters).map_err(StoreError::Seal)
    }

    /// These, beside those that they replace.
    pub(super) fn after(self, old: &Self) -> Self {
        let before = Before { record: Arc::clone(&old.record), masters: Arc::clone(&old.masters) };
        Self { before: Some(before), ..self }
    }

    /// These, beside those that the stored record holds.
    pub(super) fn after_stored(&self, stored: &[u8]) -> Result<Self, SealError> {
        let RetiredKeys { record, masters } = RetiredKeys::open(&self.record, stored)?;
        let before = Before { record: Arc::new(record), masters: Arc::new(masters) };
        Ok(Self { before: Some(before), ..self.alone() })
    }

    /// These, without those before.
    pub(super) fn alone(&self) -> Self {
        Self { record: Arc::clone(&self.record), masters: Arc::clone(&self.masters), before: None }
    }

    /// Whether something may still be under the keys before.
    pub(super) fn are_changing(&self) -> bool {
        self.before.is_some()
    }

    /// Decrypts a record.
    pub(super) fn open(&self, table: Table, key: &[u8], stored: &[u8]) -> Result<Opened, SealError> {
        let opened = self.record.open(table, key, stored);
        match &self.before {
            Some(before) => opened.or_else(|_| before.record.open(table, key, stored)),
            None => opened,
        }
    }

    /// Whether a record is under the keys in force.
    pub(super) fn made(&self, table: Table, key: &[u8], stored: &[u8]) -> bool {
        self.record.open(table, key, stored).is_ok()
    }

    /// Decrypts a master from within its record.
    pub(super) fn open_master(&self, table: Table, key: &[u8], sealed: &[u8]) -> Result<(u64, SecretBytes), SealError> {
        let opened = self.masters.open_secret(table, key, sealed);
        match &self.before {
            Some(before) => opened.or_else(|_| before.masters.open_secret(table, key, sealed)),
            None => opened,
        }
    }
}
