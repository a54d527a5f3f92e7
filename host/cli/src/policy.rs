//! `policy`: what is allowed.

use crate::document;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::note;
use crate::session::with_session;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_proto::shown::visible;
use clap::Subcommand;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The policy: what is allowed
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Let the vault check a policy without applying it
    Check {
        /// Cedar policies; - is standard input
        file: PathBuf,
    },
    /// Show the policy in force
    Show,
    /// Check a policy and put it in force
    Apply {
        /// Cedar policies; - is standard input
        file: PathBuf,
    },
}

/// A document that was applied.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    pub(crate) applied: bool,
    pub(crate) version: Version,
}

/// A document's version, where the vault says one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Version(pub(crate) Option<u64>);

impl Version {
    pub(crate) fn shown(self) -> String {
        self.0.map_or_else(String::new, |version| format!(", version {version}"))
    }
}

#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    problems: Vec<&'a str>,
}

/// A document that is in force.
#[derive(Debug, Serialize)]
pub(crate) struct InForce<'a> {
    pub(crate) version: u64,
    pub(crate) text: &'a str,
}

/// Runs it.
///
/// # Errors
/// [`Failure`]; [`Failure::Problems`] after the problems were shown.
pub(crate) fn run(invocation: &Invocation, policy: Policy) -> Result<(), Failure> {
    match policy {
        Policy::Check { file } => {
            let reply = send(invocation, "check the policy", &file, false)?;
            let OperatorReply::Checked { problems, .. } = reply else {
                return Err(Failure::Unexpected { doing: "check the policy" });
            };
            let texts: Vec<&str> = problems.iter().map(blindferry_proto::bounded::Text::as_str).collect();
            invocation.output.show(&Checked { ok: texts.is_empty(), problems: texts.clone() }, || {
                if texts.is_empty() { "no problems\n".to_owned() } else { problem_lines(&file, &texts) }
            })?;
            if problems.is_empty() { Ok(()) } else { Err(Failure::Problems { path: file, count: problems.len() }) }
        }
        Policy::Apply { file } => {
            let version = applied("apply the policy", &file, send(invocation, "apply the policy", &file, true)?)?;
            invocation
                .output
                .show(&Applied { applied: true, version }, || format!("policy in force{}", version.shown()))
        }
        Policy::Show => {
            let doing = "show the policy";
            let reply =
                with_session(invocation, async |session| session.ask(doing, OperatorRequest::PolicyShow).await)?;
            show_document(invocation, doing, &reply)
        }
    }
}

fn send(invocation: &Invocation, doing: &'static str, file: &Path, apply: bool) -> Result<OperatorReply, Failure> {
    let text = document::read(file)?;
    with_session(invocation, async |session| session.ask(doing, OperatorRequest::Policy { text, apply }).await)
}

/// What the vault said about a document that was to be applied: its version, or its problems.
///
/// # Errors
/// [`Failure::Problems`] after they were shown on standard error.
pub(crate) fn applied(doing: &'static str, file: &Path, reply: OperatorReply) -> Result<Version, Failure> {
    match reply {
        OperatorReply::Done => Ok(Version(None)),
        OperatorReply::Checked { problems, applied } if problems.is_empty() => Ok(Version(applied)),
        OperatorReply::Checked { problems, .. } => {
            let texts: Vec<&str> = problems.iter().map(blindferry_proto::bounded::Text::as_str).collect();
            note(problem_lines(file, &texts).trim_end());
            Err(Failure::Problems { path: file.to_owned(), count: problems.len() })
        }
        _ => Err(Failure::Unexpected { doing }),
    }
}

/// Shows a document as it is.
///
/// # Errors
/// [`Failure::Unexpected`] when it is none.
pub(crate) fn show_document(
    invocation: &Invocation,
    doing: &'static str,
    reply: &OperatorReply,
) -> Result<(), Failure> {
    let OperatorReply::Document { version, text } = reply else { return Err(Failure::Unexpected { doing }) };
    invocation.output.show(&InForce { version: *version, text: text.as_str() }, || text.as_str().to_owned())
}

/// `FILE:LINE:COLUMN: what`, as compilers write it; the vault begins a problem with line and column.
fn problem_lines(file: &Path, problems: &[&str]) -> String {
    problems.iter().map(|problem| format!("{}:{}\n", file.display(), visible(problem))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;

    #[test]
    fn problems_are_named_with_their_file_and_are_a_failure() {
        let file = Path::new("a.cedar");
        assert_eq!(problem_lines(file, &["3:7: unexpected token"]), "a.cedar:3:7: unexpected token\n");
        let reply = OperatorReply::Checked { problems: vec![Text::cut("1:1: x")], applied: None };
        assert!(matches!(applied("x", file, reply), Err(Failure::Problems { count: 1, .. })));
        let reply = OperatorReply::Checked { problems: Vec::new(), applied: Some(4) };
        assert_eq!(applied("x", file, reply).unwrap(), Version(Some(4)));
    }

    #[test]
    fn a_check_has_stable_names() {
        let checked = Checked { ok: false, problems: vec!["1:1: x"] };
        assert_eq!(serde_json::to_value(checked).unwrap(), serde_json::json!({"ok": false, "problems": ["1:1: x"]}));
        let applied = Applied { applied: true, version: Version(Some(4)) };
        assert_eq!(serde_json::to_value(applied).unwrap(), serde_json::json!({"applied": true, "version": 4}));
    }
}
