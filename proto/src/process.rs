//! Local processes as grants, policy and audit speak of them: what the broker's kernel and the launcher say of one, and
//! what a parent may demand of the one that redeems.

use crate::identifier::Digest;
use crate::protection::ProtectionLevel;
use serde::{Deserialize, Serialize};

/// Who may redeem a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConstraint {
    /// Only a process of this user.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Only a program with this SHA-256, measured by the launcher.
    #[serde(default)]
    pub executable: Option<Digest>,
    /// Only at this level of protection or a stronger one, established by the launcher.
    #[serde(default)]
    pub protection: Option<ProtectionLevel>,
}

/// A local process as the broker's kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id, for the audit; nothing is decided by it.
    pub pid: u32,
    /// The SHA-256 of the program that the launcher is about to execute, where the launcher measured it.
    pub executable: Option<Digest>,
    /// The level of protection that the launcher says it established; none of a worker that links the library.
    pub protection: Option<ProtectionLevel>,
}
