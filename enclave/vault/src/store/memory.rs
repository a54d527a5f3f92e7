//! A store in memory for tests: honest by itself, and open to whoever plays the attacker.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::front::{Operation, StoreReply, StoreRequest, Table};
use blindferry_proto::limits::{MAX_OPERATIONS, MAX_PAGE};

use super::{Backing, StoreError};

pub(crate) type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) contents: Mutex<Contents>,
    /// What it held when a snapshot was taken.
    pub(crate) snapshot: Mutex<Contents>,
    /// The next commit is made, but its answer gets lost.
    pub(crate) lose_next_answer: AtomicBool,
    /// The next commit does not work.
    pub(crate) fail_next: AtomicBool,
}

impl Backing for Memory {
    async fn request(&self, request: StoreRequest) -> Result<StoreReply, StoreError> {
        tokio::task::yield_now().await;
        let mut contents = self.contents.lock().unwrap();
        let value = |bytes: &Vec<u8>| Bytes::new(bytes.clone()).unwrap();
        Ok(match request {
            StoreRequest::Get { table, key } => StoreReply::Got(contents.get(&(table, key.into_vec())).map(value)),
            StoreRequest::List { table, after, most } => {
                let from =
                    after.map_or(Bound::Included((table, vec![])), |key| Bound::Excluded((table, key.into_vec())));
                let found = contents.range((from, Bound::Unbounded)).take_while(|((t, _), _)| *t == table);
                let most = usize::from(most).min(MAX_PAGE).min(5); // small pages, so that tests turn them
                StoreReply::Page(
                    found.take(most).map(|((_, k), v)| (Bytes::new(k.clone()).unwrap(), value(v))).collect(),
                )
            }
            StoreRequest::Last { table } => StoreReply::Last(
                contents
                    .iter()
                    .rfind(|((t, _), _)| *t == table)
                    .map(|((_, k), v)| (Bytes::new(k.clone()).unwrap(), value(v))),
            ),
            StoreRequest::Snapshot => {
                *self.snapshot.lock().unwrap() = contents.clone();
                StoreReply::Snapshot { snapshot: 1 }
            }
            StoreRequest::Pieces { .. } => StoreReply::Failed { why: Text::cut("no pieces here") },
            StoreRequest::Commit { operations } => {
                assert!(operations.len() <= MAX_OPERATIONS);
                if self.fail_next.swap(false, Ordering::Relaxed) {
                    return Ok(StoreReply::Failed { why: Text::cut("disk full") });
                }
                let mut next = contents.clone();
                for operation in operations {
                    match operation {
                        Operation::Put { table, key, value } => {
                            next.insert((table, key.into_vec()), value.into_vec());
                        }
                        Operation::Create { table, key, value } => {
                            if next.insert((table, key.into_vec()), value.into_vec()).is_some() {
                                return Ok(StoreReply::Exists);
                            }
                        }
                        Operation::Delete { table, key } => {
                            next.remove(&(table, key.into_vec()));
                        }
                    }
                }
                *contents = next;
                if self.lose_next_answer.swap(false, Ordering::Relaxed) {
                    return Err(StoreError::Unreachable { why: "the answer got lost".to_owned() });
                }
                StoreReply::Committed
            }
        })
    }
}
