//! One accepted kind of machine with a TPM: consistent by construction.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_TEXT, ReferenceError};
use crate::{
    refusal::AppraisalError,
    tpm::{
        PcrSelection,
        events::{EventPolicy, Logs},
    },
};

/// One platform that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSet {
    pub(super) name: String,
    pub(super) firmware: Firmware,
    pub(super) pcrs: AcceptedPcrs,
    pub(super) events: Option<EventPolicy>,
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
pub(super) enum AcceptedPcrs {
    /// For each PCR, any of these. No PCR is without a value; there is none only where events are judged instead.
    Only(BTreeMap<u8, BTreeSet<[u8; 32]>>),
    /// Whatever the PCRs hold, for this reason.
    DangerouslyAny(String),
}

impl ReferenceSet {
    /// The one constructor: whatever exists is consistent.
    pub(super) fn new(
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

    /// What it wants of events, where it judges those.
    #[must_use]
    pub fn events(&self) -> Option<&EventPolicy> {
        self.events.as_ref()
    }

    /// Why any PCR value is accepted, where it is: something to warn of.
    #[must_use]
    pub fn dangerously_accepts_any_pcrs(&self) -> Option<&str> {
        match &self.pcrs {
            AcceptedPcrs::DangerouslyAny(reason) => Some(reason),
            AcceptedPcrs::Only(_) => None,
        }
    }

    pub(super) fn selection(&self) -> Result<PcrSelection, ReferenceError> {
        let selected = match &self.pcrs {
            AcceptedPcrs::Only(accepted) => {
                let judged = self.events.iter().flat_map(EventPolicy::pcrs);
                PcrSelection::new(judged.chain(accepted.keys().copied()).collect::<BTreeSet<_>>())
            }
            AcceptedPcrs::DangerouslyAny(_) => PcrSelection::new(0..=7),
        };
        selected.map_err(|source| ReferenceError::Pcrs { name: self.name.clone(), source })
    }

    /// Everything in which a machine differs from the set.
    pub(super) fn differences<'a>(
        &'a self,
        logs: &'a Logs<'_>,
        firmware: u64,
    ) -> impl Iterator<Item = AppraisalError> + 'a {
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

    /// Whether it has values of its own for a PCR.
    pub(crate) fn lists(&self, pcr: u8) -> bool {
        matches!(&self.pcrs, AcceptedPcrs::Only(accepted) if accepted.contains_key(&pcr))
    }

    fn judges_events_of(&self, pcr: u8) -> bool {
        self.events.iter().any(|events| events.pcrs().contains(&pcr))
    }
}
