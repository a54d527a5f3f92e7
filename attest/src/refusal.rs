//! Why evidence was refused: precise, for our own log. A peer learns only that it was refused.

use blindferry_proto::role::Role;

use crate::{
    azure::AzureRefusal,
    reader::Malformed,
    snp::SnpRefusal,
    tpm::{
        AkName, PcrSelection,
        events::EventRefusal,
        pcr::PcrError,
        public::{Attributes, Scheme},
        quote::{QuoteError, QuotedSelection},
    },
};

/// Why [`appraise`](crate::attested::appraise) refused: the first check that failed. Each says what was found, what was
/// wanted, and what an operator can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppraisalError {
    /// The reference values are for peers of another role.
    #[error("the reference values are for role {found}, the peer must be {wanted}; load those of its role")]
    Role {
        /// The role of the reference values.
        found: Role,
        /// The role that is expected of the peer.
        wanted: Role,
    },
    /// The evidence is of another platform than the peer was pinned on.
    #[error("the evidence is of platform {found:?}, the peer is pinned on {wanted:?}; if it moved, enrol it again")]
    Platform {
        /// The platform of the evidence.
        found: &'static str,
        /// The platform that was pinned.
        wanted: &'static str,
    },
    /// The reference values accept no peer on the platform of the evidence.
    #[error("the reference values have no [[{platform}]]; add what this peer may run")]
    NoReference {
        /// The platform.
        platform: &'static str,
    },
    /// A report of SEV-SNP was refused.
    #[error(transparent)]
    Snp(#[from] SnpRefusal),
    /// A blob of Azure's paravisor was refused.
    #[error(transparent)]
    Azure(#[from] AzureRefusal),
    /// The public area of the attestation key does not parse.
    #[error("cannot parse the public area of the attestation key; it must be RSA of 2048 to 4096 bits, P-256 or P-384")]
    AkPublic(#[source] Malformed),
    /// Somewhere a hash is used that no judgement rests on.
    #[error("the evidence rests on a weak hash; make the attestation key and the quote with SHA-256 or SHA-384")]
    WeakHash(#[source] Malformed),
    /// The evidence is by another key than the one that was pinned.
    #[error(
        "the attestation key is {found}, pinned is {wanted}: this is another TPM or a new key; \
         if it was replaced on purpose, remove the host and enrol it again"
    )]
    AkName {
        /// The Name of the key in the evidence.
        found: AkName,
        /// The pinned Name.
        wanted: AkName,
    },
    /// The attestation key could sign what no TPM made, or could leave its TPM.
    #[error(
        "the attestation key lacks {missing} and must not have {forbidden}; \
         make one that is restricted, signs, and is fixed to its TPM"
    )]
    AkAttributes {
        /// What it needs and has not.
        missing: Attributes,
        /// What it has and must not.
        forbidden: Attributes,
    },
    /// The attestation key may sign by any scheme, so that the evidence would choose.
    #[error("the attestation key has no fixed signature scheme; make one with RSASSA, RSAPSS or ECDSA")]
    AkScheme,
    /// The signature does not parse.
    #[error("cannot parse the signature of the quote; it must be a TPMT_SIGNATURE by RSASSA, RSAPSS or ECDSA")]
    SignatureForm(#[source] Malformed),
    /// The signature is by another scheme than the key's.
    #[error("the quote is signed by {found}, the attestation key signs by {wanted}; they do not belong together")]
    SignatureScheme {
        /// The scheme of the signature.
        found: Scheme,
        /// The scheme of the key.
        wanted: Scheme,
    },
    /// The attestation key did not sign these bytes.
    #[error(
        "the signature of the quote does not hold under the attestation key {ak}; the evidence was altered or forged"
    )]
    Signature {
        /// The Name of the key.
        ak: AkName,
    },
    /// The signed structure does not parse.
    #[error("cannot parse TPMS_ATTEST, although its signature holds; the TPM is of a kind that we do not know")]
    Attest(#[source] Malformed),
    /// The signed structure is not one that a TPM made.
    #[error("the signed structure begins with {found:#010x}, not with 0xff544347: no TPM made it; distrust the peer")]
    QuoteMagic {
        /// Its first four bytes.
        found: u32,
    },
    /// The signed structure attests something other than PCRs.
    #[error("the signed structure has type {found:#06x}, not 0x8018: it is no quote; send what TPM2_Quote gave")]
    QuoteType {
        /// Its type.
        found: u16,
    },
    /// The quote answers another challenge: it is old, or of another channel, key or role.
    #[error(
        "the quote answers {}, not the binder of this session, {}: it is stale, relayed or reflected",
        hex_or_nothing(found),
        hex::encode(wanted)
    )]
    QuoteChallenge {
        /// Its qualifying data.
        found: Vec<u8>,
        /// The binder.
        wanted: [u8; 32],
    },
    /// The quote is of other PCRs than the reference values name.
    #[error(
        "the quote is of {found}, not of exactly PCRs {wanted:?} of the SHA-256 bank; \
         give the peer's configuration the PCRs of the reference values"
    )]
    PcrSelection {
        /// What was quoted.
        found: QuotedSelection,
        /// What must be.
        wanted: PcrSelection,
    },
    /// The PCR values beside the quote are not of the quoted PCRs.
    #[error("the PCR values beside the quote do not fit it; the peer's software is broken or altered")]
    PcrValues(#[source] PcrError),
    /// The PCR values beside the quote are not those that were quoted.
    #[error(
        "the PCR values digest to {}, quoted is {}; a PCR changed between reading and quoting, or the values are false: \
         try again",
        hex::encode(found),
        hex::encode(wanted)
    )]
    PcrDigest {
        /// The digest of the values.
        found: Vec<u8>,
        /// The digest that was quoted.
        wanted: Vec<u8>,
    },
    /// No set of reference values accepts the PCRs. Told for the set that came closest.
    #[error(
        "PCR {pcr} is {}, {nearest:?} wants {}; if this software is meant to run, add the value to the reference values",
        hex::encode(found),
        wanted.iter().map(hex::encode).collect::<Vec<_>>().join(" or ")
    )]
    PcrValue {
        /// The first PCR that differs.
        pcr: u8,
        /// Its value.
        found: [u8; 32],
        /// The values that would be accepted.
        wanted: Vec<[u8; 32]>,
        /// The name of the set.
        nearest: String,
    },
    /// No set of reference values accepts the events. Told for the set that came closest.
    #[error("the events are not as {reference:?} wants them")]
    Events {
        /// The name of the set.
        reference: String,
        /// The first rule that refuses.
        source: EventRefusal,
    },
    /// The PCRs are accepted, the TPM's firmware is not.
    #[error(
        "the TPM has firmware {found:016x}, {reference:?} wants {}; update the TPM, or allow this version",
        wanted.iter().map(|version| format!("{version:016x}")).collect::<Vec<_>>().join(" or ")
    )]
    Firmware {
        /// Its version.
        found: u64,
        /// The versions that would be accepted.
        wanted: Vec<u64>,
        /// The name of the set whose PCRs match.
        reference: String,
    },
    /// A counter of the TPM's clock went backwards.
    #[error(
        "{counter} of the TPM is {found}, an earlier quote had {earlier}: an old state of the TPM was brought back; \
         if it was cleared on purpose, enrol the host again"
    )]
    ClockReset {
        /// `resetCount`, `restartCount` or `clock`.
        counter: &'static str,
        /// Its value in this quote.
        found: u64,
        /// Its value in the earlier quote.
        earlier: u64,
    },
    /// The TPM does not vouch for its clock.
    #[error(
        "the TPM does not vouch for its clock, as after a loss of power without shutdown; \
         shut the host down in order, or wait until the TPM has stored its clock: seconds for some, over an hour for others"
    )]
    ClockUnsafe,
}

