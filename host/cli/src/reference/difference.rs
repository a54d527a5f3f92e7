//! `reference diff`: what changes between two files, for who has to approve it.

use crate::document;
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_attest::reference::{Change, Difference};
use blindferry_proto::shown::visible;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Show which values two files of reference values do not share; order and comments are no difference
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The values now
    before: PathBuf,
    /// The values to be
    after: PathBuf,
}

#[derive(Serialize)]
struct Shown {
    equal: bool,
    differences: Vec<One>,
}

#[derive(Serialize)]
struct One {
    change: &'static str,
    kind: String,
    set: String,
    key: String,
    value: String,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(super) fn run(invocation: &Invocation, diff: &Diff) -> Result<(), Failure> {
    let read = |path: &PathBuf| super::parse(path, document::read(path)?.as_str());
    let differences = read(&diff.before)?.differences(&read(&diff.after)?);
    let people = differences.iter().map(|one| visible(&one.to_string()) + "\n").collect();
    let differences: Vec<One> = differences.into_iter().map(One::from).collect();
    invocation.output.show(&Shown { equal: differences.is_empty(), differences }, || people)
}

impl From<Difference> for One {
    fn from(Difference { kind, set, key, value, change }: Difference) -> Self {
        let change = match change {
            Change::Added => "added",
            Change::Removed => "removed",
        };
        Self { change, kind, set, key, value }
    }
}
