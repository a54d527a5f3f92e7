//! The audit: every event signed, chained and durable before anybody relies on it.
//!
//! Events go to one writer ([`AuditWriter`]), which turns whatever waits into one transaction; [`Auditor::record`]
//! returns when that is durable. What only reports something that happened ([`Auditor::report`]) may wait a moment for
//! company, since a transaction costs a flush of the disk whatever its size. The store holds ciphertext, and the head of
//! the chain is in the root of the manifest, moved by the same transaction. So:
//!
//! - a record that is removed, changed, replaced or reordered breaks the chain for every reader ([`verify()`]). One
//!   signature stands for all records of a transaction, and each carries what it takes to verify by itself;
//! - a tail that is cut off does not fit the root: found at the start ([`Auditor::open`]), and at once by a reader who
//!   compares with the head that the vault tells;
//! - **not found** by the vault is a store that was replaced as a whole, while the vault was down, by an earlier state
//!   of itself. A reader who remembers a head finds that too.

mod chain;
#[cfg(test)]
mod tests;
pub mod verify;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blindferry_proto::audit::{Event, MAX_DANGER, MAX_DANGERS, Record};
use blindferry_proto::bounded::{CodecError, Text};
use blindferry_proto::identifier::AuditKey;
use blindferry_proto::limits::MAX_PAGE;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;

pub use self::chain::{Chain, Rows, Signer};
pub use self::verify::{ChainError, Head, Verified, verify};
pub(crate) use self::verify::{Signatures, follow};

use crate::clock::Clock;
use crate::store::log::{MAX_APPEND, audit_tampered};
use crate::store::{Backing, Records, StoreError, Tampering};

/// Events that may wait for the writer. More than so many means that the store has stalled; whoever comes then waits.
const MAX_WAITING: usize = 256;
/// What a report waits for company at most: about as long as a disk takes for a flush.
const LINGER: Duration = Duration::from_millis(2);

/// Turns that everybody else has before a transaction goes off: one to read what has come, one to act on it.
const TURNS: usize = 2;

/// What trust is extended in a `dangerously_` word, a line each.
pub type Dangers = Vec<Text<MAX_DANGER>>;

/// Proof that an event is in the audit, durably.
#[derive(Debug)]
#[must_use = "what needs a record should take its proof"]
pub struct Recorded {
    number: u64,
}

impl Recorded {
    /// The record's number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// An event that the writer has, and that may not be durable yet.
#[derive(Debug)]
#[must_use = "whether it could be recorded is said by `durable`"]
pub struct Entered(oneshot::Receiver<Result<Recorded, AuditError>>);

impl Entered {
    /// Waits until the record is durable.
    ///
    /// # Errors
    /// [`AuditError`]; whoever gets one must not do what was to be recorded.
    pub async fn durable(self) -> Result<Recorded, AuditError> {
        self.0.await.map_err(|_| AuditError::Ended)?
    }
}

/// Why an event was not recorded, or records not read.
#[derive(Clone, Debug, Error)]
pub enum AuditError {
    /// The store did not take or give it. Should the answer only have got lost, the record may appear later.
    #[error("cannot keep or read audit records")]
    Store(#[source] Arc<StoreError>),
    /// The event does not fit a record.
    #[error("cannot encode the event")]
    Event(#[source] CodecError),
    /// The writer has ended.
    #[error("the audit's writer has ended")]
    Ended,
    /// The signing seed has a wrong length.
    #[error("not a seed of an audit key")]
    Seed,
}

/// Where events are recorded and records are read. Clones share one writer.
#[derive(Debug)]
pub struct Auditor<B> {
    records: Arc<Records<B>>,
    signer: Arc<Signer>,
    dangers: Arc<Mutex<Dangers>>,
    writer: mpsc::Sender<Waiting>,
}

/// The one writer, to be spawned; it ends when the last [`Auditor`] is gone and everything is written.
#[derive(Debug)]
pub struct AuditWriter<B> {
    records: Arc<Records<B>>,
    signer: Arc<Signer>,
    clock: Clock,
    events: mpsc::Receiver<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    haste: Haste,
    dangers: Dangers,
    done: oneshot::Sender<Result<Recorded, AuditError>>,
}

/// Whether something waits to be done until an event is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    Now,
    /// It has happened; at most [`LINGER`] later.
    Soon,
}

impl<B: Backing> Auditor<B> {
    /// Opens the audit where it was left: the newest record must be the one that the manifest's root names, and be
    /// signed by us. `clock` dates the records.
    ///
    /// # Errors
    /// [`AuditError::Store`] with [`StoreError::Tampered`] when the end of the audit is not as it was left.
    pub async fn open(
        records: Arc<Records<B>>,
        signer: Signer,
        clock: Clock,
    ) -> Result<(Self, AuditWriter<B>), AuditError> {
        check_end(&records, &signer.key()).await.map_err(|error| AuditError::Store(Arc::new(error)))?;
        let (writer, events) = mpsc::channel(MAX_WAITING);
        let signer = Arc::new(signer);
        let auditor = Self { records: records.clone(), signer: Arc::clone(&signer), dangers: Arc::default(), writer };
        Ok((auditor, AuditWriter { records, signer, clock, events }))
    }

