//! Becomes `blindferry-launch` with grants: this command asks as a parent, hands the grants on, and sees no token.

use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_handle::inherit::close_on_exec_all_but;
use blindferry_parent::{Ask, Parent, parents_socket};
use blindferry_proto::name::{Audience, CredentialName};
use blindferry_proto::session::WorkerConstraint;
use rustix::process::getuid;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What the launcher is told.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Which credentials, each once.
    pub(crate) credentials: Vec<CredentialName>,
    /// Whom the tokens shall be for.
    pub(crate) audience: Option<Audience>,
    /// The launcher's options beside those of the grants.
    pub(crate) options: Vec<OsString>,
    /// The program and its arguments.
    pub(crate) program: Vec<OsString>,
}

/// Asks for the grants and becomes the launcher; returns only when that fails.
///
/// # Errors
/// [`Failure::Grant`], [`Failure::Execute`].
pub(crate) fn launch(invocation: &Invocation, launch: Launch) -> Result<(), Failure> {
    let launcher = invocation.neighbour("blindferry-launch")?;
    let failed = |source| Failure::Grant { source };
    let mut parent = Parent::connect(&parents_socket()).map_err(failed)?;
    let mut command = Command::new(&launcher);
    let mut grants = Vec::new();
    for credential in launch.credentials {
        let ask = Ask {
            credential: credential.clone(),
            audience: launch.audience.clone(),
            // The worker is this very process, so nobody else's has to be able to use the grant.
            worker: WorkerConstraint { uid: Some(getuid().as_raw()), executable: None },
        };
        let grant = parent.ask(&ask).map_err(failed)?.into_descriptor();
        command.args(["--grant-fd", &format!("{}={}", grant.as_raw_fd(), credential.as_str())]);
        grants.push(grant);
    }
    let executed = |source| Failure::Execute { program: launcher.clone(), source };
    close_on_exec_all_but(&grants.iter().map(AsFd::as_fd).collect::<Vec<_>>()).map_err(executed)?;
    Err(executed(command.args(launch.options).arg("--").args(launch.program).exec()))
}

/// Becomes the launcher without a grant, to say what it would do; returns only when that fails.
///
/// # Errors
/// [`Failure::Execute`].
pub(crate) fn explain(
    invocation: &Invocation,
    credentials: &[CredentialName],
    options: Vec<OsString>,
    program: Vec<OsString>,
) -> Result<(), Failure> {
    let launcher = invocation.neighbour("blindferry-launch")?;
    let mut command = Command::new(&launcher);
    for name in credentials {
        command.args(["--credential-name", name.as_str()]);
    }
    let error = command.args(options).arg("--").args(program).exec();
    Err(Failure::Execute { program: launcher, source: error })
}
