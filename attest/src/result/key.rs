//! The verifier's own key: what signs attestation results, and how others name it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    digest,
    rand::SecureRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    },
};
/// A key that signs attestation results (RFC 7518 section 3.4, RFC 8037). Its private part cannot be got out again.
#[expect(missing_debug_implementations, reason = "a secret is mute, and so is what holds one")]
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
    members: String,
    thumbprint: String,
}

/// By which algorithm a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// Bytes are not a private key for this algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a private key for {algorithm:?} in PKCS #8")]
pub struct BadSigningKey {
    /// The algorithm that was asked for.
    pub algorithm: Algorithm,
}

impl SigningKey {
    /// Takes a private key in PKCS #8 (DER). `random` is for checking it, and is drawn from for ECDSA alone.
    ///
    /// # Errors
    ///
    /// When it is not a key for this algorithm.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: &[u8], random: &dyn SecureRandom) -> Result<Self, BadSigningKey> {
        let refused = |_| BadSigningKey { algorithm };
        let pair = match algorithm {
            Algorithm::Es256 => {
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, random).map_err(refused)?)
            }
            Algorithm::Es384 => {
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8, random).map_err(refused)?)
            }
            Algorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(refused)?),
        };
        let members = members(algorithm, &pair).ok_or(BadSigningKey { algorithm })?;
        let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, format!("{{{members}}}").as_bytes()));
        Ok(Self { algorithm, pair, members, thumbprint })
    }

    /// The algorithm that it signs by.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// How results name it (`kid`): its SHA-256 thumbprint (RFC 7638), base64url.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Its public half as a JSON Web Key (RFC 7517), for those who verify results.
    #[must_use]
    pub fn public_jwk(&self) -> String {
        let Self { algorithm, members, thumbprint, .. } = self;
        format!(r#"{{"alg":"{}",{members},"kid":"{thumbprint}","use":"sig"}}"#, algorithm.name())
    }

    pub(super) fn sign(&self, message: &[u8], random: &dyn SecureRandom) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Ecdsa(pair) => Some(pair.sign(random, message).ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl Algorithm {
    /// Its name in JOSE headers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A public key in the members that a thumbprint is over, in the order that it wants: by name (RFC 7638 section 3.2). All
/// are of letters, digits, `-` and `_`, so nothing needs escaping.
fn members(algorithm: Algorithm, pair: &Pair) -> Option<String> {
    let crv = match algorithm {
        Algorithm::Es256 => "P-256",
        Algorithm::Es384 => "P-384",
        Algorithm::EdDsa => "Ed25519",
    };
    match pair {
        Pair::Ecdsa(pair) => {
            // 04 ‖ x ‖ y
            let (_, coordinates) = pair.public_key().as_ref().split_first()?;
            let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            Some(format!(r#""crv":"{crv}","kty":"EC","x":"{x}","y":"{y}""#))
        }
        Pair::Ed25519(pair) => {
            let x = URL_SAFE_NO_PAD.encode(pair.public_key());
            Some(format!(r#""crv":"{crv}","kty":"OKP","x":"{x}""#))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A: its key and its thumbprint.
    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
        pkcs8.extend_from_slice(&seed);
        let key = SigningKey::from_pkcs8(Algorithm::EdDsa, &pkcs8, &ring::rand::SystemRandom::new()).unwrap();
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(key.public_jwk().contains("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"), "{}", key.public_jwk());
    }

    #[test]
    fn a_key_for_another_algorithm_is_refused() {
        let random = ring::rand::SystemRandom::new();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        for algorithm in [Algorithm::Es384, Algorithm::EdDsa] {
            let refused = SigningKey::from_pkcs8(algorithm, p256.as_ref(), &random).err().unwrap();
            assert_eq!(refused, BadSigningKey { algorithm });
        }
        assert!(SigningKey::from_pkcs8(Algorithm::Es256, p256.as_ref(), &random).is_ok());
    }
}
