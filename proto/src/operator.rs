//! What an operator asks of the vault, over an attested session whose role is operator.

use crate::audit::{MAX_DANGER, Record};
use crate::backup::{Manifest, Piece, Position};
use crate::bounded::{Bytes, Text, at_most};
use crate::credential::CredentialSettings;
use crate::front::{Figure, MAX_ORIGIN};
use crate::identifier::{
    AskId, AuditKey, ChipId, DepositKey, Digest, EkDigest, KeyName, LeaseId, Machine, ReplicaId, SessionId,
};
use crate::limits::{MAX_DOCUMENT, MAX_MASTER, MAX_PAGE};
use crate::name::{CredentialName, HostName};
use crate::report::PageTicket;
use crate::role::Role;
use crate::waiting::{ASKS_A_PAGE, AskingHost, Decision, WaitingAsk};
use serde::{Deserialize, Serialize};

/// The `info` of the HPKE context in which an operator encrypts a master to the vault's deposit key (base mode, the
/// suite of [`crate::parcel`]). The associated data is the credential's name.
pub const DEPOSIT_INFO: &[u8] = b"blindferry deposit v1";

/// The `info` of the HPKE context in which the vault encrypts a recovery key to an operator's key (base mode, the suite of
/// [`crate::parcel`]; both ends are attested by the session). The associated data is the session's id.
pub const RECOVERY_INFO: &[u8] = b"blindferry recovery key v1";
/// Bytes of an encrypted recovery key: 69 characters and a tag, with room.
pub const MAX_RECOVERY: usize = 128;

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorRequest {
    /// Stores a master.
    Put {
        /// Its name.
        name: CredentialName,
        /// How tokens come from it.
        settings: Box<CredentialSettings>,
        /// HPKE encapsulated key.
        encapsulated: Digest,
        /// The master, encrypted.
        ciphertext: Bytes<{ MAX_MASTER + 16 }>,
        /// Whether one of that name may be replaced.
        replace: bool,
    },
    /// Names and settings of the stored credentials.
    List {
        /// Begin after this one.
        after: Option<CredentialName>,
    },
    /// Removes a credential and ends its leases.
    Remove {
        /// Its name.
        name: CredentialName,
    },
    /// Hosts: enrolled, allowed and waiting.
    Hosts {
        /// Begin after this one.
        after: Option<HostName>,
    },
    /// Allows a TPM to enrol under a name.
    HostApprove {
        /// The host's name.
        host: HostName,
        /// Which TPM.
        whom: Approvee,
        /// What it may be.
        role: Role,
    },
    /// Replaces the certificates of the TPM makers' CAs, for hosts that are approved by certificate.
    EndorsementRoots {
        /// Certificates in PEM, one after the other.
        text: Text<MAX_DOCUMENT>,
    },
    /// Removes a host; its sessions and leases end.
    HostRemove {
        /// Its name.
        host: HostName,
    },
    /// Checks a policy, and applies it where asked.
    Policy {
        /// Cedar policies.
        text: Text<MAX_DOCUMENT>,
        /// Apply it, or only check it.
        apply: bool,
    },
    /// The policy in force.
    PolicyShow,
    /// Replaces the reference values for hosts.
    Reference {
        /// The text, see the reference-value format.
        text: Text<MAX_DOCUMENT>,
    },
    /// The reference values in force for hosts of this role.
    ReferenceShow {
        /// Whose.
        role: Role,
    },
    /// Approves PCR values under which the vault's own key may be unsealed, beside those approved before.
    ApproveEnclave {
        /// PCR numbers and SHA-256 values, each PCR once.
        #[serde(deserialize_with = "at_most::<_, _, PCRS>")]
        pcrs: Vec<(u8, Digest)>,
    },
    /// Withdraws all approvals but the newest: the counter in the TPM moves on.
    RevokeOldApprovals,
    /// How the vault is.
    Status,
    /// Audit records in order.
    Audit {
        /// The first number wanted.
        from: u64,
    },
    /// The certificates of the TPM makers' CAs that are in force.
    EndorsementRootsShow,
    /// The asks that wait for a person.
    Asks {
        /// Begin after this one.
        after: Option<AskId>,
    },
    /// Decides about one of them.
    Decide {
        /// Which.
        ask: AskId,
        /// SHA-256 over what was shown of it, see [`crate::waiting::WaitingAsk::digest_input`].
        shown: Digest,
        /// What.
        decision: Decision,
    },
    /// Makes a key-encryption key that is to replace the one in force, and its recovery key. Nothing changes yet.
    PrepareKey {
        /// To which the recovery key is encrypted.
        key: DepositKey,
    },
    /// Puts the key that was prepared in force; the store is encrypted anew from then on.
    ChangeKey {
        /// Which, by the answer to [`OperatorRequest::PrepareKey`].
        prepared: Digest,
    },
    /// Replaces the key that approves PCR values, and signs those that are approved anew.
    ChangeAuthority,
    /// Begins a backup of the store, in place of one that another began.
    BackUp,
    /// The next pieces of a backup.
    BackupPieces {
        /// Which, by the answer to [`OperatorRequest::BackUp`].
        snapshot: u64,
        /// Those after this; `None`: from the first.
        after: Option<Position>,
    },
    /// The sessions that stand.
    Sessions {
        /// Begin after this one.
        after: Option<SessionId>,
    },
    /// The leases that end soonest, unless they are kept.
    EndingLeases,
    /// A ticket for the page that the front shows to operators; for some hours the front is told what it shows.
    Page,
}