    /// Records an event. When this returns, the record is durable; records have the order in which this was called.
    ///
    /// # Errors
    /// [`AuditError`]; whoever gets one must not do what was to be recorded.
    pub async fn record(&self, event: Event) -> Result<Recorded, AuditError> {
        self.enter(event).await?.durable().await
    }

    /// Begins to record an event. What is entered next, without waiting in between, goes into the same transaction.
    ///
    /// # Errors
    /// [`AuditError::Ended`].
    pub async fn enter(&self, event: Event) -> Result<Entered, AuditError> {
        self.hand_over(event, Haste::Now).await
    }

    /// Records what has happened already: as [`Auditor::record`], and it may take 2 ms longer, so that it can share the
    /// transaction of what follows it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn report(&self, event: Event) -> Result<Recorded, AuditError> {
        self.hand_over(event, Haste::Soon).await?.durable().await
    }

    async fn hand_over(&self, event: Event, haste: Haste) -> Result<Entered, AuditError> {
        let (done, answer) = oneshot::channel();
        let dangers = lock(&self.dangers).clone();
        self.writer.send(Waiting { event, haste, dangers, done }).await.map_err(|_| AuditError::Ended)?;
        Ok(Entered(answer))
    }

    /// Records in order from number `from` on, at most `most` and [`MAX_PAGE`], up to [`Self::head`]; empty at the end.
    ///
    /// # Errors
    /// [`AuditError::Store`] with [`StoreError::Tampered`] at the first that is missing or not ours. Links and
    /// signatures are for the reader to check, with [`verify()`].
    pub async fn read(&self, from: u64, most: usize) -> Result<Vec<Record>, AuditError> {
        let Some(most) = NonZeroUsize::new(most.min(MAX_PAGE)) else {
            return Ok(Vec::new());
        };
        let head = self.head();
        let rows = self.records.audit_page(from, most).await.map_err(|error| AuditError::Store(Arc::new(error)))?;
        let due = head.is_some_and(|head| from <= head.number);
        if due && rows.is_empty() {
            return Err(AuditError::Store(Arc::new(audit_tampered(from, Tampering::Missing))));
        }
        // A record may be in the store already while its writer has not heard so: it is not the newest one yet.
        let newest = self.head().map(|head| head.number);
        let known = rows.into_iter().take_while(|(number, _)| newest.is_some_and(|newest| *number <= newest));
        let mut page = Vec::new();
        for ((number, record), expected) in known.zip(from..) {
            if number != expected {
                return Err(AuditError::Store(Arc::new(audit_tampered(expected, Tampering::Missing))));
            }
            page.push(record);
        }
        Ok(page)
    }

    /// The newest record.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.records.audit_head()
    }

    /// The key that verifies.
    #[must_use]
    pub fn key(&self) -> AuditKey {
        self.signer.key()
    }

    /// Its holder.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What every record names from now on, in at most [`MAX_DANGERS`] lines; of more dangers, the last line says how many
    /// are left out.
    pub fn set_dangers(&self, dangers: &[String]) {
        *lock(&self.dangers) = named(dangers);
    }

    /// What every record names.
    #[must_use]
    pub fn dangers(&self) -> Dangers {
        lock(&self.dangers).clone()
    }
}

impl<B> Clone for Auditor<B> {
    fn clone(&self) -> Self {
        Self {
            records: self.records.clone(),
            signer: Arc::clone(&self.signer),
            dangers: Arc::clone(&self.dangers),
            writer: self.writer.clone(),
        }
    }
}

