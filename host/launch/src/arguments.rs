//! What the launcher is told on its command line: parsed once, whole, before anything else is touched.

use crate::deliver::plan::{BadPlan, GrantAt, Plan, TemplateWish, Wish};
use crate::environment::{Environment, Wanted};
use crate::level::Level;
use crate::renew::notice::{Asks, Notice, NoticeUnusable};
use blindferry_proto::name::CredentialName;
use clap::Parser;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Redeems a grant for a token, hands the token to PROGRAM, and becomes PROGRAM.
///
/// PROGRAM gets a short environment, no descriptors but its standard streams and the token's, and is executed so that
/// other processes of the same user cannot read its memory, environment or descriptors. That holds for PROGRAM itself;
/// for programs that it executes in turn it takes --protection own-group.
#[derive(Debug, Parser)]
#[command(name = "blindferry-launch", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The inherited descriptor that holds the grant; may be given several times, then with the credential's name
    #[arg(long, value_name = "N[=NAME]", required_unless_present = "explain")]
    pub(crate) grant_fd: Vec<GrantAt>,

    /// What a grant without a name is called [default: token]
    ///
    /// A path is found in ${NAME}_FILE, in capitals.
    #[arg(long, value_name = "NAME")]
    pub(crate) credential_name: Vec<CredentialName>,

    /// How PROGRAM gets a token: pipe (default), memfd, stdin, descriptor, credentials-directory, env:VARNAME or file:PATH
    ///
    /// With several credentials, which one goes in front: NAME=FORM. pipe: a path in ${NAME}_FILE that can be read once.
    /// memfd: a path in ${NAME}_FILE that can be read again and again; the token then lies in ordinary memory for as long
    /// as PROGRAM runs, which may be swapped out and which root can read. file:PATH: as memfd, at that path, which becomes
    /// a link that leads every process to a descriptor of its own. credentials-directory: the same, under the credential's
    /// name in $CREDENTIALS_DIRECTORY. descriptor: secret memory under the number in ${NAME}_FD, for programs that know of
    /// it. stdin: standard input is the token. env:VARNAME: a variable is the token; whatever PROGRAM starts inherits it,
    /// and can be read by others of the same user. What closes its descriptors, or starts others without them, finds no
    /// memfd, file or directory.
    #[arg(long, value_name = "[NAME=]FORM")]
    deliver: Vec<Wish>,

    /// Renders a file that embeds tokens, and delivers that; may be given several times
    ///
    /// In SOURCE, {{ credential NAME }} becomes the token; {{ credential NAME | ESCAPE }} a value of a format: json and toml
    /// (a string with its quotes), url, shell (one word), base64. The path is found in a variable named for SOURCE:
    /// app.toml in $APP_TOML_FILE. A credential that a template embeds is delivered otherwise only if --deliver says so.
    #[arg(long, value_name = "SOURCE:FORM")]
    template: Vec<TemplateWish>,

    /// Renews tokens before they expire, where they can be read again: memfd, file:PATH, credentials-directory
    ///
    /// A process of ours stays beside PROGRAM for that, and ends with it. Tokens are exchanged in place, at two thirds of
    /// their life. When a lease ends, or is not renewed, what was delivered of it is emptied. Other forms keep the first
    /// token.
    #[arg(long)]
    pub(crate) renew: bool,

    /// Sends PROGRAM this signal after each renewal
    #[arg(long, value_name = "SIGNAL", value_enum, requires = "renew")]
    pub(crate) renew_signal: Option<Asks>,

    /// Runs this after each renewal, as PROGRAM is run but without any token; divided at blanks, ended after 30 seconds
    #[arg(long, value_name = "COMMAND", requires = "renew")]
    pub(crate) renew_command: Option<String>,

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

    /// The inherited descriptor that holds the environment, instead of this process's own
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) environment_fd: Option<RawFd>,

    /// The parent, with which the launcher and PROGRAM end
    #[arg(long, value_name = "ID", hide = true)]
    pub(crate) keeper: Option<i32>,

    /// The inherited socket to a process of the same user outside this one's namespace
    #[arg(long, value_name = "N", hide = true)]
    pub(crate) outsider_fd: Option<RawFd>,

    /// Says which levels hold on this machine, by trying them, and what the chosen level keeps out, and who
    /// could read each token for how long; starts nothing
    #[arg(long)]
    pub(crate) explain: bool,

    /// Says it as one JSON document
    #[arg(long, requires = "explain")]
    pub(crate) json: bool,
    /// Goes on although a debugger is attached, which can read the token; looked at before anything else
    #[arg(long)]
    allow_debugger: bool,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<OsString>,
}