/// Which hardware may enrol under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approvee {
    /// The TPM whose endorsement key has this hash.
    Ek(EkDigest),
    /// The one that waits under that name.
    Waiting,
    /// An SEV-SNP guest on this processor.
    Chip(ChipId),
    /// The first TPM whose EK certificate leads to one of the endorsement roots.
    Certified,
    /// A confidential machine of Azure with this attestation key in its vTPM.
    Vtpm(KeyName),
}

/// What the vault answers an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorReply {
    /// Done.
    Done,
    /// A page of credentials; empty at the end.
    Credentials(Vec<(CredentialName, CredentialSettings)>),
    /// A page of hosts; empty at the end.
    Hosts(Vec<HostEntry>),
    /// A document and its version.
    Document {
        /// Counts up with every change.
        version: u64,
        /// The text.
        text: Text<MAX_DOCUMENT>,
    },
    /// A policy was checked; problems, none when it is fine.
    Checked {
        /// One line each.
        problems: Vec<Text<512>>,
        /// The version now in force, where it was applied.
        applied: Option<u64>,
    },
    /// How the vault is.
    Status(Box<Status>),
    /// Records in order; empty at the end.
    Records {
        /// At most a page of them.
        records: Vec<Record>,
        /// The hash of the newest record there is, and its number.
        head: Option<(u64, Digest)>,
        /// The key that signed them.
        key: AuditKey,
    },
    /// A page of asks that wait; empty at the end.
    Asks(#[serde(deserialize_with = "at_most::<_, _, ASKS_A_PAGE>")] Vec<WaitingAsk>),
    /// A key-encryption key was prepared.
    KeyPrepared {
        /// Its name for [`OperatorRequest::ChangeKey`].
        prepared: Digest,
        /// HPKE encapsulated key.
        encapsulated: Digest,
        /// The printed form of the recovery key, encrypted under [`RECOVERY_INFO`].
        recovery: Bytes<MAX_RECOVERY>,
    },
    /// A backup has begun.
    BackupBegun {
        /// Its number.
        snapshot: u64,
        /// What it is of.
        manifest: Manifest,
    },
    /// Pieces of it in order; empty at the end.
    BackupPieces(#[serde(deserialize_with = "at_most::<_, _, MAX_PAGE>")] Vec<Piece>),
    /// A page of sessions in the order of their identities; empty at the end.
    Sessions {
        /// The vault's clock, in seconds since the epoch.
        now: u64,
        /// Seconds between two looks at a peer's evidence.
        reattest_every: u32,
        /// The page.
        #[serde(deserialize_with = "at_most::<_, _, SESSIONS_A_PAGE>")]
        sessions: Vec<SessionReport>,
    },
    /// Leases, the one that ends soonest first.
    EndingLeases(#[serde(deserialize_with = "at_most::<_, _, ENDING_LEASES>")] Vec<EndingLease>),
    /// Opens the page once.
    Page {
        /// Where the page is, as the front says.
        origin: Text<MAX_ORIGIN>,
        /// To be brought there within [`crate::report::TICKET_LIFE`] seconds.
        ticket: PageTicket,
    },
}

/// A host as the vault knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// Its name.
    pub name: HostName,
    /// Its hardware; `None` while any TPM with a certificate may enrol.
    pub machine: Option<Machine>,
    /// What it may be, or wants to be.
    pub role: Role,
    /// How far it got.
    pub standing: Standing,
    /// Seconds since the epoch when that began.
    pub since: u64,
}

/// How far a host got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It knocked and waits for an operator.
    Waiting,
    /// It may enrol.
    Allowed,
    /// Enrolled: its hardware is pinned.
    Enrolled,
    /// Enrolled, with a session now.
    Connected,
}

/// How the vault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The running vault.
    pub replica: ReplicaId,
    /// Its version.
    pub version: Text<32>,
    /// Seconds since it started.
    pub uptime: u64,
    /// How secrets are kept in memory, in words.
    pub memory: Text<64>,
    /// The policy's version.
    pub policy_version: u64,
    /// The reference values' version.
    pub reference_version: u64,
    /// What seals the vault's key, in words.
    pub platform: Text<64>,
    /// Whether the platform is a software TPM.
    pub software_tpm: bool,
    /// What trust is extended in a `dangerously_` word, a line each.
    pub dangers: Vec<Text<MAX_DANGER>>,
    /// Sessions now.
    pub sessions: u32,
    /// Leases now.
    pub leases: u32,
    /// Asks that wait for a person now.
    pub asks_waiting: u32,
    /// The same figures as in the metrics.
    pub figures: Vec<Figure>,
    /// The key that signs audit records.
    pub audit_key: AuditKey,
    /// What an operator should know, a line each.
    pub warnings: Vec<Text<256>>,
}

/// A session that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Its identity.
    pub session: SessionId,
    /// What its peer is.
    pub role: Role,
    /// When it began, in seconds since the epoch.
    pub since: u64,
    /// The peer as it was last attested.
    pub peer: AskingHost,
}

/// A lease, and when it ends unless its worker lives on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndingLease {
    /// Its identity.
    pub lease: LeaseId,
    /// Of which credential.
    pub credential: CredentialName,
    /// On which host.
    pub host: HostName,
    /// Seconds since the epoch.
    pub ends: u64,
}

/// Sessions in a page.
pub const SESSIONS_A_PAGE: usize = 48;
/// Leases that are told of, of however many.
pub const ENDING_LEASES: usize = 16;

/// PCRs of a TPM.
const PCRS: usize = 24;
