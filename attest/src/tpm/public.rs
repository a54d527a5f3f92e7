//! TPMT_PUBLIC, the public area of a TPM object, parsed strictly (Part 2 section 12.2.4).

use std::fmt;

use super::{
    algorithm::{HashAlg, TPM_ALG_AES, TPM_ALG_CFB, TPM_ALG_ECC, TPM_ALG_ECDSA, TPM_ALG_NULL, TPM_ALG_RSA},
    algorithm::{TPM_ALG_RSAPSS, TPM_ALG_RSASSA},
    der::strip_zeros,
    key::{Curve, Key},
    name::AkName,
};
use crate::reader::{Malformed, Reader};

/// The public area of an asymmetric key. Holding one tells you that the bytes parsed and that their algorithms are
/// among those that we accept; not that any TPM made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    name: AkName,
    name_alg: HashAlg,
    attributes: Attributes,
    auth_policy: Vec<u8>,
    symmetric: Option<Symmetric>,
    scheme: Option<Scheme>,
    key: Key,
}

/// TPMA_OBJECT: what a TPM lets be done with an object (Part 2 section 8.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attributes(u32);

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSA with PKCS #1 v1.5 padding.
    RsaSsa(HashAlg),
    /// RSA with PSS padding, the salt as long as the digest.
    RsaPss(HashAlg),
    /// ECDSA.
    Ecdsa(HashAlg),
}

/// How a storage key (an EK is one) encrypts what it protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symmetric {
    /// AES-128 in CFB mode.
    Aes128Cfb,
    /// AES-256 in CFB mode.
    Aes256Cfb,
}

impl Public {
    /// Parses a TPMT_PUBLIC of an RSA key of 2048 to 4096 bits or an ECC key on P-256 or P-384.
    ///
    /// # Errors
    ///
    /// On every other algorithm, on a weak hash, on lengths that do not fit, and on bytes left over.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16("key type")?;
        let name_alg = HashAlg::read(&mut reader, "nameAlg")?;
        let attributes = Attributes(reader.u32("objectAttributes")?);
        let auth_policy = reader.sized(name_alg.digest_len(), "authPolicy")?.to_vec();
        let symmetric = Symmetric::read(&mut reader)?;
        let scheme = Scheme::read_optional(&mut reader, kind)?;
        let key = match kind {
            TPM_ALG_RSA => read_rsa(&mut reader)?,
            TPM_ALG_ECC => read_ecc(&mut reader)?,
            other => {
                return Err(Malformed::Value { field: "key type", found: other.into() });
            }
        };
        reader.finish("TPMT_PUBLIC")?;
        let name = AkName::compute(name_alg, bytes);
        Ok(Self { name, name_alg, attributes, auth_policy, symmetric, scheme, key })
    }

    /// nameAlg ‖ nameAlg's digest of exactly the bytes that were parsed.
    #[must_use]
    pub fn name(&self) -> &AkName {
        &self.name
    }

    /// The hash of its Name and of its policy.
    #[must_use]
    pub fn name_alg(&self) -> HashAlg {
        self.name_alg
    }

    /// What may be done with it.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// Its policy digest; empty when it has none.
    #[must_use]
    pub fn auth_policy(&self) -> &[u8] {
        &self.auth_policy
    }

    /// How it protects its children, when it is a storage key.
    #[must_use]
    pub fn symmetric(&self) -> Option<Symmetric> {
        self.symmetric
    }

    /// How it signs, when that is fixed.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }
}

impl Attributes {
    /// It cannot leave its TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// It cannot be moved to another parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made its private part.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// Authorised by its password or HMAC in the user role.
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    /// Authorised by its policy alone in the admin role.
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    /// It signs, or decrypts, only what the TPM itself made.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// It decrypts.
    pub const DECRYPT: Self = Self(1 << 17);
    /// It signs.
    pub const SIGN: Self = Self(1 << 18);

