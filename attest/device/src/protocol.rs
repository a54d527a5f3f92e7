//! The messages between the device process and its one client: postcard in one SEQPACKET packet, with at most one
//! descriptor beside it.
//!
//! A request carries a number that its reply repeats, so a client that gave up on a request knows the late reply for
//! what it is. The first byte of each packet is [`VERSION`].

use blindferry_proto::key_mix::KeyMix;
use blindferry_proto::logs::WantedLogs;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::approval::{Approval, PolicyRef};
use crate::authority::Authority;

pub use crate::refusal::DeviceRefusal;

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
    /// Who is this platform? Answered by [`Reply::Description`].
    Describe,
    /// Evidence over this binder. Answered by [`Reply::Evidence`], with logs by [`Reply::EvidenceBeside`].
    Quote {
        /// A TPM: goes into `extraData` as it is. A guest: into `REPORT_DATA`, zeros after it.
        binder: [u8; 32],
        /// PCRs of the SHA-256 bank. A guest has none: its report covers what it covers.
        pcrs: Vec<u8>,
        /// The logs that shall lie beside a TPM's quote; a guest of SEV-SNP has none. They are read after the quote was made.
        logs: WantedLogs,
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
    /// Seal the key whose secret-memory descriptor, of [`KEY_LEN`] bytes, comes with the request, to this guest as it is.
    /// Answered by [`Reply::Sealed`].
    SealToGuest {
        /// What opens it, beside this measurement under this guest policy.
        mix: KeyMix,
    },
    /// Unseal what was sealed to this guest. Answered by [`Reply::GuestSecret`].
    UnsealAsGuest {
        /// What [`Reply::Sealed`] gave.
        blob: Vec<u8>,
    },
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
    /// To [`Request::UnsealAsGuest`]: [`KEY_LEN`] bytes in the secret-memory descriptor that comes with the reply.
    GuestSecret {
        /// What it was sealed with.
        mix: KeyMix,
        /// What has risen since it was sealed: sealed anew, the key is out of reach for what was before.
        risen: Vec<DifferingField>,
    },
    /// To [`Request::Quote`] with logs: evidence, encoded, in the sealed memfd that comes with the reply.
    EvidenceBeside,
    /// The answer to any request can be no.
    Refused(DeviceRefusal),
}

/// What a platform says of itself. Nothing here is verified by the device process; that is for whoever appraises it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Description {
    /// A TPM 2.0.
    Tpm(TpmDescription),
    /// An SEV-SNP guest.
    Snp(SnpDescription),
}

/// What an SEV-SNP guest says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnpDescription {
    /// Where reports come from: `configfs-tsm` or `sev-guest`.
    pub interface: String,
    /// A report over a fixed value that is no binder, 1184 bytes.
    pub report: Vec<u8>,
    /// The certificate of the key that signed it, and those of AMD's CAs, DER; empty where nobody has one.
    pub certificates: Vec<Vec<u8>>,
    /// Where AMD keeps the certificate, for whoever can fetch it; `None` where no address can be told from the report.
    pub certificate_address: Option<String>,
}

/// A field of the guest that is not as it was when a key was sealed, both values as people read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferingField {
    /// Its name, such as `measurement`.
    pub name: String,
    /// What it was.
    pub sealed: String,
    /// What it is.
    pub found: String,
}

/// What a TPM says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmDescription {
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
    /// Whether a paravisor of Azure keeps it, whose report vouches for the attestation key.
    pub azure: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Numbered<Request> {
        Numbered { number: 7, message: Request::Pcrs { pcrs: vec![1, 2] } }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let bytes = message().encode(REQUEST_LIMIT).unwrap();
        let Numbered { number, message: Request::Pcrs { pcrs } } = Numbered::decode(&bytes, REQUEST_LIMIT).unwrap()
        else {
            panic!("another message")
        };
        assert_eq!((number, pcrs), (7, vec![1, 2]));
    }

    #[test]
    fn other_versions_lengths_and_remains_are_refused() {
        let bytes = message().encode(REQUEST_LIMIT).unwrap();
        let refusal = |bytes: &[u8], limit| Numbered::<Request>::decode(bytes, limit).unwrap_err();
        assert!(matches!(refusal(&[], REQUEST_LIMIT), ProtocolError::Empty));
        assert!(matches!(refusal(&[&[2], &bytes[1..]].concat(), REQUEST_LIMIT), ProtocolError::Version { found: 2 }));
        assert!(matches!(refusal(&[&bytes[..], &[0]].concat(), REQUEST_LIMIT), ProtocolError::Trailing { len: 1 }));
        assert!(matches!(refusal(&bytes[..bytes.len() - 1], REQUEST_LIMIT), ProtocolError::Decode { .. }));
        assert!(matches!(refusal(&bytes, bytes.len() - 1), ProtocolError::TooLong { .. }));
        assert!(matches!(message().encode(3), Err(ProtocolError::TooLong { limit: 3, .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused_and_never_more_than_the_packet_is_allocated(bytes: Vec<u8>) {
            let bytes = [&[VERSION][..], &bytes].concat();
            let _ = Numbered::<Request>::decode(&bytes, REQUEST_LIMIT);
            if let Ok(Numbered { message: Reply::Sealed(blob), .. }) = Numbered::<Reply>::decode(&bytes, REPLY_LIMIT) {
                proptest::prop_assert!(blob.len() < bytes.len());
            }
        }
    }
}
