//! A token encrypted to one worker's key: HPKE (RFC 9180) in auth mode, from the vault's parcel key.
//!
//! Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305. The header below is the associated data.
//!
//! ```text
//! byte 0   version, 1
//!      1   request id, 16
//!     17   grant id, 16
//!     33   worker's key, 32
//!     65   worker's user id, 4, big-endian
//!     69   policy epoch, 8, big-endian
//!     77   encapsulated key, 32
//!    109   ciphertext with its tag, to the end
//! ```

use crate::identifier::{GrantId, RequestId, WorkerKey};
use crate::limits::MAX_PARCEL;

/// The `info` of the HPKE context: names the one use of these keys.
pub const HPKE_INFO: &[u8] = b"blindferry parcel v1";

/// What a parcel is bound to, in the clear and authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParcelHeader {
    /// The worker's own number for its request.
    pub request: RequestId,
    /// The grant that bought the token; for a renewal the grant that its lease came from.
    pub grant: GrantId,
    /// The key that it is encrypted to.
    pub worker: WorkerKey,
    /// The user id of the worker as its host's broker saw it.
    pub uid: u32,
    /// The version of the policy that allowed it.
    pub policy_epoch: u64,
}

impl ParcelHeader {
    /// Its length in bytes.
    pub const LEN: usize = 77;

    /// The bytes that go in front and into the associated data.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.request.as_bytes());
        bytes.extend_from_slice(self.grant.as_bytes());
        bytes.extend_from_slice(self.worker.as_bytes());
        bytes.extend_from_slice(&self.uid.to_be_bytes());
        bytes.extend_from_slice(&self.policy_epoch.to_be_bytes());
        bytes
    }
}

/// A parcel taken apart, not yet opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// What it claims to be bound to.
    pub header: ParcelHeader,
    /// The encapsulated key.
    pub encapsulated: [u8; 32],
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
}

impl Parcel {
    /// The parcel as it lies in a handle.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes();
        bytes.extend_from_slice(&self.encapsulated);
        bytes.extend_from_slice(&self.ciphertext);
        bytes
    }

    /// Takes a parcel apart.
    ///
    /// # Errors
    /// [`BadParcel`] when it is too short, too long or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadParcel> {
        if bytes.len() > MAX_PARCEL {
            return Err(BadParcel::TooLong { length: bytes.len() });
        }
        let mut rest = bytes;
        let [version] = take::<1>(&mut rest)?;
        if version != VERSION {
            return Err(BadParcel::Version { version });
        }
        let header = ParcelHeader {
            request: RequestId(take(&mut rest)?),
            grant: GrantId(take(&mut rest)?),
            worker: WorkerKey(take(&mut rest)?),
            uid: u32::from_be_bytes(take(&mut rest)?),
            policy_epoch: u64::from_be_bytes(take(&mut rest)?),
        };
        let encapsulated = take(&mut rest)?;
        if rest.len() < TAG {
            return Err(BadParcel::TooShort);
        }
        Ok(Self { header, encapsulated, ciphertext: rest.to_vec() })
    }
}

/// Bytes are not a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadParcel {
    /// Of a version that this code does not know.
    #[error("parcel version {version}, want {VERSION}")]
    Version {
        /// The version it claims.
        version: u8,
    },
    /// It ends before its ciphertext's tag.
    #[error("the parcel is cut short")]
    TooShort,
    /// Over [`MAX_PARCEL`].
    #[error("a parcel of {length} bytes, over {MAX_PARCEL}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadParcel> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(BadParcel::TooShort)?;
    *rest = tail;
    Ok(*head)
}

const VERSION: u8 = 1;
/// Bytes of the Poly1305 tag.
const TAG: usize = 16;
