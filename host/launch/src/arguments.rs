//! What the launcher is told on its command line: parsed once, whole, before anything else is touched.

use crate::environment::Wanted;
use crate::level::Level;
use blindferry_proto::name::CredentialName;
use clap::Parser;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

/// Redeems a grant for a token, hands the token to PROGRAM, and becomes PROGRAM.
///
/// PROGRAM gets a short environment, no descriptors but its standard streams and the token's, and is executed so that
/// other processes of the same user cannot read its memory, environment or descriptors. That holds for PROGRAM itself;
/// for programs that it executes in turn it takes --protection own-group.
#[derive(Debug, Parser)]
#[command(name = "blindferry-launch", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The inherited descriptor that holds the grant
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..), required_unless_present = "explain")]
    pub(crate) grant_fd: Option<RawFd>,

    /// What the token's variable is named for: NAME becomes ${NAME}_FILE, in capitals
    #[arg(long, value_name = "NAME", default_value = "token")]
    pub(crate) credential_name: CredentialName,

    /// How PROGRAM gets the token: pipe (default), memfd, stdin or env:VARNAME
    ///
    /// pipe: a path in ${NAME}_FILE that can be read once. memfd: a path in ${NAME}_FILE that can be read again and
    /// again; the token then lies in ordinary memory for as long as PROGRAM runs, which may be swapped out and which root
    /// can read. stdin: standard input is the token. env:VARNAME: a variable is the token; whatever PROGRAM starts
    /// inherits it, and can be read by others of the same user.
    #[arg(long, value_name = "FORM")]
    deliver: Vec<Form>,

    #[command(flatten)]
    pub(crate) environment: Wanted,

    /// Leaves this inherited descriptor open; may be given several times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    pub(crate) keep_fd: Vec<RawFd>,

    /// The broker's socket for workers [default: $BLINDFERRY_WORKERS, else /run/blindferry/workers.sock]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) workers: Option<PathBuf>,

    /// How well PROGRAM is kept from other processes of its user: exactly so, or it is not started
    ///
    /// A program that finds its own files by $ORIGIN or /proc/self/exe needs none. A grant that demands a certain
    /// executable is refused there, because the file could change between being measured and being executed.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::ExecOnly)]
    pub(crate) protection: Level,

    /// Says which levels hold on this machine, by trying them, and what the chosen level and forms keep out; starts nothing
    #[arg(long)]
    pub(crate) explain: bool,

    /// Goes on although a debugger is attached, which can read the token; looked at before anything else
    #[arg(long)]
    allow_debugger: bool,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}

/// A form in which a program may expect its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A pipe: read once.
    Pipe,
    /// A memfd: read again and again.
    Memfd,
    /// Standard input.
    Stdin,
    /// This variable.
    Variable(OsString),
}

impl Arguments {
    /// The forms asked for; a pipe when none is.
    ///
    /// # Errors
    /// Those that exclude each other.
    pub(crate) fn forms(&self) -> Result<Vec<Form>, BadForms> {
        if self.deliver.is_empty() {
            return Ok(vec![Form::Pipe]);
        }
        if self.deliver.iter().filter(|form| matches!(form, Form::Pipe | Form::Memfd)).count() > 1 {
            return Err(BadForms::TwoFiles);
        }
        if self.deliver.iter().filter(|form| **form == Form::Stdin).count() > 1 {
            return Err(BadForms::TwoStdins);
        }
        Ok(self.deliver.clone())
    }

    /// The variable that names the token's path: the credential's name in capitals, `_` for all but letters and digits,
    /// and `_FILE`.
    pub(crate) fn file_variable(&self) -> OsString {
        blindferry_environment::file_variable(self.credential_name.as_str())
    }
}

impl FromStr for Form {
    type Err = BadForms;
    fn from_str(text: &str) -> Result<Self, BadForms> {
        match text {
            "pipe" => Ok(Self::Pipe),
            "memfd" => Ok(Self::Memfd),
            "stdin" => Ok(Self::Stdin),
            _ => match text.strip_prefix("env:") {
                Some(name) if is_variable_name(name) => Ok(Self::Variable(name.into())),
                Some(_) => Err(BadForms::Variable),
                None => Err(BadForms::Unknown),
            },
        }
    }
}

/// The forms of delivery make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadForms {
    #[error("not a form of delivery: pipe, memfd, stdin or env:VARNAME")]
    Unknown,
    #[error("not the name of a variable: letters, digits and '_', and no digit in front")]
    Variable,
    #[error("pipe and memfd name their path in the same variable: choose one")]
    TwoFiles,
    #[error("there is one standard input")]
    TwoStdins,
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

const EXIT_CODES: &str = "\
Exit status: that of PROGRAM, or 124 when the token was refused, 125 when the launcher itself failed, 126 when PROGRAM
cannot be executed, 127 when it is not found.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["blindferry-launch", "--grant-fd", "3"], words].concat())
    }

    #[test]
    fn everything_after_the_dashes_is_the_programs() {
        let arguments = parse(&["--", "cat", "--grant-fd", "9", "--", "-x"]).unwrap();
        assert_eq!(arguments.command, ["cat", "--grant-fd", "9", "--", "-x"]);
        assert_eq!(arguments.grant_fd, Some(3));
        assert!(parse(&["cat"]).is_err());
        assert!(parse(&["--"]).is_err());
    }

    #[test]
    fn a_pipe_is_the_default_and_what_excludes_each_other_is_refused() {
        let forms = |words: &[&str]| parse(&[words, &["--", "x"]].concat()).unwrap().forms();
        assert_eq!(forms(&[]).unwrap(), [Form::Pipe]);
        let both = forms(&["--deliver", "stdin", "--deliver", "env:A_1", "--deliver", "memfd"]).unwrap();
        assert_eq!(both, [Form::Stdin, Form::Variable("A_1".into()), Form::Memfd]);
        assert_eq!(forms(&["--deliver", "pipe", "--deliver", "memfd"]), Err(BadForms::TwoFiles));
        assert_eq!(forms(&["--deliver", "stdin", "--deliver", "stdin"]), Err(BadForms::TwoStdins));
    }

    #[test]
    fn what_is_no_variable_and_no_form_is_refused() {
        for bad in ["env:", "env:1A", "env:A=B", "env:A B", "env", "file", "", "PIPE"] {
            assert!(bad.parse::<Form>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_files_variable_is_one_that_a_shell_can_name() {
        for (credential, variable) in
            [("github-deploy", "GITHUB_DEPLOY_FILE"), ("aws.prod_2", "AWS_PROD_2_FILE"), ("7days", "_7DAYS_FILE")]
        {
            let arguments = parse(&["--credential-name", credential, "--", "x"]).unwrap();
            assert_eq!(arguments.file_variable(), variable);
        }
        assert_eq!(parse(&["--", "x"]).unwrap().file_variable(), "TOKEN_FILE");
    }

    #[test]
    fn standard_streams_are_no_grant() {
        assert!(Arguments::try_parse_from(["blindferry-launch", "--grant-fd", "0", "--", "x"]).is_err());
        assert!(parse(&["--keep-fd", "2", "--", "x"]).is_err());
    }
}
