//! A signature over reference values, in a file beside theirs: who made them, when no attested session says so.
//!
//! ```toml
//! version = 1
//! key = "5f…"          # SHA-256 of the signer's SubjectPublicKeyInfo
//! signature = "a0…"    # Ed25519
//! ```
//!
//! Signed is the canonical form ([`ReferenceValues::to_toml`]), so that comments and order of the file may change, and
//! no value can.

use std::fmt;

use ring::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};
use serde::Deserialize;

use super::ReferenceValues;

/// The largest signature file, or public key, in bytes.
pub const MAX_SIGNATURE: usize = 4096;

/// What a signature file says. A claim until [`Signature::verify`] has checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    key: KeyId,
    value: [u8; 64],
}

/// A public key that reference values may be signed with: Ed25519.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    spki: [u8; 44],
}

/// The name of a key: SHA-256 over its SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 32]);

/// Reference values whose signature held.
#[must_use = "values that nobody uses were checked for nothing"]
#[derive(Debug)]
pub struct Signed {
    values: ReferenceValues,
    by: KeyId,
}

/// Why a signature says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The file of the signature is too long, or no TOML of the form above.
    #[error("cannot parse the signature")]
    Malformed(#[source] Option<toml::de::Error>),
    /// The signature is of a version that this program does not know.
    #[error("the signature is of version {found}, this program knows version {VERSION}")]
    Version {
        /// The version.
        found: i64,
    },
    /// A field is not lower-case hexadecimal of its length.
    #[error("{field} of the signature is no lower-case hexadecimal of {length} bytes")]
    Field {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// The key is not Ed25519, or not in PEM.
    #[error("the key is no public Ed25519 key in PEM")]
    Key,
    /// Somebody else signed.
    #[error("the values are signed with key {found}, which is not the one that is trusted, {wanted}")]
    OtherKey {
        /// Who says to have signed.
        found: KeyId,
        /// Who should have.
        wanted: KeyId,
    },
    /// The signature is not over these values.
    #[error("the signature is not over these values: they were changed, or it belongs to another file")]
    Wrong,
}

impl SignatureError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "reference-signature-malformed",
            Self::Version { .. } => "reference-signature-version",
            Self::Field { .. } => "reference-signature-field",
            Self::Key => "reference-signature-key",
            Self::OtherKey { .. } => "reference-signature-other-key",
            Self::Wrong => "reference-signature-wrong",
        }
    }
}

impl ReferenceValues {
    /// The bytes that are signed: a label that no other signature of ours has, and the canonical form.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        const LABEL: &str = "blindferry reference values v1\0";
        [LABEL, &self.to_toml()].concat().into_bytes()
    }
}

impl Signature {
    /// Puts together what a signer made over [`ReferenceValues::to_be_signed`].
    #[must_use]
    pub const fn new(key: KeyId, value: [u8; 64]) -> Self {
        Self { key, value }
    }

    /// Parses the file of a signature.
    ///
    /// # Errors
    ///
    /// On anything but exactly the form above.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        if text.len() > MAX_SIGNATURE {
            return Err(SignatureError::Malformed(None));
        }
        let File { version, key, signature } =
            toml::from_str(text).map_err(|source| SignatureError::Malformed(Some(source)))?;
        if version != VERSION {
            return Err(SignatureError::Version { found: version });
        }
        let key = super::document::fixed_hex(&key).ok_or(SignatureError::Field { field: "key", length: 32 })?;
        let value = super::document::fixed_hex(&signature);
        let value = value.ok_or(SignatureError::Field { field: "signature", length: 64 })?;
        Ok(Self { key: KeyId(key), value })
    }

    /// The file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        format!("version = {VERSION}\nkey = \"{}\"\nsignature = \"{}\"\n", self.key, hex::encode(self.value))
    }

    /// Takes values for signed by this key, or not at all.
    ///
    /// # Errors
    ///
    /// When another key signed, or other values.
    pub fn verify(&self, values: ReferenceValues, trusted: &SigningKey) -> Result<Signed, SignatureError> {
        let wanted = trusted.id();
        if self.key != wanted {
            return Err(SignatureError::OtherKey { found: self.key, wanted });
        }
        let key = UnparsedPublicKey::new(&ED25519, trusted.point());
        key.verify(&values.to_be_signed(), &self.value).map_err(|_| SignatureError::Wrong)?;
        Ok(Signed { values, by: wanted })
    }
}

impl SigningKey {
    /// From the 32 bytes of a public key.
    #[must_use]
    pub fn from_point(point: &[u8; 32]) -> Self {
        let mut spki = [0; 44];
        spki.iter_mut().zip(SPKI.iter().chain(point)).for_each(|(to, from)| *to = *from);
        Self { spki }
    }

