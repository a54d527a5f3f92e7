//! The key-encryption key between two vaults: encrypted for one session to a key of the vault that receives it.
//!
//! The channel is TLS between the two already. HPKE (RFC 9180) in base mode keeps the key out of TLS's buffers, which are
//! ordinary memory: at both ends it goes from secret pages into secret pages.

use crate::hpke_keys::{DepositKeyPair, PublicKey, Suite};
use crate::sealed::KeyEncryptionKey;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::{DepositKey, Digest, SessionId};
use blindferry_proto::succession::{HAND_OVER_INFO, HandedOver};
use hpke::aead::ChaCha20Poly1305;
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::{Deserializable, HpkeError, OpModeS, Serializable, single_shot_seal_inout_detached};

/// Encrypts the key to whoever holds the private half of `to`.
pub(super) fn send(key: &SecretBytes, to: &DepositKey, session: &SessionId) -> Result<HandedOver, CarriedError> {
    let (encapsulated, ciphertext) = encrypt_to(key, to, HAND_OVER_INFO, session)?;
    let ciphertext = Bytes::new(ciphertext).map_err(|_| CarriedError::Length)?;
    Ok(HandedOver { encapsulated, ciphertext })
}

/// Encrypts a secret to whoever holds the private half of `to`, for one use and one session.
pub(crate) fn encrypt_to(
    key: &SecretBytes,
    to: &DepositKey,
    info: &[u8],
    session: &SessionId,
) -> Result<(Digest, Vec<u8>), CarriedError> {
    let to = PublicKey::from_bytes(&to.0).map_err(CarriedError::Send)?;
    #[expect(clippy::disallowed_methods, reason = "encrypts straight from the secret page")]
    let plain = key.expose();
    let mut ciphertext = vec![0; plain.len()];
    let buffer = InOutBuf::new(plain, &mut ciphertext).map_err(|_| CarriedError::Send(HpkeError::SealError))?;
    let (encapsulated, tag) = single_shot_seal_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
        &OpModeS::Base,
        &to,
        info,
        buffer,
        &session.0,
    )
    .map_err(CarriedError::Send)?;
    ciphertext.extend_from_slice(&tag.to_bytes());
    Ok((Digest(encapsulated.to_bytes().into()), ciphertext))
}

/// Decrypts a key that was encrypted to `own` for this session.
///
/// # Errors
/// [`CarriedError`] when it was not.
pub(crate) fn receive(
    handed: &HandedOver,
    own: &DepositKeyPair,
    session: &SessionId,
) -> Result<SecretBytes, CarriedError> {
    let length = handed.ciphertext.as_slice().len().checked_sub(TAG).ok_or(CarriedError::Length)?;
    if ![KeyEncryptionKey::LEN, KeyEncryptionKey::CARRYING].contains(&length) {
        return Err(CarriedError::Length);
    }
    let (body, tag) = handed.ciphertext.as_slice().split_at_checked(length).ok_or(CarriedError::Length)?;
    let opened = own.open(HAND_OVER_INFO, &session.0, &handed.encapsulated, body, tag);
    opened.map_err(|error| match error {
        InitError::Fill(source) => CarriedError::Receive(source),
        InitError::Secret(source) => CarriedError::Keep(source),
    })
}

/// Bytes of ChaCha20-Poly1305's tag.
const TAG: usize = 16;

/// A key does not cross.
#[derive(Debug, thiserror::Error)]
pub enum CarriedError {
    /// It is no key of ours by its length.
    #[error("what crosses has not the length of a key")]
    Length,
    /// The receiver's key cannot be used.
    #[error("cannot encrypt the key to its receiver")]
    Send(#[source] HpkeError),
    /// Not encrypted to us for this session.
    #[error("the key was not encrypted to this vault for this session")]
    Receive(#[source] HpkeError),
    /// No place to keep it.
    #[error("cannot keep the key in secret memory")]
    Keep(#[source] SecretError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    const SESSION: SessionId = SessionId([3; SessionId::LEN]);

    fn pair() -> DepositKeyPair {
        DepositKeyPair::generate(&SystemRandom::new()).unwrap()
    }

    fn sent(to: &DepositKeyPair) -> HandedOver {
        let key = SecretBytes::copy_and_wipe(&mut [7; KeyEncryptionKey::LEN]).unwrap();
        send(&key, &to.public(), &SESSION).unwrap()
    }

    #[test]
    fn a_key_arrives_at_its_receiver_in_its_session_alone() {
        let own = pair();
        let handed = sent(&own);
        assert!(receive(&handed, &own, &SESSION).unwrap().ct_eq(&[7; KeyEncryptionKey::LEN]));
        assert!(receive(&handed, &pair(), &SESSION).is_err());
        assert!(receive(&handed, &own, &SessionId([4; SessionId::LEN])).is_err());
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_found() {
        let own = pair();
        let handed = sent(&own);
        for at in 0..handed.ciphertext.as_slice().len() {
            let mut changed = handed.ciphertext.as_slice().to_vec();
            changed[at] ^= 1;
            let cut = changed[..at].to_vec();
            for ciphertext in [changed, cut] {
                let handed = HandedOver { ciphertext: Bytes::new(ciphertext).unwrap(), ..handed.clone() };
                assert!(receive(&handed, &own, &SESSION).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let key = SecretBytes::copy_and_wipe(&mut [7; KeyEncryptionKey::LEN]).unwrap();
        assert!(matches!(send(&key, &DepositKey([0; 32]), &SESSION), Err(CarriedError::Send(_))));
    }
}
