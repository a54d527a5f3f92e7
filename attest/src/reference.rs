//! Reference values: which software and firmware a peer may run. Written by an operator, in TOML, and strict.
//!
//! ```toml
//! version = 1
//! role = "broker"                       # or "vault", "operator": whose evidence this judges
//!
//! [[tpm]]
//! name = "debian 12, kernel 6.1.0-28"   # appears in claims, audit and errors
//! firmware = "any"                      # or versions: ["0007000200000000"]
//!
//! [tpm.pcrs]                            # SHA-256 bank; any listed value is accepted for its index
//! 4 = ["d4…"]
//! 7 = ["65…", "9f…"]
//! ```
//!
//! Every `[[tpm]]` lists the same PCRs, since a quote covers one selection, fixed before it is made. A peer is accepted
//! when one set matches in all its PCRs and in its firmware. A quote does not name the TPM's manufacturer; which
//! manufacturers may enrol is for [`EndorsementPolicy`](crate::endorsement::EndorsementPolicy) to say.
//!
//! The one way to have no PCR values is to write, in a file with a single `[[tpm]]`,
//! `dangerously_accept_any_pcrs = "the reason"` in their place. Quotes are then of PCRs 0 to 7.

use std::collections::{BTreeMap, BTreeSet};

use blindferry_proto::role::Role;

use crate::{
    refusal::AppraisalError,
    tpm::{PcrSelection, PcrValues, pcr::PcrError},
};

mod difference;
mod document;
mod signature;

pub use difference::{Change, Difference};
pub use document::ReferenceError;
pub use signature::{KeyId, MAX_SIGNATURE, Signature, SignatureError, Signed, SigningKey};

/// The largest file of reference values that is parsed, in bytes.
pub const MAX_REFERENCE: usize = 256 * 1024;

/// Which software and firmware peers of one role may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceValues {
    role: Role,
    selection: PcrSelection,
    sets: Vec<ReferenceSet>,
}

/// One platform that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSet {
    name: String,
    firmware: Firmware,
    pcrs: AcceptedPcrs,
}

/// Which versions of a TPM's firmware are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Every version.
    Any,
    /// These alone; not empty.
    Only(BTreeSet<u64>),
}

/// Which PCR values are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AcceptedPcrs {
    /// For each PCR, any of these; neither level is empty.
    Only(BTreeMap<u8, BTreeSet<[u8; 32]>>),
    /// Whatever the PCRs hold, for this reason.
    DangerouslyAny(String),
}

impl ReferenceValues {
    /// Parses reference values.
    ///
    /// # Errors
    ///
    /// On anything but exactly the form above: unknown or missing keys, empty sets, PCRs that differ between sets.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        document::parse(text)
    }

    /// Reference values that accept what a machine has now: the start of a file that an operator edits.
    ///
    /// # Errors
    ///
    /// When the name or the list of firmware versions could not be written in a file.
    pub fn capture(role: Role, name: &str, firmware: Firmware, now: &PcrValues) -> Result<Self, ReferenceError> {
        let pcrs = now.iter().map(|(index, value)| (index, BTreeSet::from([*value]))).collect();
        Self::computed(role, name, firmware, pcrs)
    }

    /// Reference values that accept any of these values for each PCR, which somebody computed.
    ///
    /// # Errors
    ///
    /// When the name, the list of firmware versions or the PCRs could not be written in a file.
    pub fn computed(
        role: Role,
        name: &str,
        firmware: Firmware,
        pcrs: BTreeMap<u8, BTreeSet<[u8; 32]>>,
    ) -> Result<Self, ReferenceError> {
        let set = ReferenceSet::new(name.to_owned(), firmware, AcceptedPcrs::Only(pcrs))?;
        Self::new(role, vec![set])
    }

    /// Writes them in one canonical form, a value a line, so that two versions can be compared line by line.
    /// [`ReferenceValues::parse`] gives the same values back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        document::write(self)
    }

    /// The role whose evidence these judge.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The PCRs that a quote must cover, exactly.
    #[must_use]
    pub fn selection(&self) -> PcrSelection {
        self.selection
    }

    /// The accepted platforms, in the order of the file.
    #[must_use]
    pub fn sets(&self) -> &[ReferenceSet] {
        &self.sets
    }

    /// The first set that accepts these PCRs and this firmware.
    ///
    /// # Errors
    ///
    /// What differs from the set that comes closest.
    pub(crate) fn matching(&self, values: &PcrValues, firmware: u64) -> Result<&ReferenceSet, AppraisalError> {
        let mut refusal: Option<(usize, AppraisalError)> = None;
        for set in &self.sets {
            let mut differences = set.differences(values, firmware);
            let Some(first) = differences.next() else {
                return Ok(set);
            };
            let count = 1 + differences.count();
            if refusal.as_ref().is_none_or(|(least, _)| count < *least) {
                refusal = Some((count, first));
            }
        }
        // `new` refuses to be without sets; were there none, nothing would be accepted.
        Err(refusal.map_or(AppraisalError::PcrValues(PcrError::Empty), |(_, first)| first))
    }

    /// The one constructor: whatever exists is consistent.
    fn new(role: Role, sets: Vec<ReferenceSet>) -> Result<Self, ReferenceError> {
        let first = sets.first().ok_or(ReferenceError::NoSets)?;
        let selection = first.selection()?;
        if sets.len() > MAX_SETS {
            return Err(ReferenceError::TooManySets { found: sets.len() });
        }
        let mut names = BTreeSet::new();
        for set in &sets {
            if !names.insert(&set.name) {
                return Err(ReferenceError::NameTwice { name: set.name.clone() });
            }
            if matches!(set.pcrs, AcceptedPcrs::DangerouslyAny(_)) && sets.len() > 1 {
                return Err(ReferenceError::AnyBesideOthers { name: set.name.clone() });
            }
            let found = set.selection()?;
            if found != selection {
                return Err(ReferenceError::Selection { name: set.name.clone(), found, wanted: selection });
            }
        }
        Ok(Self { role, selection, sets })
    }
}

