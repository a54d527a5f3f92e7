//! Messages of the attested session, in postcard's wire form, a frame each (see [`crate::frame`]).
//!
//! After the TLS 1.3 handshake, before anything else:
//!
//! ```text
//! peer  ── Open {version, role, name, context and logs for the vault} ▶ vault
//! peer  ◀─ VaultProof {evidence, context and logs for the peer} ─ vault      the peer judges it, or hangs up
//! peer  ── PeerProof {evidence, endorsement} ──────────────────▶ vault
//! peer  ◀─ Activate {credential} ─────────────────────────────── vault      only at enrolment
//! peer  ── Activated {secret} ─────────────────────────────────▶ vault
//! peer  ◀─ Welcome {…} or Refused ────────────────────────────── vault
//! ```
//!
//! From then on: [`Call`] from the peer, [`FromVault`] from the vault, many under way at once.

use crate::bounded::{Bytes, CodecError, Text, at_most, decode};
use crate::identifier::{
    AskId, DepositKey, Digest, GrantId, LeaseId, ParcelKey, ReplicaId, RequestId, SessionId, WorkerKey,
};
use crate::limits::{
    MAX_CERTIFICATE, MAX_CERTIFICATES, MAX_EVIDENCE_WITH_LOGS, MAX_FRAME_UNATTESTED, MAX_GRANT, MAX_INHERITED,
    MAX_PAGE, MAX_PARCEL,
};
use crate::logs::WantedLogs;
use crate::name::{Audience, CredentialName, HostName, VariableName};
use crate::operator::{OperatorReply, OperatorRequest};
use crate::refusal::Refusal;
use crate::role::{Context, Role};
use crate::succession::{HandedOver, SuccessorRequest};
use crate::waiting::{Waiting, Words};
use serde::{Deserialize, Serialize};

pub use crate::process::{ProcessFacts, WorkerConstraint};

/// The version of this protocol.
pub const VERSION: u16 = 1;

/// First message, from the peer: nothing in it is a secret or a claim that anybody relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// [`VERSION`].
    pub version: u16,
    /// Broker, operator or successor.
    pub role: Role,
    /// What the host is called.
    pub name: HostName,
    /// The exporter's context for the vault's evidence.
    pub context: Context,
    /// The logs that shall lie beside the vault's evidence.
    pub logs: WantedLogs,
}

impl Open {
    /// Reads an `Open`: its version first, since what follows in another version may be anything.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn read(frame: &[u8]) -> Result<Self, OpenError> {
        match postcard::take_from_bytes::<u16>(frame) {
            Ok((found, _)) if found != VERSION => Err(OpenError::Version { found }),
            _ => decode(frame, MAX_FRAME_UNATTESTED).map_err(OpenError::Malformed),
        }
    }
}

/// A frame is no `Open` of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is one of another.
    #[error("the peer speaks version {found}, want {VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
    /// It is none.
    #[error("the first message is not one of this protocol")]
    Malformed(#[source] CodecError),
}

/// The vault proves itself, and gives the context for the peer's evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultProof {
    /// The vault's evidence over the peer's context, encoded.
    pub evidence: Bytes<MAX_EVIDENCE_WITH_LOGS>,
    /// The exporter's context for the peer's evidence.
    pub context: Context,
    /// The logs that shall lie beside the peer's evidence.
    pub logs: WantedLogs,
    /// Ed25519 signature by the vault's audit key over [`VOUCHED`] ‖ the binder of its evidence: this is the vault with
    /// that store, and no other of the same software on the same hardware.
    pub vouched: Bytes<64>,
}

/// What is signed before the binder: names the one use of the key.
pub const VOUCHED: &[u8] = b"blindferry vault speaks v1";

/// What the vault answers to [`Open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenReply {
    /// It proves itself.
    Proof(VaultProof),
    /// It does not go on.
    Refused(Refusal),
}

/// The peer proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProof {
    /// Its evidence over the vault's context, encoded.
    pub evidence: Bytes<MAX_EVIDENCE_WITH_LOGS>,
    /// Who vouches for its TPM; looked at when the host is not enrolled yet. SEV-SNP evidence brings its own.
    pub endorsement: Option<Endorsement>,
}

/// A TPM's endorsement key, the certificates that came with it, and the attestation key that it shall vouch for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endorsement {
    /// The EK's public area (`TPMT_PUBLIC`).
    pub ek_public: Bytes<1024>,
    /// Its certificate and what leads from it to a root, in DER, leaf first.
    #[serde(deserialize_with = "at_most::<_, _, MAX_CERTIFICATES>")]
    pub certificates: Vec<Bytes<MAX_CERTIFICATE>>,
    /// The AK's public area (`TPMT_PUBLIC`).
    pub ak_public: Bytes<1024>,
}

/// What the vault answers to [`PeerProof`], and to [`Activated`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofReply {
    /// Enrolment: show that this AK lives in the TPM of this EK.
    Activate(Activate),
    /// The session stands.
    Welcome(Welcome),
    /// It does not.
    Refused(Refusal),
}

/// A credential that only the TPM of the claimed EK can activate, and only for the claimed AK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activate {
    /// `TPM2B_ID_OBJECT`.
    pub credential: Bytes<512>,
    /// `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Bytes<1024>,
}

/// What came out of the credential. It proves the point once and opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// The activated bytes.
    pub secret: Digest,
}

/// The session stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// This session.
    pub session: SessionId,
    /// The running vault.
    pub replica: ReplicaId,
    /// Authenticates parcels.
    pub parcel_key: ParcelKey,
    /// Encrypts masters on their way in.
    pub deposit_key: DepositKey,
    /// The vault asks for fresh evidence this often, in seconds.
    pub reattest_every: u32,
}

