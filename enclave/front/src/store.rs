//! The store as the vault sees it: requests wait in a bounded queue for the one thread that owns the database.
//!
//! What is stored is ciphertext. The front can lose it or put an old copy back; it can read nothing and make nothing
//! that the vault would accept.
//!
//! **Group commit.** A durable write costs a disk flush or two whatever its size, so all changes that wait at the moment go
//! into one transaction of the database, and all of them are answered after its flush. Each is still all or nothing by
//! itself.
//!
//! **What a read sees.** Reads that wait at the moment are answered before the changes that wait beside them. A request
//! therefore sees every change that was *answered* before the request was sent, and may or may not see one that was not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use blindferry_proto::bounded::Text;
use blindferry_proto::front::{StoreReply, StoreRequest};
use blindferry_watch::figures::Histogram;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::store::redb::{Redb, Transaction};

pub mod redb;

/// Asks the database's thread. Clones share the thread; it ends, and closes the database, when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    waiting: mpsc::Sender<Waiting>,
    figures: Arc<StoreFigures>,
}

/// What the store has done since it was opened.
#[derive(Debug, Default)]
pub struct StoreFigures {
    /// Transactions of the vault that were answered as committed.
    pub committed: AtomicU64,
    /// Transactions of the database: one holds all changes that waited at the same time.
    pub groups: AtomicU64,
    /// Requests answered with [`StoreReply::Failed`].
    pub failed: AtomicU64,
    /// Whether the database refused the newest changes: its disk is full, or worse. Nothing can be audited, so nothing is
    /// given out.
    pub refusing: AtomicBool,
    /// From a question's arrival to its answer.
    pub reads: Histogram,
    /// From the arrival of changes to the answer that they are durable.
    pub commits: Histogram,
}