impl ReferenceSet {
    fn new(name: String, firmware: Firmware, pcrs: AcceptedPcrs) -> Result<Self, ReferenceError> {
        if name.is_empty() || name.len() > MAX_TEXT || name.chars().any(char::is_control) {
            return Err(ReferenceError::Name { name: name.chars().take(MAX_TEXT).collect() });
        }
        if matches!(&firmware, Firmware::Only(versions) if versions.is_empty()) {
            return Err(ReferenceError::NoFirmware { name });
        }
        match &pcrs {
            AcceptedPcrs::DangerouslyAny(reason) => {
                if reason.trim().is_empty() || reason.len() > MAX_TEXT || reason.chars().any(char::is_control) {
                    return Err(ReferenceError::Reason { name });
                }
            }
            AcceptedPcrs::Only(accepted) => {
                if let Some((pcr, _)) = accepted.iter().find(|(_, values)| values.is_empty()) {
                    return Err(ReferenceError::NoValue { name, pcr: *pcr });
                }
            }
        }
        Ok(Self { name, firmware, pcrs })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why any PCR value is accepted, where it is: something to warn of.
    #[must_use]
    pub fn dangerously_accepts_any_pcrs(&self) -> Option<&str> {
        match &self.pcrs {
            AcceptedPcrs::DangerouslyAny(reason) => Some(reason),
            AcceptedPcrs::Only(_) => None,
        }
    }

    fn selection(&self) -> Result<PcrSelection, ReferenceError> {
        let selected = match &self.pcrs {
            AcceptedPcrs::Only(accepted) => PcrSelection::new(accepted.keys().copied()),
            AcceptedPcrs::DangerouslyAny(_) => PcrSelection::new(0..=7),
        };
        selected.map_err(|source| ReferenceError::Pcrs { name: self.name.clone(), source })
    }

    fn differences<'a>(&'a self, values: &'a PcrValues, firmware: u64) -> impl Iterator<Item = AppraisalError> + 'a {
        let pcrs = values.iter().filter_map(|(pcr, found)| {
            let wanted = match &self.pcrs {
                AcceptedPcrs::DangerouslyAny(_) => return None,
                AcceptedPcrs::Only(accepted) => accepted.get(&pcr),
            };
            // A PCR that the set does not know is a difference, not a pass.
            match wanted {
                Some(wanted) if wanted.contains(found) => None,
                wanted => Some(AppraisalError::PcrValue {
                    pcr,
                    found: *found,
                    wanted: wanted.into_iter().flatten().copied().collect(),
                    nearest: self.name.clone(),
                }),
            }
        });
        let version = match &self.firmware {
            Firmware::Any => None,
            Firmware::Only(wanted) if wanted.contains(&firmware) => None,
            Firmware::Only(wanted) => Some(AppraisalError::Firmware {
                found: firmware,
                wanted: wanted.iter().copied().collect(),
                reference: self.name.clone(),
            }),
        };
        pcrs.chain(version)
    }
}

/// The most platforms in one file.
const MAX_SETS: usize = 256;

/// The longest name or reason, in bytes.
const MAX_TEXT: usize = 200;
