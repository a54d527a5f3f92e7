//! A public key of a TPM, in the forms that signature checks and certificates want.

use std::borrow::Cow;

use x509_parser::{prelude::FromDer as _, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::der::{BIT_STRING, SEQUENCE, strip_zeros, tlv, unsigned};

/// A public key of a kind that we accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// On an elliptic curve.
    Ecc {
        /// The curve.
        curve: Curve,
        /// The uncompressed point: 04 ‖ x ‖ y.
        point: Vec<u8>,
    },
    /// RSA, 2048 to 4096 bits.
    Rsa {
        /// The modulus, big-endian, without leading zeros.
        modulus: Vec<u8>,
        /// The public exponent, 65537 or more.
        exponent: u32,
    },
}

/// An elliptic curve that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256 (secp256r1).
    P256,
    /// NIST P-384 (secp384r1).
    P384,
}

impl Key {
    /// An RSA key of 2048, 3072 or 4096 bits with this modulus and exponent (big-endian, without leading zeros), if the
    /// exponent is odd and between 65537 and 2³² - 1.
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let bits_fit = matches!(modulus.len(), 256 | 384 | 512) && modulus.first().is_some_and(|top| *top >= 0x80);
        if !bits_fit || exponent.len() > 4 || exponent.first().is_none_or(|top| *top == 0) {
            return None;
        }
        let exponent = exponent.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        (exponent >= 65537 && exponent % 2 == 1).then(|| Self::Rsa { modulus: modulus.to_vec(), exponent })
    }

    /// Reads a SubjectPublicKeyInfo in DER, of RSA with 2048, 3072 or 4096 bits, P-256 or P-384; nothing when it is another.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let key = match spki.parsed().ok()? {
            PublicKey::RSA(key) => Self::rsa(strip_zeros(key.modulus), strip_zeros(key.exponent))?,
            PublicKey::EC(point) => {
                let curve = [Curve::P256, Curve::P384].into_iter().find(|curve| {
                    point.data().len() == 2 * curve.field_len() + 1 && point.data().first() == Some(&4)
                })?;
                Self::Ecc { curve, point: point.data().to_vec() }
            }
            _ => return None,
        };
        // What is written again says whether every parameter was the one that it was taken for.
        (rest.is_empty() && key.spki() == der).then_some(key)
    }

    /// SubjectPublicKeyInfo in DER (RFC 5480; RFC 8017 with rsaEncryption).
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ecc { curve, point } => {
                let algorithm = tlv(SEQUENCE, &[EC_PUBLIC_KEY, curve.oid()]);
                tlv(SEQUENCE, &[&algorithm, &tlv(BIT_STRING, &[&[0], point])])
            }
            Self::Rsa { .. } => {
                let algorithm = tlv(SEQUENCE, &[RSA_ENCRYPTION, NULL]);
                tlv(SEQUENCE, &[&algorithm, &tlv(BIT_STRING, &[&[0], &self.bare()])])
            }
        }
    }

    /// The key alone: the point, or RSAPublicKey in DER. What is inside the bit string of [`Key::spki`].
    pub(crate) fn bare(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Ecc { point, .. } => Cow::Borrowed(point),
            Self::Rsa { modulus, exponent } => {
                Cow::Owned(tlv(SEQUENCE, &[&unsigned(modulus), &unsigned(&exponent.to_be_bytes())]))
            }
        }
    }
}

impl Curve {
    /// The length of a coordinate in bytes.
    #[must_use]
    pub const fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    const fn oid(self) -> &'static [u8] {
        match self {
            // 1.2.840.10045.3.1.7
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            // 1.3.132.0.34
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
        }
    }
}

// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const NULL: &[u8] = &[0x05, 0x00];
