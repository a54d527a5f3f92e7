//! `env`: runs a program with a stripped environment and without any credential.

use crate::environment::{Wanted, show};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::note;
use blindferry_handle::inherit::close_on_exec_all_but;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Run a program with a stripped environment, and no token
///
/// PROGRAM gets what `blindferry run` would give it, but the token: PATH, HOME, locale, terminal and their like, its
/// standard streams, and nothing that looks like a credential or makes programs load code. It cannot gain privileges
/// (no_new_privs) and writes no core file, and it is an ordinary process, which others of its user can read. Ends as
/// PROGRAM ends, or with 126 when that cannot be executed, 127 when it is not found.
#[derive(Debug, clap::Args)]
pub(crate) struct Env {
    #[command(flatten)]
    wanted: Wanted,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Runs it; returns only when that fails, or when nothing was to be run.
///
/// # Errors
/// [`Failure::Environment`], [`Failure::Program`].
pub(crate) fn run(invocation: &Invocation, Env { wanted, program }: Env) -> Result<(), Failure> {
    let selection = wanted.select()?;
    if wanted.dry_run {
        return show(invocation.output, &selection, &[]);
    }
    let inherited: Vec<_> = selection.inherited_credentials().map(|name| name.to_string_lossy()).collect();
    if !inherited.is_empty() {
        let names = blindferry_proto::shown::visible(&inherited.join(", "));
        note(&format!("blindferry: warning: inherits credentials of its parent: {names}"));
    }
    let mut words = program.into_iter();
    let program = words.next().unwrap_or_default();
    let failed = |source| Failure::Program { program: PathBuf::from(&program), source };
    close_on_exec_all_but(&[]).map_err(failed)?;
    let pairs = selection.into_environment().into_pairs();
    Err(failed(Command::new(&program).args(words).env_clear().envs(pairs).exec()))
}
