//! Deposits: a master on its way in, encrypted by an operator to this running vault.
//!
//! HPKE (RFC 9180) in base mode; who may deposit, the operator's session says. It is opened into secret pages.

use crate::hpke_keys::DepositKeyPair;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_MASTER;
use blindferry_proto::name::CredentialName;
use blindferry_proto::operator::DEPOSIT_INFO;
use hpke::HpkeError;

/// Decrypts a master that was encrypted to `own` for `name`.
///
/// # Errors
/// [`DepositError`] when it was not, or is empty or too long.
pub fn open(
    encapsulated: &Digest,
    ciphertext: &[u8],
    name: &CredentialName,
    own: &DepositKeyPair,
) -> Result<SecretBytes, DepositError> {
    let (body, tag) = ciphertext.split_at_checked(ciphertext.len().saturating_sub(TAG)).ok_or(DepositError::Length)?;
    if body.is_empty() || body.len() > MAX_MASTER {
        return Err(DepositError::Length);
    }
    let opened = own.open(DEPOSIT_INFO, name.as_str().as_bytes(), encapsulated, body, tag);
    opened.map_err(|error| match error {
        InitError::Fill(source) => DepositError::Open(source),
        InitError::Secret(source) => DepositError::Keep(source),
    })
}

/// A deposit is refused.
#[derive(Debug, thiserror::Error)]
pub enum DepositError {
    /// Empty, or longer than a master may be.
    #[error("a master has 1 to {MAX_MASTER} bytes")]
    Length,
    /// Not encrypted to this running vault for this name.
    #[error("the deposit was not encrypted to this running vault for this name")]
    Open(#[source] HpkeError),
    /// No place to keep it.
    #[error("cannot keep the master in secret memory")]
    Keep(#[source] SecretError),
}

const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpke_keys::Suite;
    use hpke::aead::ChaCha20Poly1305;
    use hpke::inout::InOutBuf;
    use hpke::kdf::HkdfSha256;
    use hpke::{Deserializable, Kem, OpModeS, Serializable, single_shot_seal_inout_detached};
    use ring::rand::SystemRandom;

    fn deposit(own: &DepositKeyPair, name: &str, master: &[u8]) -> (Digest, Vec<u8>) {
        let to = <Suite as Kem>::PublicKey::from_bytes(&own.public().0).unwrap();
        let mut ciphertext = master.to_vec();
        let (encapsulated, tag) = single_shot_seal_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
            &OpModeS::Base,
            &to,
            DEPOSIT_INFO,
            InOutBuf::from(ciphertext.as_mut_slice()),
            name.as_bytes(),
        )
        .unwrap();
        ciphertext.extend_from_slice(&tag.to_bytes());
        (Digest(encapsulated.to_bytes().into()), ciphertext)
    }

    #[test]
    fn a_deposit_opens_under_its_own_name_alone() {
        let own = DepositKeyPair::generate(&SystemRandom::new()).unwrap();
        let (encapsulated, ciphertext) = deposit(&own, "one", b"master");
        assert!(open(&encapsulated, &ciphertext, &"one".parse().unwrap(), &own).unwrap().ct_eq(b"master"));
        assert!(open(&encapsulated, &ciphertext, &"two".parse().unwrap(), &own).is_err());
        let restarted = DepositKeyPair::generate(&SystemRandom::new()).unwrap();
        assert!(open(&encapsulated, &ciphertext, &"one".parse().unwrap(), &restarted).is_err());
    }

    #[test]
    fn an_empty_or_cut_deposit_is_refused() {
        let own = DepositKeyPair::generate(&SystemRandom::new()).unwrap();
        let (encapsulated, ciphertext) = deposit(&own, "one", b"master");
        for length in 0..ciphertext.len() {
            assert!(open(&encapsulated, &ciphertext[..length], &"one".parse().unwrap(), &own).is_err());
        }
    }
}
