//! The command line: what people say, and what one stage hands to the next.

use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

/// Run a program that is trusted with nothing
///
/// PROGRAM sees the system's programs and libraries, the working directory, and what is named here; an empty home, no
/// other process, no socket of a service of this user's, no secret file. It ends as it would without, and everything that
/// it started ends with it.
#[derive(Clone, Debug, Parser)]
#[command(name = "blindferry-sandbox", version)]
pub(crate) struct Arguments {
    /// Lets PROGRAM read this file or directory; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) read: Vec<PathBuf>,
    /// Lets PROGRAM read and write this file or directory; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) write: Vec<PathBuf>,
    /// No network
    #[arg(long)]
    pub(crate) no_network: bool,
    /// Ends PROGRAM after so many seconds: SIGTERM, five seconds later SIGKILL; the status is 124 then
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,
    /// Refuses to run where this machine lacks any part of the confinement
    #[arg(long)]
    pub(crate) require: bool,
    /// What this process is: for itself
    #[arg(long, hide = true, value_enum)]
    pub(crate) stage: Option<Stage>,
    /// Where the half in the caller's session is: for itself
    #[arg(long, hide = true, default_value_t = LINK)]
    pub(crate) link: RawFd,
    /// Which of the standard streams are a terminal of PROGRAM's own: for itself
    #[arg(long, hide = true, value_name = "DIGITS", default_value = "")]
    pub(crate) on_terminal: String,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// The processes, in the order in which one starts the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Leaves the caller's namespaces, and lays out what the program will see.
    Threshold,
    /// The first process of the new namespaces.
    First,
    /// The same without namespaces.
    Beside,
    /// Becomes the program, in namespaces.
    Inside,
    /// Becomes the program, without namespaces.
    Fenced,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::First => "first",
            Self::Beside => "beside",
            Self::Inside => "inside",
            Self::Fenced => "fenced",
        }
    }
}

impl Arguments {
    /// Everything again, for the next stage.
    pub(crate) fn for_stage(&self, stage: Stage, on_terminal: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![
            format!("--stage={}", stage.name()).into(),
            format!("--link={LINK}").into(),
            format!("--on-terminal={on_terminal}").into(),
        ];
        let mut path = |option: &str, path: &PathBuf| {
            let mut word = OsString::from(option);
            word.push(path);
            words.push(word);
        };
        self.read.iter().for_each(|one| path("--read=", one));
        self.write.iter().for_each(|one| path("--write=", one));
        words.extend(self.no_network.then(|| "--no-network".into()));
        words.extend(self.require.then(|| "--require".into()));
        words.push("--".into());
        words.extend(self.program.iter().cloned());
        words
    }

    /// How long the program may run.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.timeout.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Whether this standard stream is a terminal of the program's own.
    pub(crate) fn is_on_terminal(&self, stream: RawFd) -> bool {
        self.on_terminal.contains(&stream.to_string())
    }
}

/// The number under which a stage inherits its link.
pub(crate) const LINK: RawFd = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_next_stage_is_told_the_same() {
        let words =
            ["blindferry-sandbox", "--read=-r", "--write", "/w", "--no-network", "--require", "--", "-p", "--x"];
        let arguments = Arguments::parse_from(words);
        let again = Arguments::parse_from(
            [OsString::from("blindferry-sandbox")].into_iter().chain(arguments.for_stage(Stage::First, "02")),
        );
        assert_eq!(
            (&again.read, &again.write, &again.program),
            (&arguments.read, &arguments.write, &arguments.program)
        );
        assert!(again.no_network && again.require && again.stage == Some(Stage::First));
        assert!(again.is_on_terminal(0) && !again.is_on_terminal(1) && again.is_on_terminal(2));
    }
}
