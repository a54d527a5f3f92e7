//! Signing keys: out of a master in PKCS#8 PEM, and their public half as a JWK (RFC 7517).
//!
//! The decoded key is in a buffer that wipes itself. ring's key pair is boxed, so that the process's wiping allocator
//! wipes it when it is dropped; ring does not, and what its parsing leaves on the stack nobody can reach to wipe. A pair
//! is therefore made for one signature and dropped before anything is waited for.

use super::MintError;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::credential::SigningAlgorithm;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, Signature};
use ring::{digest, error::KeyRejected};
use serde::Serialize;
use zeroize::Zeroizing;

/// The public half of a JWT signer's master, for the JWKS.
///
/// # Errors
/// [`KeyError`] when the master is not a key for that algorithm.
pub fn public_jwk(master: &SecretBytes, algorithm: SigningAlgorithm) -> Result<Jwk, KeyError> {
    SigningKey::from_master(master, algorithm)?.jwk()
}

/// A public signing key (RFC 7517, RFC 7518 section 6.2, RFC 8037 section 2). Its JSON is what a JWKS lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    alg: SigningAlgorithm,
    #[serde(rename = "use")]
    purpose: &'static str,
    kid: String,
}

impl Jwk {
    /// The key's identifier: its thumbprint (RFC 7638), the same wherever this key is.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn new(algorithm: SigningAlgorithm, x: &[u8], y: Option<&[u8]>) -> Self {
        let (kty, crv) = match algorithm {
            SigningAlgorithm::Es256 => ("EC", "P-256"),
            SigningAlgorithm::EdDsa => ("OKP", "Ed25519"),
        };
        let x = URL_SAFE_NO_PAD.encode(x);
        let y = y.map(|y| URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 section 3: the required members alone, in this order, without white space.
        let thumbprinted = match &y {
            Some(y) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
            None => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
        };
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, thumbprinted.as_bytes()));
        Self { kty, crv, x, y, alg: algorithm, purpose: "sig", kid }
    }
}

/// A private key that signs with one algorithm.
pub(super) struct SigningKey(Pair);

enum Pair {
    Es256(Box<EcdsaKeyPair>),
    EdDsa(Box<Ed25519KeyPair>),
}

impl SigningKey {
    /// Parses a master: one PKCS#8 private key in PEM.
    pub(super) fn from_master(master: &SecretBytes, algorithm: SigningAlgorithm) -> Result<Self, KeyError> {
        #[expect(clippy::disallowed_methods, reason = "decoded into a wiping buffer; errors repeat none of it")]
        let der = decode_pem(master.expose())?;
        let wrong = |source| KeyError::Key { algorithm: name(algorithm), source };
        Ok(Self(match algorithm {
            SigningAlgorithm::Es256 => {
                // Blinds the pair's nonces beside the caller's own random numbers; no output depends on it alone.
                let random = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random);
                Pair::Es256(Box::new(pair.map_err(wrong)?))
            }
            SigningAlgorithm::EdDsa => {
                // "Maybe unchecked": OpenSSL writes version 1 documents, which have no public key to check against.
                Pair::EdDsa(Box::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(wrong)?))
            }
        }))
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        match self.0 {
            Pair::Es256(_) => SigningAlgorithm::Es256,
            Pair::EdDsa(_) => SigningAlgorithm::EdDsa,
        }
    }

    pub(super) fn jwk(&self) -> Result<Jwk, KeyError> {
        match &self.0 {
            Pair::Es256(pair) => {
                // An uncompressed point (SEC 1 section 2.3.3): 04, x, y.
                let Some((4, point)) = pair.public_key().as_ref().split_first().map(|(tag, point)| (*tag, point))
                else {
                    return Err(KeyError::Point);
                };
                let (x, y) = point.split_at_checked(32).filter(|(_, y)| y.len() == 32).ok_or(KeyError::Point)?;
                Ok(Jwk::new(SigningAlgorithm::Es256, x, Some(y)))
            }
            Pair::EdDsa(pair) => Ok(Jwk::new(SigningAlgorithm::EdDsa, pair.public_key().as_ref(), None)),
        }
    }

    /// Signs as JWS wants it: for ES256 r and s at fixed length (RFC 7518 section 3.4).
    pub(super) fn sign(&self, message: &[u8], random: &dyn SecureRandom) -> Result<Signature, MintError> {
        match &self.0 {
            Pair::Es256(pair) => pair.sign(random, message).map_err(|_| MintError::Sign),
            Pair::EdDsa(pair) => Ok(pair.sign(message)),
        }
    }
}

/// A master is not a signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not one PEM block.
    #[error("not PEM: want one block that begins with -----BEGIN PRIVATE KEY-----")]
    NotPem,
    /// PEM of something else.
    #[error("PEM, but not of a PKCS#8 private key: convert it with `openssl pkcs8 -topk8 -nocrypt`")]
    NotPkcs8,
    /// Encrypted under a passphrase, which nobody could enter.
    #[error("encrypted under a passphrase: decrypt it with `openssl pkcs8`")]
    Encrypted,
    /// The block's inside is not Base64. Says not where, for that would repeat a byte of the key.
    #[error("the PEM block is not Base64")]
    Base64,
    /// A key of another kind, or damaged.
    #[error("not an {algorithm} key in PKCS#8")]
    Key {
        /// The algorithm that the settings name.
        algorithm: &'static str,
        /// Why not.
        source: KeyRejected,
    },
    /// The public half is not what its algorithm says.
    #[error("the public key is not an uncompressed P-256 point")]
    Point,
}

