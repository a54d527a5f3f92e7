//! Parcels: a token encrypted to one worker's key, authenticated by the vault's parcel key.
//!
//! HPKE (RFC 9180) in auth mode. The plaintext is read from secret pages and never copied elsewhere.

use crate::hpke_keys::{ParcelKeyPair, PublicKey, Suite};
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::parcel::{HPKE_INFO, Parcel, ParcelHeader};
use hpke::aead::ChaCha20Poly1305;
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::{Deserializable, HpkeError, OpModeS, Serializable, single_shot_seal_inout_detached};

/// Encrypts a token to the worker that `header` names.
///
/// # Errors
/// [`ParcelError`] when the worker's key is none.
pub fn seal(token: &SecretBytes, header: ParcelHeader, sender: &ParcelKeyPair) -> Result<Parcel, ParcelError> {
    let worker = PublicKey::from_bytes(header.worker.as_bytes()).map_err(ParcelError::WorkerKey)?;
    let mode = OpModeS::<Suite>::Auth(sender.pair().map_err(ParcelError::Seal)?);
    #[expect(clippy::disallowed_methods, reason = "encrypts straight from the secret page")]
    let plain = token.expose();
    let mut ciphertext = vec![0; plain.len()];
    let buffer = InOutBuf::new(plain, &mut ciphertext).map_err(|_| ParcelError::Seal(HpkeError::SealError))?;
    let (encapsulated, tag) = single_shot_seal_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
        &mode,
        &worker,
        HPKE_INFO,
        buffer,
        &header.to_bytes(),
    )
    .map_err(ParcelError::Seal)?;
    ciphertext.extend_from_slice(&tag.to_bytes());
    Ok(Parcel { header, encapsulated: encapsulated.to_bytes().into(), ciphertext })
}

/// A token cannot be encrypted to a worker.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// Not a public key, or one of small order.
    #[error("the worker's key cannot be used")]
    WorkerKey(#[source] HpkeError),
    /// Encryption failed.
    #[error("cannot encrypt to the worker's key")]
    Seal(#[source] HpkeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::identifier::{GrantId, RequestId, WorkerKey};
    use hpke::aead::AeadTag;
    use hpke::{Kem, OpModeR, single_shot_open_inout_detached};
    use ring::rand::SystemRandom;

    const TOKEN: &[u8] = b"a token that nobody else shall read";

    fn sealed(sender: &ParcelKeyPair, worker: &PublicKey) -> Parcel {
        let header = ParcelHeader {
            request: RequestId([1; 16]),
            grant: GrantId([2; 16]),
            worker: WorkerKey(worker.to_bytes().into()),
            uid: 3,
            policy_epoch: 4,
        };
        let token = SecretBytes::copy_and_wipe(&mut TOKEN.to_vec()).unwrap();
        seal(&token, header, sender).unwrap()
    }

    fn open(
        parcel: &Parcel,
        sender: [u8; 32],
        worker: &<Suite as Kem>::PrivateKey,
        header: &[u8],
    ) -> Result<Vec<u8>, HpkeError> {
        let mode = OpModeR::<Suite>::Auth(PublicKey::from_bytes(&sender)?);
        let encapsulated = <Suite as Kem>::EncappedKey::from_bytes(&parcel.encapsulated)?;
        let (body, tag) = parcel.ciphertext.split_at(parcel.ciphertext.len() - 16);
        let mut plain = body.to_vec();
        single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
            &mode,
            worker,
            &encapsulated,
            HPKE_INFO,
            plain.as_mut_slice().into(),
            header,
            &AeadTag::from_bytes(tag)?,
        )?;
        Ok(plain)
    }

    #[test]
    fn a_parcel_opens_for_its_worker_and_names_its_sender() {
        let sender = ParcelKeyPair::generate(&SystemRandom::new()).unwrap();
        let (private, public) = Suite::derive_keypair(&[9; 32]);
        let parcel = sealed(&sender, &public);
        let header = parcel.header.to_bytes();
        assert_eq!(open(&parcel, sender.public().0, &private, &header).unwrap(), TOKEN);

        let (other, _) = Suite::derive_keypair(&[8; 32]);
        assert!(open(&parcel, sender.public().0, &other, &header).is_err(), "another worker opened it");
        let stranger = ParcelKeyPair::generate(&SystemRandom::new()).unwrap();
        assert!(open(&parcel, stranger.public().0, &private, &header).is_err(), "another sender was believed");
    }

    #[test]
    fn each_byte_of_the_header_is_authenticated() {
        let sender = ParcelKeyPair::generate(&SystemRandom::new()).unwrap();
        let (private, public) = Suite::derive_keypair(&[9; 32]);
        let parcel = sealed(&sender, &public);
        for at in 0..ParcelHeader::LEN {
            let mut header = parcel.header.to_bytes();
            header[at] ^= 1;
            assert!(open(&parcel, sender.public().0, &private, &header).is_err(), "byte {at} is free");
        }
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let sender = ParcelKeyPair::generate(&SystemRandom::new()).unwrap();
        let header = ParcelHeader {
            request: RequestId([1; 16]),
            grant: GrantId([2; 16]),
            worker: WorkerKey([0; 32]),
            uid: 3,
            policy_epoch: 4,
        };
        let token = SecretBytes::copy_and_wipe(&mut TOKEN.to_vec()).unwrap();
        assert!(seal(&token, header, &sender).is_err());
    }
}
