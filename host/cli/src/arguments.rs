//! The command line as a whole.

use crate::approve::Approve;
use crate::attest::Attest;
use crate::audit::Audit;
use crate::backup::Backup;
use crate::check_config::CheckConfig;
use crate::completions::Completions;
use crate::doctor::Doctor;
use crate::enclave::Enclave;
use crate::env::Env;
use crate::exit::{EXIT_CODES, Exit};
use crate::host::Host;
use crate::init::Init;
use crate::list::List;
use crate::man::Man;
use crate::output::note;
use crate::page::Page;
use crate::policy::Policy;
use crate::put::Put;
use crate::read::Read;
use crate::recover::Recover;
use crate::reference::Reference;
use crate::remove::Remove;
use crate::restore::Restore;
use crate::roots::Roots;
use crate::rotate::Rotate;
use crate::run::Run;
use crate::status::Status;
use crate::succeed::Succeed;
use crate::told::usage;
use crate::tpm::Tpm;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Blindferry, for operators and for people.
#[derive(Debug, Parser)]
#[command(name = "blindferry", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) general: General,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command knows.
#[derive(Debug, Args)]
pub(crate) struct General {
    /// The configuration [default: $XDG_CONFIG_HOME/blindferry/operator.toml, else /etc/blindferry/operator.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = GENERAL)]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document instead of a text
    #[arg(long, global = true, help_heading = GENERAL)]
    pub(crate) json: bool,
    /// Show no progress on the terminal
    #[arg(long, global = true, help_heading = GENERAL)]
    pub(crate) no_progress: bool,
    /// Go on although a debugger is attached, which can read every secret of this process
    #[arg(long, global = true, help_heading = GENERAL)]
    allow_debugger: bool,
}

const GENERAL: &str = "General options";

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(Box<Init>),
    Recover(Recover),
    Succeed(Box<Succeed>),
    Backup(Backup),
    Restore(Restore),
    Put(Box<Put>),
    List(List),
    Remove(Remove),
    #[command(subcommand)]
    Host(Host),
    #[command(subcommand)]
    Roots(Roots),
    #[command(subcommand)]
    Policy(Policy),
    #[command(subcommand)]
    Reference(Reference),
    #[command(subcommand)]
    Enclave(Enclave),
    #[command(subcommand)]
    Rotate(Rotate),
    #[command(subcommand)]
    Attest(Attest),
    Tpm(Tpm),
    Status(Status),
    Page(Page),
    Doctor(Doctor),
    CheckConfig(CheckConfig),
    Approve(Approve),
    Audit(Audit),
    Run(Run),
    Env(Env),
    Read(Read),
    Completions(Completions),
    Man(Man),
}

impl Arguments {
    /// Parses the command line, or says how the command ends: help was shown, or something is wrong with it.
    pub(crate) fn parse_or_end(words: Vec<OsString>) -> Result<Self, ExitCode> {
        // Options of `put` may stand before or behind it; where the word comes up at all, nothing is repeated.
        let may_hold_secret = words.iter().any(|word| word == "put");
        let json = json_among(&words);
        Self::brief(&words)
            .map_or_else(|| Self::try_parse_from(words), Ok)
            .map_err(|error| end(&error, may_hold_secret, json))
    }

    /// The commands that programs start, without describing all the others to the parser first: that takes more time than
    /// the rest of their start. Whatever is not one of them, or not right, is for the whole description to judge.
    fn brief(words: &[OsString]) -> Option<Self> {
        let named = |name: &str| words.iter().any(|word| word == name);
        let read = || {
            Brief::try_parse_from(words)
                .ok()
                .map(|Brief { general, command: OnlyRead::Read(read) }| (general, Command::Read(read)))
        };
        let run = || {
            Brief::try_parse_from(words)
                .ok()
                .map(|Brief { general, command: OnlyRun::Run(run) }| (general, Command::Run(run)))
        };
        let parsed = if named("read") { read() } else { None };
        let (general, command) = parsed.or_else(|| if named("run") { run() } else { None })?;
        Some(Self { general, command })
    }
}

/// [`Arguments`] with a part of [`Command`].
#[derive(Debug, Parser)]
#[command(name = "blindferry")]
struct Brief<C: Subcommand> {
    #[command(flatten)]
    general: General,
    #[command(subcommand)]
    command: C,
}

/// A part of [`Command`].
#[derive(Debug, Subcommand)]
enum OnlyRead {
    Read(Read),
}

/// A part of [`Command`].
#[derive(Debug, Subcommand)]
enum OnlyRun {
    Run(Run),
}

/// Whether a command line that was not parsed asks for JSON.
pub(crate) fn wants_json() -> bool {
    json_among(&std::env::args_os().collect::<Vec<_>>())
}