impl KeyError {
    /// The stable word.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotPem | Self::NotPkcs8 | Self::Base64 => "master-not-pem",
            Self::Encrypted => "master-encrypted",
            Self::Key { .. } | Self::Point => "master-not-a-key",
        }
    }
}

/// The name of an algorithm in JOSE.
pub(super) fn name(algorithm: SigningAlgorithm) -> &'static str {
    match algorithm {
        SigningAlgorithm::Es256 => "ES256",
        SigningAlgorithm::EdDsa => "EdDSA",
    }
}

/// The one PKCS#8 block of a PEM text (RFC 7468 section 10). White space around it is allowed, text is not.
fn decode_pem(pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let pem = pem.trim_ascii();
    if pem.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(KeyError::Encrypted);
    }
    let Some(rest) = pem.strip_prefix(b"-----BEGIN PRIVATE KEY-----") else {
        return Err(if pem.starts_with(b"-----BEGIN ") { KeyError::NotPkcs8 } else { KeyError::NotPem });
    };
    let lines = rest.strip_suffix(b"-----END PRIVATE KEY-----").ok_or(KeyError::NotPem)?;
    let mut base64 = Zeroizing::new(Vec::with_capacity(lines.len()));
    base64.extend(lines.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')));
    let mut der = Zeroizing::new(vec![0; base64.len()]);
    let length = STANDARD.decode_slice(base64.as_slice(), &mut der).map_err(|_| KeyError::Base64)?;
    der.truncate(length);
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::copy_and_wipe(&mut text.as_bytes().to_vec()).unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    fn p256() -> String {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        pem("PRIVATE KEY", document.as_ref())
    }

    /// The key of RFC 8037 appendix A.1, as OpenSSL writes it (version 1, no public half).
    const RFC_8037: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037_appendix_a_3() {
        let jwk = public_jwk(&secret(RFC_8037), SigningAlgorithm::EdDsa).unwrap();
        assert_eq!(jwk.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            serde_json::to_value(&jwk).unwrap(),
            serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "alg": "EdDSA", "use": "sig", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            })
        );
    }

    #[test]
    fn a_signature_has_the_fixed_length_of_jws() {
        let random = SystemRandom::new();
        for (key, algorithm) in [(p256(), SigningAlgorithm::Es256), (RFC_8037.to_owned(), SigningAlgorithm::EdDsa)] {
            let key = SigningKey::from_master(&secret(&key), algorithm).unwrap();
            for round in 0..100u8 {
                assert_eq!(key.sign(&[round], &random).unwrap().as_ref().len(), 64);
            }
        }
    }

    #[test]
    fn a_key_of_another_algorithm_is_refused() {
        assert!(matches!(public_jwk(&secret(&p256()), SigningAlgorithm::EdDsa), Err(KeyError::Key { .. })));
        assert!(matches!(public_jwk(&secret(RFC_8037), SigningAlgorithm::Es256), Err(KeyError::Key { .. })));
    }

    #[test]
    fn what_is_not_one_pkcs8_block_is_refused_and_not_repeated() {
        let key = p256();
        for (text, code) in [
            ("hunter2".to_owned(), "master-not-pem"),
            (key.replace("PRIVATE KEY", "EC PRIVATE KEY"), "master-not-pem"),
            (key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "master-encrypted"),
            (format!("Bag Attributes\n{key}"), "master-not-pem"),
            (format!("{key}{key}"), "master-not-pem"),
            (key.replacen('M', "!", 1), "master-not-pem"),
            (key.trim_end().strip_suffix("-----END PRIVATE KEY-----").unwrap().to_owned(), "master-not-pem"),
            (pem("PRIVATE KEY", b"not a key"), "master-not-a-key"),
            ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----".to_owned(), "master-not-a-key"),
        ] {
            let error = public_jwk(&secret(&text), SigningAlgorithm::Es256).unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            let said = format!("{error} {error:?}");
            assert!(!said.contains("hunter2") && !said.contains("33"), "{said}");
        }
    }

    #[test]
    fn line_ends_of_every_system_are_read() {
        let key = p256();
        let usual = public_jwk(&secret(&key), SigningAlgorithm::Es256).unwrap();
        assert_eq!(public_jwk(&secret(&key.replace('\n', "\r\n")), SigningAlgorithm::Es256).unwrap(), usual);
        assert_eq!(public_jwk(&secret(&format!("\n {key}\n\n")), SigningAlgorithm::Es256).unwrap(), usual);
    }

    proptest! {
        #[test]
        fn no_master_makes_it_panic(inside in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = pem("PRIVATE KEY", &inside);
            prop_assert!(SigningKey::from_master(&secret(&text), SigningAlgorithm::Es256).is_err());
            prop_assert!(SigningKey::from_master(&secret(&text), SigningAlgorithm::EdDsa).is_err());
        }
    }
}
