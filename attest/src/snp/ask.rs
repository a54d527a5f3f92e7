//! Asks an authentic report all questions, in one order, for a verdict or for a list.
//!
//! Each question is a row of three functions. The session's road calls the first of each until one refuses, and formats
//! nothing before that; the command's road calls all.

use super::{
    authentic::Authentic,
    identifier::{ReportData, ReportId},
    question::Question,
    refusal::SnpRefusal,
    report::Body,
    rules::Rules,
    tcb::{RawTcb, Tcb},
    vek::Holder,
};
use crate::{
    attested::PinnedMachine,
    binder::Binder,
    checks::{Check, Outcome},
};

mod guest;
mod machine;
mod platform;

/// An authentic report, and what it is held against.
pub(crate) struct Case<'a> {
    pub(crate) authentic: &'a Authentic<'a>,
    pub(crate) rules: &'a Rules,
    pub(crate) wanted: Wanted<'a>,
}

/// What evidence of this moment has to show, beside the rules. `None` leaves the question open, which a session never does
/// for report data and machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) now: u64,
    pub(crate) report_data: Option<ReportData>,
    pub(crate) report_id: Option<&'a ReportId>,
    pub(crate) machine: Option<PinnedMachine<'a>>,
}

/// REPORT_DATA of evidence for a session: the binder, and zeros behind it.
pub(crate) fn report_data(binder: &Binder) -> ReportData {
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().zip(binder.as_bytes()) {
        *to = *from;
    }
    ReportData::new(bytes)
}

/// One question, and how it is answered.
pub(super) struct Row {
    question: Question,
    answer: fn(&Case<'_>) -> Answer,
    found: fn(&Case<'_>) -> String,
    wanted: fn(&Case<'_>) -> String,
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Passed,
    Refused,
    Open,
}

impl Case<'_> {
    /// Asks until a question refuses, and says how many did not before it. None when the case is good: on that road nothing
    /// is formatted.
    pub(crate) fn passed_before_refusal(&self) -> Option<usize> {
        rows().position(|row| self.refused_by(row))
    }

    /// The first question that refuses, with what was found and wanted.
    pub(crate) fn first_refusal(&self) -> Option<SnpRefusal> {
        let row = rows().find(|row| self.refused_by(row))?;
        Some(SnpRefusal::new(row.question, (row.found)(self), (row.wanted)(self)))
    }

    /// Asks all.
    pub(crate) fn checks(&self) -> Vec<Check> {
        rows().map(|row| row.check(self)).collect()
    }

    fn refused_by(&self, row: &Row) -> bool {
        (row.answer)(self) == Answer::Refused
    }

    fn body(&self) -> &Body {
        self.authentic.body()
    }

    fn tcb(&self, of: fn(&Body) -> RawTcb) -> Option<Tcb> {
        of(self.body()).of(self.authentic.vek().product())
    }

    fn holder(&self) -> &Holder {
        self.authentic.vek().holder()
    }
}

impl Row {
    fn check(&self, case: &Case<'_>) -> Check {
        let outcome = match (self.answer)(case) {
            Answer::Passed => Outcome::Passed,
            Answer::Refused => Outcome::Refused(self.question.code()),
            Answer::Open => Outcome::Open,
        };
        Check::new(self.question.name(), (self.found)(case), (self.wanted)(case), outcome)
            .advised(self.question.advice())
    }
}

impl Answer {
    /// A rule that is there holds or does not; where there is none, the question is open.
    fn to(rule: Option<bool>) -> Self {
        match rule {
            Some(true) => Self::Passed,
            Some(false) => Self::Refused,
            None => Self::Open,
        }
    }

    fn always(holds: bool) -> Self {
        Self::to(Some(holds))
    }
}

/// All rows. The order is part of the interface: the first refusal is the one that is told.
fn rows() -> impl Iterator<Item = &'static Row> {
    machine::ROWS
        .iter()
        .chain(&guest::POLICY)
        .chain(&machine::FLOORS)
        .chain(&platform::ROWS)
        .chain(&guest::IDENTITY)
        .chain(&machine::PRODUCT_ROWS)
}

/// What to say of a rule, or of its absence.
fn rule<T>(rule: Option<T>, key: &str, say: impl FnOnce(T) -> String) -> String {
    rule.map_or_else(|| format!("not judged: no {key} was given"), say)
}

/// Hexadecimal values, of which one has to match.
fn one_of<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" or ")
}
