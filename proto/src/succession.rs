//! What a vault's successor asks of it, over an attested session whose role is
//! [`Role::Successor`](crate::role::Role::Successor).
//!
//! ```text
//! successor ── Take {its key} ───────────────▶ vault      the operator's approval is spent
//! successor ◀─ HandedOver {encrypted to it} ── vault
//! successor ── Keep {sealed} ────────────────▶ vault      from here on the store opens for both
//! ```

use crate::bounded::Bytes;
use crate::identifier::{DepositKey, Digest};
use serde::{Deserialize, Serialize};

/// The `info` of the HPKE context in which a vault encrypts its key-encryption key to its successor (base mode, the suite
/// of [`crate::parcel`]; both ends are attested by the session). The associated data is the session's id.
pub const HAND_OVER_INFO: &[u8] = b"blindferry hand-over v1";
/// Bytes of a key that a platform has sealed.
pub const MAX_SEALED_KEY: usize = 1024;

/// What a successor asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SuccessorRequest {
    /// The key-encryption key, once for each approval.
    Take {
        /// To which it is encrypted.
        key: DepositKey,
    },
    /// Keep this in the store: the same key, as the successor's platform has sealed it.
    Keep {
        /// As the platform gave it.
        sealed: Bytes<MAX_SEALED_KEY>,
    },
}

/// The key-encryption key on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// HPKE encapsulated key.
    pub encapsulated: Digest,
    /// The key, encrypted: 32 bytes, or 64 where it carries the audit seed of one before, and a tag.
    pub ciphertext: Bytes<80>,
}
