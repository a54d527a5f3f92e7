//! A backup of the store: what front and vault hand on of it, and the file that an operator keeps.
//!
//! ```text
//! file   "blindferry backup 1\n" ‖ part ‖ part ‖ …
//! part   length (4, big-endian) ‖ a [`Part`] in postcard's form: one Begin, Pieces in order, one End
//! ```
//!
//! All of it but the manifest is what the store holds: ciphertext under keys that name hosts and credentials, worth nothing
//! without the platform or the recovery key.
//! The digest of the end says whether the file is whole; whether its contents were made by the vault is for the vault to
//! find when it opens them.

use crate::bounded::{Bytes, CodecError, Text, decode, encode};
use crate::front::{Key, Table, Value};
use crate::identifier::{AuditKey, Digest};
use crate::limits::MAX_STORED;
use serde::{Deserialize, Serialize};

/// How a file begins; names the version of the format.
pub const MAGIC: &[u8] = b"blindferry backup 1\n";
/// Bytes of one value that one piece has at most, so that pieces fit a frame of the session.
pub const MAX_PIECE: usize = 48 * 1024;
/// Bytes of all that one answer to a request for pieces has.
pub const MAX_PIECES: usize = 56 * 1024;
/// Bytes of an encoded part.
pub const MAX_PART: usize = MAX_PIECES;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Seconds since the epoch when it was taken, by the vault's clock.
    pub taken: u64,
    /// The vault's version.
    pub version: Text<32>,
    /// The key that signs the audit of the vault.
    pub audit_key: AuditKey,
    /// The number of the newest audit record in it, which says that it is a backup.
    pub record: u64,
    /// That record's hash.
    pub hash: Digest,
}

/// A stretch of one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The value's table.
    pub table: Table,
    /// Its key.
    pub key: Key,
    /// Bytes of the whole value.
    pub length: u32,
    /// Where in it this stretch begins.
    pub offset: u32,
    /// The stretch.
    pub bytes: Bytes<MAX_PIECE>,
}

/// How far a reader of pieces has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The table of the last piece.
    pub table: Table,
    /// Its key.
    pub key: Key,
    /// Where in the value it ended.
    pub offset: u32,
}

/// A part of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The first.
    Begin(Manifest),
    /// Each one between.
    Piece(Piece),
    /// The last; nothing follows it.
    End {
        /// How many pieces there were.
        pieces: u64,
        /// SHA-256 over every byte of the file before this part.
        digest: Digest,
    },
}

impl Piece {
    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Position {
        let length = u32::try_from(self.bytes.as_slice().len()).unwrap_or(u32::MAX);
        Position { table: self.table, key: self.key.clone(), offset: self.offset.saturating_add(length) }
    }
}

impl Part {
    /// Its bytes in the file, length included.
    ///
    /// # Errors
    /// [`CodecError`], which the bounds rule out.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let body = encode(self, MAX_PART)?;
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        Ok([&length.to_be_bytes()[..], &body].concat())
    }

    /// Reads one from its bytes without the length.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_body(body: &[u8]) -> Result<Self, CodecError> {
        decode(body, MAX_PART)
    }
}

/// Puts values together from their pieces. Takes them in the order of tables and keys, and in no other.
#[derive(Debug, Default)]
pub struct Assembly {
    last: Option<(Table, Vec<u8>)>,
    open: Option<(u32, Vec<u8>)>,
}

/// Pieces that are not those of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAssembly {
    /// A value begins before that of another key.
    #[error("its values are out of order")]
    Order,
    /// A stretch is missing, or there is one too many.
    #[error("a stretch of a value is missing")]
    Gap,
    /// A value is longer than a store takes.
    #[error("a value has {length} bytes, a store takes {MAX_STORED}")]
    TooLong {
        /// Its length.
        length: u32,
    },
}

