//! What `run` and `read` say and do where a person has to approve.

use crate::output::{note, span};
use blindferry_parent::{Ask, Asking, Parent, ParentError};
use blindferry_proto::bounded::Text;
use blindferry_proto::waiting::{Reason, Waiting, Words};
use clap::Args;

/// Where a person has to approve.
#[derive(Clone, Debug, Args)]
pub(crate) struct Wait {
    /// Why, for the person who has to approve where policy wants that; at most 256 bytes
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<Reason>,
    /// Do not wait for a person's approval: be refused at once
    #[arg(long, conflicts_with = "reason")]
    no_wait: bool,
}

impl Wait {
    /// Asks for a grant, and leaves the vault to decide. `program` is what an operator is told that the token is for.
    ///
    /// # Errors
    /// Those of the parent library.
    pub(crate) fn ask(&self, parent: Parent, ask: &Ask, program: &str) -> Result<Asking, ParentError> {
        let words = || Words { program: Some(Text::cut(program)), reason: self.reason.clone() };
        parent.begin_ask(ask, (!self.no_wait).then(words).as_ref())
    }
}

/// Says on standard error that the vault waits for a person. Ctrl-C ends this process and so withdraws the ask.
pub(crate) fn tell_of(waiting: &Waiting) {
    note(&told(waiting));
}

/// A reason from the command line.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn reason(text: &str) -> Result<Reason, String> {
    Reason::new(text).map_err(|error| error.to_string())
}

fn told(waiting: &Waiting) -> String {
    let Waiting { ask, seconds } = waiting;
    let time = span((*seconds).into());
    format!(
        "blindferry: waiting for a person's approval, for at most {time}: an operator says `blindferry approve {ask}`"
    )
}
