//! Why the device process says no: a stable code for programs, a sentence for the operator.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pcr::DifferingPcr;
use crate::protocol::DifferingField;

/// Why the device process says no. The texts are for the operator, [`DeviceRefusal::code`] for programs.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceRefusal {
    /// There is no pin file, so nothing says which TPM is ours.
    #[error("this TPM is not provisioned: there is no pin file {path}; run `blindferry-device provision`")]
    NotProvisioned {
        /// Where it was looked for.
        path: String,
    },
    /// The pin file cannot be read or understood.
    #[error("cannot use the pin file {path}: {reason}")]
    PinsUnusable {
        /// Where it is.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The key to which sessions are to be salted is not the one of provisioning.
    #[error(
        "the TPM's salt key is {found}, pinned is {pinned}: either the TPM was cleared or exchanged (then provision \
         anew), or something sits on the bus between this machine and its TPM"
    )]
    SaltKeyChanged {
        /// The Name of provisioning, in hexadecimal.
        pinned: String,
        /// The Name now.
        found: String,
    },
    /// The attestation key is not the one of provisioning.
    #[error("the TPM's attestation key is {found}, pinned is {pinned}: the TPM was cleared or exchanged")]
    AttestationKeyChanged {
        /// The Name of provisioning, in hexadecimal.
        pinned: String,
        /// The Name now.
        found: String,
    },
    /// The endorsement key is not the one of provisioning.
    #[error("the TPM's endorsement key hashes to {found}, pinned is {pinned}: the TPM was exchanged")]
    EndorsementKeyChanged {
        /// SHA-256 of its SubjectPublicKeyInfo at provisioning, in hexadecimal.
        pinned: String,
        /// The same now.
        found: String,
    },
    /// What stands where an EK certificate should be is none.
    #[error("NV index {index:#010x} holds no EK certificate that can be read")]
    BadCertificate {
        /// The index.
        index: u32,
    },
    /// Nothing answers where the TPM should be.
    #[error("cannot reach the TPM at {tcti}: {reason}")]
    Unreachable {
        /// The TCTI configuration.
        tcti: String,
        /// What happened.
        reason: String,
    },
    /// The TPM refused a command in a way that has no refusal of its own.
    #[error("the TPM refused to {operation}: {reason}")]
    Tpm {
        /// What was being done.
        operation: String,
        /// The response code, and what it means.
        reason: String,
    },
    /// The TPM defends itself against guessing and refuses authorisations for a time.
    #[error("the TPM is in dictionary attack lockout: wait, or clear it with `tpm2_dictionarylockout`")]
    Lockout,
    /// Some PCRs do not hold what the approval wants.
    #[error("{}", wrong_pcrs(differing))]
    WrongPcrs {
        /// Which, with both values.
        differing: Vec<DifferingPcr>,
    },
    /// PCRs were extended again and again while they were read or quoted.
    #[error("the PCRs kept changing while they were read: something extends them all the time")]
    PcrsChanging,
    /// A request named no PCRs, or some that do not exist, or some twice.
    #[error("a selection names PCRs 0 to 23, at least one, each once")]
    BadSelection,
    /// The bytes are not a sealed blob of ours.
    #[error("this is not a sealed blob of this version")]
    BlobMalformed,
    /// The blob was sealed by another TPM, or by this one before it was cleared, or it was changed.
    #[error("the blob was not sealed by this TPM, or it was changed since, or the TPM was cleared")]
    BlobForeign,
    /// The blob is sealed for another authority than the client's.
    #[error("the blob is sealed for authority {blob}, asked was {asked}")]
    WrongAuthority {
        /// The Name in the blob, in hexadecimal.
        blob: String,
        /// The Name of the authority in the request.
        asked: String,
    },
    /// The approval is for another purpose than the blob.
    #[error("the approval and the blob have different policy references")]
    WrongPolicyRef,
    /// The authority did not sign this approval.
    #[error("the approval is not signed by the authority")]
    NotApproved,
    /// The approval was replaced by a newer one.
    #[error("the approval has version {version} and was replaced: the counter stands at {counter}")]
    ApprovalReplaced {
        /// The version of the approval.
        version: u64,
        /// The counter.
        counter: u64,
    },
    /// The credential was not made for this EK and this AK, or it was changed.
    #[error("the credential was not made for this TPM's endorsement key and attestation key")]
    CredentialForeign,
    /// There is no counter.
    #[error("there is no counter yet")]
    NoCounter,
    /// The NV index of the counter is taken by something else.
    #[error("NV index {index:#010x} exists and is not our counter: {found}")]
    CounterTaken {
        /// The index.
        index: u32,
        /// What is wrong with it.
        found: String,
    },
    /// The request was not understood, or its descriptor was missing or wrong.
    #[error("the request is malformed: {what}")]
    BadRequest {
        /// In which way.
        what: String,
    },
    /// This platform cannot do what was asked.
    #[error("the platform is {platform}, the request is for {wanted}")]
    OtherPlatform {
        /// What it is.
        platform: String,
        /// What was asked for.
        wanted: String,
    },
    /// There is no way to the firmware of SEV-SNP.
    #[error("this machine gives no SEV-SNP reports: {reason}")]
    NoGuest {
        /// What was looked for, and what was found.
        reason: String,
    },
    /// The firmware, the hypervisor or the kernel between refused.
    #[error("the platform refused to {operation}: {reason}")]
    Guest {
        /// What was being done.
        operation: String,
        /// Why not.
        reason: String,
    },
    /// A report that is not of our request: somebody else uses the same place of the report interface.
    #[error("the report is not the answer to our request: {reason}")]
    ForeignReport {
        /// How that shows.
        reason: String,
    },
    /// Nobody has the certificate of the key that signs reports.
    #[error(
        "the host gives no certificate for this chip and TCB version, and the cache has none{}",
        address.as_ref().map_or_else(String::new, |address| format!("; fetch {address} and import it"))
    )]
    NoCertificate {
        /// Where AMD keeps it.
        address: Option<String>,
    },
    /// What the host gives, or the cache holds, is no certificate for this report.
    #[error("the certificates for this chip cannot be used: {reason}")]
    CertificatesUnusable {
        /// Why not.
        reason: String,
    },
    /// The guest is not the one that the key was sealed to.
    #[error("{}", guest_differs(differing))]
    GuestDiffers {
        /// In which fields.
        differing: Vec<DifferingField>,
    },
    /// Everything that the blob says of its guest is true of this one, and yet its key is another.
    #[error(
        "the blob says that it is sealed to this guest and does not open: it was changed, or sealed on another chip, by \
         another cloud's key, or at another VMPL"
    )]
    GuestForeign,
    /// Logs were asked for on a machine that gives none away.
    #[error("logs were asked for, and the configuration of this machine gives none away: add a table `[logs]` to it")]
    LogsNotGiven,
    /// A log that was asked for cannot be read.
    #[error("cannot read the {log} {path}: {reason}")]
    LogUnreadable {
        /// Which.
        log: String,
        /// Where it was looked for.
        path: String,
        /// What the kernel said, and what can be done.
        reason: String,
    },
    /// A log is longer than evidence can carry. Nothing of it is sent.
    #[error(
        "the {log} {path} has more than the {limit} bytes that evidence can carry: judge PCR values instead, or measure \
         fewer files"
    )]
    LogTooLong {
        /// Which.
        log: String,
        /// Where it is.
        path: String,
        /// The most, in bytes.
        limit: usize,
    },
    /// The kernel refused the device process something.
    #[error("the device process cannot {operation}: {reason}")]
    Process {
        /// What it wanted to do.
        operation: String,
        /// What the kernel said.
        reason: String,
    },
}

