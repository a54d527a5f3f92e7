//! `run`: runs a program as a worker.

use crate::environment::{Wanted, show};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::launch::{Launch, explain as explain_launch, launch};
use crate::wait::Wait;
use blindferry_environment::file_variable;
use blindferry_proto::name::{Audience, CredentialName};
use std::ffi::OsString;

/// Run a program with a token
///
/// Asks this host's broker for a grant and becomes blindferry-launch, which redeems it, hands the token to PROGRAM and
/// becomes PROGRAM. This command never sees the token. Ends as PROGRAM ends; see `blindferry-launch --help` for the rest.
/// BLINDFERRY_PARENTS and BLINDFERRY_WORKERS name the broker's sockets where they are not the usual ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The credential
    #[arg(long, value_name = "NAME")]
    credential: CredentialName,
    /// Whom the token shall be for
    #[arg(long)]
    audience: Option<Audience>,
    /// How PROGRAM gets the token: pipe (default), memfd, stdin or env:VARNAME; may be given several times
    #[arg(long, value_name = "FORM")]
    deliver: Vec<OsString>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    wanted: Wanted,
    /// How well PROGRAM is kept from other processes of its user: exec-only (default), own-group or none; exactly so, or
    /// it is not started
    #[arg(long, value_name = "LEVEL")]
    protection: Option<OsString>,
    /// Say which levels hold on this machine and what they keep out; ask for nothing and start nothing
    #[arg(long)]
    explain: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], when PROGRAM could not be become.
pub(crate) fn run(invocation: &Invocation, run: Run) -> Result<(), Failure> {
    let Run { credential, audience, deliver, wait, wanted, protection, explain, program } = run;
    // Before the broker is asked: what is refused here costs no grant.
    let selection = wanted.select()?;
    if wanted.dry_run {
        return show(invocation.output, &selection, &delivered(&credential, &deliver));
    }
    let mut options: Vec<OsString> = Vec::new();
    for form in deliver {
        options.extend(["--deliver".into(), form]);
    }
    options.extend(wanted.into_options());
    options.extend(protection.into_iter().flat_map(|level| ["--protection".into(), level]));
    if explain {
        options.push("--explain".into());
        return explain_launch(invocation, &credential, options, program);
    }
    let called = program.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    launch(invocation, Launch { credential, audience, wait, called, options, program })
}

/// The variables that the token would be found by. A form that there is not is refused by the launcher.
fn delivered(credential: &CredentialName, forms: &[OsString]) -> Vec<OsString> {
    let variable = |form: &OsString| match form.to_str() {
        Some("pipe" | "memfd") => Some(file_variable(credential.as_str())),
        form => form.and_then(|form| form.strip_prefix("env:")).map(OsString::from),
    };
    if forms.is_empty() {
        vec![file_variable(credential.as_str())]
    } else {
        forms.iter().filter_map(variable).collect()
    }
}