impl Assembly {
    /// Adds a piece; gives the value that it completes.
    ///
    /// # Errors
    /// [`NoAssembly`].
    pub fn add(&mut self, piece: Piece) -> Result<Option<(Table, Key, Value)>, NoAssembly> {
        let Piece { table, key, length, offset, bytes } = piece;
        let whole = usize::try_from(length).ok().filter(|whole| *whole <= MAX_STORED);
        let whole = whole.ok_or(NoAssembly::TooLong { length })?;
        let place = (table, key.as_slice().to_vec());
        let mut value = match self.open.take() {
            Some((open, value)) if self.last.as_ref() == Some(&place) && open == length => value,
            Some(_) => return Err(NoAssembly::Gap),
            None if self.last.as_ref().is_some_and(|last| *last >= place) => return Err(NoAssembly::Order),
            None => Vec::new(),
        };
        let end = value.len() + bytes.as_slice().len();
        // A stretch of nothing in the middle of a value would let a file go on without end.
        let advances = !bytes.as_slice().is_empty() || whole == 0;
        if usize::try_from(offset) != Ok(value.len()) || end > whole || !advances {
            return Err(NoAssembly::Gap);
        }
        value.extend_from_slice(bytes.as_slice());
        self.last = Some(place);
        if end < whole {
            self.open = Some((length, value));
            return Ok(None);
        }
        let value = Value::new(value).map_err(|_| NoAssembly::TooLong { length })?;
        Ok(Some((table, key, value)))
    }

    /// Whether every value that was begun is complete.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.open.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(table: Table, key: &[u8], length: u32, offset: u32, bytes: &[u8]) -> Piece {
        let (key, bytes) = (Bytes::new(key.to_vec()).unwrap(), Bytes::new(bytes.to_vec()).unwrap());
        Piece { table, key, length, offset, bytes }
    }

    #[test]
    fn values_come_together_from_their_pieces() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(piece(Table::Sealed, b"a", 3, 0, b"on")), Ok(None));
        assert!(!assembly.is_whole());
        let (table, key, value) = assembly.add(piece(Table::Sealed, b"a", 3, 2, b"e")).unwrap().unwrap();
        assert_eq!((table, key.as_slice(), value.as_slice()), (Table::Sealed, &b"a"[..], &b"one"[..]));
        assert!(assembly.is_whole());
        assert!(assembly.add(piece(Table::Sealed, b"b", 0, 0, b"")).unwrap().is_some());
        assert!(assembly.add(piece(Table::Audit, b"a", 1, 0, b"1")).unwrap().is_some());
    }

    #[test]
    fn what_is_missing_doubled_or_out_of_order_is_refused() {
        let begun = || {
            let mut assembly = Assembly::default();
            assembly.add(piece(Table::Hosts, b"b", 4, 0, b"on")).unwrap();
            assembly
        };
        for (wrong, why) in [
            (piece(Table::Hosts, b"b", 4, 1, b"ne"), NoAssembly::Gap),
            (piece(Table::Hosts, b"b", 4, 2, b""), NoAssembly::Gap),
            (piece(Table::Hosts, b"b", 4, 2, b"ful"), NoAssembly::Gap),
            (piece(Table::Hosts, b"b", 5, 2, b"ful"), NoAssembly::Gap),
            (piece(Table::Hosts, b"c", 2, 0, b"on"), NoAssembly::Gap),
            (piece(Table::Hosts, b"b", u32::MAX, 2, b"ne"), NoAssembly::TooLong { length: u32::MAX }),
        ] {
            assert_eq!(begun().add(wrong.clone()), Err(why), "{wrong:?}");
        }
        for earlier in [(Table::Hosts, b"a"), (Table::Hosts, b"b"), (Table::Masters, b"c")] {
            let mut assembly = begun();
            assembly.add(piece(Table::Hosts, b"b", 4, 2, b"ce")).unwrap();
            assert_eq!(assembly.add(piece(earlier.0, earlier.1, 1, 0, b"x")), Err(NoAssembly::Order));
        }
    }

    #[test]
    fn the_longest_piece_fits_a_part() {
        let longest = piece(Table::Manifest, &[255; 160], u32::MAX, u32::MAX, &[255; MAX_PIECE]);
        let bytes = Part::Piece(longest.clone()).to_bytes().unwrap();
        assert_eq!(Part::from_body(&bytes[4..]).unwrap(), Part::Piece(longest));
    }
}
