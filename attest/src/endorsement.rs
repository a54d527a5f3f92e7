//! Enrolment: is this a TPM that we accept, and does the attestation key live in it?
//!
//! [`endorse`] judges the endorsement key (EK) against an allow-list or a certificate chain, and the form of both keys.
//! [`Endorsed::challenge`] wraps a secret so that only that EK can open it, and only for that attestation key (AK):
//! TPM2_MakeCredential in software. [`Activation::answer`] compares what comes back. Each step spends the one before it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    reader::Malformed,
    tpm::{
        AkName,
        algorithm::sha256,
        attestation_key::{AkForm, attesting},
        public::Public,
    },
};

mod certificate;
mod credential;
pub mod examine;
mod refusal;
mod template;

pub use refusal::EndorsementError;

/// The most certificates in a chain, leaf included, root not.
pub const MAX_CHAIN: usize = 4;

/// The most bytes of one certificate; real ones have under 2 KiB.
pub const MAX_CERTIFICATE: usize = 8 * 1024;

/// SHA-256 of an EK's SubjectPublicKeyInfo in DER: what an allow-list names a TPM by. As text, 64 lower-case hexadecimal
/// digits; the same as `openssl pkey -pubin -outform DER | sha256sum` of the EK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EkHash([u8; 32]);

/// Which TPMs may enrol.
#[derive(Clone, Debug)]
pub struct EndorsementPolicy {
    /// EKs that are accepted by their hash, with or without a certificate.
    pub allowed: BTreeSet<EkHash>,
    /// EKs that are refused whatever speaks for them: our own revocation list, since few vendors keep one.
    pub denied: BTreeSet<EkHash>,
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

/// An EK that we accept, and an AK of good form that claims to live beside it. Not yet proof that it does: that is what
/// the challenge is for.
#[must_use = "an endorsement that is not followed by a challenge proves nothing about the AK"]
#[derive(Debug)]
pub struct Endorsed {
    ek: template::Template,
    ek_hash: EkHash,
    ak_name: AkName,
    manufacturer: Option<String>,
}

/// The fresh secret of one credential activation, wiped when it is dropped.
#[expect(missing_debug_implementations, reason = "a secret is mute, and so is what holds one")]
pub struct ActivationSecret(Box<Zeroizing<[u8; 32]>>);

/// What the host hands to TPM2_ActivateCredential. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialBlob {
    /// TPM2B_ID_OBJECT, with its length.
    pub credential: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET, with its length.
    pub encrypted_secret: Vec<u8>,
}

/// A credential activation that waits for its answer: one, so that nobody can guess twice.
///
/// ```compile_fail,E0382
/// fn guess(activation: blindferry_attest::endorsement::Activation) {
///     let _ = activation.answer(b"first");
///     let _ = activation.answer(b"second");
/// }
/// ```
#[must_use = "the AK is not known to live in this TPM until the answer was compared"]
#[expect(missing_debug_implementations, reason = "a secret is mute, and so is what holds one")]
pub struct Activation {
    ek_hash: EkHash,
    ak_name: AkName,
    manufacturer: Option<String>,
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

impl ActivationError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Wrong => "ek-activation-wrong",
        }
    }
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

impl ChallengeError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Random(_) => "ek-challenge-randomness",
            Self::Key => "ek-challenge-key",
        }
    }
}

/// The source of randomness gave none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of randomness gave none")]
pub struct RandomError;

/// A TPM that is enrolled: this AK lives in the TPM with this EK, and the EK was accepted. Pin `ak_name` from now on.
///
/// It cannot be built, only earned:
///
/// ```compile_fail,E0451
/// use blindferry_attest::endorsement::Enrolled;
/// let forged = Enrolled { ..panic!() };
/// ```
///
/// And it is spent by the one who records it:
///
/// ```compile_fail,E0382
/// fn record(_: blindferry_attest::endorsement::Enrolled) {}
/// fn twice(enrolled: blindferry_attest::endorsement::Enrolled) {
///     record(enrolled);
///     record(enrolled);
/// }
/// ```
#[must_use = "an enrolment that is not recorded has no effect"]
#[derive(Debug)]
pub struct Enrolled {
    ek_hash: EkHash,
    ak_name: AkName,
    manufacturer: Option<String>,
}

