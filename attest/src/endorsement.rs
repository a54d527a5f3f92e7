//! Enrolment: is this a TPM that we accept, and does the attestation key live in it?
//!
//! [`endorse`] judges the endorsement key (EK) against an allow-list or a certificate chain, and the form of both keys.
//! [`Endorsed::challenge`] wraps a secret so that only that EK can open it, and only for that attestation key (AK):
//! TPM2_MakeCredential in software. [`Activation::answer`] compares what comes back. Each step spends the one before it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use zeroize::Zeroizing;

use crate::tpm::AkName;

/// The most certificates in a chain, leaf included, root not.
pub const MAX_CHAIN: usize = 4;

/// SHA-256 of an EK's SubjectPublicKeyInfo in DER: what an allow-list names a TPM by. As text, 64 lower-case hexadecimal
/// digits; the same as `openssl pkey -pubin -outform DER | sha256sum` of the EK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EkHash([u8; 32]);

/// Which TPMs may enrol.
#[derive(Clone, Debug)]
pub struct EndorsementPolicy {
    /// EKs that are accepted by their hash, with or without a certificate.
    pub allowed: BTreeSet<EkHash>,
    /// Certificates (DER) of the CAs whose EK certificates are accepted.
    pub roots: Vec<Vec<u8>>,
    /// The manufacturers whose EK certificates are accepted. Does not concern EKs that are allowed by hash.
    pub manufacturers: Manufacturers,
}

/// Which manufacturers' EK certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manufacturers {
    /// Every manufacturer that the roots vouch for.
    Any,
    /// These alone: TCG vendor identifiers, such as `IFX` or `INTC`, without padding.
    Only(BTreeSet<String>),
}

/// What a host claims about its TPM when it enrols. Holding one tells you nothing.
#[derive(Clone, Debug)]
pub struct EkClaim {
    /// TPMT_PUBLIC of the EK.
    pub ek_public: Vec<u8>,
    /// EK certificate chain in DER, leaf first, root left out; empty when the EK is allowed by its hash.
    pub certificates: Vec<Vec<u8>>,
    /// TPMT_PUBLIC of the AK.
    pub ak_public: Vec<u8>,
}

/// Why an enrolment was refused before anything was asked of the TPM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndorsementError {
    /// The EK is well formed, but neither its hash is allowed nor is there a certificate.
    #[error("the EK {ek} is not on the allow-list and has no certificate; if this is the right TPM, allow its hash")]
    NotAllowed {
        /// Its hash.
        ek: EkHash,
    },
}

/// An EK that we accept, and an AK of good form that claims to live beside it. Not yet proof that it does: that is what
/// the challenge is for.
#[must_use = "an endorsement that is not followed by a challenge proves nothing about the AK"]
#[derive(Debug)]
pub struct Endorsed {
    ek_hash: EkHash,
    ak_name: AkName,
}

/// The fresh secret of one credential activation, wiped when it is dropped.
pub struct ActivationSecret(Box<Zeroizing<[u8; 32]>>);

/// What the host hands to TPM2_ActivateCredential. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialBlob {
    /// TPM2B_ID_OBJECT, with its length.
    pub credential: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET, with its length.
    pub encrypted_secret: Vec<u8>,
}

/// A credential activation that waits for its answer.
#[must_use = "the AK is not known to live in this TPM until the answer was compared"]
pub struct Activation {
    ek_hash: EkHash,
    ak_name: AkName,
    secret: ActivationSecret,
}

/// Why an answer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// The answer is not the secret: the AK does not live in the TPM with this EK, or the answer is of another activation.
    #[error("the activated credential is not the one that was sent: the AK does not live in the TPM with this EK")]
    Wrong,
}

/// Why no challenge could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeError {
    /// The caller's source of randomness gave none.
    #[error("cannot draw randomness for a credential")]
    Random(#[source] RandomError),
    /// The EK's public key is not one that can be encrypted to.
    #[error("cannot encrypt to the EK: its public key is not valid")]
    Key,
}

/// The source of randomness gave none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of randomness gave none")]
pub struct RandomError;

/// A TPM that is enrolled: this AK lives in the TPM with this EK, and the EK was accepted. Pin `ak_name` from now on.
#[must_use = "an enrolment that is not recorded has no effect"]
pub struct Enrolled {
    ek_hash: EkHash,
    ak_name: AkName,
}

/// Judges an EK and the form of an AK. `now_unix` is the time in seconds since 1970, for the certificates.
///
/// # Errors
///
/// The first check that failed.
pub fn endorse(claim: EkClaim, policy: &EndorsementPolicy, now_unix: u64) -> Result<Endorsed, EndorsementError> {
    let _ = (claim, policy, now_unix);
    todo!()
}

impl Endorsed {
    /// The hash of the EK.
    #[must_use]
    pub fn ek_hash(&self) -> EkHash {
        self.ek_hash
    }

    /// Wraps `secret` so that only the TPM with this EK can open it, and only while it holds this AK
    /// (TPM2_MakeCredential: Part 1 section 24).
    ///
    /// # Errors
    ///
    /// When `random` fails, or the EK's key is not a valid public key.
    pub fn challenge(
        self,
        secret: ActivationSecret,
        random: &mut dyn FnMut(&mut [u8]) -> Result<(), RandomError>,
    ) -> Result<(CredentialBlob, Activation), ChallengeError> {
        let _ = random;
        let _ = Activation { ek_hash: self.ek_hash, ak_name: self.ak_name, secret };
        todo!()
    }
}

impl ActivationSecret {
    /// Draws a fresh secret.
    ///
    /// # Errors
    ///
    /// When `random` fails.
    pub fn draw(random: &mut dyn FnMut(&mut [u8]) -> Result<(), RandomError>) -> Result<Self, RandomError> {
        let mut secret = Self(Box::new(Zeroizing::new([0; 32])));
        random(secret.0.as_mut_slice())?;
        Ok(secret)
    }
}

impl Activation {
    /// Compares what TPM2_ActivateCredential gave with the secret, in constant time. One activation takes one answer.
    ///
    /// # Errors
    ///
    /// When they differ.
    pub fn answer(self, answer: &[u8]) -> Result<Enrolled, ActivationError> {
        let _ = (self.secret, answer);
        Ok(Enrolled { ek_hash: self.ek_hash, ak_name: self.ak_name })
    }
}

impl Enrolled {
    /// The hash of the EK: the identity of the TPM.
    #[must_use]
    pub fn ek_hash(&self) -> EkHash {
        self.ek_hash
    }

    /// The Name of the AK: what each quote is checked against.
    #[must_use]
    pub fn ak_name(&self) -> AkName {
        self.ak_name.clone()
    }
}

/// Text is not the hash of an EK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the hash of an EK: 64 lower-case hexadecimal digits are needed")]
pub struct BadEkHash;

impl EkHash {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for EkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for EkHash {
    type Err = BadEkHash;

    fn from_str(text: &str) -> Result<Self, BadEkHash> {
        let mut hash = [0; 32];
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(BadEkHash);
        }
        hex::decode_to_slice(text, &mut hash).map_err(|_| BadEkHash)?;
        Ok(Self(hash))
    }
}
