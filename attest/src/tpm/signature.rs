//! TPMT_SIGNATURE, parsed strictly (Part 2 section 11.3.4), and checked with ring.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::{
    algorithm::HashAlg,
    der::{SEQUENCE, tlv, unsigned},
    key::{Curve, Key},
    public::Scheme,
};
use crate::reader::{Malformed, Reader};

/// A signature as a TPM wrote it. Holding one tells you that it parsed; not that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    scheme: Scheme,
    /// What ring wants: ECDSA-Sig-Value in DER, or the RSA signature as it is.
    bytes: Vec<u8>,
}

/// Bytes that the key behind a signature did sign. Only [`Signature::verify`] makes one.
#[derive(Debug)]
pub(crate) struct Signed<'a>(&'a [u8]);

impl Signature {
    /// Parses a TPMT_SIGNATURE by ECDSA, RSASSA or RSAPSS with SHA-256 or SHA-384.
    ///
    /// # Errors
    ///
    /// On every other algorithm, on lengths that do not fit, and on bytes left over.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let scheme = Scheme::read(&mut reader)?;
        let signature = match scheme {
            Scheme::RsaSsa(_) | Scheme::RsaPss(_) => reader.sized(512, "RSA signature")?.to_vec(),
            Scheme::Ecdsa(_) => {
                let r = reader.sized(48, "signature r")?;
                let s = reader.sized(48, "signature s")?;
                tlv(SEQUENCE, &[&unsigned(r), &unsigned(s)])
            }
        };
        reader.finish("TPMT_SIGNATURE")?;
        Ok(Self { scheme, bytes: signature })
    }

    /// The scheme that it claims.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Gives the message back when `key` signed it, nothing otherwise.
    ///
    /// PSS salts must be as long as the digest, as TPMs of FIPS 186-4 make them.
    pub(crate) fn verify<'a>(&self, key: &Key, message: &'a [u8]) -> Option<Signed<'a>> {
        let algorithm: &'static dyn VerificationAlgorithm = match (key, self.scheme) {
            (Key::Rsa { .. }, Scheme::RsaSsa(HashAlg::Sha256)) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Key::Rsa { .. }, Scheme::RsaSsa(HashAlg::Sha384)) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Key::Rsa { .. }, Scheme::RsaPss(HashAlg::Sha256)) => &signature::RSA_PSS_2048_8192_SHA256,
            (Key::Rsa { .. }, Scheme::RsaPss(HashAlg::Sha384)) => &signature::RSA_PSS_2048_8192_SHA384,
            (Key::Ecc { curve, .. }, Scheme::Ecdsa(hash)) => match (curve, hash) {
                (Curve::P256, HashAlg::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
                (Curve::P256, HashAlg::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
                (Curve::P384, HashAlg::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
                (Curve::P384, HashAlg::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            },
            (Key::Rsa { .. }, Scheme::Ecdsa(_)) | (Key::Ecc { .. }, Scheme::RsaSsa(_) | Scheme::RsaPss(_)) => {
                return None;
            }
        };
        UnparsedPublicKey::new(algorithm, key.bare()).verify(message, &self.bytes).ok()?;
        Some(Signed(message))
    }
}

impl<'a> Signed<'a> {
    /// The signed bytes.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }
}
