//! A snapshot of the store whose newest audit record says that it is one.
//!
//! Record and snapshot are made in one turn, so nothing comes between them. A store that opens with such a record as its
//! newest was made of a backup, or its vault ended at the very moment when one was taken.

use blindferry_proto::audit::Event;
use blindferry_proto::backup::{Piece, Position};
use blindferry_proto::front::{StoreReply, StoreRequest};

use super::{Backing, Records, StoreError, unexpected};
use crate::audit::{Head, Rows};

/// A snapshot that the store keeps readable for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Its number.
    pub(crate) number: u64,
    /// Its newest audit record.
    pub(crate) head: Head,
}

impl<B: Backing> Records<B> {
    /// Appends a record and takes a snapshot right after it.
    ///
    /// # Errors
    /// Those of `make` within; [`StoreError`] when the record or the snapshot could not be made.
    pub(crate) async fn snapshot_after<E>(
        &self,
        make: impl FnOnce(Option<Head>) -> Result<(Rows, Head), E>,
    ) -> Result<Result<Snapshot, E>, StoreError> {
        let mut turn = self.turn().await?;
        let (rows, head) = match make(self.audit_head()) {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        let rows = rows.iter().map(|(number, record)| self.row(*number, record));
        turn.commit(self.audit_change(rows.collect::<Result<_, _>>()?, head)?).await?;
        match self.backing.request(StoreRequest::Snapshot).await? {
            StoreReply::Snapshot { snapshot } => Ok(Ok(Snapshot { number: snapshot, head })),
            other => Err(unexpected(other)),
        }
    }

    /// The next pieces of a snapshot: ciphertext, which the vault passes on as the store gives it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it is over.
    pub(crate) async fn pieces(&self, snapshot: u64, after: Option<Position>) -> Result<Vec<Piece>, StoreError> {
        match self.backing.request(StoreRequest::Pieces { snapshot, after }).await? {
            StoreReply::Pieces(pieces) => Ok(pieces),
            other => Err(unexpected(other)),
        }
    }

    /// Of a store that was made of a backup: the record that says so, and when it was taken, in milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Tampered`].
    pub(crate) async fn taken_as_backup(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let last = self.audit_last().await?;
        let body = last.and_then(|(number, record)| Some((number, record.body().ok()?)));
        Ok(body.and_then(|(number, body)| matches!(body.event, Event::BackedUp { .. }).then_some((number, body.at))))
    }
}