impl AppraisalError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Platform { .. } => "evidence-pinned-platform",
            Self::NoReference { .. } => "reference-other-platform",
            Self::Snp(refusal) => refusal.code(),
            Self::Azure(refusal) => refusal.code(),
            Self::Role { .. } => "reference-role",
            Self::AkPublic(_) => "tpm-ak-public",
            Self::WeakHash(_) => "tpm-hash-weak",
            Self::AkName { .. } => "tpm-ak-name",
            Self::AkAttributes { .. } => "tpm-ak-attributes",
            Self::AkScheme => "tpm-ak-scheme",
            Self::SignatureForm(_) => "tpm-signature-form",
            Self::SignatureScheme { .. } => "tpm-signature-scheme",
            Self::Signature { .. } => "tpm-signature",
            Self::Attest(_) => "tpm-attest",
            Self::QuoteMagic { .. } => "tpm-quote-magic",
            Self::QuoteType { .. } => "tpm-quote-type",
            Self::QuoteChallenge { .. } => "tpm-quote-challenge",
            Self::PcrSelection { .. } => "tpm-pcr-selection",
            Self::PcrValues(_) => "tpm-pcr-values",
            Self::PcrDigest { .. } => "tpm-pcr-digest",
            Self::PcrValue { .. } => "tpm-pcr-value",
            Self::Events { source, .. } => source.code(),
            Self::Firmware { .. } => "tpm-firmware",
            Self::ClockReset { .. } => "tpm-clock-reset",
            Self::ClockUnsafe => "tpm-clock-unsafe",
        }
    }

    /// A weak hash has its own code, wherever it is found.
    pub(crate) fn parsing(cause: Malformed, otherwise: fn(Malformed) -> Self) -> Self {
        match cause {
            weak @ Malformed::WeakHash { .. } => Self::WeakHash(weak),
            other => otherwise(other),
        }
    }
}

impl From<QuoteError> for AppraisalError {
    fn from(error: QuoteError) -> Self {
        match error {
            QuoteError::Magic { found } => Self::QuoteMagic { found },
            QuoteError::Type { found } => Self::QuoteType { found },
            QuoteError::Malformed(cause) => Self::parsing(cause, Self::Attest),
        }
    }
}

fn hex_or_nothing(bytes: &[u8]) -> String {
    if bytes.is_empty() { "no challenge".to_owned() } else { hex::encode(bytes) }
}
