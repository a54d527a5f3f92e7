//! The messages between the device process and its one client: postcard in one SEQPACKET packet, with at most one
//! descriptor beside it.
//!
//! A request carries a number that its reply repeats, so a client that gave up on a request knows the late reply for
//! what it is. The first byte of each packet is [`VERSION`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::approval::{Approval, PolicyRef};
use crate::authority::Authority;
use crate::pcr::DifferingPcr;

/// The version of this protocol. Both ends are built and installed together; another version is refused.
pub const VERSION: u8 = 1;

/// No request is longer, in bytes.
pub const REQUEST_LIMIT: usize = 8 * 1024;

/// No reply is longer, in bytes: a description with a few certificates is the longest.
pub const REPLY_LIMIT: usize = 32 * 1024;

/// The length of a sealed key, in bytes; also of what activation gives back.
pub const KEY_LEN: usize = 32;

/// No sealed blob is longer, in bytes. Those of today have less than 400.
pub const BLOB_LIMIT: usize = 1024;

/// What a client can ask.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Who is this TPM? Answered by [`Reply::Description`].
    Describe,
    /// Sign this binder and these PCRs with the attestation key. Answered by [`Reply::Evidence`].
    Quote {
        /// Goes into `extraData` as it is.
        binder: [u8; 32],
        /// PCRs of the SHA-256 bank.
        pcrs: Vec<u8>,
    },
    /// Read these PCRs of the SHA-256 bank. Answered by [`Reply::Pcrs`].
    Pcrs {
        /// Which.
        pcrs: Vec<u8>,
    },
    /// Decrypt a credential made for this EK and this AK (TPM2_ActivateCredential). Answered by [`Reply::Secret`].
    Activate {
        /// TPM2B_ID_OBJECT, with its length.
        credential: Vec<u8>,
        /// TPM2B_ENCRYPTED_SECRET, with its length.
        encrypted_secret: Vec<u8>,
    },
    /// Seal the key whose secret-memory descriptor, of [`KEY_LEN`] bytes, comes with the request. Answered by
    /// [`Reply::Sealed`].
    Seal {
        /// Whose approvals will open it.
        authority: Authority,
        /// Which approvals of that authority.
        policy_ref: PolicyRef,
    },
    /// Unseal. Answered by [`Reply::Secret`].
    Unseal {
        /// What [`Reply::Sealed`] gave.
        blob: Vec<u8>,
        /// The authority that the client trusts; the blob must name the same.
        authority: Authority,
        /// What the authority approved.
        approval: Approval,
    },
    /// The counter against old approvals. Answered by [`Reply::Counter`].
    Counter(CounterRequest),
}

/// What can be done with the counter. It never falls, and starts where the highest counter that this TPM ever had
/// left off, not at zero (TPM 2.0 Part 3, section 31.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CounterRequest {
    /// Make it, and count once so that it can be read. One that exists is left as it is.
    Create,
    /// Read it.
    Read,
    /// Count once.
    Increment,
}

/// What the device process answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Describe`].
    Description(Box<Description>),
    /// To [`Request::Quote`]: `blindferry_attest` evidence, encoded.
    Evidence(Vec<u8>),
    /// To [`Request::Pcrs`], in ascending order.
    Pcrs(Vec<(u8, [u8; 32])>),
    /// To [`Request::Seal`].
    Sealed(Vec<u8>),
    /// To [`Request::Unseal`] and [`Request::Activate`]: [`KEY_LEN`] bytes in the secret-memory descriptor that comes
    /// with the reply.
    Secret,
    /// To [`Request::Counter`]: its value now.
    Counter(u64),
    /// The answer to any request can be no.
    Refused(DeviceRefusal),
}

/// What a TPM says of itself. Nothing here is verified by the device process; that is for whoever appraises it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// TPM_PT_MANUFACTURER as text, such as `IBM` or `NTC`.
    pub manufacturer: String,
    /// TPM_PT_VENDOR_STRING_1 to 4, joined.
    pub vendor: String,
    /// TPM_PT_FIRMWARE_VERSION_1 and 2: `major.minor.build.patch`.
    pub firmware: String,
    /// The endorsement key's TPMT_PUBLIC.
    pub ek_public: Vec<u8>,
    /// The certificate of `ek_public` and those of the maker's CAs, as far as NV memory holds them, DER, leaf first.
    pub ek_certificates: Vec<Vec<u8>>,
    /// The attestation key's TPMT_PUBLIC.
    pub ak_public: Vec<u8>,
    /// The attestation key's Name.
    pub ak_name: Vec<u8>,
    /// The Name of the key to which sessions are salted.
    pub salt_key_name: Vec<u8>,
    /// A software TPM: its keys are worth what the file system that holds them is worth.
    pub software: bool,
}

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
            Self::Process { .. } => "process",
        }
    }
}

/// A numbered message: a request, or the reply to the request of the same number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Chosen by the client; rises.
    pub number: u64,
    /// The message.
    pub message: T,
}

impl<T: Serialize + DeserializeOwned> Numbered<T> {
    /// The message as one packet, [`VERSION`] first.
    ///
    /// # Errors
    /// When it is longer than `limit`.
    pub fn encode(&self, limit: usize) -> Result<Vec<u8>, ProtocolError> {
        let bytes = postcard::to_extend(self, vec![VERSION]).map_err(|source| ProtocolError::Encode { source })?;
        if bytes.len() > limit {
            return Err(ProtocolError::TooLong { len: bytes.len(), limit });
        }
        Ok(bytes)
    }

    /// Reads one packet.
    ///
    /// # Errors
    /// When it is longer than `limit`, of another version, not a message, or more than a message.
    pub fn decode(bytes: &[u8], limit: usize) -> Result<Self, ProtocolError> {
        if bytes.len() > limit {
            return Err(ProtocolError::TooLong { len: bytes.len(), limit });
        }
        match bytes.split_first() {
            Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
                Ok((message, [])) => Ok(message),
                Ok((_, rest)) => Err(ProtocolError::Trailing { len: rest.len() }),
                Err(source) => Err(ProtocolError::Decode { source }),
            },
            Some((&found, _)) => Err(ProtocolError::Version { found }),
            None => Err(ProtocolError::Empty),
        }
    }
}

/// Why bytes are no message.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// A packet without a byte.
    #[error("the message is empty")]
    Empty,
    /// Longer than any message of its direction.
    #[error("the message has {len} bytes, the limit is {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The most.
        limit: usize,
    },
    /// The other end is of another version.
    #[error("the message is of protocol version {found}, this is {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Bytes after the message.
    #[error("{len} bytes follow the message")]
    Trailing {
        /// How many.
        len: usize,
    },
    /// Not a message.
    #[error("the message cannot be read")]
    Decode {
        /// What postcard says.
        source: postcard::Error,
    },
    /// The message cannot be written.
    #[error("the message cannot be written")]
    Encode {
        /// What postcard says.
        source: postcard::Error,
    },
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
