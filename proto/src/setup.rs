//! What an operator's command and a vault that is being set up tell each other: through the standard input and output
//! of the front's executable, whose descriptors the vault inherits. JSON, since it crosses once and a person may look.
//!
//! | | standard input | standard output |
//! |---|---|---|
//! | `init` | an [`InitOrder`], to the end | a line with a [`SetupReply`], then a line with the recovery key |
//! | `recover` | a line with the recovery key, then a [`RecoverOrder`] | a line with a [`SetupReply`] |
//! | `restore` | a backup, see [`crate::backup`] | a line with a [`SetupReply`], from the front: no vault is started |
//! | `succeed` | a [`SucceedOrder`], to the end | a line with a [`SetupReply`] |
//!
//! The recovery key is never part of a type here: whoever reads or writes it does so in memory that is wiped.

use crate::backup::Manifest;
use crate::bounded::Text;
use crate::identifier::Machine;
use crate::key_mix::KeyMix;
use crate::limits::MAX_DOCUMENT;
use crate::name::HostName;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};

/// Bytes of an order in JSON.
pub const MAX_ORDER: usize = 4 * MAX_DOCUMENT;
/// The version of the orders.
pub const VERSION: u32 = 1;

/// What a new vault shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitOrder {
    /// [`VERSION`].
    pub version: u32,
    /// On a TPM: the PCRs (SHA-256 bank) whose present values are approved.
    pub pcrs: Vec<u8>,
    /// Go on although some of them were never extended.
    #[serde(default)]
    pub insist_unextended: bool,
    /// On an SEV-SNP guest: what the sealing key is derived from, beside its measurement and policy.
    #[serde(default)]
    pub mix: KeyMix,
    /// On an SEV-SNP guest: reference values for the vault itself, computed before it ran. Without them, those that
    /// accept it as it is.
    #[serde(default)]
    pub vault_reference: Option<Text<MAX_DOCUMENT>>,
    /// The first operator.
    pub operator: FirstOperator,
    /// Reference values for operators' machines.
    pub operator_reference: Text<MAX_DOCUMENT>,
    /// Reference values for worker hosts.
    #[serde(default)]
    pub broker_reference: Option<Text<MAX_DOCUMENT>>,
    /// The policy; without one nothing is allowed.
    #[serde(default)]
    pub policy: Option<Text<MAX_DOCUMENT>>,
}

/// Who may administer a new vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstOperator {
    /// What the operator's machine is called.
    pub name: HostName,
    /// Its hardware.
    pub machine: Machine,
}

/// Seal to this machine what the recovery key opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverOrder {
    /// [`VERSION`].
    pub version: u32,
    /// On a TPM: the PCRs (SHA-256 bank) whose present values are approved.
    pub pcrs: Vec<u8>,
    /// Go on although some of them were never extended.
    #[serde(default)]
    pub insist_unextended: bool,
    /// On an SEV-SNP guest: what the sealing key is derived from, beside its measurement and policy.
    #[serde(default)]
    pub mix: KeyMix,
    /// On an SEV-SNP guest: reference values for the vault itself, computed before it ran. Without them, those that
    /// accept it as it is.
    #[serde(default)]
    pub vault_reference: Option<Text<MAX_DOCUMENT>>,
}

/// Take over, as its next guest, from a vault that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SucceedOrder {
    /// [`VERSION`].
    pub version: u32,
    /// Where that vault is: a host name or an address.
    pub host: Text<255>,
    /// Its TCP port.
    pub port: u16,
    /// That vault's reference.
    pub predecessor: Text<MAX_DOCUMENT>,
    /// The name under which an operator approved this guest there.
    pub name: HostName,
    /// What the sealing key is derived from, beside the measurement and the policy of this guest.
    #[serde(default)]
    pub mix: KeyMix,
    /// Reference values for the vault as this guest, computed before it ran. Without them, those that accept it as it is.
    #[serde(default)]
    pub vault_reference: Option<Text<MAX_DOCUMENT>>,
}

/// How it went. A success holds only if the process also ends with 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetupReply {
    /// The vault can be started. This is what its hosts and operators have to know of it beforehand.
    Done {
        /// A vault reference in TOML.
        vault_reference: Text<MAX_DOCUMENT>,
    },
    /// Nothing was changed.
    Refused(Refusal),
    /// The store is the backup's.
    Restored {
        /// What the backup says of itself.
        manifest: Manifest,
        /// How many values it had.
        values: u64,
    },
}
