//! The way from one record's hash to the root that was signed: one signature for the records of a transaction, and each
//! record verifies by itself.
//!
//! The tree is that of RFC 9162 section 2.1. A leaf is SHA-256(0 ‖ record's hash), a node SHA-256(1 ‖ left ‖ right): so
//! no node passes for a leaf. A tree of n > 1 leaves has the largest power of two below n of them on its left. SHA-256 is
//! the caller's, since this crate computes nothing.

use crate::bounded::at_most;
use crate::identifier::Digest;
use serde::{Deserialize, Serialize};

/// What is signed before the root: names the one use of the key.
pub const SIGNED: &[u8] = b"blindferry audit records v2";
/// Records that one signature may be for.
pub const MAX_TOGETHER: usize = 1 << MAX_PATH;
/// Steps of the longest path.
pub const MAX_PATH: usize = 5;

/// A record's way up to the root, the lowest step first; none where it was signed alone.
///
/// Holding one proves nothing: it leads from any hash to *some* root, and only a signature over that says that the
/// record was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Path(#[serde(deserialize_with = "at_most::<_, _, MAX_PATH>")] Vec<Beside>);

/// What stands beside the way at one step, 32 bytes, and on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beside {
    /// On the left of it.
    Left(Digest),
    /// On the right of it.
    Right(Digest),
}

impl Path {
    /// Where the path leads from the hash of a record.
    #[must_use]
    pub fn root(&self, record: Digest, sha256: impl Fn(&[u8]) -> Digest) -> Digest {
        self.0.iter().fold(leaf(record, &sha256), |way, beside| match *beside {
            Beside::Left(left) => node(left, way, &sha256),
            Beside::Right(right) => node(way, right, &sha256),
        })
    }

    /// The steps.
    #[must_use]
    pub fn steps(&self) -> &[Beside] {
        &self.0
    }
}

/// The root over the hashes of records, and each record's path to it, in their order.
///
/// # Errors
/// [`BadTree`] without records, and with more than [`MAX_TOGETHER`].
pub fn grow(records: &[Digest], sha256: impl Fn(&[u8]) -> Digest) -> Result<(Digest, Vec<Path>), BadTree> {
    if records.is_empty() || records.len() > MAX_TOGETHER {
        return Err(BadTree { records: records.len() });
    }
    let mut paths = vec![Path::default(); records.len()];
    let root = subtree(records, &mut paths, &sha256);
    Ok((root, paths))
}

/// The message of the signature.
#[must_use]
pub fn to_sign(root: Digest) -> Vec<u8> {
    [SIGNED, root.as_bytes()].concat()
}

fn subtree(records: &[Digest], paths: &mut [Path], sha256: &impl Fn(&[u8]) -> Digest) -> Digest {
    if let [record] = records {
        return leaf(*record, sha256);
    }
    let on_left = records.len().next_power_of_two() / 2;
    let (left_records, right_records) = records.split_at(on_left);
    let (left_paths, right_paths) = paths.split_at_mut(on_left);
    let left = subtree(left_records, left_paths, sha256);
    let right = subtree(right_records, right_paths, sha256);
    left_paths.iter_mut().for_each(|path| path.0.push(Beside::Right(right)));
    right_paths.iter_mut().for_each(|path| path.0.push(Beside::Left(left)));
    node(left, right, sha256)
}

fn leaf(record: Digest, sha256: &impl Fn(&[u8]) -> Digest) -> Digest {
    sha256(&[&[LEAF], &record.as_bytes()[..]].concat())
}

fn node(left: Digest, right: Digest, sha256: &impl Fn(&[u8]) -> Digest) -> Digest {
    sha256(&[&[NODE], &left.as_bytes()[..], right.as_bytes()].concat())
}

/// So many records are not signed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{records} records where 1 to {MAX_TOGETHER} are signed together")]
pub struct BadTree {
    /// How many.
    pub records: usize,
}

/// First byte of what is hashed to a leaf (RFC 9162 section 2.1.1).
const LEAF: u8 = 0;
/// First byte of what is hashed to a node.
const NODE: u8 = 1;
