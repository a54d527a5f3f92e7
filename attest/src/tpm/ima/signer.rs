//! Signatures of files as `evmctl ima_sign` makes them and Linux stores them (`security.ima`, version 2, RSA).

use rsa::{BoxedUint, Pkcs1v15Sign, RsaPublicKey};
use x509_parser::{prelude::FromDer as _, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::{Entry, FileDigest};
use crate::reader::Reader;

/// A key whose files are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    spki: Vec<u8>,
    key: RsaPublicKey,
}

impl Signer {
    /// Takes an RSA key of 2048 to 4096 bits, as SubjectPublicKeyInfo in DER; nothing when it is another.
    #[must_use]
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        let (rest, parsed) = SubjectPublicKeyInfo::from_der(spki).ok()?;
        let PublicKey::RSA(key) = parsed.parsed().ok()? else { return None };
        let modulus = key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus);
        if !rest.is_empty() || !(256..=512).contains(&modulus.len()) || key.exponent.len() > 4 {
            return None;
        }
        let exponent = BoxedUint::from_be_slice_vartime(key.exponent);
        let key = RsaPublicKey::new(BoxedUint::from_be_slice_vartime(modulus), exponent).ok()?;
        Some(Self { spki: spki.to_vec(), key })
    }

    /// SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The digest that the key signed, when it signed this entry's.
    #[must_use]
    pub fn signed<'e>(&self, entry: &'e Entry) -> Option<&'e FileDigest> {
        let signature = Signature::read(entry.signature())?;
        let file = entry.file();
        // DigestInfo (RFC 8017, appendix B.1) of the algorithm that the digest has, not of the one that the signature names.
        let prefix: &[u8] = match (file.algorithm(), signature.algorithm) {
            ("sha256", 4) => &[0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20],
            ("sha384", 5) => &[0x30, 0x41, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0, 4, 0x30],
            ("sha512", 6) => &[0x30, 0x51, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0, 4, 0x40],
            _ => return None,
        };
        let scheme = Pkcs1v15Sign { hash_len: Some(file.digest().len()), prefix: prefix.into() };
        let holds = file.is_strong() && self.key.verify(scheme, file.digest(), signature.bytes).is_ok();
        holds.then_some(file)
    }
}

/// struct signature_v2_hdr of Linux, after the type of the attribute.
struct Signature<'a> {
    algorithm: u8,
    bytes: &'a [u8],
}

impl<'a> Signature<'a> {
    fn read(attribute: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(attribute);
        // EVM_IMA_XATTR_DIGSIG, then the version.
        if reader.array("head").ok()? != [3, 2] {
            return None;
        }
        let algorithm = reader.u8("hash_algo").ok()?;
        reader.u32("keyid").ok()?;
        let bytes = reader.sized(512, "sig").ok()?;
        reader.finish("security.ima").ok()?;
        Some(Self { algorithm, bytes })
    }
}
