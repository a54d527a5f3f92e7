//! What came as evidence, held against what was asked for: before it is judged, and before anybody keeps it.

use blindferry_attest::evidence::{Evidence, EvidenceError};
use blindferry_proto::logs::WantedLogs;

/// What came as evidence is none, or more than was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitEvidence {
    /// It has more bytes than evidence with the logs that were asked for.
    #[error("it has {found} bytes, more than the {most} that were asked for")]
    TooLong {
        /// How many it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// It does not parse.
    #[error("it does not parse")]
    Malformed(#[source] EvidenceError),
    /// A log came that nobody asked for.
    #[error("{} came with it, which nobody asked for", unasked(*found, *wanted))]
    Unasked {
        /// The logs that came.
        found: WantedLogs,
        /// The logs that were asked for.
        wanted: WantedLogs,
    },
}

impl UnfitEvidence {
    /// The stable code for audit and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "evidence-too-long",
            Self::Malformed(source) => source.code(),
            Self::Unasked { .. } => "logs-unasked",
        }
    }
}

/// Reads evidence that may have these logs and no other. A log that is missing is for the judgement to refuse: it says
/// which rule needs it.
pub(crate) fn read(bytes: &[u8], wanted: WantedLogs) -> Result<Evidence, UnfitEvidence> {
    let most = wanted.most_evidence();
    if bytes.len() > most {
        return Err(UnfitEvidence::TooLong { found: bytes.len(), most });
    }
    let evidence = Evidence::decode(bytes).map_err(UnfitEvidence::Malformed)?;
    let found = evidence.logs();
    if !wanted.cover(found) {
        return Err(UnfitEvidence::Unasked { found, wanted });
    }
    Ok(evidence)
}

fn unasked(found: WantedLogs, wanted: WantedLogs) -> &'static str {
    match (found.events && !wanted.events, found.ima && !wanted.ima) {
        (true, true) => "an event log and an IMA list",
        (true, false) => "an event log",
        (false, _) => "an IMA list",
    }
}