impl DeviceRefusal {
    /// The stable name of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotProvisioned { .. } => "not-provisioned",
            Self::PinsUnusable { .. } => "pins-unusable",
            Self::SaltKeyChanged { .. } => "salt-key-changed",
            Self::AttestationKeyChanged { .. } => "attestation-key-changed",
            Self::EndorsementKeyChanged { .. } => "endorsement-key-changed",
            Self::BadCertificate { .. } => "bad-ek-certificate",
            Self::Unreachable { .. } => "tpm-unreachable",
            Self::Tpm { .. } => "tpm-refused",
            Self::Lockout => "tpm-lockout",
            Self::WrongPcrs { .. } => "wrong-pcrs",
            Self::PcrsChanging => "pcrs-changing",
            Self::BadSelection => "bad-selection",
            Self::BlobMalformed => "blob-malformed",
            Self::BlobForeign => "blob-foreign",
            Self::WrongAuthority { .. } => "wrong-authority",
            Self::WrongPolicyRef => "wrong-policy-ref",
            Self::NotApproved => "not-approved",
            Self::ApprovalReplaced { .. } => "approval-replaced",
            Self::CredentialForeign => "credential-foreign",
            Self::NoCounter => "no-counter",
            Self::CounterTaken { .. } => "counter-taken",
            Self::BadRequest { .. } => "bad-request",
            Self::OtherPlatform { .. } => "other-platform",
            Self::NoGuest { .. } => "no-guest",
            Self::Guest { .. } => "guest-refused",
            Self::ForeignReport { .. } => "foreign-report",
            Self::NoCertificate { .. } => "no-certificate",
            Self::CertificatesUnusable { .. } => "certificates-unusable",
            Self::GuestDiffers { .. } => "guest-differs",
            Self::GuestForeign => "guest-foreign",
            Self::LogsNotGiven => "logs-not-given",
            Self::LogUnreadable { .. } => "log-unreadable",
            Self::LogTooLong { .. } => "log-too-long",
            Self::Process { .. } => "process",
        }
    }
}

fn wrong_pcrs(differing: &[DifferingPcr]) -> String {
    let each: Vec<String> = differing
        .iter()
        .map(|pcr| {
            format!("PCR {} holds {}, approved is {}", pcr.index, hex::encode(pcr.found), hex::encode(pcr.wanted))
        })
        .collect();
    format!("the PCRs are not as approved: {}", each.join("; "))
}

fn guest_differs(differing: &[DifferingField]) -> String {
    let each: Vec<String> = differing
        .iter()
        .map(|DifferingField { name, sealed, found }| format!("{name} is {found}, sealed was under {sealed}"))
        .collect();
    format!("the guest is not the one that the key was sealed to: {}", each.join("; "))
}
