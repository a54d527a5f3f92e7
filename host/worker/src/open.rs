//! Opening a parcel: is it ours, did the vault make it, and if so the token, decrypted inside secret pages.
//!
//! Everything that the parcel says of itself is checked against what this worker knows, before any cryptography and
//! each with its own error; then HPKE (RFC 9180, section 5.1.3, auth mode) proves the rest.

use crate::key::KeyPair;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::identifier::{GrantId, ParcelKey, RequestId, WorkerKey};
use blindferry_proto::limits::MAX_TOKEN;
use blindferry_proto::parcel::{BadParcel, HPKE_INFO, Parcel};
use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, single_shot_open_inout_detached};

/// What a worker knows about the parcel that it waits for.
#[doc(hidden)] // no part of the interface: open to the fuzzer, as are those below
#[derive(Debug)]
pub struct Expected {
    /// The worker's own number for its request.
    pub request: RequestId,
    /// The user it runs as.
    pub uid: u32,
    /// The grant of the lease, once that is known: a first parcel names it, renewals must repeat it.
    pub grant: Option<GrantId>,
    /// The key that the reply says authenticates the parcel.
    pub claimed_sender: ParcelKey,
    /// The key that must, once that is known.
    pub sender: Option<ParcelKey>,
}

/// An opened parcel.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "a token is mute")]
pub struct Opened {
    /// What it held.
    pub token: SecretBytes,
    /// The grant that bought it.
    pub grant: GrantId,
    /// The key that authenticates it.
    pub sender: ParcelKey,
}

/// Why a parcel was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its bytes are not a parcel.
    #[error("the parcel does not parse")]
    Malformed(#[source] BadParcel),
    /// It answers another request: a mix-up, or a replay.
    #[error("the parcel answers request {theirs}, not ours")]
    OtherRequest {
        /// The request that it names.
        theirs: RequestId,
    },
    /// It is encrypted to another worker's key.
    #[error("the parcel is for the key {theirs}, not ours")]
    OtherKey {
        /// The key that it names.
        theirs: WorkerKey,
    },
    /// It is bound to another user. Ids must be the same in the broker's user namespace and in the worker's.
    #[error("the parcel is for user id {theirs}, and this process runs as {ours}")]
    OtherUser {
        /// The user id that it names.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// A renewal that comes from another grant than its lease.
    #[error("the parcel comes from grant {theirs}, not from that of this lease")]
    OtherGrant {
        /// The grant that it names.
        theirs: GrantId,
    },
    /// It is authenticated by another key than the one that was expected, or than the one of the lease's first parcel.
    #[error("the parcel is authenticated by the key {theirs}, not by the expected one")]
    OtherSender {
        /// The key that the broker names.
        theirs: ParcelKey,
    },
    /// No token is that long, or empty.
    #[error("a token of {length} bytes: it must have 1 to {MAX_TOKEN}")]
    TokenLength {
        /// Its length in bytes.
        length: usize,
    },
    /// The sender's key or the encapsulated key is not a key, or is one of low order (RFC 9180, section 7.1.4).
    #[error("the parcel's keys are not acceptable")]
    Keys(#[source] HpkeError),
    /// Ciphertext, header or encapsulated key was changed, or another key made it.
    #[error("the parcel is not authentic")]
    NotAuthentic,
    /// There are no pages for the token.
    #[error("cannot get secret pages for the token")]
    Pages(#[source] SecretError),
}

/// Opens a parcel with the worker's key.
#[doc(hidden)]
pub fn open(bytes: &[u8], key: &KeyPair, expected: &Expected) -> Result<Opened, OpenError> {
    let parcel = Parcel::from_bytes(bytes).map_err(OpenError::Malformed)?;
    let header = parcel.header;
    if header.request != expected.request {
        return Err(OpenError::OtherRequest { theirs: header.request });
    }
    if header.worker != key.public() {
        return Err(OpenError::OtherKey { theirs: header.worker });
    }
    if header.uid != expected.uid {
        return Err(OpenError::OtherUser { theirs: header.uid, ours: expected.uid });
    }
    if expected.grant.is_some_and(|grant| grant != header.grant) {
        return Err(OpenError::OtherGrant { theirs: header.grant });
    }
    let sender = expected.claimed_sender;
    if expected.sender.is_some_and(|known| known != sender) {
        return Err(OpenError::OtherSender { theirs: sender });
    }
    Ok(Opened { token: decrypt(&parcel, key, sender)?, grant: header.grant, sender })
}

fn decrypt(parcel: &Parcel, key: &KeyPair, sender: ParcelKey) -> Result<SecretBytes, OpenError> {
    let cut = OpenError::Malformed(BadParcel::TooShort);
    let (ciphertext, tag) = parcel.ciphertext.split_last_chunk::<TAG>().ok_or(cut)?;
    if ciphertext.is_empty() || ciphertext.len() > MAX_TOKEN {
        return Err(OpenError::TokenLength { length: ciphertext.len() });
    }
    let tag = AeadTag::<ChaCha20Poly1305>::from_bytes(tag).map_err(OpenError::Keys)?;
    let sender = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(sender.as_bytes()).map_err(OpenError::Keys)?;
    let encapsulated =
        <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&parcel.encapsulated).map_err(OpenError::Keys)?;
    let associated = parcel.header.to_bytes();

    // The ciphertext goes into the secret pages and becomes the token there: the plaintext is never anywhere else.
    let token = SecretBytes::init(ciphertext.len(), |slot| {
        slot.copy_from_slice(ciphertext);
        key.with_private(|private| {
            single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeR::Auth(sender),
                private,
                &encapsulated,
                HPKE_INFO,
                slot.into(),
                &associated,
                &tag,
            )
        })
        .and_then(|opened| opened)
        .map(|()| ciphertext.len())
    });
    token.map_err(|error| match error {
        InitError::Secret(source) => OpenError::Pages(source),
        InitError::Fill(HpkeError::OpenError) => OpenError::NotAuthentic,
        InitError::Fill(source) => OpenError::Keys(source),
    })
}

/// Bytes of the Poly1305 tag.
const TAG: usize = 16;
