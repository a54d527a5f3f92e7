//! One record of the audit: what happened, signed by the vault and chained to the record before it.
//!
//! A record's hash is SHA-256 over its encoded body; the body names the hash of the record before. The signature is
//! Ed25519 (RFC 8032) over [`SIGNED`] ‖ root, to which the record's [`Path`] leads from its hash; the records of one
//! transaction share it. So a record that is removed, changed or reordered breaks the chain.

mod path;

pub use self::path::{BadTree, Beside, MAX_PATH, MAX_TOGETHER, Path, SIGNED, grow, to_sign};

use crate::bounded::{Bytes, CodecError, Text, at_most, decode, encode};
use crate::identifier::{AskId, Digest, GrantId, LeaseId, Machine, RequestId, SessionId, WorkerKey};
use crate::limits::MAX_INHERITED;
use crate::name::{CredentialName, HostName, VariableName};
use crate::refusal::RefusalCode;
use crate::role::Role;
use crate::session::{LeaseEnd, ProcessFacts, WorkerConstraint};
use crate::waiting::{AskEnd, Reason, Words};
use serde::{Deserialize, Serialize};

/// Bytes of an encoded body.
pub const MAX_BODY: usize = 2048;

/// Dangers that a body names; what more there are is left out.
pub const MAX_DANGERS: usize = 4;
/// Bytes of a danger's line.
pub const MAX_DANGER: usize = 64;

/// A record as it is kept and handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// An encoded [`Body`], byte for byte as it was hashed.
    pub body: Bytes<MAX_BODY>,
    /// From its hash to the root that was signed.
    pub path: Path,
    /// Ed25519 signature, 64 bytes: that of all records of the transaction.
    pub signature: Bytes<64>,
}

impl Record {
    /// The body.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are none.
    pub fn body(&self) -> Result<Body, CodecError> {
        decode(self.body.as_slice(), MAX_BODY)
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The first record has number 0.
    pub number: u64,
    /// Milliseconds since the epoch, by the vault's clock.
    pub at: u64,
    /// The hash of the record before; zeros in the first.
    pub before: Digest,
    /// What trust was extended in a `dangerously_` word when it happened, a line each.
    #[serde(deserialize_with = "at_most::<_, _, MAX_DANGERS>")]
    pub dangers: Vec<Text<MAX_DANGER>>,
    /// What happened.
    pub event: Event,
}

impl Body {
    /// The bytes that are hashed.
    ///
    /// # Errors
    /// [`CodecError`] when it does not fit [`MAX_BODY`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        encode(self, MAX_BODY)
    }
}

