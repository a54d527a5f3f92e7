//! Records of the store: encrypted for one table, one key and one version, and readable nowhere else.
//!
//! ```text
//! format (1) ‖ version (8, big-endian) ‖ salt (32) ‖ ciphertext ‖ tag (16)
//! ```
//!
//! The associated data is everything that says which record this is: format, table, key with its length, version. So
//! the store cannot pass one record off as another; that it could pass off an *older* one is what the manifest is for.

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::front::Table;
use ring::rand::SecureRandom;

use super::cipher::{self, SealError, Sealed};
use super::secret;

/// Bytes that a record has beyond its plaintext.
pub const OVERHEAD: usize = HEADER + cipher::OVERHEAD;

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 8;
const LABEL: &[u8] = b"blindferry v1 one record";

/// Encrypts and decrypts records.
#[derive(Debug)]
pub struct RecordKey(SecretBytes);

/// A record in the clear: authentic, for the place it was asked for. Whether it is the newest is another question.
#[derive(Debug)]
pub struct Opened {
    /// The version under which it was written.
    pub version: u64,
    /// What was written.
    pub plaintext: Vec<u8>,
}

impl RecordKey {
    pub(super) fn new(key: SecretBytes) -> Self {
        Self(key)
    }

    pub(super) fn secret(&self) -> &SecretBytes {
        &self.0
    }

    /// Encrypts a record.
    ///
    /// # Errors
    /// [`SealError::Random`], or [`SealError::TooLong`] for a key over 64 KiB.
    pub fn seal(
        &self,
        random: &dyn SecureRandom,
        table: Table,
        key: &[u8],
        version: u64,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let mut out = Vec::with_capacity(OVERHEAD + plaintext.len());
        out.push(FORMAT);
        out.extend_from_slice(&version.to_be_bytes());
        cipher::seal(random, &self.0, LABEL, &place(table, key, version)?, plaintext, &mut out)?;
        Ok(out)
    }

    /// Encrypts a record whose plaintext is a secret.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_secret(
        &self,
        random: &dyn SecureRandom,
        table: Table,
        key: &[u8],
        version: u64,
        plaintext: &SecretBytes,
    ) -> Result<Vec<u8>, SealError> {
        // The one buffer that sees the plaintext is encrypted in place; its room is exact, so that it is never moved.
        #[expect(clippy::disallowed_methods, reason = "copied into the buffer that is encrypted in place")]
        self.seal(random, table, key, version, plaintext.expose())
    }

    /// Decrypts a record.
    ///
    /// # Errors
    /// [`SealError::NotAuthentic`] when it was not written by us for this table and key.
    pub fn open(&self, table: Table, key: &[u8], stored: &[u8]) -> Result<Opened, SealError> {
        let (version, ad, sealed) = parse(table, key, stored)?;
        let mut plaintext = vec![0; sealed.body.len()];
        let used = cipher::open_into(&self.0, LABEL, &ad, &sealed, &mut plaintext)?;
        plaintext.truncate(used);
        Ok(Opened { version, plaintext })
    }

    /// Decrypts a record straight into secret pages; returns its version beside it. No other copy of the plaintext is
    /// made.
    ///
    /// # Errors
    /// As [`Self::open`], and [`SealError::Secret`] when there is no room or the plaintext is empty.
    pub fn open_secret(&self, table: Table, key: &[u8], stored: &[u8]) -> Result<(u64, SecretBytes), SealError> {
        let (version, ad, sealed) = parse(table, key, stored)?;
        let opened = secret(sealed.body.len(), |slot| cipher::open_into(&self.0, LABEL, &ad, &sealed, slot))?;
        Ok((version, opened))
    }
}

fn parse<'a>(table: Table, key: &[u8], stored: &'a [u8]) -> Result<(u64, Vec<u8>, Sealed<'a>), SealError> {
    let (header, rest) = stored.split_first_chunk::<HEADER>().ok_or(SealError::NotAuthentic)?;
    let [FORMAT, version @ ..] = *header else {
        return Err(SealError::NotAuthentic);
    };
    let version = u64::from_be_bytes(version);
    Ok((version, place(table, key, version)?, Sealed::parse(rest)?))
}

/// The associated data.
fn place(table: Table, key: &[u8], version: u64) -> Result<Vec<u8>, SealError> {
    let length = u16::try_from(key.len()).map_err(|_| SealError::TooLong)?;
    Ok([&[FORMAT, table_byte(table)], &length.to_be_bytes()[..], key, &version.to_be_bytes()].concat())
}

/// A table's number, which must never change: stored records depend on it.
pub(crate) const fn table_byte(table: Table) -> u8 {
    match table {
        Table::Sealed => 0,
        Table::Manifest => 1,
        Table::Masters => 2,
        Table::Hosts => 3,
        Table::Documents => 4,
        Table::Audit => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyEncryptionKey;
    use super::*;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    fn key() -> RecordKey {
        KeyEncryptionKey::generate(&SystemRandom::new()).unwrap().record_key().unwrap()
    }

    #[test]
    fn a_record_opens_only_in_its_place() {
        let (key, random) = (key(), SystemRandom::new());
        let stored = key.seal(&random, Table::Masters, b"name", 7, b"plain").unwrap();
        let opened = key.open(Table::Masters, b"name", &stored).unwrap();
        assert_eq!((opened.version, opened.plaintext.as_slice()), (7, &b"plain"[..]));

        assert!(key.open(Table::Hosts, b"name", &stored).is_err());
        assert!(key.open(Table::Masters, b"nam", &stored).is_err());
        assert!(self::key().open(Table::Masters, b"name", &stored).is_err());
    }

    #[test]
    fn equal_plaintexts_are_encrypted_differently() {
        let (key, random) = (key(), SystemRandom::new());
        let seal = || key.seal(&random, Table::Hosts, b"h", 1, b"same").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_master_opens_into_secret_pages() {
        let (key, random) = (key(), SystemRandom::new());
        let master = SecretBytes::copy_and_wipe(&mut b"hunter2".to_vec()).unwrap();
        let stored = key.seal_secret(&random, Table::Masters, b"m", 3, &master).unwrap();
        assert!(!stored.windows(7).any(|window| window == b"hunter2"));
        let (version, opened) = key.open_secret(Table::Masters, b"m", &stored).unwrap();
        assert!(opened.ct_eq(b"hunter2"));
        assert_eq!(version, 3);
    }

    proptest! {
        #[test]
        fn any_changed_bit_and_any_cut_is_found(
            plain in proptest::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let (key, random) = (key(), SystemRandom::new());
            let stored = key.seal(&random, Table::Hosts, b"h", 1, &plain).unwrap();
            let at = at.index(stored.len());
            let mut changed = stored.clone();
            changed[at] ^= 1 << bit;
            prop_assert!(key.open(Table::Hosts, b"h", &changed).is_err());
            prop_assert!(key.open(Table::Hosts, b"h", &stored[..at]).is_err());
            prop_assert_eq!(key.open(Table::Hosts, b"h", &stored).unwrap().plaintext, plain);
        }
    }
}
