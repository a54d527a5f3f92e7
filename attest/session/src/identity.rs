//! The TLS key of one running process: made at start, kept in memory, never stored.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;

/// A fresh ECDSA P-256 key for TLS handshakes, presented as a raw public key (RFC 7250).
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    spki: Arc<[u8]>,
}

impl Identity {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`IdentityError`] when the system gives no random bytes or the key cannot be used.
    pub fn generate() -> Result<Self, IdentityError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| IdentityError::Generate)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()));
        let signer =
            rustls::crypto::ring::sign::any_ecdsa_type(&der).map_err(|source| IdentityError::Load { source })?;
        let spki = signer.public_key().ok_or(IdentityError::Generate)?.into_owned();
        let key = CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], signer);
        Ok(Self { key: Arc::new(key), spki: spki.to_vec().into() })
    }

    /// The public half: SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7).
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity([REDACTED])")
    }
}

/// A TLS key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system gave no random bytes.
    #[error("cannot generate a TLS key")]
    Generate,
    /// The key cannot be used.
    #[error("cannot use the generated TLS key")]
    Load {
        /// What rustls says.
        source: rustls::Error,
    },
}
