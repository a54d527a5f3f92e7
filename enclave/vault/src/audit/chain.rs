//! Making the chain: numbers, links and signatures. Pure; time is an argument.

use crate::sealed::{RecordKey, SealError};
use crate::store::AUDIT_SEED;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::audit::{Body, Event, MAX_BODY, MAX_DANGER, MAX_TOGETHER, Record, grow, to_sign};
use blindferry_proto::bounded::{Bytes, CodecError, Text};
use blindferry_proto::front::Table;
use blindferry_proto::identifier::{AuditKey, Digest};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ring::rand::SecureRandom;
use sha2::Sha512;

use super::AuditError;
use super::verify::{Head, sha256};

/// Signs audit records. The seed stays in secret pages; the key that signs is expanded from it for each batch (RFC 8032
/// section 5.1.5) and wipes itself. The public half is computed once: computing it again costs as much as a signature.
#[derive(Debug)]
pub struct Signer {
    seed: SecretBytes,
    public: VerifyingKey,
}

impl Signer {
    /// Takes the seed of [`crate::sealed::KeyEncryptionKey::audit_signing_seed`].
    ///
    /// # Errors
    /// [`AuditError::Seed`] when it is not 32 bytes long.
    pub fn new(seed: SecretBytes) -> Result<Self, AuditError> {
        let public = VerifyingKey::from(&expand(&seed)?);
        Ok(Self { seed, public })
    }

    /// The key that verifies.
    #[must_use]
    pub fn key(&self) -> AuditKey {
        AuditKey(self.public.to_bytes())
    }

    /// Signs that whoever speaks over this channel has the key of the audit, and so the store of this vault.
    ///
    /// # Errors
    /// [`AuditError::Seed`].
    pub fn vouch(&self, message: &[u8]) -> Result<Vec<u8>, AuditError> {
        Ok(raw_sign::<Sha512>(&expand(&self.seed)?, message, &self.public).to_bytes().to_vec())
    }

    /// The record of the seed under the record key of a key-encryption key that it was not derived from.
    ///
    /// # Errors
    /// [`SealError`].
    pub(crate) fn seal_seed(&self, random: &dyn SecureRandom, key: &RecordKey) -> Result<Vec<u8>, SealError> {
        key.seal_secret(random, Table::Sealed, AUDIT_SEED, 0, &self.seed)
    }

    /// Goes on with the chain after `head`; `None`: begins it.
    ///
    /// # Errors
    /// [`AuditError::Seed`].
    pub fn chain(&self, head: Option<Head>) -> Result<Chain, AuditError> {
        Ok(Chain { head, unsigned: Vec::new(), key: expand(&self.seed)?, public: self.public })
    }
}

/// The end of the chain, where records are appended and then signed together.
#[expect(missing_debug_implementations, reason = "holds a key")]
pub struct Chain {
    head: Option<Head>,
    unsigned: Vec<Unsigned>,
    key: ExpandedSecretKey,
    public: VerifyingKey,
}

struct Unsigned {
    body: Bytes<MAX_BODY>,
    head: Head,
}

/// Records with their numbers, as they are stored.
pub type Rows = Vec<(u64, Record)>;

impl Chain {
    /// Puts the next record in its place, and says its number; `at` is in milliseconds since the epoch, `dangers` is what
    /// holds meanwhile.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] when the event does not fit a record; the chain is then where it was.
    pub fn append(&mut self, event: Event, dangers: Vec<Text<MAX_DANGER>>, at: u64) -> Result<u64, CodecError> {
        let number = self.head.map_or(0, |head| head.number.saturating_add(1));
        let before = self.head.map_or(Digest([0; Digest::LEN]), |head| head.hash);
        let body = Body { number, at, before, dangers, event }.to_bytes()?;
        let head = Head { number, hash: sha256(&body) };
        self.unsigned.push(Unsigned { body: Bytes::new(body).map_err(CodecError::TooLong)?, head });
        self.head = Some(head);
        Ok(number)
    }

    /// Signs what was appended, with one signature for each [`MAX_TOGETHER`] records, and says where the chain ends.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] for a signature that does not fit its 64 bytes: there is none.
    pub fn sign(self) -> Result<(Rows, Option<Head>), CodecError> {
        let mut rows = Vec::with_capacity(self.unsigned.len());
        let mut unsigned = self.unsigned.into_iter();
        loop {
            let together: Vec<Unsigned> = unsigned.by_ref().take(MAX_TOGETHER).collect();
            let hashes: Vec<Digest> = together.iter().map(|record| record.head.hash).collect();
            // An error says that nothing was left.
            let Ok((root, paths)) = grow(&hashes, sha256) else { return Ok((rows, self.head)) };
            let signature = raw_sign::<Sha512>(&self.key, &to_sign(root), &self.public).to_bytes().to_vec();
            let signature = Bytes::new(signature).map_err(CodecError::TooLong)?;
            rows.extend(together.into_iter().zip(paths).map(|(Unsigned { body, head }, path)| {
                (head.number, Record { body, path, signature: signature.clone() })
            }));
        }
    }
}

fn expand(seed: &SecretBytes) -> Result<ExpandedSecretKey, AuditError> {
    #[expect(clippy::disallowed_methods, reason = "expanded for one batch of signatures, after which it is wiped")]
    let seed: &[u8; 32] = seed.expose().try_into().map_err(|_| AuditError::Seed)?;
    Ok(ExpandedSecretKey::from(seed))
}