impl Arguments {
    /// `--outsider N` and nothing else: the starter wants the process outside, see [`crate::outside`].
    pub(crate) fn outsider() -> Option<RawFd> {
        let mut words = std::env::args().skip(1);
        (words.next()? == "--outsider" && words.len() == 1).then(|| words.next()?.parse().ok()).flatten()
    }

    /// What goes where.
    ///
    /// # Errors
    /// What makes no sense, before anything else is done.
    pub(crate) fn plan(&self) -> Result<Plan, BadPlan> {
        let plan = Plan::new(self.credentials()?, &self.deliver, &self.template)?;
        if self.renew {
            plan.renewable()?;
        }
        Ok(plan)
    }

    /// How PROGRAM hears of a renewal.
    ///
    /// # Errors
    /// A command that cannot be run.
    pub(crate) fn notice(&self, environment: &Environment) -> Result<Notice, NoticeUnusable> {
        Notice::new(self.renew_signal, self.renew_command.as_deref(), self.protection, environment)
    }

    fn credentials(&self) -> Result<Vec<CredentialName>, BadPlan> {
        let named: Vec<_> = self.grant_fd.iter().filter_map(|grant| grant.name.clone()).collect();
        match (self.grant_fd.as_slice(), self.credential_name.as_slice()) {
            // Without a grant something is only explained.
            ([GrantAt { name: None, .. }] | [], []) => Ok(vec!["token".parse().map_err(|_| BadPlan::Grant)?]),
            ([GrantAt { name: None, .. }], [name]) => Ok(vec![name.clone()]),
            ([], names) => Ok(names.to_vec()),
            (all, []) if named.len() == all.len() => Ok(named),
            _ => Err(BadPlan::NamelessGrant),
        }
    }
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
        assert_eq!(arguments.grant_fd.len(), 1);
        assert!(parse(&["cat"]).is_err());
        assert!(parse(&["--"]).is_err());
    }

    #[test]
    fn each_grant_has_a_name_and_one_alone_needs_none() {
        let names = |words: &[&str]| {
            let words = [&["blindferry-launch"], words, &["--", "x"]].concat();
            let names = Arguments::try_parse_from(words).unwrap().credentials();
            names.map(|names| names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names(&["--grant-fd", "3"]).unwrap(), ["token"]);
        assert_eq!(names(&["--grant-fd", "3", "--credential-name", "a"]).unwrap(), ["a"]);
        assert_eq!(names(&["--grant-fd", "3=a", "--grant-fd", "4=b"]).unwrap(), ["a", "b"]);
        assert_eq!(names(&["--explain", "--credential-name", "a", "--credential-name", "b"]).unwrap(), ["a", "b"]);
        for bad in [&["--grant-fd", "3", "--grant-fd", "4=b"][..], &["--grant-fd", "3=a", "--credential-name", "b"]] {
            assert!(matches!(names(bad), Err(BadPlan::NamelessGrant)), "{bad:?}");
        }
    }

    #[test]
    fn standard_streams_are_no_grant() {
        assert!(Arguments::try_parse_from(["blindferry-launch", "--grant-fd", "0", "--", "x"]).is_err());
        assert!(parse(&["--keep-fd", "2", "--", "x"]).is_err());
    }
}
