//! The authority: the operator's P-256 key whose signature approves PCR values, and its name to a TPM.

use ring::digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The public half of the key that signs approvals. Its private half never comes near a TPM.
///
/// The TPM knows it by its *Name*: `nameAlg ‖ H(TPMT_PUBLIC)` (TPM 2.0 Part 1, section 16), so every attribute of the
/// public area counts; [`Authority::to_tpm_public`] is the one form that we use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    x: [u8; COORDINATE],
    y: [u8; COORDINATE],
}

impl Authority {
    /// Takes the uncompressed point of SEC 1, `04 ‖ x ‖ y`, 65 bytes.
    ///
    /// # Errors
    /// When it is not an uncompressed P-256 point. Whether it lies on the curve is found where a signature is verified.
    pub fn from_point(point: &[u8]) -> Result<Self, AuthorityError> {
        let (&tag, coordinates) = point.split_first().ok_or(AuthorityError::Length { found: 0 })?;
        let (x, y) = coordinates.split_at_checked(COORDINATE).ok_or(AuthorityError::Length { found: point.len() })?;
        if tag != UNCOMPRESSED {
            return Err(AuthorityError::NotUncompressed { tag });
        }
        let length = |_| AuthorityError::Length { found: point.len() };
        Ok(Self { x: x.try_into().map_err(length)?, y: y.try_into().map_err(length)? })
    }

    /// Takes a SubjectPublicKeyInfo in DER (RFC 5480), 91 bytes: id-ecPublicKey on secp256r1, uncompressed.
    ///
    /// # Errors
    /// When it is any other kind of key, or encoded otherwise.
    pub fn from_spki(der: &[u8]) -> Result<Self, AuthorityError> {
        Self::from_point(der.strip_prefix(&SPKI_PREFIX).ok_or(AuthorityError::NotP256Spki)?)
    }

    /// The uncompressed point, `04 ‖ x ‖ y`.
    #[must_use]
    pub fn to_point(&self) -> Vec<u8> {
        [&[UNCOMPRESSED], &self.x[..], &self.y[..]].concat()
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.to_point()].concat()
    }

    /// The TPMT_PUBLIC of the key (TPM 2.0 Part 2, section 12.2.4): an external ECDSA-SHA-256 verification key.
    #[must_use]
    pub fn to_tpm_public(&self) -> Vec<u8> {
        [&TPM_PUBLIC_PREFIX[..], &COORDINATE_SIZE, &self.x, &COORDINATE_SIZE, &self.y].concat()
    }

    /// The Name by which TPM2_PolicyAuthorize knows the key: 34 bytes.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        [&SHA256_ID[..], digest::digest(&digest::SHA256, &self.to_tpm_public()).as_ref()].concat()
    }
}

/// Why a key cannot be an authority.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// A P-256 point has 65 bytes.
    #[error("an authority's point has 65 bytes, this has {found}")]
    Length {
        /// Its length.
        found: usize,
    },
    /// Compressed points and the like are not accepted.
    #[error("an authority's point is uncompressed (04), this begins with {tag:#04x}")]
    NotUncompressed {
        /// Its first byte.
        tag: u8,
    },
    /// The SubjectPublicKeyInfo is not that of a P-256 key.
    #[error("an authority is a P-256 key as SubjectPublicKeyInfo in DER")]
    NotP256Spki,
}

const COORDINATE: usize = 32;
const COORDINATE_SIZE: [u8; 2] = [0, 32];
const UNCOMPRESSED: u8 = 4;

/// TPM_ALG_SHA256.
const SHA256_ID: [u8; 2] = [0x00, 0x0b];

/// SEQUENCE { SEQUENCE { id-ecPublicKey, secp256r1 }, BIT STRING of 66 bytes with no unused bits }.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Everything of the public area before the point.
const TPM_PUBLIC_PREFIX: [u8; 20] = [
    0x00, 0x23, // type: TPM_ALG_ECC
    0x00, 0x0b, // nameAlg: TPM_ALG_SHA256
    0x00, 0x04, 0x00, 0x40, // objectAttributes: sign, userWithAuth
    0x00, 0x00, // authPolicy: empty
    0x00, 0x10, // symmetric: TPM_ALG_NULL
    0x00, 0x18, 0x00, 0x0b, // scheme: TPM_ALG_ECDSA with TPM_ALG_SHA256
    0x00, 0x03, // curve: TPM_ECC_NIST_P256
    0x00, 0x10, // kdf: TPM_ALG_NULL
];

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        Authority { x: [1; 32], y: [2; 32] }
    }

    #[test]
    fn point_and_spki_lead_back_to_the_same_authority() {
        assert_eq!(Authority::from_point(&authority().to_point()), Ok(authority()));
        assert_eq!(Authority::from_spki(&authority().to_spki()), Ok(authority()));
        assert_eq!(authority().to_spki().len(), 91);
    }

    #[test]
    fn other_lengths_and_forms_are_refused() {
        let point = authority().to_point();
        assert_eq!(Authority::from_point(&[]), Err(AuthorityError::Length { found: 0 }));
        assert_eq!(Authority::from_point(&point[..64]), Err(AuthorityError::Length { found: 64 }));
        assert_eq!(Authority::from_point(&[&point[..], &[0]].concat()), Err(AuthorityError::Length { found: 66 }));
        assert_eq!(
            Authority::from_point(&[&[2], &point[1..]].concat()),
            Err(AuthorityError::NotUncompressed { tag: 2 })
        );
        assert_eq!(Authority::from_spki(&point), Err(AuthorityError::NotP256Spki));
    }

    #[test]
    fn the_name_depends_on_both_coordinates() {
        let names =
            [authority(), Authority { x: [3; 32], y: [2; 32] }, Authority { x: [1; 32], y: [3; 32] }].map(|a| a.name());
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
        assert_eq!(names[0].len(), 34);
    }
}
