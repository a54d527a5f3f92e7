//! What a peer is told when the answer is no: a stable code, and at most one line for people.

use crate::bounded::Text;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Why not, in one stable word. Codes are never reused or renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The bytes are not a message, or it came at the wrong time.
    Malformed,
    /// The versions have nothing in common.
    Version,
    /// The evidence was not accepted. The peer learns no more; the audit says why.
    NotAttested,
    /// The host is not enrolled: an operator has to approve it first.
    HostPending,
    /// Policy, or an operator's right, does not allow it.
    Denied,
    /// No credential, host or lease of that name.
    Unknown,
    /// The grant was not issued by this running vault, not for this host, or is not a grant.
    GrantForeign,
    /// The grant's time is over.
    GrantExpired,
    /// The grant was redeemed by another key.
    GrantSpent,
    /// The worker does not meet the grant's constraints.
    WorkerMismatch,
    /// Something is at its limit; ask again later.
    Busy,
    /// Not unsealed yet, or not connected; ask again later.
    NotReady,
    /// The upstream did not give a token.
    Upstream,
    /// What is stored does not verify, or cannot be read.
    Store,
    /// It already is so, and would have to be forced.
    Exists,
    /// Something that should not happen; the log of the process that said so has more.
    Internal,
    /// The credential is for programs at a stronger level of protection.
    ProtectionTooLow,
    /// A person has to approve, and the asker does not wait; or the grant, or the lease, lacks the approval that policy
    /// demands by now.
    ApprovalRequired,
    /// A person said no.
    ApprovalDenied,
    /// Nobody decided in time.
    ApprovalTimedOut,
    /// Too many asks wait for a person.
    ApprovalQueueFull,
    /// What the operator was shown is not what waits, or it is decided already.
    ApprovalMismatch,
}

impl RefusalCode {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::NotAttested => "not-attested",
            Self::HostPending => "host-pending",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
            Self::GrantForeign => "grant-foreign",
            Self::GrantExpired => "grant-expired",
            Self::GrantSpent => "grant-spent",
            Self::WorkerMismatch => "worker-mismatch",
            Self::Busy => "busy",
            Self::NotReady => "not-ready",
            Self::Upstream => "upstream",
            Self::Store => "store",
            Self::Exists => "exists",
            Self::Internal => "internal",
            Self::ProtectionTooLow => "protection-too-low",
            Self::ApprovalRequired => "approval-required",
            Self::ApprovalDenied => "approval-denied",
            Self::ApprovalTimedOut => "approval-timed-out",
            Self::ApprovalQueueFull => "approval-queue-full",
            Self::ApprovalMismatch => "approval-mismatch",
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Busy | Self::NotReady | Self::Upstream | Self::ApprovalQueueFull)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The stable code.
    pub code: RefusalCode,
    /// One line for people, which names what to do next; never a secret. Before the peer is attested it says no more
    /// than the code does.
    pub detail: Text<256>,
}

impl Refusal {
    /// A refusal with a line for people.
    #[must_use]
    pub fn new(code: RefusalCode, detail: &str) -> Self {
        Self { code, detail: Text::cut(detail) }
    }
}

impl From<RefusalCode> for Refusal {
    fn from(code: RefusalCode) -> Self {
        Self::new(code, "")
    }
}
