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
//! Beside or instead of `[tpm.pcrs]`, `[tpm.events]` says what a machine's event log must show, and stays true when its
//! firmware is updated: see [`tpm::events`](crate::tpm::events). Where both are, both must hold.
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
    tpm::{
        PcrSelection, PcrValues,
        events::{EventPolicy, Logs},
        pcr::PcrError,
    },
};

mod document;

pub use document::ReferenceError;

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
    events: Option<EventPolicy>,
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
    /// For each PCR, any of these. No PCR is without a value; there is none only where events are judged instead.
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
        let set = ReferenceSet::new(name.to_owned(), firmware, AcceptedPcrs::Only(pcrs), None)?;
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

    /// Whether a set judges events, so that evidence without logs is refused by it.
    #[must_use]
    pub fn needs_logs(&self) -> bool {
        self.sets.iter().any(|set| set.events.is_some())
    }

    /// The first set that accepts these PCRs with their events, and this firmware.
    ///
    /// # Errors
    ///
    /// What differs from the set that comes closest.
    pub(crate) fn matching(&self, logs: &Logs<'_>, firmware: u64) -> Result<&ReferenceSet, AppraisalError> {
        let mut refusal: Option<(usize, AppraisalError)> = None;
        for set in &self.sets {
            let mut differences = set.differences(logs, firmware);
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
    fn new(
        name: String,
        firmware: Firmware,
        pcrs: AcceptedPcrs,
        events: Option<EventPolicy>,
    ) -> Result<Self, ReferenceError> {
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
        Ok(Self { name, firmware, pcrs, events })
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
            AcceptedPcrs::Only(accepted) => {
                let judged = self
                    .events
                    .as_ref()
                    .map_or(Ok(BTreeSet::new()), |events| events.pcrs().map(|selection| selection.indices().collect()));
                judged.and_then(|judged| {
                    PcrSelection::new(judged.into_iter().chain(accepted.keys().copied()).collect::<BTreeSet<u8>>())
                })
            }
            AcceptedPcrs::DangerouslyAny(_) => PcrSelection::new(0..=7),
        };
        selected.map_err(|source| ReferenceError::Pcrs { name: self.name.clone(), source })
    }

    fn differences<'a>(&'a self, logs: &'a Logs<'_>, firmware: u64) -> impl Iterator<Item = AppraisalError> + 'a {
        let pcrs = logs.values().iter().filter_map(|(pcr, found)| {
            let wanted = match &self.pcrs {
                AcceptedPcrs::DangerouslyAny(_) => return None,
                AcceptedPcrs::Only(accepted) => accepted.get(&pcr),
            };
            // A PCR that the set does not know is a difference, not a pass.
            match wanted {
                Some(wanted) if wanted.contains(found) => None,
                None if self.judges_events_of(pcr) => None,
                wanted => Some(AppraisalError::PcrValue {
                    pcr,
                    found: *found,
                    wanted: wanted.into_iter().flatten().copied().collect(),
                    nearest: self.name.clone(),
                }),
            }
        });
        let events = self.events.iter().flat_map(|policy| policy.refusals(logs, |pcr| self.lists(pcr)));
        let events = events.map(|source| AppraisalError::Events { reference: self.name.clone(), source });
        let version = match &self.firmware {
            Firmware::Any => None,
            Firmware::Only(wanted) if wanted.contains(&firmware) => None,
            Firmware::Only(wanted) => Some(AppraisalError::Firmware {
                found: firmware,
                wanted: wanted.iter().copied().collect(),
                reference: self.name.clone(),
            }),
        };
        pcrs.chain(events).chain(version)
    }

    fn lists(&self, pcr: u8) -> bool {
        matches!(&self.pcrs, AcceptedPcrs::Only(accepted) if accepted.contains_key(&pcr))
    }

    fn judges_events_of(&self, pcr: u8) -> bool {
        let judged = self.events.as_ref().and_then(|events| events.pcrs().ok());
        judged.is_some_and(|judged| judged.indices().any(|one| one == pcr))
    }
}

/// The most platforms in one file.
const MAX_SETS: usize = 256;

/// The longest name or reason, in bytes.
const MAX_TEXT: usize = 200;
