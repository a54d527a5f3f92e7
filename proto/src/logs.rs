//! The logs that may lie beside a TPM's evidence: which of them a verifier asks for, and where a machine has them.

use crate::limits::{MAX_EVENT_LOG, MAX_EVIDENCE, MAX_IMA_LOG};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which logs a verifier asks for, or which there are. Nobody sends a log that was not asked for, and no frame is longer
/// for a log that was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedLogs {
    /// The firmware's event log.
    pub events: bool,
    /// The list of files that Linux measured (IMA).
    pub ima: bool,
}

impl WantedLogs {
    /// No log: what every verifier asks for whose reference values speak of PCR values alone.
    pub const NONE: Self = Self { events: false, ima: false };

    /// Bytes by which evidence, and the frame that carries it, may be longer.
    #[must_use]
    pub const fn most(self) -> usize {
        let events = if self.events { MAX_EVENT_LOG } else { 0 };
        let ima = if self.ima { MAX_IMA_LOG } else { 0 };
        events + ima
    }

    /// Bytes of encoded evidence with these logs, at most.
    #[must_use]
    pub const fn most_evidence(self) -> usize {
        MAX_EVIDENCE + self.most()
    }

    /// Whether `found` has no log but these.
    #[must_use]
    pub const fn cover(self, found: Self) -> bool {
        (self.events || !found.events) && (self.ima || !found.ima)
    }
}

/// Where a machine has its logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogPaths {
    /// The event log of the TPM that quotes, in the binary form.
    pub events: PathBuf,
    /// The IMA list, in any of the kernel's forms.
    pub ima: PathBuf,
}

impl Default for LogPaths {
    /// Those of a machine's first TPM.
    fn default() -> Self {
        Self {
            events: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            ima: "/sys/kernel/security/ima/binary_runtime_measurements".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_EVIDENCE_WITH_LOGS;

    #[test]
    fn who_asks_for_nothing_makes_room_for_nothing() {
        assert_eq!(WantedLogs::NONE.most(), 0);
        assert_eq!(WantedLogs::NONE.most_evidence(), MAX_EVIDENCE);
        assert_eq!(WantedLogs { events: true, ima: true }.most_evidence(), MAX_EVIDENCE_WITH_LOGS);
    }

    #[test]
    fn a_log_that_was_not_asked_for_is_more_than_was_asked() {
        for bits in 0..16_u8 {
            let wanted = WantedLogs { events: bits & 1 != 0, ima: bits & 2 != 0 };
            let found = WantedLogs { events: bits & 4 != 0, ima: bits & 8 != 0 };
            let more = (found.events && !wanted.events) || (found.ima && !wanted.ima);
            assert_eq!(wanted.cover(found), !more, "{wanted:?} {found:?}");
        }
    }
}