    /// Reads a key in PEM, as `openssl pkey -pubout` writes it (RFC 8410 section 4).
    ///
    /// # Errors
    ///
    /// When it is of another kind.
    pub fn from_pem(text: &str) -> Result<Self, SignatureError> {
        let pem = Some(text).filter(|text| text.len() <= MAX_SIGNATURE);
        let pem = pem.and_then(|text| x509_parser::pem::parse_x509_pem(text.as_bytes()).ok());
        let (rest, pem) = pem.ok_or(SignatureError::Key)?;
        let spki: [u8; 44] = pem.contents.try_into().map_err(|_| SignatureError::Key)?;
        if !rest.trim_ascii().is_empty() || pem.label != "PUBLIC KEY" || !spki.starts_with(&SPKI) {
            return Err(SignatureError::Key);
        }
        Ok(Self { spki })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 32];
        id.iter_mut().zip(digest(&SHA256, &self.spki).as_ref()).for_each(|(to, from)| *to = *from);
        KeyId(id)
    }

    fn point(&self) -> &[u8] {
        self.spki.get(SPKI.len()..).unwrap_or_default()
    }
}

impl Signed {
    /// The values.
    #[must_use]
    pub fn into_values(self) -> ReferenceValues {
        self.values
    }

    /// Who signed them.
    #[must_use]
    pub fn by(&self) -> KeyId {
        self.by
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyId({self})")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: i64,
    key: String,
    signature: String,
}

/// The version of the form that this program reads and writes.
const VERSION: i64 = 1;

/// SubjectPublicKeyInfo of Ed25519 up to the key itself (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    fn values(name: &str) -> ReferenceValues {
        let pcr = "00".repeat(32);
        let text = format!(
            "version = 1\nrole = \"broker\"\n[[tpm]]\nname = \"{name}\"\nfirmware = \"any\"\n[tpm.pcrs]\n4 = [\"{pcr}\"]\n"
        );
        ReferenceValues::parse(&text).unwrap()
    }

    fn signer(seed: u8) -> (Ed25519KeyPair, SigningKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = SigningKey::from_point(pair.public_key().as_ref().try_into().unwrap());
        (pair, key)
    }

    fn signed(pair: &Ed25519KeyPair, key: &SigningKey, values: &ReferenceValues) -> Signature {
        Signature::new(key.id(), pair.sign(&values.to_be_signed()).as_ref().try_into().unwrap())
    }

    #[test]
    fn values_are_signed_by_the_one_key_that_is_trusted() {
        let ((pair, key), (_, other)) = (signer(1), signer(2));
        let signature = Signature::parse(&signed(&pair, &key, &values("a")).to_toml()).unwrap();
        let signed = signature.verify(values("a"), &key).unwrap();
        assert_eq!((signed.by(), signed.into_values()), (key.id(), values("a")));
        assert_eq!(signature.verify(values("b"), &key).unwrap_err(), SignatureError::Wrong);
        let error = SignatureError::OtherKey { found: key.id(), wanted: other.id() };
        assert_eq!(signature.verify(values("a"), &other).unwrap_err(), error);
        // The key's name is a claim: to write another does not make the signature another's.
        let renamed = Signature::new(other.id(), signature.value);
        assert_eq!(renamed.verify(values("a"), &other).unwrap_err(), SignatureError::Wrong);
    }

    #[test]
    fn comments_may_change_and_values_may_not() {
        let (pair, key) = signer(1);
        let signature = signed(&pair, &key, &values("a"));
        let commented = format!("# approved\n{}", values("a").to_toml());
        assert!(signature.verify(ReferenceValues::parse(&commented).unwrap(), &key).is_ok());
        let changed = values("a").to_toml().replace("broker", "operator");
        assert!(signature.verify(ReferenceValues::parse(&changed).unwrap(), &key).is_err());
    }

    #[test]
    fn what_is_no_signature_or_no_key_is_refused() {
        let (pair, key) = signer(1);
        let good = signed(&pair, &key, &values("a")).to_toml();
        let refused = |text: &str| Signature::parse(text).unwrap_err().code();
        assert_eq!(refused(&good.replace("version = 1", "version = 2")), "reference-signature-version");
        assert_eq!(refused(&good.replace("key = \"", "key = \"00")), "reference-signature-field");
        assert_eq!(refused(&good.replace("signature = \"", "signature = \"ZZ")), "reference-signature-field");
        assert_eq!(refused(&format!("{good}more = 1\n")), "reference-signature-malformed");
        assert_eq!(refused(&format!("{good}#{}", " ".repeat(MAX_SIGNATURE))), "reference-signature-malformed");
        // As OpenSSL 3 writes the public key of RFC 8032 section 7.1, test 1.
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
        let point = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(SigningKey::from_pem(pem).unwrap().point()), point);
        for text in ["", "key", &pem.replace("PUBLIC", "PRIVATE"), &pem.replace("MCow", "MCox"), &format!("{pem}{pem}")]
        {
            assert_eq!(SigningKey::from_pem(text), Err(SignatureError::Key), "{text}");
        }
    }
}
