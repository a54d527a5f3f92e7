//! The keys before, while the store is encrypted anew: kept under the key that replaces them, until nothing needs them.

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::front::Table;
use ring::rand::SecureRandom;

use super::record::RecordKey;
use super::{KeyEncryptionKey, SealError, copy_of, secret};

/// Where they lie, in [`Table::Sealed`].
pub const KEY: &[u8] = b"retired-keys";

/// The record key and the master key of a key-encryption key that was replaced.
#[derive(Debug)]
pub struct RetiredKeys {
    /// Encrypted records.
    pub record: RecordKey,
    /// Encrypted masters inside their records.
    pub masters: RecordKey,
}

/// The record under `next` that holds them.
///
/// # Errors
/// [`SealError::Random`], [`SealError::Secret`].
pub fn seal(
    random: &dyn SecureRandom,
    next: &RecordKey,
    record: &RecordKey,
    masters: &RecordKey,
) -> Result<Vec<u8>, SealError> {
    let both: SecretBytes = secret(2 * KeyEncryptionKey::LEN, |slot| {
        let (first, second) = slot.split_at_mut(KeyEncryptionKey::LEN);
        #[expect(clippy::disallowed_methods, reason = "from two secret slots into one")]
        for (place, key) in [(first, record), (second, masters)] {
            place.copy_from_slice(key.secret().expose());
        }
        Ok(2 * KeyEncryptionKey::LEN)
    })?;
    next.seal_secret(random, Table::Sealed, KEY, 0, &both)
}

impl RetiredKeys {
    /// Opens what [`seal`] made.
    ///
    /// # Errors
    /// [`SealError::NotAuthentic`], [`SealError::Length`].
    pub fn open(next: &RecordKey, stored: &[u8]) -> Result<Self, SealError> {
        let (_, both) = next.open_secret(Table::Sealed, KEY, stored)?;
        if both.len() != 2 * KeyEncryptionKey::LEN {
            return Err(SealError::Length { found: both.len(), expected: 2 * KeyEncryptionKey::LEN });
        }
        #[expect(clippy::disallowed_methods, reason = "parted into two secret slots")]
        let (record, masters) = both.expose().split_at(KeyEncryptionKey::LEN);
        Ok(Self { record: RecordKey::new(copy_of(record)?), masters: RecordKey::new(copy_of(masters)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn they_open_under_the_key_that_replaced_them_alone() {
        let random = SystemRandom::new();
        let [old, new] = [(); 2].map(|()| KeyEncryptionKey::generate(&random).unwrap());
        let (record, masters) = (old.record_key().unwrap(), old.master_key().unwrap());
        let next = new.record_key().unwrap();
        let stored = seal(&random, &next, &record, &masters).unwrap();
        let opened = RetiredKeys::open(&next, &stored).unwrap();
        let [a, b] = [&record, &masters].map(|key| key.seal(&random, Table::Hosts, b"h", 1, b"x").unwrap());
        assert!(opened.record.open(Table::Hosts, b"h", &a).is_ok());
        assert!(opened.masters.open(Table::Hosts, b"h", &b).is_ok());
        assert!(opened.masters.open(Table::Hosts, b"h", &a).is_err());
        assert!(RetiredKeys::open(&record, &stored).is_err());
    }
}
