//! Why the program does not run, and with what number that is told.

use crate::layout::LayoutError;
use crate::view::ViewError;
use blindferry_calls::DenyError;
use blindferry_handle::entry::EntryError;
use blindferry_handle::inherit::InheritError;
use blindferry_terminal::{Accompany, KeepError, LinkError};
use landlock::RulesetError;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot make this process unreadable")]
    Enter(#[source] EntryError),
    #[error("cannot close what was inherited")]
    Close(#[source] io::Error),
    #[error("nobody knows where this executable lies")]
    NoExecutable,
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot tell the working directory")]
    Directory(#[source] io::Error),
    #[error("cannot decide what is shown")]
    View(#[from] ViewError),
    #[error("cannot start the next stage")]
    Stage(#[source] io::Error),
    #[error("cannot take the link to the stage before")]
    Inherit(#[from] InheritError),
    #[error("cannot speak with the next stage")]
    Link(#[from] LinkError),
    #[error("cannot stay with the program")]
    Accompany(#[from] Accompany),
    #[error("cannot keep the program")]
    Keep(#[from] KeepError),
    #[error("cannot have namespaces of its own")]
    Namespaces(#[source] io::Error),
    #[error("cannot map this user into a namespace")]
    Map(#[source] io::Error),
    #[error("cannot lay out what is shown")]
    Layout(#[from] LayoutError),
    #[error("cannot {doing}")]
    Power { doing: &'static str, source: io::Error },
    #[error("cannot shut files with Landlock")]
    Landlock(#[from] RulesetError),
    #[error("cannot deny system calls")]
    Calls(#[from] DenyError),
    #[error("this machine lacks a part of the confinement, and --require was given: {lacking}")]
    Required { lacking: String },
    #[error("neither namespaces nor Landlock: nothing would keep the program from files; namespaces: {lacking}")]
    Nothing { lacking: String },
    #[error("the next stage cannot go on: {why}")]
    Unfit { why: String },
    #[error("cannot execute {program}", program = program.display())]
    Program { program: PathBuf, source: io::Error },
}

impl Failure {
    /// The status: as a shell's for what cannot be executed, else as the command's for a problem on this machine.
    pub(crate) fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Program { .. } => 126,
            Self::View(_) => 2,
            _ => 5,
        })
    }

    /// What is told: from the outside in.
    pub(crate) fn told(&self) -> String {
        let causes = std::iter::successors(self.source(), |error| (*error).source());
        causes.fold(self.to_string(), |told, cause| format!("{told}: {cause}"))
    }
}
