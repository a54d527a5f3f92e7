//! A snapshot of the store: what it held at one moment, read piece by piece while it goes on.
//!
//! redb keeps what a reader sees for as long as he reads, so the file grows meanwhile. Hence there is one snapshot at a
//! time, and one that nobody reads from is given up.

use std::ops::Bound;
use std::time::{Duration, Instant};

use ::redb::{Database, ReadTransaction, ReadableDatabase};
use blindferry_proto::backup::{MAX_PIECE, MAX_PIECES, Piece, Position};
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::front::{Key, StoreReply};
use blindferry_proto::limits::MAX_PAGE;

use super::{Fault, Redb, TABLES, definition, failure};

/// The one that is read, if any.
#[derive(Default)]
pub(super) struct Snapshots {
    last: u64,
    open: Option<Snapshot>,
}

struct Snapshot {
    reading: ReadTransaction,
    used: Instant,
}

impl Snapshots {
    /// Without one: its database is closed.
    pub(super) fn given_up(&self) -> Self {
        Self { last: self.last, open: None }
    }
}

impl Redb {
    /// Takes a snapshot, in place of the one before.
    #[must_use]
    pub fn snapshot(&mut self, now: Instant) -> StoreReply {
        match self.with_database(|database: &Database| Ok(database.begin_read()?)) {
            Ok(reading) => {
                self.snapshots.last += 1;
                self.snapshots.open = Some(Snapshot { reading, used: now });
                StoreReply::Snapshot { snapshot: self.snapshots.last }
            }
            Err(fault) => failure(&fault),
        }
    }

    /// The pieces of a snapshot after a position, as many as fit an answer; none at the end, where it is given up.
    #[must_use]
    pub fn pieces(&mut self, number: u64, after: Option<&Position>, now: Instant) -> StoreReply {
        let Some(snapshot) = self.snapshots.open.as_mut().filter(|_| number == self.snapshots.last) else {
            return StoreReply::Failed {
                why: Text::cut("this snapshot is over: it was not read for long, or there is another"),
            };
        };
        snapshot.used = now;
        match read(&snapshot.reading, after) {
            Ok(pieces) => {
                if pieces.is_empty() {
                    self.snapshots.open = None;
                }
                StoreReply::Pieces(pieces)
            }
            Err(fault) => failure(&fault),
        }
    }

    /// Gives up a snapshot that nobody has read from for a minute.
    pub fn give_up_idle_snapshot(&mut self, now: Instant) {
        let idle = |snapshot: &Snapshot| now.saturating_duration_since(snapshot.used) >= SNAPSHOT_IDLE;
        if self.snapshots.open.as_ref().is_some_and(idle) {
            self.snapshots.open = None;
        }
    }
}

fn read(reading: &ReadTransaction, after: Option<&Position>) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    let mut room = MAX_PIECES;
    for table in TABLES.into_iter().filter(|table| after.is_none_or(|after| *table >= after.table)) {
        let here = after.filter(|after| after.table == table);
        // From the very key on: its value may have been read in part.
        let from = here.map_or(Bound::Unbounded, |after| Bound::Included(after.key.as_slice()));
        for entry in reading.open_table(definition(table))?.range::<&[u8]>((from, Bound::Unbounded))? {
            let (key, value) = entry?;
            let done = here.filter(|after| after.key.as_slice() == key.value()).map(|after| after.offset);
            let (key, value) = (Key::new(key.value().to_vec())?, value.value());
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            let mut offset = match done {
                Some(done) if done >= length => continue,
                Some(done) => done,
                None => 0,
            };
            loop {
                let rest = usize::try_from(offset).ok().and_then(|offset| value.get(offset..)).unwrap_or_default();
                let stretch = rest.get(..rest.len().min(MAX_PIECE)).unwrap_or_default();
                let Some(left) = room.checked_sub(stretch.len() + key.as_slice().len() + PIECE_OVERHEAD) else {
                    return Ok(pieces);
                };
                if pieces.len() == MAX_PAGE {
                    return Ok(pieces);
                }
                room = left;
                let piece = Piece { table, key: key.clone(), length, offset, bytes: Bytes::new(stretch.to_vec())? };
                offset = piece.end().offset;
                pieces.push(piece);
                if offset >= length {
                    break;
                }
            }
        }
    }
    Ok(pieces)
}

/// postcard writes the table in one byte, and lengths and offsets, being under 2^21, in at most three each.
const PIECE_OVERHEAD: usize = 1 + 4 * 3;
/// How long a snapshot is kept for a reader who does not read.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::tests::{in_memory, key, transaction, value};
    use super::*;
    use blindferry_proto::backup::Assembly;
    use blindferry_proto::front::{Operation, Table};
    use blindferry_proto::limits::MAX_STORED;

    fn put(store: &mut Redb, table: Table, at: &[u8], to: &[u8]) {
        let operation = Operation::Put { table, key: key(at), value: value(to) };
        assert_eq!(store.commit_group(&[transaction([operation])]), [StoreReply::Committed]);
    }

    fn begun(store: &mut Redb, now: Instant) -> u64 {
        match store.snapshot(now) {
            StoreReply::Snapshot { snapshot } => snapshot,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_snapshot_is_what_was_there_when_it_was_taken_whatever_is_written_meanwhile() {
        let (mut store, now) = (in_memory(), Instant::now());
        let long = vec![7; MAX_STORED];
        put(&mut store, Table::Manifest, b"root", &long);
        put(&mut store, Table::Masters, b"empty", b"");
        for number in 0..200_u8 {
            put(&mut store, Table::Audit, &[number], &[number; 300]);
        }
        let snapshot = begun(&mut store, now);
        let (mut assembly, mut found, mut after) = (Assembly::default(), Vec::new(), None);
        loop {
            let StoreReply::Pieces(pieces) = store.pieces(snapshot, after.as_ref(), now) else { panic!("no pieces") };
            let Some(last) = pieces.last() else { break };
            after = Some(last.end());
            for piece in pieces {
                found.extend(assembly.add(piece).unwrap());
            }
            // What is written between is not in it.
            put(&mut store, Table::Manifest, b"root", b"changed");
            put(&mut store, Table::Audit, &[255], b"added");
            put(&mut store, Table::Sealed, b"added", b"before what was read");
        }
        assert!(assembly.is_whole());
        assert_eq!(found.len(), 202);
        assert_eq!(found[0].2.as_slice(), long);
        assert_eq!((found[1].0, found[1].2.as_slice()), (Table::Masters, &b""[..]));
        assert_eq!(found[201].2.as_slice(), [199; 300]);
        let over = store.pieces(snapshot, None, now);
        assert!(matches!(over, StoreReply::Failed { .. }), "read to its end it is given up: {over:?}");
    }

    #[test]
    fn there_is_one_snapshot_at_a_time_and_none_for_who_does_not_read() {
        let (mut store, now) = (in_memory(), Instant::now());
        put(&mut store, Table::Masters, b"a", b"1");
        let first = begun(&mut store, now);
        let second = begun(&mut store, now);
        assert!(matches!(store.pieces(first, None, now), StoreReply::Failed { .. }));
        let later = now + SNAPSHOT_IDLE / 2;
        assert!(matches!(store.pieces(second, None, later), StoreReply::Pieces(_)));
        store.give_up_idle_snapshot(now + SNAPSHOT_IDLE);
        assert!(matches!(store.pieces(second, None, later), StoreReply::Pieces(_)), "it was read from since");
        store.give_up_idle_snapshot(later + SNAPSHOT_IDLE);
        assert!(matches!(store.pieces(second, None, later), StoreReply::Failed { .. }));
    }
}
