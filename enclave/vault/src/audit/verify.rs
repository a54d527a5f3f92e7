//! Checking a chain of audit records: pure, and for everybody who has the public key.

use blindferry_proto::audit::{Record, to_sign};
use blindferry_proto::bounded::{Bytes, CodecError};
use blindferry_proto::identifier::{AuditKey, Digest};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The newest record of a chain. Whoever remembers one finds out when what led to it is changed or cut off later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number; the first record has 0.
    pub number: u64,
    /// The SHA-256 of its encoded body.
    pub hash: Digest,
}

/// A run of records that was verified: signed by the key, numbered without a gap, each naming the one before.
#[derive(Debug)]
#[must_use = "an unread verdict protects nothing"]
pub struct Verified {
    count: u64,
    head: Option<Head>,
}

impl Verified {
    /// How many records there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last of them, or what was before where there were none: what the next run must follow.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }
}

/// Why records are not an unbroken chain.
#[derive(Debug, Error)]
pub enum ChainError {
    /// Not a record.
    #[error("the record after number {after:?} cannot be read")]
    Unreadable {
        /// The last good one.
        after: Option<u64>,
        /// Why.
        source: CodecError,
    },
    /// Another number was due: something was removed, added or reordered.
    #[error("record {found} stands where {expected} should be")]
    Number {
        /// The number that is there.
        found: u64,
        /// The number that was due.
        expected: u64,
    },
    /// It follows another record than the one before it.
    #[error("record {number} does not follow the record before it")]
    Link {
        /// Its number.
        number: u64,
    },
    /// Not signed by this key.
    #[error("record {number} is not signed by the audit key")]
    Signature {
        /// Its number.
        number: u64,
    },
}

/// Checks records in order. `before` is the head that they must follow; `None`: they begin with the first record ever.
///
/// That nothing is missing at the *end* can only be told by who knows where the end is: compare [`Verified::head`] with
/// the head that the vault tells over its attested session.
///
/// # Errors
/// [`ChainError`] names the first record that does not fit.
pub fn verify<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    key: &AuditKey,
    before: Option<Head>,
) -> Result<Verified, ChainError> {
    let mut signatures = Signatures::by(*key);
    let (mut head, mut count) = (before, 0);
    for record in records {
        head = Some(follow(record, &mut signatures, head)?);
        count += 1;
    }
    Ok(Verified { count, head })
}

/// Checks one record against the head before it.
pub(crate) fn follow(record: &Record, signatures: &mut Signatures, before: Option<Head>) -> Result<Head, ChainError> {
    let after = before.map(|head| head.number);
    let body = record.body().map_err(|source| ChainError::Unreadable { after, source })?;
    let expected = after.map_or(0, |number| number.saturating_add(1));
    if body.number != expected {
        return Err(ChainError::Number { found: body.number, expected });
    }
    if body.before != before.map_or(Digest([0; 32]), |head| head.hash) {
        return Err(ChainError::Link { number: body.number });
    }
    signatures.check(record, body.number)
}

/// Checks signatures of one key.
///
/// The records of a transaction share a signature, and stand beside each other: the last one that was good is remembered
/// with the root that it is over, and is not computed again for the same root. The key never changes.
#[derive(Debug)]
pub(crate) struct Signatures {
    key: AuditKey,
    good: Option<(Digest, Bytes<64>)>,
}

impl Signatures {
    pub(crate) fn by(key: AuditKey) -> Self {
        Self { key, good: None }
    }

    /// Checks a record by itself: that it is signed, not what it follows.
    pub(crate) fn check(&mut self, record: &Record, number: u64) -> Result<Head, ChainError> {
        let hash = sha256(record.body.as_slice());
        let root = record.path.root(hash, sha256);
        let known = self.good.as_ref().is_some_and(|(good, by)| *good == root && *by == record.signature);
        if !known {
            UnparsedPublicKey::new(&ED25519, self.key.as_bytes())
                .verify(&to_sign(root), record.signature.as_slice())
                .map_err(|_| ChainError::Signature { number })?;
            self.good = Some((root, record.signature.clone()));
        }
        Ok(Head { number, hash })
    }
}

/// Of a record's body: its hash.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; Digest::LEN];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest(out)
}