/// Whether the process in question handled an opaque blob or received plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    /// It handled an opaque blob.
    Opaque,
    /// It received plaintext.
    Plaintext,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The vault unsealed its key and serves.
    Started {
        /// What the operator should know about it, such as a fall-back of memory protection.
        notes: Text<512>,
    },
    /// The vault sealed its key anew, to what its SEV-SNP guest has become.
    SealedAnew {
        /// What had risen since.
        risen: Text<256>,
    },
    /// A peer was attested and has a session.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Its role.
        role: Role,
        /// Its host.
        host: HostName,
    },
    /// A peer proved itself again.
    Reattested {
        /// The session.
        session: SessionId,
        /// Its host.
        host: HostName,
    },
    /// A session is over.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Its host.
        host: HostName,
        /// Why, by a stable code.
        why: Text<64>,
    },
    /// Evidence was not accepted.
    NotAttested {
        /// The name that it claimed.
        host: HostName,
        /// The role that it claimed.
        role: Role,
        /// The stable code of the appraisal's refusal.
        code: Text<64>,
        /// What was found and what was wanted.
        detail: Text<512>,
    },
    /// A host was enrolled and pinned.
    Enrolled {
        /// The host.
        host: HostName,
        /// Its hardware.
        machine: Machine,
    },
    /// A grant was issued. The parent saw an opaque blob.
    Granted {
        /// The grant.
        grant: GrantId,
        /// Of which credential.
        credential: CredentialName,
        /// To which host.
        host: HostName,
        /// Who asked.
        parent: ProcessFacts,
        /// What the parent saw.
        sight: Sight,
        /// The approval that it spent, where policy demanded one.
        approval: Option<AskId>,
    },
    /// A grant's handle was given to the parent, or could not be.
    GrantDelivered {
        /// The grant.
        grant: GrantId,
        /// Whether it was taken.
        taken: bool,
        /// What broker and parent saw.
        sight: Sight,
    },
    /// The master was opened for one use.
    Fetched {
        /// Which credential.
        credential: CredentialName,
        /// Which version of its record: the one that policy was asked about.
        version: u64,
        /// What the vault saw.
        sight: Sight,
    },
    /// A cached master was wiped because nobody used it.
    Evicted {
        /// Which credential.
        credential: CredentialName,
    },
    /// A grant was redeemed and a token parcelled.
    Redeemed {
        /// The grant.
        grant: GrantId,
        /// The lease that it left.
        lease: LeaseId,
        /// Of which credential.
        credential: CredentialName,
        /// On which host.
        host: HostName,
        /// To which key.
        worker_key: WorkerKey,
        /// The worker.
        worker: ProcessFacts,
        /// Variables with credentials of its parent that it gets as well, as its launcher says.
        #[serde(deserialize_with = "at_most::<_, _, MAX_INHERITED>")]
        inherited: Vec<VariableName>,
        /// What the worker will see.
        sight: Sight,
        /// What broker and parent saw of it.
        carried: Sight,
    },
    /// The worker has its token.
    Acknowledged {
        /// The lease.
        lease: LeaseId,
        /// The request that it answered.
        request: RequestId,
    },
    /// A lease was renewed with a new token.
    Renewed {
        /// The lease.
        lease: LeaseId,
        /// Of which credential.
        credential: CredentialName,
        /// What the worker will see.
        sight: Sight,
    },
    /// A lease ended.
    LeaseEnded {
        /// The lease.
        lease: LeaseId,
        /// Why.
        why: LeaseEnd,
        /// Whether its tokens were revoked upstream; `None` where the kind cannot.
        revoked: Option<bool>,
    },
    /// A request was refused.
    Denied {
        /// Which credential.
        credential: CredentialName,
        /// On which host.
        host: HostName,
        /// The code that the peer got.
        code: RefusalCode,
        /// Which policy denied, or what did not fit.
        detail: Text<512>,
    },
    /// Something that should never happen in an honest fleet.
    Alarm(Alarm),
    /// An operator changed something.
    Operator {
        /// The operator's host.
        host: HostName,
        /// What was done, such as `put` or `host approve`.
        action: Text<64>,
        /// To what.
        subject: Text<256>,
    },
    /// The key-encryption key went to a successor, encrypted to it; the approval is spent. It sees it in the clear.
    HandedOver {
        /// The session.
        session: SessionId,
        /// The successor.
        host: HostName,
    },
    /// The store keeps the key as a successor has sealed it: that guest opens the store too.
    SuccessorKept {
        /// The session.
        session: SessionId,
        /// The successor.
        host: HostName,
    },
    /// An ask waits for a person.
    AskHeld {
        /// The ask.
        ask: AskId,
        /// SHA-256 over what operators are shown of it.
        shown: Digest,
        /// Of which credential.
        credential: CredentialName,
        /// On which host.
        host: HostName,
        /// Who asks.
        parent: ProcessFacts,
        /// For which worker.
        worker: WorkerConstraint,
        /// The asker's own words.
        words: Words,
    },
    /// An operator decided about an ask. An approval is good for one grant.
    AskDecided {
        /// The ask.
        ask: AskId,
        /// SHA-256 over what the operator was shown.
        shown: Digest,
        /// The operator's host.
        by: HostName,
        /// Whether it is a yes.
        approved: bool,
        /// Why not, in the operator's words.
        reason: Option<Reason>,
        /// Of which credential.
        credential: CredentialName,
        /// The host that asked.
        host: HostName,
        /// Who asked there.
        parent: ProcessFacts,
    },
    /// An ask ended without a decision, or its approval was not used.
    AskEnded {
        /// The ask.
        ask: AskId,
        /// How.
        why: AskEnd,
        /// Of which credential.
        credential: CredentialName,
        /// On which host.
        host: HostName,
    },
    /// An operator takes a backup. In the store that goes on this is never the newest record for long; in the backup it is.
    BackedUp {
        /// The operator's host.
        host: HostName,
    },
    /// Everything in the store is encrypted under the new key-encryption key, and the one before opens nothing of it.
    StoreRenewed {
        /// How many records were encrypted anew since the vault started or the key was changed.
        renewed: u64,
    },
    /// The vault started on a store that is a backup: what happened since it was taken is not in it.
    Restored {
        /// The number of the record that says so.
        record: u64,
        /// Milliseconds since the epoch when it was taken.
        taken: u64,
    },
}

/// Something that should never happen in an honest fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alarm {
    /// A grant that was redeemed came again, with another key.
    GrantContested {
        /// The grant.
        grant: GrantId,
        /// Who came first. `None` where the winner acknowledged its parcel before: the record that the grant was redeemed
        /// names it.
        winner: Option<WorkerKey>,
        /// Who came again.
        loser: WorkerKey,
        /// The loser as its broker saw it.
        process: ProcessFacts,
        /// On which host.
        host: HostName,
    },
    /// A grant came from a host it was not made for.
    GrantAstray {
        /// The grant.
        grant: GrantId,
        /// The host that brought it.
        host: HostName,
    },
    /// Other hardware claims the name of an enrolled host.
    IdentityChanged {
        /// The name.
        host: HostName,
        /// The hardware that claims it.
        claimed: Option<Machine>,
    },
    /// What is stored does not verify.
    StoreTampered {
        /// What was found.
        detail: Text<256>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protection::ProtectionLevel;

    #[test]
    fn the_longest_redemption_fits_a_record() {
        let longest = |bytes: usize| "n".repeat(bytes);
        let worker = ProcessFacts {
            uid: u32::MAX,
            gid: u32::MAX,
            pid: u32::MAX,
            executable: Some(Digest([255; 32])),
            protection: Some(ProtectionLevel::OwnNamespace),
        };
        let event = Event::Redeemed {
            grant: GrantId([255; 16]),
            lease: LeaseId([255; 16]),
            credential: longest(CredentialName::MAX).parse().unwrap(),
            host: longest(HostName::MAX).parse().unwrap(),
            worker_key: WorkerKey([255; 32]),
            worker,
            inherited: vec![longest(VariableName::MAX).parse().unwrap(); MAX_INHERITED],
            sight: Sight::Plaintext,
            carried: Sight::Opaque,
        };
        let dangers = vec![Text::new(longest(MAX_DANGER)).unwrap(); MAX_DANGERS];
        let body = Body { number: u64::MAX, at: u64::MAX, before: Digest([255; 32]), dangers, event };
        let bytes = body.to_bytes().unwrap();
        assert_eq!(decode::<Body>(&bytes, MAX_BODY).unwrap(), body);
    }
}
