//! `run`: runs a program as a worker.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::launch::{Launch, explain as explain_launch, launch};
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
    /// Pass this variable of the environment on; may be given several times
    #[arg(long, value_name = "NAME")]
    env: Vec<OsString>,
    /// Pass the whole environment on
    #[arg(long)]
    inherit_env: bool,
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
    let Run { credential, audience, deliver, env, inherit_env, protection, explain, program } = run;
    let mut options: Vec<OsString> = Vec::new();
    for form in deliver {
        options.extend(["--deliver".into(), form]);
    }
    for name in env {
        options.extend(["--env".into(), name]);
    }
    options.extend(inherit_env.then(|| "--inherit-env".into()));
    options.extend(protection.into_iter().flat_map(|level| ["--protection".into(), level]));
    if explain {
        options.push("--explain".into());
        return explain_launch(invocation, &credential, options, program);
    }
    launch(invocation, Launch { credential, audience, options, program })
}
