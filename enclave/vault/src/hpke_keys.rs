//! The vault's two HPKE key pairs: each is made at start, serves one purpose, and ends with the process.
//!
//! The private key lies in secret pages: 32 random bytes, which is what a private key of X25519 is (RFC 7748 section 5).
//! The hpke crate gets a copy for the length of a use, and wipes it. The public half is computed once.

use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::identifier::{DepositKey, Digest, ParcelKey};
use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, Serializable, single_shot_open_inout_detached};
use ring::error::Unspecified;
use ring::rand::SecureRandom;

/// The suite's key encapsulation.
pub(crate) type Suite = X25519HkdfSha256;
/// A private key of the suite, for the length of one use.
pub(crate) type PrivateKey = <Suite as Kem>::PrivateKey;
/// A public key of the suite.
pub(crate) type PublicKey = <Suite as Kem>::PublicKey;

/// The key pair that authenticates parcels.
#[derive(Debug)]
pub struct ParcelKeyPair(KeyPair);

/// The key pair to which operators encrypt masters.
#[derive(Debug)]
pub struct DepositKeyPair(KeyPair);

#[derive(Debug)]
struct KeyPair {
    private: SecretBytes,
    public: PublicKey,
}

impl ParcelKeyPair {
    /// A new pair.
    ///
    /// # Errors
    /// [`KeyPairError`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, KeyPairError> {
        KeyPair::generate(random).map(Self)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> ParcelKey {
        ParcelKey(self.0.public.to_bytes().into())
    }

    /// Both halves, for one use.
    pub(crate) fn pair(&self) -> Result<(PrivateKey, PublicKey), HpkeError> {
        Ok((private_key(&self.0.private)?, self.0.public.clone()))
    }
}

impl DepositKeyPair {
    /// A new pair.
    ///
    /// # Errors
    /// [`KeyPairError`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, KeyPairError> {
        KeyPair::generate(random).map(Self)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> DepositKey {
        DepositKey(self.0.public.to_bytes().into())
    }

    /// Decrypts what was encrypted to this pair: one message in base mode (RFC 9180 section 6.1), `body` and its `tag`. The
    /// plain text is only ever in secret pages.
    ///
    /// # Errors
    /// `Fill` when it was not encrypted to this pair under `info` and `aad`, `Secret` when there is no place for it.
    pub(crate) fn open(
        &self,
        info: &[u8],
        aad: &[u8],
        encapsulated: &Digest,
        body: &[u8],
        tag: &[u8],
    ) -> Result<SecretBytes, InitError<HpkeError>> {
        let encapsulated = <Suite as Kem>::EncappedKey::from_bytes(encapsulated.as_bytes()).map_err(InitError::Fill)?;
        let tag = AeadTag::<ChaCha20Poly1305>::from_bytes(tag).map_err(InitError::Fill)?;
        let private = private_key(&self.0.private).map_err(InitError::Fill)?;
        SecretBytes::init(body.len(), |place| {
            place.copy_from_slice(body);
            let length = place.len();
            single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
                &OpModeR::Base,
                &private,
                &encapsulated,
                info,
                place.into(),
                aad,
                &tag,
            )
            .map(|()| length)
        })
    }
}

impl KeyPair {
    fn generate(random: &dyn SecureRandom) -> Result<Self, KeyPairError> {
        let private = SecretBytes::init(PRIVATE, |key| random.fill(key).map(|()| PRIVATE));
        let private = private.map_err(|error| match error {
            InitError::Fill(Unspecified) => KeyPairError::Random,
            InitError::Secret(source) => KeyPairError::Keep { source },
        })?;
        let public = Suite::sk_to_pk(&private_key(&private).map_err(KeyPairError::Key)?);
        Ok(Self { private, public })
    }
}

fn private_key(bytes: &SecretBytes) -> Result<PrivateKey, HpkeError> {
    #[expect(clippy::disallowed_methods, reason = "a copy for one use, which wipes itself")]
    PrivateKey::from_bytes(bytes.expose())
}

/// A key pair could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// No place for the private key.
    #[error("cannot keep the private key of a key pair")]
    Keep {
        /// Why not.
        source: SecretError,
    },
    /// Not a key of the suite.
    #[error("random bytes are no private key")]
    Key(#[source] HpkeError),
}

/// Bytes of a private key of the suite.
const PRIVATE: usize = 32;