impl<B: Backing> AuditWriter<B> {
    /// Writes until the last [`Auditor`] is gone.
    pub async fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_APPEND);
        while self.events.recv_many(&mut batch, MAX_APPEND).await != 0 {
            self.company_of_the_ready(&mut batch).await;
            // Nobody is kept waiting by reports alone; what comes meanwhile comes along.
            let _over = timeout(LINGER, self.company(&mut batch)).await;
            self.write(std::mem::take(&mut batch)).await;
        }
    }

    /// Lets everybody run who has something to do now, and takes along what they bring.
    async fn company_of_the_ready(&mut self, batch: &mut Vec<Waiting>) {
        for _ in 0..TURNS {
            yield_now().await;
            while batch.len() < MAX_APPEND
                && let Ok(waiting) = self.events.try_recv()
            {
                batch.push(waiting);
            }
        }
    }

    /// Waits until the batch holds something that has haste, or is full, or nobody is left to add to it.
    async fn company(&mut self, batch: &mut Vec<Waiting>) {
        while batch.iter().all(|waiting| waiting.haste == Haste::Soon) {
            let room = MAX_APPEND.saturating_sub(batch.len());
            if room == 0 || self.events.recv_many(batch, room).await == 0 {
                return;
            }
        }
    }

    async fn write(&self, batch: Vec<Waiting>) {
        let mut waiting = Vec::with_capacity(batch.len());
        let written = self
            .records
            .append_audit(|head| {
                let mut chain = match self.signer.chain(head) {
                    Ok(chain) => chain,
                    Err(error) => {
                        batch.into_iter().for_each(|event| answer(event.done, Err(error.clone())));
                        return (Vec::new(), None, ());
                    }
                };
                for Waiting { event, haste: _, dangers, done } in batch {
                    match chain.append(event, dangers, self.clock.millis()) {
                        Ok(number) => waiting.push((number, done)),
                        Err(error) => answer(done, Err(AuditError::Event(error))),
                    }
                }
                match chain.sign() {
                    Ok((rows, head)) => (rows, head, ()),
                    Err(error) => {
                        let unsigned = waiting.drain(..).map(|(_, done)| done);
                        unsigned.for_each(|done| answer(done, Err(AuditError::Event(error.clone()))));
                        (Vec::new(), None, ())
                    }
                }
            })
            .await;
        let failed = written.err().map(Arc::new);
        for (number, done) in waiting {
            answer(done, failed.clone().map_or(Ok(Recorded { number }), |error| Err(AuditError::Store(error))));
        }
    }
}

fn named(dangers: &[String]) -> Dangers {
    let all = dangers.len() <= MAX_DANGERS;
    let shown = if all { MAX_DANGERS } else { MAX_DANGERS - 1 };
    let mut lines: Dangers = dangers.iter().take(shown).map(|danger| Text::cut(danger)).collect();
    if !all {
        lines.push(Text::cut(&format!("dangerously: and {} more", dangers.len() - shown)));
    }
    lines
}

fn lock(dangers: &Mutex<Dangers>) -> MutexGuard<'_, Dangers> {
    dangers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody may be waiting any more; what was written stays written.
fn answer(done: oneshot::Sender<Result<Recorded, AuditError>>, answer: Result<Recorded, AuditError>) {
    drop(done.send(answer));
}

async fn check_end<B: Backing>(records: &Records<B>, key: &AuditKey) -> Result<(), StoreError> {
    let last = records.audit_last().await?;
    match (records.audit_head(), last) {
        (None, None) => Ok(()),
        (None, Some((number, _))) => Err(audit_tampered(number, Tampering::Added)),
        (Some(head), None) => Err(audit_tampered(head.number, Tampering::Missing)),
        (Some(head), Some((number, _))) if number > head.number => Err(audit_tampered(number, Tampering::Added)),
        (Some(head), Some((number, _))) if number < head.number => Err(audit_tampered(head.number, Tampering::Missing)),
        (Some(head), Some((number, record))) => {
            let found =
                Signatures::by(*key).check(&record, number).map_err(|_| audit_tampered(number, Tampering::Changed))?;
            (found == head).then_some(()).ok_or_else(|| audit_tampered(number, Tampering::Changed))
        }
    }
}
