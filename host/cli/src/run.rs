//! `run`: runs a program as a worker.

use crate::environment::{Wanted, show};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::launch::{Launch, explain as explain_launch, launch, launch_via};
use crate::via::{LEVEL, Via, ViaError};
use blindferry_environment::file_variable;
use blindferry_proto::name::{Audience, CredentialName};
use blindferry_proto::protection::ProtectionLevel;
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
    wanted: Wanted,
    /// How well PROGRAM is kept from other processes of its user: exec-only (default), own-group, own-namespace (with --via
    /// broker, whose default it is) or none; exactly so, or it is not started
    #[arg(long, value_name = "LEVEL")]
    protection: Option<ProtectionLevel>,
    /// Let the starter of this machine's broker start PROGRAM: in a user namespace where neither another process of this
    /// user, nor what is loaded into this command or traces it, can look (--protection own-namespace, and no other)
    #[arg(long, value_name = "WHO", value_enum)]
    via: Option<Via>,
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
    let Run { credential, audience, deliver, wanted, protection, via, explain, program } = run;
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
    if via == Some(Via::Broker) {
        if protection.is_some_and(|level| level != LEVEL) {
            return Err(ViaError::Level.into());
        }
        let launch = Launch { credential, audience, protection: LEVEL, options, program };
        return launch_via(launch, explain, selection.into_environment());
    }
    let protection = protection.unwrap_or(ProtectionLevel::ExecOnly);
    if explain {
        options.push("--explain".into());
        return explain_launch(invocation, &credential, protection, options, program);
    }
    launch(invocation, Launch { credential, audience, protection, options, program })
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
