//! Verifies the audit: each signature, the numbering, each link, the newest record. Pure.
//!
//! What comes is judged record by record and nothing is believed before its signature was checked with the pinned key.
//! A record that was removed, changed, exchanged or put elsewhere is named. What the records alone cannot tell is that
//! the newest ones are missing: for that there is the head that the vault tells, and one that was kept from before.

use blindferry_proto::audit::{Body, Record, to_sign};
use blindferry_proto::bounded::{Bytes, CodecError};
use blindferry_proto::identifier::{AuditKey, Digest};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use std::fmt;
use std::str::FromStr;

/// Records that follow one another.
#[derive(Debug)]
pub(crate) struct Chain {
    key: AuditKey,
    first: u64,
    next: u64,
    last: Option<Head>,
    known: Option<Head>,
    /// The last signature that was good, and the root that it is over: the records of a transaction share both. The key
    /// never changes.
    good: Option<(Digest, Bytes<64>)>,
}

/// A record by its number and hash: whoever keeps one can tell later whether the audit still leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its number.
    pub(crate) number: u64,
    /// Its hash.
    pub(crate) hash: Digest,
}

/// A record that stands where it belongs and was signed by the pinned key.
#[derive(Debug)]
pub(crate) struct Verified {
    body: Body,
}

impl Chain {
    /// Records from number `first` on, signed by `key`. Where that is not 0, what the first one follows is not known.
    pub(crate) fn from(key: AuditKey, first: u64) -> Self {
        Self { key, first, next: first, last: None, known: None, good: None }
    }

    /// The same, which must lead through `known`.
    pub(crate) fn through(self, known: Option<Head>) -> Self {
        Self { known, ..self }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Broken`] names it; nothing can be said of what comes after.
    pub(crate) fn accept(&mut self, record: &Record) -> Result<Verified, Broken> {
        let wanted = self.next;
        let hash = self.signed(record)?;
        let body = record.body().map_err(|source| Broken::Body { number: wanted, source })?;
        if body.number > wanted {
            return Err(Broken::Missing { from: wanted, to: body.number - 1 });
        }
        if body.number < wanted {
            return Err(Broken::OutOfPlace { found: body.number, wanted });
        }
        let follows = match self.last {
            Some(last) => body.before == last.hash,
            None => wanted != 0 || body.before == NOTHING,
        };
        if !follows {
            return Err(Broken::Link { number: wanted });
        }
        if self.known.is_some_and(|known| known.number == wanted && known.hash != hash) {
            return Err(Broken::Rewritten { number: wanted });
        }
        self.last = Some(Head { number: wanted, hash });
        self.next = wanted.checked_add(1).ok_or(Broken::Numbers)?;
        Ok(Verified { body })
    }

    /// The hash of a record that is signed, wherever it stands.
    fn signed(&mut self, record: &Record) -> Result<Digest, Broken> {
        let hash = hash_of(record);
        let root = record.path.root(hash, sha256);
        let known = self.good.as_ref().is_some_and(|(good, by)| *good == root && *by == record.signature);
        if !known {
            UnparsedPublicKey::new(&ED25519, self.key.as_bytes())
                .verify(&to_sign(root), record.signature.as_slice())
                .map_err(|_| Broken::Signature { number: self.next })?;
            self.good = Some((root, record.signature.clone()));
        }
        Ok(hash)
    }

    /// The number that the next record must have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The last record that was taken.
    pub(crate) fn last(&self) -> Option<Head> {
        self.last
    }

    /// The known record, while it has not come.
    pub(crate) fn awaited(&self) -> Option<Head> {
        self.known.filter(|known| known.number >= self.next || known.number < self.first)
    }

    /// Nothing more comes: the last record must be the one that `head` names, and the known one must have come.
    ///
    /// # Errors
    /// [`Broken`] says which records are missing at the end.
    pub(crate) fn end(self, head: Option<Head>) -> Result<Option<Head>, Broken> {
        match self.awaited() {
            Some(known) if known.number < self.first => {
                return Err(Broken::KnownBefore { known: known.number, first: self.first });
            }
            Some(known) => return Err(Broken::Missing { from: self.next, to: known.number }),
            None => {}
        }
        self.agrees(head)?;
        Ok(self.last)
    }

    /// What came is all there is: the last record is the one that `head` names.
    ///
    /// # Errors
    /// [`Broken`] says which records are missing at the end, or were put back.
    pub(crate) fn agrees(&self, head: Option<Head>) -> Result<(), Broken> {
        match (self.last, head) {
            (Some(last), Some(head)) if head.number < last.number => {
                Err(Broken::HeadBehind { last: last.number, head: Some(head.number) })
            }
            (Some(last), None) => Err(Broken::HeadBehind { last: last.number, head: None }),
            (_, Some(head)) if head.number >= self.next => Err(Broken::Missing { from: self.next, to: head.number }),
            (Some(last), Some(head)) if head != last => Err(Broken::Head { number: head.number }),
            _ => Ok(()),
        }
    }
}

impl Verified {
    /// What it says.
    pub(crate) fn body(&self) -> &Body {
        &self.body
    }
}

/// A record's hash: SHA-256 over its body, byte for byte.
pub(crate) fn hash_of(record: &Record) -> Digest {
    sha256(record.body.as_slice())
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    Digest(hash)
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Head {
    type Err = BadHead;
    fn from_str(text: &str) -> Result<Self, BadHead> {
        let (number, hash) = text.split_once(':').ok_or(BadHead)?;
        Ok(Self { number: number.parse().map_err(|_| BadHead)?, hash: hash.parse().map_err(|_| BadHead)? })
    }
}

/// A text names no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a record: expected NUMBER:HASH as `blindferry audit` prints it")]
pub(crate) struct BadHead;

/// The audit was tampered with, or is not this vault's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("record {number} was changed, or is not of this vault: its signature is not by the pinned key")]
    Signature { number: u64 },
    #[error("record {number} is signed and cannot be read")]
    Body { number: u64, source: CodecError },
    #[error("records are missing: {from} to {to}")]
    Missing { from: u64, to: u64 },
    #[error("record {found} stands in the place of record {wanted}")]
    OutOfPlace { found: u64, wanted: u64 },
    #[error("record {number} does not follow the record before it: one of the two was exchanged for another")]
    Link { number: u64 },
    #[error("record {number} is another than it was: the audit was rewritten")]
    Rewritten { number: u64 },
    #[error("record {known}, which is known, comes before record {first}, with which this begins")]
    KnownBefore { known: u64, first: u64 },
    #[error("the vault says that the newest record is {}, and record {last} exists", newest(*head))]
    HeadBehind { last: u64, head: Option<u64> },
    #[error("the vault names another record {number} as the newest than it handed out")]
    Head { number: u64 },
    #[error("the numbers are used up")]
    Numbers,
    #[error("the vault signs with the key {found}, pinned is {pinned}")]
    Key { found: AuditKey, pinned: AuditKey },
}

fn newest(head: Option<u64>) -> String {
    head.map_or_else(|| "none".to_owned(), |number| number.to_string())
}

/// What the first record follows.
const NOTHING: Digest = Digest([0; 32]);

#[cfg(test)]
pub(crate) mod tests;