/// One request with the peer's own number for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the peer; comes back with the answer.
    pub id: u64,
    /// What it asks.
    pub request: Request,
}

/// What a peer may ask, by its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A broker's request.
    Broker(BrokerRequest),
    /// An operator's request.
    Operator(Box<OperatorRequest>),
    /// Fresh evidence, over the context that the vault pushed. Any role.
    Reattest {
        /// Encoded evidence.
        evidence: Bytes<MAX_EVIDENCE_WITH_LOGS>,
    },
    /// A successor's request.
    Successor(SuccessorRequest),
}

/// What a broker asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerRequest {
    /// A parent wants a grant.
    Ask(Ask),
    /// The grant was handed to the parent, or could not be.
    Delivered(Delivered),
    /// A worker redeems a grant.
    Redeem(Redeem),
    /// A worker has its parcel.
    Acknowledge {
        /// The lease that came with it.
        lease: LeaseId,
        /// The request that it answers.
        request: RequestId,
    },
    /// A worker wants its next token.
    Renew(Renew),
    /// These workers still live.
    Keep {
        /// Their leases; at most [`crate::limits::MAX_PAGE`].
        #[serde(deserialize_with = "at_most::<_, _, MAX_PAGE>")]
        leases: Vec<LeaseId>,
    },
    /// A worker is gone, or gave its lease back.
    End {
        /// Its lease.
        lease: LeaseId,
        /// Why.
        why: LeaseEnd,
    },
    /// What became of an ask that was answered with [`Answer::Waiting`]. The answer is that again, a grant, or no.
    Collect {
        /// Which.
        ask: AskId,
    },
    /// Nobody waits for this ask any more.
    Withdraw {
        /// Which.
        ask: AskId,
    },
}

impl Request {
    /// Whether it only tells what has happened: nobody waits for what the vault says to it. A keep is none: it is for what
    /// shall go on, and the next one waits for its answer.
    #[must_use]
    pub fn is_report(&self) -> bool {
        matches!(
            self,
            Self::Broker(BrokerRequest::Delivered(_) | BrokerRequest::Acknowledge { .. } | BrokerRequest::End { .. })
        )
    }
}

/// A parent's request as its broker passes it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Which credential.
    pub credential: CredentialName,
    /// Whom the token shall be for.
    pub audience: Option<Audience>,
    /// Who may redeem the grant.
    pub worker: WorkerConstraint,
    /// The asking process as the broker saw it.
    pub parent: ProcessFacts,
    /// Where a person has to approve: wait for that, and show these words. `None`: refuse at once.
    pub wait: Option<Words>,
}

/// What became of a grant at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The grant.
    pub grant: GrantId,
    /// Whether the parent took the handle.
    pub taken: bool,
}

/// A worker's redemption as its broker passes it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeem {
    /// The opaque grant.
    pub grant: Bytes<MAX_GRANT>,
    /// The worker's number for this request; the same again means the same parcel again.
    pub request: RequestId,
    /// The key to encrypt to.
    pub worker_key: WorkerKey,
    /// The worker as the broker saw it.
    pub worker: ProcessFacts,
    /// Variables with credentials of its parent that the program gets as well, as its launcher says: names, never values.
    #[serde(deserialize_with = "at_most::<_, _, MAX_INHERITED>")]
    pub inherited: Vec<VariableName>,
}

/// A worker's renewal as its broker passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The lease to renew.
    pub lease: LeaseId,
    /// The worker's number for this request.
    pub request: RequestId,
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseEnd {
    /// The worker's process ended.
    WorkerGone,
    /// The worker gave it back.
    Returned,
    /// Nobody renewed or kept it in time.
    Idle,
    /// The host's evidence was not accepted any more.
    HostRefused,
    /// An operator removed the host or the credential.
    Removed,
    /// Policy no longer allows it.
    Denied,
}

/// What the vault sends in an established session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromVault {
    /// The answer to a call.
    Answer {
        /// The call's number.
        id: u64,
        /// The answer.
        answer: Answer,
    },
    /// Fresh evidence, please, over this context.
    Reattest {
        /// The exporter's context.
        context: Context,
        /// The logs that shall lie beside it.
        logs: WantedLogs,
    },
    /// A lease ended at the vault.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// Why.
        why: LeaseEnd,
    },
}

/// An answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A grant.
    Granted(Granted),
    /// A parcel.
    Parcelled(Parcelled),
    /// Done; there is nothing to tell.
    Done,
    /// An operator's answer.
    Operator(Box<OperatorReply>),
    /// No.
    Refused(Refusal),
    /// The key-encryption key, to a successor.
    HandedOver(HandedOver),
    /// A person has to approve: see [`BrokerRequest::Collect`].
    Waiting(Waiting),
}

/// A grant as the broker receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// For the audit.
    pub id: GrantId,
    /// What the worker has to bring.
    pub grant: Bytes<MAX_GRANT>,
    /// When it is over, in seconds since the epoch.
    pub expires: u64,
}

/// A parcel as the broker receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcelled {
    /// The lease that the redemption left behind.
    pub lease: LeaseId,
    /// The parcel, see [`crate::parcel`].
    pub parcel: Bytes<MAX_PARCEL>,
    /// When the token is over, in seconds since the epoch.
    pub expires: u64,
    /// The lease ends when nobody keeps or renews it for so many seconds.
    pub lease_idle: u32,
    /// The form of the token, such as `Bearer`, for programs that build a header from it.
    pub token_type: Text<32>,
}
