//! The key-encryption key: the one secret at rest, from which every key of the store is derived.
//!
//! ```text
//! key-encryption key (random, 32 bytes; sealed to the platform, wrapped by the recovery key)
//!   ├─ record key    encrypts what the store holds            (record)
//!   ├─ master key    encrypts masters inside their records    (record)
//!   └─ audit seed    Ed25519, signs the audit                 (crate::audit)
//! ```
//!
//! Derivation is HKDF-SHA256 (RFC 5869) with one local label for each use. Derived keys are written into secret pages;
//! what ring keeps while it computes (the extracted key, an expanded cipher key) lives on stack and heap for the length
//! of one operation.
//!
//! The key that approves PCR values is not derived but made once and stored encrypted, see [`authority`].

pub mod authority;
mod cipher;
pub mod record;
pub mod recovery;

use blindferry_handle::secret::{InitError, SecretBytes};
use ring::rand::SecureRandom;

pub use self::authority::PolicyAuthority;
pub use self::cipher::SealError;
pub use self::record::{Opened, RecordKey};
pub use self::recovery::RecoveryKey;

/// The key-encryption key. Whoever has it can read the whole store.
#[derive(Debug)]
pub struct KeyEncryptionKey(SecretBytes);

impl KeyEncryptionKey {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// Makes a new one. Happens once in the life of a store.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::Secret`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, SealError> {
        random_secret(random).map(Self)
    }

    /// Takes what the platform unsealed.
    ///
    /// # Errors
    /// [`SealError::Length`] when it is not [`Self::LEN`] bytes long.
    pub fn from_secret(secret: SecretBytes) -> Result<Self, SealError> {
        if secret.len() != Self::LEN {
            return Err(SealError::Length { found: secret.len(), expected: Self::LEN });
        }
        Ok(Self(secret))
    }

    /// The bytes, for sealing them to the platform; the key is spent.
    #[must_use]
    pub fn into_secret(self) -> SecretBytes {
        self.0
    }

    /// The key of the records in the store.
    ///
    /// # Errors
    /// [`SealError::Secret`] when there is no room for a secret.
    pub fn record_key(&self) -> Result<RecordKey, SealError> {
        const LABEL: &[u8] = b"blindferry v1 store record";
        self.derive(LABEL).map(RecordKey::new)
    }

    /// The key of the masters inside their records, so that what lists credentials cannot open one.
    ///
    /// # Errors
    /// [`SealError::Secret`] when there is no room for a secret.
    pub fn master_key(&self) -> Result<RecordKey, SealError> {
        const LABEL: &[u8] = b"blindferry v1 master";
        self.derive(LABEL).map(RecordKey::new)
    }

    /// The seed (RFC 8032 section 5.1.5) of the key that signs audit records; it survives restarts and recovery.
    ///
    /// # Errors
    /// [`SealError::Secret`] when there is no room for a secret.
    pub fn audit_signing_seed(&self) -> Result<SecretBytes, SealError> {
        const LABEL: &[u8] = b"blindferry v1 audit signing";
        self.derive(LABEL)
    }

    fn derive(&self, label: &[u8]) -> Result<SecretBytes, SealError> {
        secret(Self::LEN, |slot| cipher::expand(&self.0, &[], label, slot).map(|()| slot.len()))
    }
}

fn random_secret(random: &dyn SecureRandom) -> Result<SecretBytes, SealError> {
    secret(KeyEncryptionKey::LEN, |slot| random.fill(slot).map(|()| slot.len()).map_err(|_| SealError::Random))
}

/// Makes a secret in place, with the two ways to fail folded into one error.
fn secret(capacity: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, SealError>) -> Result<SecretBytes, SealError> {
    SecretBytes::init(capacity, fill).map_err(|error| match error {
        InitError::Secret(source) => SealError::Secret(source),
        InitError::Fill(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn derived_keys_are_stable_and_differ_from_each_other() {
        let kek = |byte| KeyEncryptionKey::from_secret(SecretBytes::copy_and_wipe(&mut [byte; 32]).unwrap()).unwrap();
        let one = kek(1);
        let again = kek(1);
        assert!(one.audit_signing_seed().unwrap().ct_eq(&copy(&again.audit_signing_seed().unwrap())));
        assert!(!one.audit_signing_seed().unwrap().ct_eq(&copy(&kek(2).audit_signing_seed().unwrap())));

        let random = SystemRandom::new();
        let table = blindferry_proto::front::Table::Masters;
        let by_record = one.record_key().unwrap().seal(&random, table, b"a", 1, b"x").unwrap();
        assert!(again.record_key().unwrap().open(table, b"a", &by_record).is_ok());
        assert!(again.master_key().unwrap().open(table, b"a", &by_record).is_err());
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let short = SecretBytes::copy_and_wipe(&mut [7; 31]).unwrap();
        assert!(matches!(KeyEncryptionKey::from_secret(short), Err(SealError::Length { found: 31, expected: 32 })));
    }

    #[expect(clippy::disallowed_methods, reason = "a test key")]
    fn copy(secret: &SecretBytes) -> Vec<u8> {
        secret.expose().to_vec()
    }
}