    /// Those of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of `self` that `other` has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that both have.
    #[must_use]
    pub const fn shared(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Attributes, &str); 8] = [
            (Attributes::FIXED_TPM, "fixedTPM"),
            (Attributes::FIXED_PARENT, "fixedParent"),
            (Attributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
            (Attributes::USER_WITH_AUTH, "userWithAuth"),
            (Attributes::ADMIN_WITH_POLICY, "adminWithPolicy"),
            (Attributes::RESTRICTED, "restricted"),
            (Attributes::DECRYPT, "decrypt"),
            (Attributes::SIGN, "sign"),
        ];
        let mut rest = *self;
        let mut separator = "";
        for (attribute, name) in NAMES {
            if !rest.shared(attribute).is_empty() {
                write!(f, "{separator}{name}")?;
                separator = "|";
                rest = rest.without(attribute);
            }
        }
        match rest.0 {
            0 if separator.is_empty() => f.write_str("none"),
            0 => Ok(()),
            bits => write!(f, "{separator}{bits:#x}"),
        }
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Scheme {
    /// Reads algorithm and hash, of a TPMT_SIGNATURE or a public area.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u16("signature scheme")? {
            TPM_ALG_RSASSA => Ok(Self::RsaSsa(HashAlg::read(reader, "hash of the scheme")?)),
            TPM_ALG_RSAPSS => Ok(Self::RsaPss(HashAlg::read(reader, "hash of the scheme")?)),
            TPM_ALG_ECDSA => Ok(Self::Ecdsa(HashAlg::read(reader, "hash of the scheme")?)),
            other => Err(Malformed::Value { field: "signature scheme", found: other.into() }),
        }
    }

    /// The hash that it signs.
    #[must_use]
    pub const fn hash(self) -> HashAlg {
        match self {
            Self::RsaSsa(hash) | Self::RsaPss(hash) | Self::Ecdsa(hash) => hash,
        }
    }

    fn read_optional(reader: &mut Reader<'_>, kind: u16) -> Result<Option<Self>, Malformed> {
        let mut ahead = *reader;
        if ahead.u16("signature scheme")? == TPM_ALG_NULL {
            *reader = ahead;
            return Ok(None);
        }
        match (kind, Self::read(reader)?) {
            (TPM_ALG_RSA, scheme @ (Self::RsaSsa(_) | Self::RsaPss(_))) | (TPM_ALG_ECC, scheme @ Self::Ecdsa(_)) => {
                Ok(Some(scheme))
            }
            _ => Err(Malformed::Value { field: "key type under this signature scheme", found: kind.into() }),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, hash) = match self {
            Self::RsaSsa(hash) => ("RSASSA", hash),
            Self::RsaPss(hash) => ("RSAPSS", hash),
            Self::Ecdsa(hash) => ("ECDSA", hash),
        };
        write!(f, "{scheme} with {hash}")
    }
}

impl Symmetric {
    /// The length of its key in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Cfb => 16,
            Self::Aes256Cfb => 32,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match reader.u16("symmetric algorithm")? {
            TPM_ALG_NULL => return Ok(None),
            TPM_ALG_AES => {}
            other => {
                return Err(Malformed::Value { field: "symmetric algorithm", found: other.into() });
            }
        }
        let bits = reader.u16("symmetric key bits")?;
        let mode = reader.u16("symmetric mode")?;
        match (bits, mode) {
            (128, TPM_ALG_CFB) => Ok(Some(Self::Aes128Cfb)),
            (256, TPM_ALG_CFB) => Ok(Some(Self::Aes256Cfb)),
            (bits, TPM_ALG_CFB) => Err(Malformed::Value { field: "symmetric key bits", found: bits.into() }),
            (_, mode) => Err(Malformed::Value { field: "symmetric mode", found: mode.into() }),
        }
    }
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<Key, Malformed> {
    let bits = reader.u16("RSA key bits")?;
    if !matches!(bits, 2048 | 3072 | 4096) {
        return Err(Malformed::Value { field: "RSA key bits", found: bits.into() });
    }
    // Zero stands for 65537 (Part 2 section 12.2.3.5).
    let exponent = match reader.u32("RSA exponent")? {
        0 => 65537,
        odd if odd >= 65537 && odd % 2 == 1 => odd,
        other => {
            return Err(Malformed::Value { field: "RSA exponent", found: other.into() });
        }
    };
    let modulus = reader.sized(usize::from(bits / 8), "RSA modulus")?;
    // A modulus of exactly the bits that the area names, and odd: the rest is for the libraries to refuse.
    let found = modulus.len();
    if found != usize::from(bits / 8) || modulus.first().is_none_or(|top| *top < 0x80) {
        return Err(Malformed::Length { field: "RSA modulus", found, wanted: usize::from(bits / 8) });
    }
    Ok(Key::Rsa { modulus: strip_zeros(modulus).to_vec(), exponent })
}

fn read_ecc(reader: &mut Reader<'_>) -> Result<Key, Malformed> {
    let curve = match reader.u16("curve")? {
        0x0003 => Curve::P256,
        0x0004 => Curve::P384,
        other => {
            return Err(Malformed::Value { field: "curve", found: other.into() });
        }
    };
    match reader.u16("key derivation of the key")? {
        TPM_ALG_NULL => {}
        other => {
            return Err(Malformed::Value { field: "key derivation of the key", found: other.into() });
        }
    }
    let mut point = vec![0x04];
    for field in ["x coordinate", "y coordinate"] {
        let number = reader.sized(curve.field_len(), field)?;
        // Some TPMs leave leading zero bytes of a coordinate away. The point needs them; the Name is over the bytes as
        // they came, so this changes nothing that is compared.
        point.resize(point.len() + curve.field_len() - number.len(), 0);
        point.extend_from_slice(number);
    }
    Ok(Key::Ecc { curve, point })
}
