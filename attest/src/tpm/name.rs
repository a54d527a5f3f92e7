//! The Name of a TPM object: what identifies a key for ever (Part 1 section 16).

use std::{fmt, str::FromStr};

use super::algorithm::HashAlg;

/// The Name of an attestation key: nameAlg (2 bytes, big-endian) followed by nameAlg's digest of its public area.
///
/// It is what a host's identity is pinned to. It is public data; as text it is lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AkName(Vec<u8>);

/// Why bytes or text are not the Name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the Name of a TPM object: 000b and 64, or 000c and 96 lower-case hexadecimal digits are needed")]
pub struct BadName;

impl AkName {
    /// The Name of an object with this marshalled TPMT_PUBLIC.
    #[must_use]
    pub(crate) fn compute(alg: HashAlg, public: &[u8]) -> Self {
        let mut name = alg.id().to_be_bytes().to_vec();
        name.extend_from_slice(&alg.hash(&[public]));
        Self(name)
    }

    /// Takes a Name that was stored or shown before.
    ///
    /// # Errors
    ///
    /// When the algorithm is not SHA-256 or SHA-384, or the length is not that of its digest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadName> {
        let (id, digest) = bytes.split_first_chunk().ok_or(BadName)?;
        let alg = HashAlg::from_id(u16::from_be_bytes(*id)).ok_or(BadName)?;
        if digest.len() != alg.digest_len() {
            return Err(BadName);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Its bytes, as TPM commands take them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for AkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for AkName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        // Bounded before it is decoded; upper case would make two texts of one Name.
        if text.len() > 2 * (2 + 48) || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(BadName);
        }
        Self::from_bytes(&hex::decode(text).map_err(|_| BadName)?)
    }
}
