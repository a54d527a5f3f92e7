//! Making the chain: numbers, links and signatures. Pure; time is an argument.

use crate::sealed::{RecordKey, SealError};
use crate::store::AUDIT_SEED;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::audit::{Body, Event, MAX_DANGER, Record};
use blindferry_proto::bounded::{Bytes, CodecError, Text};
use blindferry_proto::front::Table;
use blindferry_proto::identifier::{AuditKey, Digest};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ring::rand::SecureRandom;
use sha2::Sha512;

use super::AuditError;
use super::verify::{Head, hash, message};

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
        Ok(Chain { head, key: expand(&self.seed)?, public: self.public })
    }
}

/// The end of the chain, where records are appended.
#[expect(missing_debug_implementations, reason = "holds a key")]
pub struct Chain {
    head: Option<Head>,
    key: ExpandedSecretKey,
    public: VerifyingKey,
}

impl Chain {
    /// Makes the next record; `at` is in milliseconds since the epoch, `dangers` is what holds meanwhile.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] when the event does not fit a record; the chain is then where it was.
    pub fn append(
        &mut self,
        event: Event,
        dangers: Vec<Text<MAX_DANGER>>,
        at: u64,
    ) -> Result<(u64, Record), CodecError> {
        let number = self.head.map_or(0, |head| head.number.saturating_add(1));
        let before = self.head.map_or(Digest([0; Digest::LEN]), |head| head.hash);
        let body = Body { number, at, before, dangers, event }.to_bytes()?;
        let hash = hash(&body);
        let signature = raw_sign::<Sha512>(&self.key, &message(&hash), &self.public).to_bytes().to_vec();
        let record = Record {
            body: Bytes::new(body).map_err(CodecError::TooLong)?,
            signature: Bytes::new(signature).map_err(CodecError::TooLong)?,
        };
        self.head = Some(Head { number, hash });
        Ok((number, record))
    }

    /// The newest record.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }
}

fn expand(seed: &SecretBytes) -> Result<ExpandedSecretKey, AuditError> {
    #[expect(clippy::disallowed_methods, reason = "expanded for one batch of signatures, after which it is wiped")]
    let seed: &[u8; 32] = seed.expose().try_into().map_err(|_| AuditError::Seed)?;
    Ok(ExpandedSecretKey::from(seed))
}
