//! The P-256 key that approves the PCR values under which the platform may unseal the key-encryption key.
//!
//! It is made once, at `init`, and stored as an encrypted record, instead of being derived from the key-encryption key:
//! ring takes a private key only together with its public key and cannot compute the one from the other, and a second
//! elliptic-curve library in the vault would be a high price for not storing 138 bytes. An old copy that the store
//! replays is the same key; another key is useless, since the TPM object names the public half.

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::front::Table;
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::record::RecordKey;
use super::{SealError, secret};

/// Where its record lies, in [`Table::Sealed`].
pub const KEY: &[u8] = b"policy-authority";

/// The key that approves PCR values. Kept in secret pages as PKCS#8; the form that ring signs with exists for the length
/// of one signature.
#[derive(Debug)]
pub struct PolicyAuthority(SecretBytes);

impl PolicyAuthority {
    /// Makes one. ring hands new keys out on the stack, so this belongs into `init`, whose process ends soon.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::Secret`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, SealError> {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random).map_err(|_| SealError::Random)?;
        secret(made.as_ref().len(), |slot| {
            slot.copy_from_slice(made.as_ref());
            Ok(slot.len())
        })
        .map(Self)
    }

    /// Its record, for [`Table::Sealed`] under [`KEY`].
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn seal(&self, random: &dyn SecureRandom, key: &RecordKey) -> Result<Vec<u8>, SealError> {
        key.seal_secret(random, Table::Sealed, KEY, 0, &self.0)
    }

    /// Opens its record.
    ///
    /// # Errors
    /// [`SealError::NotAuthentic`], [`SealError::KeyPair`].
    pub fn open(key: &RecordKey, stored: &[u8], random: &dyn SecureRandom) -> Result<Self, SealError> {
        let (_, pkcs8) = key.open_secret(Table::Sealed, KEY, stored)?;
        let opened = Self(pkcs8);
        opened.pair(random)?;
        Ok(opened)
    }

    /// The public key: an uncompressed point (SEC 1), `04 ‖ x ‖ y`, 65 bytes.
    ///
    /// # Errors
    /// [`SealError::KeyPair`].
    pub fn public_point(&self, random: &dyn SecureRandom) -> Result<Vec<u8>, SealError> {
        Ok(self.pair(random)?.public_key().as_ref().to_vec())
    }

    /// Signs: ECDSA with SHA-256 over `message`, as `r ‖ s`, 64 bytes.
    ///
    /// # Errors
    /// [`SealError::KeyPair`], [`SealError::Random`].
    pub fn sign(&self, random: &dyn SecureRandom, message: &[u8]) -> Result<[u8; 64], SealError> {
        let signature = self.pair(random)?.sign(random, message).map_err(|_| SealError::Random)?;
        signature.as_ref().try_into().map_err(|_| SealError::KeyPair)
    }

    fn pair(&self, random: &dyn SecureRandom) -> Result<EcdsaKeyPair, SealError> {
        #[expect(clippy::disallowed_methods, reason = "ring parses the key for one signature")]
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, self.0.expose(), random)
            .map_err(|_| SealError::KeyPair)
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyEncryptionKey;
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn what_it_signs_verifies_after_a_restart() {
        let random = SystemRandom::new();
        let key = KeyEncryptionKey::generate(&random).unwrap().record_key().unwrap();
        let made = PolicyAuthority::generate(&random).unwrap();
        let public = made.public_point(&random).unwrap();
        let stored = made.seal(&random, &key).unwrap();

        let opened = PolicyAuthority::open(&key, &stored, &random).unwrap();
        let signature = opened.sign(&random, b"approval").unwrap();
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        assert!(verifier.verify(b"approval", &signature).is_ok());
        assert!(verifier.verify(b"another", &signature).is_err());
    }
}
