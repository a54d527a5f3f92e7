//! One change at a time: whoever holds the turn reads, decides and writes, and nobody else writes meanwhile.
//!
//! A change whose answer did not come, or was not waited for because its session ended, may or may not have been made.
//! It is kept, and the next turn sends the very same transaction again before it does anything else: writing the same
//! bytes twice changes nothing, so after that the outcome is known.

use blindferry_proto::front::{StoreReply, StoreRequest};
use tokio::sync::MutexGuard;

use super::manifest::{Change, Place};
use super::{Backing, Records, StoreError, Stored, get, matches, unexpected};

/// The right to change.
pub(super) struct Turn<'a, B> {
    records: &'a Records<B>,
    unsettled: MutexGuard<'a, Option<Change>>,
}

impl<B: Backing> Records<B> {
    /// Waits for the turn, and settles what the last one left open.
    pub(super) async fn turn(&self) -> Result<Turn<'_, B>, StoreError> {
        let mut turn = Turn { records: self, unsettled: self.turn.lock().await };
        turn.settle().await?;
        Ok(turn)
    }
}

impl<B: Backing> Turn<'_, B> {
    pub(super) fn holds(&self, place: &Place) -> bool {
        self.records.manifest().entry(place).is_some()
    }

    pub(super) async fn read(&self, place: &Place) -> Result<Option<Stored>, StoreError> {
        let known = self.records.manifest().entry(place);
        let got = get(&self.records.backing, place).await?;
        matches(known, got.as_deref()).map_err(|what| place.tampered(what))?;
        self.records.decrypt(place, known, got)
    }

    /// Stores what `record` makes of the version it shall have.
    pub(super) async fn write(
        &mut self,
        place: &Place,
        record: impl FnOnce(u64) -> Result<Vec<u8>, StoreError>,
    ) -> Result<(), StoreError> {
        let version = self.next_version();
        let plain = record(version)?;
        let records = self.records;
        let sealed = records.keys().record.seal(&records.random, place.table, &place.key, version, &plain);
        let change = records.change(place, Some((version, sealed.map_err(StoreError::Seal)?)))?;
        self.commit(change).await
    }

    pub(super) async fn remove(&mut self, place: &Place) -> Result<(), StoreError> {
        let change = self.records.change(place, None)?;
        self.commit(change).await
    }

    fn next_version(&self) -> u64 {
        self.records.counter().saturating_add(1)
    }

    pub(super) async fn commit(&mut self, change: Change) -> Result<(), StoreError> {
        let operations = change.operations.clone();
        // Kept before anything is sent: this future may never be polled again after that.
        *self.unsettled = Some(change);
        match self.records.backing.request(StoreRequest::Commit { operations }).await? {
            StoreReply::Committed => self.apply(),
            other => {
                *self.unsettled = None;
                return Err(unexpected(other));
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(change) = self.unsettled.as_ref() else {
            return Ok(());
        };
        let operations = change.operations.clone();
        match self.records.backing.request(StoreRequest::Commit { operations }).await? {
            StoreReply::Committed => self.apply(),
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    fn apply(&mut self) {
        if let Some(mut change) = self.unsettled.take() {
            if let Some(keys) = change.keys.take() {
                self.records.install(keys);
            }
            self.records.manifest().apply(change);
        }
    }
}
