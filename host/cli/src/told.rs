//! How a failure is told on standard error: problem, cause and fix, in lines for people, or with `--json` as one document
//! in the last line.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use crate::read::ReadError;
use crate::setup::SetupError;
use blindferry_parent::ParentError;
use blindferry_proto::causes::with_causes;
use blindferry_proto::shown::hides;
use blindferry_session::client::{CallError, ConnectError};
use blindferry_worker::WorkerError;
use serde::Serialize;
use std::error::Error;
use std::fmt::Write;

/// Says why, and ends.
pub(crate) fn tell(failure: &Failure, json: bool) {
    note(&if json { document(&Told::of(failure)) } else { failure.told() });
}

/// What is wrong with the command line, as a document.
pub(crate) fn usage(problem: &str, fix: &str) -> String {
    let exit = Exit::Usage.number();
    document(&Told { problem: problem.to_owned(), cause: None, fix: Some(fix.to_owned()), code: None, exit })
}

/// A failure by its parts; the names are stable.
#[derive(Debug, Serialize)]
struct Told {
    /// What was being done.
    problem: String,
    /// Why it was not done, from the outside in.
    cause: Option<String>,
    /// What to try.
    fix: Option<String>,
    /// The refusal's code, where somebody refused.
    code: Option<&'static str>,
    /// What the command ends with.
    exit: u8,
}

impl Told {
    fn of(failure: &Failure) -> Self {
        Self {
            problem: failure.to_string(),
            cause: failure.source().map(with_causes),
            fix: failure.hint().map(str::to_owned),
            code: code(failure),
            exit: failure.exit().number(),
        }
    }
}

fn code(failure: &Failure) -> Option<&'static str> {
    let refusal = match failure {
        Failure::Call { source: CallError::Refused(refusal), .. }
        | Failure::Setup(SetupError::Refused(refusal))
        | Failure::Grant { source: ParentError::Refused(refusal) }
        | Failure::Read(ReadError::Redeem(WorkerError::Refused(refusal))) => refusal,
        Failure::Connect { source } => match source.as_ref() {
            ConnectError::Refused { refusal } => refusal,
            _ => return None,
        },
        _ => return None,
    };
    Some(refusal.code.as_str())
}

/// One line. What could steer a terminal is within strings alone, and escaped there.
fn document(told: &Told) -> String {
    let written = serde_json::to_string(&serde_json::json!({ "error": told })).unwrap_or_default();
    let mut line = String::with_capacity(written.len());
    for character in written.chars() {
        if hides(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _infallible = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::refusal::{Refusal, RefusalCode};
    use serde_json::{Value, json};

    #[test]
    fn a_failure_is_a_document_with_problem_cause_and_fix() {
        let refusal = Refusal::new(RefusalCode::Exists, "a\u{1b}[2J\u{202e}\u{e0041}");
        let failure = Failure::Call { doing: "store the credential", source: CallError::Refused(refusal) };
        let written = document(&Told::of(&failure));
        assert!(!written.chars().any(hides), "{written}");
        let read: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(
            read,
            json!({"error": {
                "problem": "cannot store the credential",
                "cause": "exists: a\u{1b}[2J\u{202e}\u{e0041}",
                "fix": "remove it first, or say --replace where there is such an option",
                "code": "exists",
                "exit": 1,
            }})
        );
    }

    #[test]
    fn wrong_usage_is_one_too() {
        let read: Value = serde_json::from_str(&usage("unknown", "help")).unwrap();
        assert_eq!(read["error"]["exit"], 2);
    }
}
