//! `run --sandbox`: a program that is trusted with nothing, and so with no token.

use crate::environment::{Wanted, show};
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_handle::inherit::close_on_exec_all_but;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// What is beside the program itself.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Sandbox {
    /// Run PROGRAM with nothing to be had: no token, no other process, an empty home, no socket of a service
    ///
    /// It sees the system's programs and libraries, the working directory (unless that is a home), and what --read and
    /// --write name; never `.env` files, keys and their like in there, but those that are named. For tools, plugins and
    /// generated code that nobody vouches for.
    #[arg(long, conflicts_with_all = ["names", "credential", "audience", "deliver", "template", "renew", "reason", "no_wait", "protection", "via", "explain"], help_heading = HEADING)]
    pub(crate) sandbox: bool,
    /// Let PROGRAM read this file or directory; may be given several times
    #[arg(long, value_name = "PATH", requires = "sandbox", help_heading = HEADING)]
    read: Vec<PathBuf>,
    /// Let PROGRAM read and write this file or directory; may be given several times
    #[arg(long, value_name = "PATH", requires = "sandbox", help_heading = HEADING)]
    write: Vec<PathBuf>,
    /// No network
    #[arg(long, requires = "sandbox", help_heading = HEADING)]
    no_network: bool,
    /// End PROGRAM after so many seconds: SIGTERM, five seconds later SIGKILL; the status is 124 then
    #[arg(long, value_name = "SECONDS", requires = "sandbox", value_parser = clap::value_parser!(u32).range(1..), help_heading = HEADING)]
    timeout: Option<u32>,
    /// Refuse to run where this machine lacks any part of the confinement
    #[arg(long, requires = "sandbox", help_heading = HEADING)]
    require: bool,
}

const HEADING: &str = "Without any trust";

/// Becomes `blindferry-sandbox`; returns only when that fails, or when nothing was to be run.
///
/// # Errors
/// [`Failure::Environment`], [`Failure::Execute`].
pub(crate) fn run(
    invocation: &Invocation,
    sandbox: &Sandbox,
    wanted: &Wanted,
    program: Vec<OsString>,
) -> Result<(), Failure> {
    let selection = wanted.select()?;
    if wanted.dry_run {
        return show(invocation.output, &selection, &[]);
    }
    let executable = invocation.neighbour("blindferry-sandbox")?;
    let executed = |source| Failure::Execute { program: executable.clone(), source };
    close_on_exec_all_but(&[]).map_err(executed)?;
    let pairs = selection.into_environment().into_pairs();
    let error =
        Command::new(&executable).args(sandbox.options()).arg("--").args(program).env_clear().envs(pairs).exec();
    Err(executed(error))
}

impl Sandbox {
    fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        let mut path = |option: &str, path: &PathBuf| {
            // In one word, so that a path which begins with a dash is no option.
            let mut word = OsString::from(option);
            word.push(path);
            options.push(word);
        };
        self.read.iter().for_each(|one| path("--read=", one));
        self.write.iter().for_each(|one| path("--write=", one));
        options.extend(self.no_network.then(|| "--no-network".into()));
        options.extend(self.timeout.map(|seconds| format!("--timeout={seconds}").into()));
        options.extend(self.require.then(|| "--require".into()));
        options
    }
}
