//! Why an SEV-SNP report was refused.

use super::question::Question;

/// The first question that was answered wrongly: what was found, what was wanted, and what an operator can do. For our
/// own log; a peer learns only that it was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SEV-SNP {question}: found {found}, wanted {wanted}; {}", question.advice())]
pub struct SnpRefusal {
    question: Question,
    found: String,
    wanted: String,
}

impl SnpRefusal {
    pub(crate) fn new(question: Question, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { question, found: found.into(), wanted: wanted.into() }
    }

    /// The question.
    #[must_use]
    pub fn question(&self) -> Question {
        self.question
    }

    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.question.code()
    }

    /// What the evidence says.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What it should say.
    #[must_use]
    pub fn wanted(&self) -> &str {
        &self.wanted
    }
}
