//! Why a blob of Azure's was refused.

use super::question::Question;

/// The question that was not answered as it must be: what was found, what was wanted, and what an operator can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{question}: found {found}, wanted {wanted}; {}", question.advice())]
pub struct AzureRefusal {
    question: Question,
    found: String,
    wanted: String,
}

impl AzureRefusal {
    pub(crate) fn new(question: Question, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { question, found: found.into(), wanted: wanted.into() }
    }

    /// What was asked.
    #[must_use]
    pub fn question(&self) -> Question {
        self.question
    }

    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
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
