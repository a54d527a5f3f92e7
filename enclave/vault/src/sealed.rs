//! The key-encryption key: the one secret at rest, from which every key of the store is derived.
//!
//! ```text
//! key-encryption key (random, 32 bytes; sealed to the platform, wrapped by the recovery key)
//!   ├─ record key    encrypts what the store holds            (record)
//!   ├─ master key    encrypts masters inside their records    (record)
//!   └─ audit seed    Ed25519, signs the audit                 (crate::audit)
//! ```
//!
//! The audit's key outlives the key-encryption key: for one that replaced another the store keeps the audit seed, encrypted
//! under it. A vault that hands its key over hands over both.
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
pub mod retired;

use blindferry_handle::secret::{InitError, SecretBytes};
use ring::rand::SecureRandom;

pub use self::authority::PolicyAuthority;
pub use self::cipher::SealError;
pub use self::record::{Opened, RecordKey};
pub use self::recovery::RecoveryKey;

/// The key-encryption key. Whoever has it can read the whole store.
#[derive(Debug)]
pub struct KeyEncryptionKey {
    key: SecretBytes,
    /// Of a key that replaced another: the audit seed, which the first one derived.
    audit_seed: Option<SecretBytes>,
}

impl KeyEncryptionKey {
    /// Its length in bytes.
    pub const LEN: usize = 32;
    /// Its length in bytes with an audit seed behind it.
    pub const CARRYING: usize = 64;

    /// Makes one.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::Secret`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, SealError> {
        Ok(Self { key: random_secret(random)?, audit_seed: None })
    }

    /// The same, going on with the audit of a key that it replaced.
    #[must_use]
    pub fn with_audit_seed(self, seed: Option<SecretBytes>) -> Self {
        Self { audit_seed: seed.or(self.audit_seed), ..self }
    }

    /// Takes what the platform unsealed, or another vault handed over.
    ///
    /// # Errors
    /// [`SealError::Length`] when it is neither [`Self::LEN`] nor [`Self::CARRYING`] bytes long.
    pub fn from_secret(secret: SecretBytes) -> Result<Self, SealError> {
        match secret.len() {
            Self::LEN => Ok(Self { key: secret, audit_seed: None }),
            Self::CARRYING => {
                #[expect(clippy::disallowed_methods, reason = "parted into two secret slots")]
                let (key, seed) = secret.expose().split_at(Self::LEN);
                Ok(Self { key: copy_of(key)?, audit_seed: Some(copy_of(seed)?) })
            }
            found => Err(SealError::Length { found, expected: Self::LEN }),
        }
    }

    /// The bytes, for sealing them to the platform; the key is spent.
    #[must_use]
    pub fn into_secret(self) -> SecretBytes {
        self.key
    }

    /// The bytes, with the audit seed behind them where there is one, for another vault.
    ///
    /// # Errors
    /// [`SealError::Secret`] when there is no room for a secret.
    pub(crate) fn joined(&self) -> Result<SecretBytes, SealError> {
        let Some(seed) = &self.audit_seed else { return copy(&self.key) };
        secret(Self::CARRYING, |slot| {
            let (first, second) = slot.split_at_mut(Self::LEN);
            #[expect(clippy::disallowed_methods, reason = "from two secret slots into one")]
            for (place, part) in [(first, &self.key), (second, seed)] {
                place.copy_from_slice(part.expose());
            }
            Ok(Self::CARRYING)
        })
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
        match &self.audit_seed {
            Some(seed) => copy(seed),
            None => self.derive(LABEL),
        }
    }

    fn derive(&self, label: &[u8]) -> Result<SecretBytes, SealError> {
        secret(Self::LEN, |slot| cipher::expand(&self.key, &[], label, slot).map(|()| slot.len()))
    }
}

fn random_secret(random: &dyn SecureRandom) -> Result<SecretBytes, SealError> {
    secret(KeyEncryptionKey::LEN, |slot| random.fill(slot).map(|()| slot.len()).map_err(|_| SealError::Random))
}

fn copy(other: &SecretBytes) -> Result<SecretBytes, SealError> {
    #[expect(clippy::disallowed_methods, reason = "from one secret slot into another")]
    copy_of(other.expose())
}

fn copy_of(bytes: &[u8]) -> Result<SecretBytes, SealError> {
    secret(bytes.len(), |slot| {
        slot.copy_from_slice(bytes);
        Ok(slot.len())
    })
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
    fn a_key_that_replaces_another_goes_on_with_its_audit_and_with_nothing_else() {
        let random = SystemRandom::new();
        let first = KeyEncryptionKey::generate(&random).unwrap();
        let seed = first.audit_signing_seed().unwrap();
        let kept = Some(first.audit_signing_seed().unwrap());
        let second = KeyEncryptionKey::generate(&random).unwrap().with_audit_seed(kept);
        assert!(second.audit_signing_seed().unwrap().ct_eq(&copy(&seed)));
        let table = blindferry_proto::front::Table::Masters;
        let by_first = first.record_key().unwrap().seal(&random, table, b"a", 1, b"x").unwrap();
        assert!(second.record_key().unwrap().open(table, b"a", &by_first).is_err());

        let by_second = second.record_key().unwrap().seal(&random, table, b"a", 1, b"x").unwrap();
        let secret = second.joined().unwrap();
        assert_eq!(secret.len(), KeyEncryptionKey::CARRYING);
        let again = KeyEncryptionKey::from_secret(secret).unwrap();
        assert!(again.audit_signing_seed().unwrap().ct_eq(&copy(&seed)), "it was handed over too");
        assert!(again.record_key().unwrap().open(table, b"a", &by_second).is_ok());
        assert_eq!(again.into_secret().len(), KeyEncryptionKey::LEN, "the platform seals the key alone");
        assert_eq!(first.joined().unwrap().len(), KeyEncryptionKey::LEN);
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