fn json_among(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

fn end(error: &clap::Error, may_hold_secret: bool, json: bool) -> ExitCode {
    if !error.use_stderr() {
        // Help or version; nobody is left to tell when it cannot be printed.
        let _printed = error.print();
        return ExitCode::SUCCESS;
    }
    if json {
        let said = if may_hold_secret { without_values(error) } else { error.to_string() };
        let first = said.lines().next().unwrap_or_default();
        note(&usage(first.strip_prefix("error: ").unwrap_or(first), "blindferry --help, or that of the command"));
    } else if may_hold_secret && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        note(&without_values(error));
    } else {
        let _printed = error.print();
    }
    Exit::Usage.into()
}

/// What is wrong with a `put`, without repeating a word that may be a secret: clap's own errors do.
fn without_values(error: &clap::Error) -> String {
    let option = match error.get(ContextKind::InvalidArg) {
        // As clap writes an argument that it knows, `--kind <KIND>`; one that it does not know may be anything.
        Some(ContextValue::String(argument)) if error.kind() != ErrorKind::UnknownArgument => {
            format!(": {argument}")
        }
        Some(ContextValue::Strings(arguments)) => format!(": {}", arguments.join(", ")),
        _ => String::new(),
    };
    let what = match error.kind() {
        ErrorKind::UnknownArgument => "there is an argument too many, or an unknown option",
        ErrorKind::MissingRequiredArgument => "an argument is missing",
        ErrorKind::ArgumentConflict => "two arguments exclude each other",
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => "an option has a value that it cannot have",
        _ => "the arguments cannot be understood",
    };
    format!(
        "blindferry: put: {what}{option}; nothing more is repeated here, since it may be a secret\n\
         try: blindferry put --help; the master is read from standard input, never from the command line"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_of_every_command_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help() {
        fn visit(command: &mut clap::Command) -> usize {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Usage:") && command.get_about().is_some(), "{}", command.get_name());
            1 + command.get_subcommands_mut().filter(|command| command.get_name() != "help").map(visit).sum::<usize>()
        }
        let mut command = Arguments::command();
        command.build();
        assert!(visit(&mut command) > 20);
    }

    #[test]
    fn what_is_parsed_briefly_is_parsed_as_by_the_whole() {
        let brief = |words: &[&str]| {
            Arguments::brief(&[&["blindferry"], words].concat().iter().map(OsString::from).collect::<Vec<_>>())
        };
        let whole = |words: &[&str]| Arguments::try_parse_from([&["blindferry"], words].concat());
        for words in [
            &["read", "api"][..],
            &["--json", "read", "--audience", "https://a.example", "api", "--force"],
            &["read", "--allow-debugger", "--config", "read", "--no-progress", "--reason", "why", "api"],
            &["run", "api", "--", "read", "--help"],
            &["run", "--credential", "api:env:X", "--renew", "--explain", "--json", "--", "sh", "-c", "run"],
            &["--config=f", "run", "a", "b:memfd", "--via", "broker", "--protection", "none", "--", "x"],
        ] {
            let (brief, whole) = (brief(words).unwrap(), whole(words).unwrap());
            assert_eq!(format!("{brief:?}"), format!("{whole:?}"), "{words:?}");
        }
        for words in [
            &["read"][..],
            &["read", "--help"],
            &["read", "api", "--version"],
            &["run", "--help"],
            &["help", "read"],
            &["put", "read", "--kind", "release"],
            &["host", "remove", "read"],
            &["read", "api", "other"],
            &["read", "api", "--no-wait", "--reason", "why"],
            &["completions", "run"],
        ] {
            assert!(brief(words).is_none(), "{words:?}");
        }
        assert!(whole(&["put", "read", "--kind", "release"]).is_ok());
    }

    fn refused(words: &[&str]) -> String {
        without_values(&Arguments::try_parse_from([&["blindferry"], words].concat()).unwrap_err())
    }

    #[test]
    fn nothing_of_a_put_that_is_refused_is_repeated() {
        for words in [
            &["put", "name", "hunter2", "--kind", "release"][..],
            &["put", "name", "--secret", "hunter2"],
            &["put", "name", "--secret=hunter2"],
            &["put", "name", "--hunter2"],
            &["put", "name", "-hunter2"],
            &["put", "name", "--kind", "hunter2"],
            &["put", "name", "--kind", "release", "--token-lifetime", "hunter2"],
            &["put", "name", "--kind", "release", "--audience", "hunter2 x"],
            &["put", "--kind", "release", "name", "--from-fd", "hunter2"],
            &["--hunter2", "put"],
        ] {
            let told = refused(words);
            assert!(!told.contains("unter2") && told.contains("standard input"), "{words:?}: {told}");
        }
        assert!(refused(&["put", "name"]).contains("--kind"));
    }

    #[test]
    fn a_secret_has_no_option() {
        let command = Arguments::command();
        let put = command.find_subcommand("put").unwrap();
        for argument in put.get_arguments() {
            let name = argument.get_id().as_str();
            assert!(!["secret", "password", "token", "value", "key", "master"].contains(&name), "{name}");
        }
    }
}
