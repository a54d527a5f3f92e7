//! Why an enrolment was refused before anything was asked of the TPM.

use super::EkHash;
use crate::{reader::Malformed, tpm::public::Attributes};

/// Why [`endorse`](super::endorse) refused: the first check that failed. Certificates are counted from the EK's own, 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndorsementError {
    /// The public area of the EK does not parse.
    #[error("cannot parse the public area of the EK; it must be RSA of 2048 to 4096 bits, P-256 or P-384")]
    EkPublic(#[source] Malformed),
    /// The EK has not the attributes of an EK, so that it might not be one that its TPM alone can use.
    #[error("the EK has attributes {found}, an EK has {low} or {high}; create it from the TCG's template")]
    EkAttributes {
        /// Its attributes.
        found: Attributes,
        /// Those of the template's low range.
        low: Attributes,
        /// Those of the template's high range.
        high: Attributes,
    },
    /// The EK differs from the TCG's template otherwise.
    #[error("the EK differs from the TCG's template in {part}; create it from the template")]
    EkTemplate {
        /// Where.
        part: &'static str,
    },
    /// The public area of the AK does not parse.
    #[error("cannot parse the public area of the attestation key; it must be RSA of 2048 to 4096 bits, P-256 or P-384")]
    AkPublic(#[source] Malformed),
    /// The AK could sign what no TPM made, or could leave its TPM.
    #[error("the attestation key lacks {missing} and must not have {forbidden}")]
    AkAttributes {
        /// What it needs and has not.
        missing: Attributes,
        /// What it has and must not.
        forbidden: Attributes,
    },
    /// The AK may sign by any scheme.
    #[error("the attestation key has no fixed signature scheme; make one with RSASSA, RSAPSS or ECDSA")]
    AkScheme,
    /// A key rests on a weak hash.
    #[error("a key rests on a weak hash; create it with SHA-256 or SHA-384")]
    WeakHash(#[source] Malformed),
    /// The EK was revoked.
    #[error("the EK {ek} is on the deny-list")]
    Denied {
        /// Its hash.
        ek: EkHash,
    },
    /// Neither the EK's hash is allowed, nor is there a certificate and a root to judge it by.
    #[error(
        "the EK {ek} is not allowed, and there is no certificate to judge it by; if this is the right TPM, allow its hash"
    )]
    NotAllowed {
        /// Its hash.
        ek: EkHash,
    },
    /// The chain has more certificates than we follow.
    #[error("the EK certificate chain has {found} certificates, more than {limit}", limit = super::MAX_CHAIN)]
    ChainTooLong {
        /// How many.
        found: usize,
    },
    /// A certificate is larger than any real one.
    #[error("certificate {index} has {found} bytes, more than {limit}", limit = super::MAX_CERTIFICATE)]
    CertificateTooLong {
        /// Which.
        index: usize,
        /// Its length in bytes.
        found: usize,
    },
    /// A certificate does not parse. The parser's message is kept as text: it may be of a lenient reading.
    #[error("cannot parse certificate {index}: {what}")]
    Certificate {
        /// Which.
        index: usize,
        /// What is wrong.
        what: String,
    },
    /// The certificate is for another key.
    #[error("the EK certificate is for another key than the EK {ek}")]
    CertificateKey {
        /// The EK's hash.
        ek: EkHash,
    },
    /// The certificate is not for an EK.
    #[error("the EK certificate is not one for an EK: {what}")]
    CertificateUse {
        /// What speaks against it.
        what: &'static str,
    },
    /// A certificate has a critical extension that we do not process.
    #[error("certificate {index} has the critical extension {oid}, which this program does not process")]
    CriticalExtension {
        /// Which.
        index: usize,
        /// The extension.
        oid: String,
    },
    /// A certificate is not valid at this time.
    #[error("certificate {index} is valid from {not_before} to {not_after} (Unix time), now is {now}")]
    Validity {
        /// Which.
        index: usize,
        /// Start, in seconds since 1970.
        not_before: i64,
        /// End, in seconds since 1970.
        not_after: i64,
        /// The time that was given.
        now: u64,
    },
    /// A certificate that signed another may not.
    #[error("certificate {index} may not sign certificates like the one before it: {what}")]
    Authority {
        /// Which.
        index: usize,
        /// What speaks against it.
        what: &'static str,
    },
    /// A certificate is not by the one after it.
    #[error("certificate {index} names another issuer than certificate {next}", next = index + 1)]
    Issuer {
        /// Which.
        index: usize,
    },
    /// A certificate's signature does not hold, or is by an algorithm that we do not accept (SHA-1 among them).
    #[error(
        "the signature of certificate {index} does not hold under its issuer's key, or is by an algorithm not accepted"
    )]
    CertificateSignature {
        /// Which.
        index: usize,
    },
    /// The chain ends at an issuer that is not among the roots.
    #[error(
        "the certificate chain of EK {ek} ends at {issuer:?}, which is not among the roots; add that root, or allow the hash"
    )]
    NoRoot {
        /// The EK's hash.
        ek: EkHash,
        /// The issuer at its end.
        issuer: String,
    },
    /// A root of our own policy does not parse.
    #[error("root {index} of the policy is no certificate: {what}")]
    Root {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        what: String,
    },
    /// The manufacturer is not among those that are accepted.
    #[error("the TPM is by {found:?}, which is not among the accepted manufacturers")]
    Manufacturer {
        /// Its identifier; nothing when the certificate names none.
        found: Option<String>,
    },
}

impl EndorsementError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EkPublic(_) => "ek-public",
            Self::EkAttributes { .. } => "ek-attributes",
            Self::EkTemplate { .. } => "ek-template",
            Self::AkPublic(_) => "enrol-ak-public",
            Self::AkAttributes { .. } => "enrol-ak-attributes",
            Self::AkScheme => "enrol-ak-scheme",
            Self::WeakHash(_) => "enrol-hash-weak",
            Self::Denied { .. } => "ek-denied",
            Self::NotAllowed { .. } => "ek-not-allowed",
            Self::ChainTooLong { .. } => "ek-chain-too-long",
            Self::CertificateTooLong { .. } => "ek-certificate-too-long",
            Self::Certificate { .. } => "ek-certificate",
            Self::CertificateKey { .. } => "ek-certificate-key",
            Self::CertificateUse { .. } => "ek-certificate-use",
            Self::CriticalExtension { .. } => "ek-certificate-extension",
            Self::Validity { .. } => "ek-certificate-validity",
            Self::Authority { .. } => "ek-certificate-authority",
            Self::Issuer { .. } => "ek-certificate-issuer",
            Self::CertificateSignature { .. } => "ek-certificate-signature",
            Self::NoRoot { .. } => "ek-no-root",
            Self::Root { .. } => "ek-root",
            Self::Manufacturer { .. } => "ek-manufacturer",
        }
    }
}
