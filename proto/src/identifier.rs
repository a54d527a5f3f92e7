//! Fixed-length identifiers and public keys: each its own type, so that none can stand in for another.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Its length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = BadIdentifier;
            fn from_str(text: &str) -> Result<Self, BadIdentifier> {
                let mut bytes = [0; $len];
                decode_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            /// Hexadecimal where people read it (JSON), raw bytes elsewhere.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serde_array::serialize(&self.0, serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    serde_array::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

identifier!(
    /// A grant's identity: in the audit, in the ledger of spent grants, in a parcel's associated data.
    GrantId, 16);
identifier!(
    /// A lease's identity.
    LeaseId, 16);
identifier!(
    /// Chosen at random by a worker; the same one asks again for the same parcel.
    RequestId, 16);
identifier!(
    /// An attested session's identity, chosen by the vault.
    SessionId, 16);
identifier!(
    /// One running vault: fresh at each start, so that a grant names the replica that issued it.
    ReplicaId, 8);
identifier!(
    /// An ask that waits for a person. Short, since people type it; a vault never gives one out twice at a time.
    AskId, 8);
identifier!(
    /// A SHA-256 digest.
    Digest, 32);
identifier!(
    /// A worker's public key (X25519, RFC 7748), to which its parcels are encrypted.
    WorkerKey, 32);
identifier!(
    /// The vault's public key (X25519) that authenticates parcels; it lives as long as the running vault.
    ParcelKey, 32);
identifier!(
    /// The vault's public key (X25519) to which operators encrypt masters; it lives as long as the running vault.
    DepositKey, 32);
identifier!(
    /// The vault's public key (Ed25519, RFC 8032) that signs audit records; it outlives restarts.
    AuditKey, 32);
identifier!(
    /// The hash of an endorsement key: SHA-256 over its SubjectPublicKeyInfo in DER.
    EkDigest, 32);

identifier!(
    /// A processor of AMD, as SEV-SNP reports name it. On Turin the first 8 bytes count and the others are zero.
    ChipId, 64);

identifier!(
    /// The Name of a key in a TPM whose Name algorithm is SHA-256: the algorithm, 00 0b, and the digest.
    KeyName, 34);

/// The hardware that a host is pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// A TPM, by its endorsement key.
    Ek(EkDigest),
    /// A processor under an SEV-SNP guest.
    Chip(ChipId),
    /// A confidential machine of Azure, by the attestation key of its vTPM.
    Vtpm(KeyName),
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ek(ek) => ek.fmt(f),
            Self::Chip(chip) => chip.fmt(f),
            Self::Vtpm(key) => key.fmt(f),
        }
    }
}

impl FromStr for Machine {
    type Err = BadMachine;
    /// They differ in length.
    fn from_str(text: &str) -> Result<Self, BadMachine> {
        match text.len() {
            128 => text.parse().map(Self::Chip).map_err(|_| BadMachine),
            68 => text.parse().map(Self::Vtpm).map_err(|_| BadMachine),
            _ => text.parse().map(Self::Ek).map_err(|_| BadMachine),
        }
    }
}

/// A text names no hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an EK's hash (64 hexadecimal digits in lower case), a chip id (128), or the Name of the key of Azure's vTPM (68)"
)]
pub struct BadMachine;

/// A text is not the hexadecimal form of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected} hexadecimal digits in lower case")]
pub struct BadIdentifier {
    /// How many digits it should have.
    pub expected: usize,
}

fn decode_hex(text: &str, bytes: &mut [u8]) -> Result<(), BadIdentifier> {
    let bad = BadIdentifier { expected: bytes.len() * 2 };
    let digits = text.as_bytes();
    if digits.len() != bytes.len() * 2 {
        return Err(bad);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let mut value = 0;
        for digit in pair {
            value = value * 16
                + match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return Err(bad),
                };
        }
        *byte = value;
    }
    Ok(())
}

/// Arrays as tuples, which is their form in postcard, also beyond serde's own limit of 32 elements.
mod serde_array {
    use core::fmt;
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::ser::SerializeTuple;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        struct ArrayVisitor<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for ArrayVisitor<N> {
            type Value = [u8; N];
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<[u8; N], A::Error> {
                let mut bytes = [0; N];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = elements.next_element()?.ok_or_else(|| A::Error::invalid_length(i, &self))?;
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_tuple(N, ArrayVisitor::<N>)
    }
}
