//! The end of the audit in short, verified record by record as it grows.

use super::told::told;
use crate::audit::{AuditError, Auditor, ChainError, Head, Signatures, follow};
use crate::store::Backing;
use blindferry_proto::limits::MAX_PAGE;
use blindferry_proto::report::{ChainState, MAX_RECORDS, ReportedRecord};
use std::collections::VecDeque;
use thiserror::Error;

/// The newest records, oldest first, and the last of them that was verified.
#[derive(Debug, Default)]
pub struct Tail {
    records: VecDeque<ReportedRecord>,
    head: Option<Head>,
}

/// The end of the audit does not verify.
#[derive(Debug, Error)]
pub enum TailError {
    /// It cannot be read.
    #[error("cannot read the audit's end")]
    Read(#[source] AuditError),
    /// It is no chain.
    #[error("the audit's end does not verify")]
    Chain(#[source] ChainError),
    /// It is a chain, and leads elsewhere.
    #[error("record {number} is not the newest record that the vault wrote")]
    Newest {
        /// Its number.
        number: u64,
    },
    /// Records are missing.
    #[error("the audit ends before record {number}, which the vault wrote")]
    Short {
        /// The newest one's number.
        number: u64,
    },
}

impl Tail {
    /// Reads and verifies what came since the last time, at most [`MAX_RECORDS`]: where more came, begins anew so many
    /// before the end.
    ///
    /// # Errors
    /// [`TailError`]; what was verified before it stays.
    pub async fn catch_up<B: Backing>(&mut self, auditor: &Auditor<B>) -> Result<ChainState, TailError> {
        let Some(newest) = auditor.head() else { return Ok(ChainState::Empty) };
        let earliest = newest.number.saturating_sub(MAX_RECORDS as u64 - 1);
        if self.head.is_none_or(|head| head.number.saturating_add(1) < earliest) {
            *self = Self::default();
        }
        let mut signatures = Signatures::by(auditor.key());
        let mut next = self.head.map_or(earliest, |head| head.number.saturating_add(1));
        while next <= newest.number {
            let page = auditor.read(next, MAX_PAGE).await.map_err(TailError::Read)?;
            let mut verified = false;
            for record in &page {
                // Where the tail begins, the record before is its own claim, which its signature covers.
                let body = record.body().map_err(|source| {
                    TailError::Chain(ChainError::Unreadable { after: self.head.map(|head| head.number), source })
                })?;
                let before = next.checked_sub(1).map(|number| Head { number, hash: body.before });
                let head = follow(record, &mut signatures, self.head.or(before)).map_err(TailError::Chain)?;
                self.head = Some(head);
                if head.number == newest.number && head != newest {
                    return Err(TailError::Newest { number: newest.number });
                }
                self.records.push_back(told(body));
                next = next.saturating_add(1);
                verified = true;
            }
            if !verified {
                return Err(TailError::Short { number: newest.number });
            }
        }
        while self.records.len() > MAX_RECORDS {
            self.records.pop_front();
        }
        let ends = (self.records.front(), self.records.back());
        Ok(match ends {
            (Some(oldest), Some(newest)) => ChainState::Verified { from: oldest.number, to: newest.number },
            _ => ChainState::Empty,
        })
    }

    /// The records, the newest first.
    #[must_use]
    pub fn newest_first(&self) -> Vec<ReportedRecord> {
        self.records.iter().rev().take(MAX_RECORDS).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Signer;
    use crate::clock::Clock;
    use crate::sealed::KeyEncryptionKey;
    use crate::store::Records;
    use crate::store::memory::Memory;
    use blindferry_handle::secret::SecretBytes;
    use blindferry_proto::audit::Event;
    use blindferry_proto::bounded::Text;
    use blindferry_proto::front::Table;
    use std::sync::Arc;

    async fn audit(memory: &Arc<Memory>) -> Auditor<Arc<Memory>> {
        let kek = KeyEncryptionKey::from_secret(SecretBytes::copy_and_wipe(&mut [4; 32]).unwrap()).unwrap();
        let records = Records::create(memory.clone(), &kek, vec![]).await.unwrap();
        let signer = Signer::new(kek.audit_signing_seed().unwrap()).unwrap();
        let (auditor, writer) = Auditor::open(Arc::new(records), signer, Clock::start().unwrap()).await.unwrap();
        tokio::spawn(writer.run());
        auditor
    }

    async fn record(auditor: &Auditor<Arc<Memory>>, count: usize) {
        for _ in 0..count {
            let _recorded = auditor.record(Event::Started { notes: Text::cut("x") }).await.unwrap();
        }
    }

    fn row(number: u64) -> (Table, Vec<u8>) {
        (Table::Audit, number.to_be_bytes().to_vec())
    }

    #[tokio::test]
    async fn the_end_is_followed_as_it_grows_and_however_far_it_went() {
        let memory = Arc::new(Memory::default());
        let (auditor, mut tail) = (audit(&memory).await, Tail::default());
        assert_eq!(tail.catch_up(&auditor).await.unwrap(), ChainState::Empty);
        record(&auditor, 7).await;
        assert_eq!(tail.catch_up(&auditor).await.unwrap(), ChainState::Verified { from: 0, to: 6 });
        record(&auditor, 1).await;
        // What was verified is not read again.
        memory.contents.lock().unwrap().remove(&row(3));
        assert_eq!(tail.catch_up(&auditor).await.unwrap(), ChainState::Verified { from: 0, to: 7 });
        assert_eq!(tail.newest_first().first().map(|record| record.number), Some(7));
        record(&auditor, 250).await;
        assert_eq!(tail.catch_up(&auditor).await.unwrap(), ChainState::Verified { from: 158, to: 257 });
        assert_eq!(tail.newest_first().len(), MAX_RECORDS);
    }

    #[tokio::test]
    async fn an_end_that_was_changed_is_said_to_be_broken() {
        let memory = Arc::new(Memory::default());
        let auditor = audit(&memory).await;
        record(&auditor, 9).await;
        assert!(Tail::default().catch_up(&auditor).await.is_ok());
        let honest = memory.contents.lock().unwrap().clone();
        for (from, to) in [(None, 8), (None, 4), (Some(2), 5), (Some(3), 8)] {
            let mut contents = honest.clone();
            match from {
                None => drop(contents.remove(&row(to))),
                Some(from) => drop(contents.insert(row(to), honest[&row(from)].clone())),
            }
            *memory.contents.lock().unwrap() = contents;
            let mut tail = Tail::default();
            assert!(tail.catch_up(&auditor).await.is_err(), "{from:?} in the place of {to}");
            assert!(tail.newest_first().iter().all(|record| record.number < to), "what does not verify is not shown");
        }
    }
}