/// Takes certificates in DER as roots of an [`EndorsementPolicy`], if they parse: one that does not would keep every host
/// out. Says nothing about whether they are worth trusting.
///
/// # Errors
///
/// [`EndorsementError::Root`] for the first that is no certificate.
pub fn roots(certificates: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, EndorsementError> {
    certificate::readable(&certificates)?;
    Ok(certificates)
}

/// Judges an EK and the form of an AK. `now_unix` is the time in seconds since 1970, for the certificates.
///
/// # Errors
///
/// The first check that failed.
pub fn endorse(claim: EkClaim, policy: &EndorsementPolicy, now_unix: u64) -> Result<Endorsed, EndorsementError> {
    let EkClaim { ek_public, certificates, ak_public } = claim;
    let parsed = Public::parse(&ek_public).map_err(|cause| parsing(cause, EndorsementError::EkPublic))?;
    let ek = template::from_template(parsed)?;
    let ak = Public::parse(&ak_public).map_err(|cause| parsing(cause, EndorsementError::AkPublic))?;
    attesting(&ak).map_err(|form| match form {
        AkForm::Attributes { missing, forbidden } => EndorsementError::AkAttributes { missing, forbidden },
        AkForm::NoScheme => EndorsementError::AkScheme,
    })?;

    let ek_hash = EkHash::of_public(&ek_public)?;
    if policy.denied.contains(&ek_hash) {
        return Err(EndorsementError::Denied { ek: ek_hash });
    }
    let manufacturer = if policy.allowed.contains(&ek_hash) {
        None
    } else if certificates.is_empty() || policy.roots.is_empty() {
        return Err(EndorsementError::NotAllowed { ek: ek_hash });
    } else {
        let key = ek.public.key();
        certificate::certify(key, ek_hash, &certificates, &policy.roots, &policy.manufacturers, now_unix)?.manufacturer
    };
    Ok(Endorsed { ek, ek_hash, ak_name: ak.name().clone(), manufacturer })
}

/// A weak hash has its own code, wherever it is found.
fn parsing(cause: Malformed, otherwise: fn(Malformed) -> EndorsementError) -> EndorsementError {
    match cause {
        weak @ Malformed::WeakHash { .. } => EndorsementError::WeakHash(weak),
        other => otherwise(other),
    }
}

impl Endorsed {
    /// The hash of the EK.
    #[must_use]
    pub fn ek_hash(&self) -> EkHash {
        self.ek_hash
    }

    /// The Name of the AK that claims to live beside it.
    #[must_use]
    pub fn ak_name(&self) -> &AkName {
        &self.ak_name
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
        let blob = credential::make(&self.ek, &self.ak_name, &secret, random)?;
        let Self { ek: _, ek_hash, ak_name, manufacturer } = self;
        Ok((blob, Activation { ek_hash, ak_name, manufacturer, secret }))
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

    fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl Activation {
    /// Compares what TPM2_ActivateCredential gave with the secret, in constant time. One activation takes one answer.
    ///
    /// # Errors
    ///
    /// When they differ.
    pub fn answer(self, answer: &[u8]) -> Result<Enrolled, ActivationError> {
        if !bool::from(self.secret.bytes().ct_eq(answer)) {
            return Err(ActivationError::Wrong);
        }
        let Self { ek_hash, ak_name, manufacturer, secret: _ } = self;
        Ok(Enrolled { ek_hash, ak_name, manufacturer })
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

    /// The manufacturer that the EK certificate names, such as `IFX`; none when the EK was allowed by its hash.
    #[must_use]
    pub fn manufacturer(&self) -> Option<&str> {
        self.manufacturer.as_deref()
    }
}

/// Text is not the hash of an EK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the hash of an EK: 64 lower-case hexadecimal digits are needed")]
pub struct BadEkHash;

impl EkHash {
    /// The hash of the EK with this public area (TPMT_PUBLIC). Says nothing about whether it is one.
    ///
    /// # Errors
    ///
    /// When the public area does not parse.
    pub fn of_public(ek_public: &[u8]) -> Result<Self, EndorsementError> {
        let parsed = Public::parse(ek_public).map_err(|cause| parsing(cause, EndorsementError::EkPublic))?;
        Ok(Self(sha256(&[&parsed.key().spki()])))
    }

    /// A hash that is known from elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

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
