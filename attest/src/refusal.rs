//! Why evidence was refused: precise, for our own log. A peer learns only that it was refused.

use crate::reader::Malformed;

/// Why [`appraise`](crate::attested::appraise) refused: the first check that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppraisalError {
    /// TPMS_ATTEST does not parse.
    #[error("cannot parse TPMS_ATTEST")]
    Attest(#[source] Malformed),
}

impl AppraisalError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Attest(_) => "tpm-attest",
        }
    }
}
