//! Encryption at rest under a key that is used once: the form of every record and of the wrapped key.
//!
//! Each encryption draws a salt of 256 random bits and derives a ChaCha20-Poly1305 key from it (HKDF-SHA256), which then
//! encrypts one message with a zero nonce. So there is no nonce to reuse: two messages share a key only if two salts of
//! 256 bits are equal, which does not happen in any number of years or records. Random 96-bit nonces under one key would
//! need counting (2³² messages is where NIST SP 800-38D stops), and a counter would need a store that cannot be rolled
//! back. The cost is one HKDF, about half a microsecond.
//!
//! ```text
//! salt (32) ‖ ciphertext ‖ tag (16)
//! ```

use blindferry_handle::secret::{SecretBytes, SecretError};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::SecureRandom;
use thiserror::Error;

/// Bytes that encryption adds.
pub(super) const OVERHEAD: usize = SALT + TAG;

const SALT: usize = 32;
const TAG: usize = 16;

/// Why something could not be sealed or opened.
#[derive(Debug, Error)]
pub enum SealError {
    /// The kernel gave no random bytes.
    #[error("cannot draw random bytes")]
    Random,
    /// There is no place for a secret.
    #[error("cannot hold the opened secret")]
    Secret(#[source] SecretError),
    /// A key has another length.
    #[error("a key of {expected} bytes has {found}")]
    Length {
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
    },
    /// Not made by us under this key for this place, or changed since.
    #[error("the sealed bytes do not verify")]
    NotAuthentic,
    /// A key pair could not be made or read.
    #[error("not a usable key pair")]
    KeyPair,
    /// More than the operation can take.
    #[error("too long to seal")]
    TooLong,
}

/// Appends the encryption of `plaintext` to `out`.
pub(super) fn seal(
    random: &dyn SecureRandom,
    key: &SecretBytes,
    label: &[u8],
    ad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SealError> {
    let mut salt = [0; SALT];
    random.fill(&mut salt).map_err(|_| SealError::Random)?;
    let once = key_for(key, &salt, label)?;
    out.reserve_exact(OVERHEAD + plaintext.len());
    out.extend_from_slice(&salt);
    let start = out.len();
    out.extend_from_slice(plaintext);
    let body = out.get_mut(start..).unwrap_or_default();
    let tag = once.seal_in_place_separate_tag(zero(), Aad::from(ad), body).map_err(|_| SealError::TooLong)?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Decrypts in place into `slot`, which must be as long as the ciphertext with its tag; returns how many bytes at its
/// start are plaintext.
pub(super) fn open_into(
    key: &SecretBytes,
    label: &[u8],
    ad: &[u8],
    sealed: &Sealed<'_>,
    slot: &mut [u8],
) -> Result<usize, SealError> {
    let once = key_for(key, sealed.salt, label)?;
    if slot.len() != sealed.body.len() {
        return Err(SealError::Length { found: slot.len(), expected: sealed.body.len() });
    }
    slot.copy_from_slice(sealed.body);
    once.open_in_place(zero(), Aad::from(ad), slot).map(|plain| plain.len()).map_err(|_| SealError::NotAuthentic)
}

/// The parts of an encryption.
pub(super) struct Sealed<'a> {
    salt: &'a [u8; SALT],
    /// Ciphertext and tag.
    pub(super) body: &'a [u8],
}

impl<'a> Sealed<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, SealError> {
        let (salt, body) = bytes.split_first_chunk().ok_or(SealError::NotAuthentic)?;
        if body.len() < TAG {
            return Err(SealError::NotAuthentic);
        }
        Ok(Self { salt, body })
    }
}

/// HKDF-SHA256 of `key` with `salt` and `label`, into `out`.
pub(super) fn expand(key: &SecretBytes, salt: &[u8], label: &[u8], out: &mut [u8]) -> Result<(), SealError> {
    #[expect(clippy::disallowed_methods, reason = "the input of HKDF; what comes out goes into a secret slot")]
    let extracted = Salt::new(HKDF_SHA256, salt).extract(key.expose());
    let length = out.len();
    let info = [label];
    extracted.expand(&info, Bytes(length)).and_then(|okm| okm.fill(out)).map_err(|_| SealError::TooLong)
}

fn key_for(key: &SecretBytes, salt: &[u8; SALT], label: &[u8]) -> Result<LessSafeKey, SealError> {
    #[expect(clippy::disallowed_methods, reason = "the input of HKDF; ring keeps the cipher key that comes out")]
    let extracted = Salt::new(HKDF_SHA256, salt).extract(key.expose());
    let info = [label];
    let okm = extracted.expand(&info, &CHACHA20_POLY1305).map_err(|_| SealError::TooLong)?;
    Ok(LessSafeKey::new(UnboundKey::from(okm)))
}

/// The nonce of a key that encrypts one message.
fn zero() -> Nonce {
    Nonce::assume_unique_for_key([0; ring::aead::NONCE_LEN])
}

struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}
