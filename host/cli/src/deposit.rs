//! Encrypts a master to the running vault, whose evidence was judged before: HPKE (RFC 9180) in base mode. Front and
//! network see noise; a vault that was started anew cannot open it.

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::{Bytes, TooLong};
use blindferry_proto::identifier::{DepositKey, Digest};
use blindferry_proto::limits::MAX_MASTER;
use blindferry_proto::name::CredentialName;
use blindferry_proto::operator::DEPOSIT_INFO;
use hpke::aead::ChaCha20Poly1305;
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, HpkeError, Kem, OpModeS, Serializable, single_shot_seal_inout_detached};

/// An encrypted master.
#[derive(Debug)]
pub(crate) struct Deposit {
    /// HPKE encapsulated key.
    pub(crate) encapsulated: Digest,
    /// The ciphertext and its tag.
    pub(crate) ciphertext: Bytes<{ MAX_MASTER + 16 }>,
}

/// Encrypts `master` to `to` for `name`, and spends it.
///
/// # Errors
/// [`DepositError`].
pub(crate) fn seal(master: SecretBytes, name: &CredentialName, to: &DepositKey) -> Result<Deposit, DepositError> {
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to.as_bytes()).map_err(DepositError::Key)?;
    #[expect(clippy::disallowed_methods, reason = "read by the cipher where it lies; only ciphertext is written out")]
    let plain = master.expose();
    let mut ciphertext = vec![0; plain.len()];
    // The lengths are equal by construction.
    let crossing = InOutBuf::new(plain, ciphertext.as_mut_slice()).map_err(|_| DepositError::Lengths)?;
    let (encapsulated, tag) = single_shot_seal_inout_detached::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        DEPOSIT_INFO,
        crossing,
        name.as_str().as_bytes(),
    )
    .map_err(DepositError::Seal)?;
    ciphertext.extend_from_slice(&tag.to_bytes());
    Ok(Deposit {
        encapsulated: Digest(encapsulated.to_bytes().into()),
        ciphertext: Bytes::new(ciphertext).map_err(DepositError::TooLong)?,
    })
}

/// A master was not encrypted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DepositError {
    #[error("the vault's deposit key is none")]
    Key(#[source] HpkeError),
    #[error("the ciphertext has another length than the master")]
    Lengths,
    #[error("HPKE failed")]
    Seal(#[source] HpkeError),
    #[error("the master is too long")]
    TooLong(#[source] TooLong),
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpke::aead::AeadTag;
    use hpke::{OpModeR, single_shot_open_inout_detached};

    type Private = <X25519HkdfSha256 as Kem>::PrivateKey;

    fn vault() -> (Private, DepositKey) {
        let (private, public) = X25519HkdfSha256::derive_keypair(&[7; 32]);
        (private, DepositKey(public.to_bytes().into()))
    }

    /// As the vault opens it.
    fn open(private: &Private, deposit: &Deposit, name: &str) -> Option<Vec<u8>> {
        let (body, tag) = deposit.ciphertext.as_slice().split_at(deposit.ciphertext.as_slice().len() - 16);
        let mut opened = body.to_vec();
        single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            private,
            &<X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(deposit.encapsulated.as_bytes()).unwrap(),
            DEPOSIT_INFO,
            InOutBuf::from(opened.as_mut_slice()),
            name.as_bytes(),
            &AeadTag::from_bytes(tag).unwrap(),
        )
        .ok()?;
        Some(opened)
    }

    #[test]
    fn the_vault_opens_a_deposit_under_its_own_name_alone() {
        let (private, public) = vault();
        let master = SecretBytes::copy_and_wipe(&mut b"a master".to_vec()).unwrap();
        let deposit = seal(master, &"one".parse().unwrap(), &public).unwrap();
        assert_eq!(deposit.ciphertext.as_slice().len(), 8 + 16);
        assert!(!deposit.ciphertext.as_slice().windows(4).any(|part| part == b"mast"));
        assert_eq!(open(&private, &deposit, "one").unwrap(), b"a master");
        assert!(open(&private, &deposit, "two").is_none());
    }

    #[test]
    fn the_longest_master_fits_and_one_byte_more_does_not() {
        let (_, public) = vault();
        let master = |length| SecretBytes::copy_and_wipe(&mut vec![b'x'; length]).unwrap();
        assert!(seal(master(MAX_MASTER), &"one".parse().unwrap(), &public).is_ok());
        assert!(matches!(
            seal(master(MAX_MASTER + 1), &"one".parse().unwrap(), &public),
            Err(DepositError::TooLong(_))
        ));
    }
}