/// The thread of the store could not be started.
#[derive(Debug, Error)]
#[error("cannot start the thread of the store")]
pub struct StartStoreError(#[source] io::Error);

impl Store {
    /// Gives the database to a thread of its own. The handle of the thread is for waiting until the database is closed.
    ///
    /// # Errors
    /// [`StartStoreError`] when the kernel gives no thread.
    pub fn start(database: Redb) -> Result<(Self, JoinHandle<()>), StartStoreError> {
        let (waiting, queue) = mpsc::channel(WAITING_LIMIT);
        let figures = Arc::new(StoreFigures::default());
        let theirs = Arc::clone(&figures);
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || answer_all(database, queue, &theirs))
            .map_err(StartStoreError)?;
        Ok((Self { waiting, figures }, thread))
    }

    /// Has one request answered by the store's own thread, through `to`; a commit is answered once it is durable.
    ///
    /// The request is in the queue when this returns, so requests keep the order in which this was called.
    ///
    /// # Errors
    /// The answer, where there is no place in the queue; `to` is not called then.
    pub fn answer(
        &self,
        request: StoreRequest,
        to: impl FnOnce(StoreReply) + Send + 'static,
    ) -> Result<(), StoreReply> {
        let waiting = Waiting { request, to: Box::new(to), since: Instant::now() };
        self.waiting.try_send(waiting).map_err(|unsent| {
            self.figures.failed.fetch_add(1, Ordering::Relaxed);
            match unsent {
                mpsc::error::TrySendError::Full(_) => failed("too many requests wait for the store"),
                mpsc::error::TrySendError::Closed(_) => failed("the store has ended"),
            }
        })
    }

    /// The same for whoever waits for the answer.
    pub fn ask(&self, request: StoreRequest) -> impl Future<Output = StoreReply> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let queued = self.answer(request, |answer| drop(reply.send(answer)));
        async move {
            match queued {
                Ok(()) => answer.await.unwrap_or_else(|_| failed("the store has ended")),
                Err(refused) => refused,
            }
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn figures(&self) -> &StoreFigures {
        &self.figures
    }
}

/// One request in the queue.
struct Waiting {
    request: StoreRequest,
    to: Answer,
    since: Instant,
}

/// Takes the answer. Nobody may want it any more; what was written is written.
type Answer = Box<dyn FnOnce(StoreReply) + Send>;

/// The thread: takes everything that waits, answers the reads, then makes one group of the changes.
fn answer_all(mut database: Redb, mut queue: mpsc::Receiver<Waiting>, figures: &StoreFigures) {
    let mut batch = Vec::new();
    while queue.blocking_recv_many(&mut batch, WAITING_LIMIT) > 0 {
        database.give_up_idle_snapshot(Instant::now());
        let mut changes = Vec::new();
        let mut askers = Vec::new();
        for Waiting { request, to, since } in batch.drain(..) {
            match request {
                StoreRequest::Get { table, key } => figures.read(to, since, database.get(table, &key)),
                StoreRequest::List { table, after, most } => {
                    figures.read(to, since, database.list(table, after.as_ref(), most));
                }
                StoreRequest::Last { table } => figures.read(to, since, database.last(table)),
                StoreRequest::Snapshot => figures.read(to, since, database.snapshot(since)),
                StoreRequest::Pieces { snapshot, after } => {
                    figures.read(to, since, database.pieces(snapshot, after.as_ref(), since));
                }
                StoreRequest::Commit { operations } => match Transaction::new(operations) {
                    Ok(transaction) => {
                        changes.push(transaction);
                        askers.push((to, since));
                    }
                    Err(error) => figures.commit(to, since, failed(&error.to_string())),
                },
            }
        }
        if changes.is_empty() {
            continue;
        }
        figures.groups.fetch_add(1, Ordering::Relaxed);
        for ((to, since), answer) in askers.into_iter().zip(database.commit_group(&changes)) {
            if answer == StoreReply::Committed {
                figures.committed.fetch_add(1, Ordering::Relaxed);
            }
            figures.refusing.store(matches!(answer, StoreReply::Failed { .. }), Ordering::Relaxed);
            figures.commit(to, since, answer);
        }
    }
}

impl StoreFigures {
    fn read(&self, to: Answer, since: Instant, answer: StoreReply) {
        self.reads.observe(since.elapsed());
        self.answer(to, answer);
    }

    fn commit(&self, to: Answer, since: Instant, answer: StoreReply) {
        self.commits.observe(since.elapsed());
        self.answer(to, answer);
    }

    fn answer(&self, to: Answer, answer: StoreReply) {
        if let StoreReply::Failed { why } = &answer {
            self.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(name: "store-request-failed", %why, "the store could not answer a request");
        }
        to(answer);
    }
}

fn failed(why: &str) -> StoreReply {
    StoreReply::Failed { why: Text::cut(why) }
}

/// The vault waits for most of its requests before it sends more; that so many wait means that the disk has stalled.
/// With packets of 128 KiB this bounds the queue's memory to 32 MiB.
const WAITING_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Bytes;
    use blindferry_proto::front::{Operation, Table};

    fn create(number: u16) -> StoreRequest {
        let key = Bytes::new(number.to_be_bytes().to_vec()).unwrap();
        let value = Bytes::new(vec![]).unwrap();
        StoreRequest::Commit { operations: vec![Operation::Create { table: Table::Hosts, key, value }] }
    }

    fn there(number: u16) -> StoreRequest {
        StoreRequest::Get { table: Table::Hosts, key: Bytes::new(number.to_be_bytes().to_vec()).unwrap() }
    }

    #[tokio::test]
    async fn changes_that_wait_together_share_a_flush_and_those_over_the_bound_are_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let (store, thread) = Store::start(Redb::open(&directory.path().join("store.redb")).unwrap()).unwrap();
        let waiting: Vec<_> = (0..1000).map(|number| store.ask(create(number))).collect();
        let mut answers = Vec::new();
        for answer in waiting {
            answers.push(answer.await);
        }
        let figures = store.figures();
        let made = figures.committed.load(Ordering::Relaxed);
        assert_eq!(figures.failed.load(Ordering::Relaxed), 1000 - made);
        assert!(made >= 256, "as many as may wait are made, at least; here {made}");
        assert!(figures.groups.load(Ordering::Relaxed) < made / 2, "{figures:?}");
        for (number, answer) in (0..).zip(answers) {
            assert!(matches!(answer, StoreReply::Committed | StoreReply::Failed { .. }), "{answer:?}");
            let expected = StoreReply::Got((answer == StoreReply::Committed).then(|| Bytes::new(vec![]).unwrap()));
            assert_eq!(store.ask(there(number)).await, expected, "{number}");
        }
        drop(store);
        thread.join().unwrap();
    }
}
