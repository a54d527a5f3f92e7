//! Becomes `blindferry-launch` with a grant: this command asks as a parent, hands the grant on, and sees no token.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::wait::Wait;
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
    /// Which credential.
    pub(crate) credential: CredentialName,
    /// Whom the token shall be for.
    pub(crate) audience: Option<Audience>,
    /// Whether and with which reason to wait for a person's approval.
    pub(crate) wait: Wait,
    /// What an operator is told that the token is for.
    pub(crate) called: String,
    /// The launcher's options beside those of the grant.
    pub(crate) options: Vec<OsString>,
    /// The program and its arguments.
    pub(crate) program: Vec<OsString>,
}

/// Asks for the grant and becomes the launcher; returns only when that fails.
///
/// # Errors
/// [`Failure::Grant`], [`Failure::Execute`].
pub(crate) fn launch(invocation: &Invocation, launch: Launch) -> Result<(), Failure> {
    let launcher = invocation.neighbour("blindferry-launch")?;
    let failed = |source| Failure::Grant { source };
    let ask = Ask {
        credential: launch.credential.clone(),
        audience: launch.audience,
        // The worker is this very process, so nobody else's has to be able to use the grant.
        worker: WorkerConstraint { uid: Some(getuid().as_raw()), executable: None },
    };
    let grant = Parent::connect(&parents_socket())
        .and_then(|mut parent| launch.wait.ask(&mut parent, &ask, &launch.called))
        .map_err(failed)?;
    let grant = grant.into_descriptor();
    let executed = |source| Failure::Execute { program: launcher.clone(), source };
    close_on_exec_all_but(&[grant.as_fd()]).map_err(executed)?;
    let error = Command::new(&launcher)
        .args(["--credential-name", launch.credential.as_str(), "--grant-fd", &grant.as_raw_fd().to_string()])
        .args(launch.options)
        .arg("--")
        .args(launch.program)
        .exec();
    Err(executed(error))
}

/// Becomes the launcher without a grant, to say what it would do; returns only when that fails.
///
/// # Errors
/// [`Failure::Execute`].
pub(crate) fn explain(
    invocation: &Invocation,
    credential: &CredentialName,
    options: Vec<OsString>,
    program: Vec<OsString>,
) -> Result<(), Failure> {
    let launcher = invocation.neighbour("blindferry-launch")?;
    let mut command = Command::new(&launcher);
    let error = command.args(["--credential-name", credential.as_str()]).args(options).arg("--").args(program).exec();
    Err(Failure::Execute { program: launcher, source: error })
}
