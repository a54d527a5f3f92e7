//! The list that a person reads: which questions were asked of evidence, what was found, what was wanted.
//!
//! A list proves nothing and opens nothing; it is made by the same functions that make the verdict
//! ([`Attested`](crate::attested::Attested)), one question after the other.

/// One question that was asked of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    name: &'static str,
    found: String,
    wanted: String,
    outcome: Outcome,
    advice: &'static str,
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was found is what was wanted.
    Passed,
    /// It is not; this is the stable code of the refusal.
    Refused(&'static str),
    /// Not judged: no reference value was given. What was found is told all the same.
    Open,
}

impl Check {
    /// A question and its answer, as a check of this crate gave it.
    pub(crate) fn new(
        name: &'static str,
        found: impl Into<String>,
        wanted: impl Into<String>,
        outcome: Outcome,
    ) -> Self {
        Self { name, found: found.into(), wanted: wanted.into(), outcome, advice: "" }
    }

    /// The same, with what an operator can do where it refuses.
    pub(crate) fn advised(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }

    /// What was asked about, in a few words.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the evidence says.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What it should say; where the question is open, which reference value would decide it.
    #[must_use]
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// What an operator can do about a refusal; nothing where it did not refuse.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        let refused = matches!(self.outcome, Outcome::Refused(_)) && !self.advice.is_empty();
        refused.then_some(self.advice)
    }

    /// How it was answered.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}
