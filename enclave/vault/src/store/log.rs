//! The rows of the audit: encrypted records by number, and the head of their chain in the root of the manifest.
//!
//! The head moves in the transaction that stores the records, so that a tail which is cut off does not fit the root any
//! more. Rows are not in the shards: what is inside the chain is protected by the chain.

use std::num::NonZeroUsize;

use blindferry_proto::audit::{MAX_TOGETHER, Record};
use blindferry_proto::bounded::{Bytes, decode, encode};
use blindferry_proto::front::{Operation, StoreReply, StoreRequest, Table};
use blindferry_proto::limits::{MAX_OPERATIONS, MAX_STORED};

use super::manifest::Place;
use super::{Backing, Records, StoreError, Tampering, list, unexpected, value};
use crate::audit::{Head, Rows};

/// Records that fit one transaction beside the root.
pub(crate) const MAX_APPEND: usize = MAX_OPERATIONS - 1;
const _: () = assert!(MAX_APPEND <= MAX_TOGETHER, "a transaction has one signature");

impl<B: Backing> Records<B> {
    /// The newest audit record that was stored.
    #[must_use]
    pub fn audit_head(&self) -> Option<Head> {
        self.manifest().audit()
    }

    /// Makes records out of the head they follow, and appends them with the head they lead to; durable when it returns.
    pub(crate) async fn append_audit<T>(
        &self,
        make: impl FnOnce(Option<Head>) -> (Rows, Option<Head>, T),
    ) -> Result<T, StoreError> {
        let mut turn = self.turn().await?;
        let (records, head, made) = make(self.audit_head());
        let Some(head) = head.filter(|_| !records.is_empty()) else {
            return Ok(made);
        };
        let rows = records.into_iter().map(|(number, record)| self.row(number, &record));
        let change = self.audit_change(rows.collect::<Result<_, _>>()?, head)?;
        turn.commit(change).await?;
        Ok(made)
    }

    /// Records from number `from` on, at most `most`, fewer where a page of the store ends earlier.
    pub(crate) async fn audit_page(&self, from: u64, most: NonZeroUsize) -> Result<Vec<(u64, Record)>, StoreError> {
        let after = from.checked_sub(1).map(u64::to_be_bytes);
        let page = list(&self.backing, Table::Audit, after.as_ref().map(<[u8; 8]>::as_slice)).await?;
        let open = |(key, stored): (Bytes<160>, Bytes<MAX_STORED>)| self.open_row(key.into_vec(), stored.as_slice());
        page.into_iter().take(most.get()).map(open).collect()
    }

    /// The last row there is.
    pub(crate) async fn audit_last(&self) -> Result<Option<(u64, Record)>, StoreError> {
        match self.backing.request(StoreRequest::Last { table: Table::Audit }).await? {
            StoreReply::Last(None) => Ok(None),
            StoreReply::Last(Some((key, stored))) => self.open_row(key.into_vec(), stored.as_slice()).map(Some),
            other => Err(unexpected(other)),
        }
    }

    pub(super) fn row(&self, number: u64, record: &Record) -> Result<Operation, StoreError> {
        let place = Place { table: Table::Audit, key: number.to_be_bytes().to_vec() };
        let plain = encode(record, MAX_STORED).map_err(StoreError::Codec)?;
        let sealed = self.keys().record.seal(&self.random, place.table, &place.key, number, &plain);
        Ok(Operation::Put { table: place.table, key: place.wire()?, value: value(sealed.map_err(StoreError::Seal)?)? })
    }

    fn open_row(&self, key: Vec<u8>, stored: &[u8]) -> Result<(u64, Record), StoreError> {
        let number = <[u8; 8]>::try_from(key.as_slice()).map(u64::from_be_bytes);
        let Ok(number) = number else {
            return Err(Place { table: Table::Audit, key }.tampered(Tampering::Added));
        };
        let changed = || audit_tampered(number, Tampering::Changed);
        let opened = self.keys().open(Table::Audit, &key, stored).map_err(|_| changed())?;
        Ok((number, decode(&opened.plaintext, MAX_STORED).map_err(|_| changed())?))
    }
}

/// What is wrong with an audit record.
pub(crate) fn audit_tampered(number: u64, what: Tampering) -> StoreError {
    StoreError::Tampered { table: Table::Audit, key: number.to_string(), what }
}
