//! Becomes `blindferry-launch` with grants, or has it started: this command asks as a parent, hands the grants on, and sees
//! no token.

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::via::Starter;
use crate::wait::{Wait, tell_of};
use blindferry_environment::Environment;
use blindferry_handle::inherit::close_on_exec_all_but;
use blindferry_parent::{Ask, Parent, parents_socket};
use blindferry_proto::name::{Audience, CredentialName};
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::session::WorkerConstraint;
use rustix::process::getuid;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What the launcher is told.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Which credentials, each once.
    pub(crate) credentials: Vec<CredentialName>,
    /// Whom the tokens shall be for.
    pub(crate) audience: Option<Audience>,
    /// The level of protection that the launcher will establish: the vault may want a stronger one, and says so now.
    pub(crate) protection: ProtectionLevel,
    /// Whether and with which reason to wait for a person's approval.
    pub(crate) wait: Wait,
    /// What an operator is told that the tokens are for.
    pub(crate) called: String,
    /// The launcher's options beside those of the grants and of the level.
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
    let mut command = Command::new(&launcher);
    let mut grants = Vec::new();
    for credential in &launch.credentials {
        let grant = ask(&launch, credential)?;
        command.args(["--grant-fd", &format!("{}={}", grant.as_raw_fd(), credential.as_str())]);
        grants.push(grant);
    }
    let executed = |source| Failure::Execute { program: launcher.clone(), source };
    close_on_exec_all_but(&grants.iter().map(AsFd::as_fd).collect::<Vec<_>>()).map_err(executed)?;
    command.args(["--protection", launch.protection.name()]);
    Err(executed(command.args(launch.options).arg("--").args(launch.program).exec()))
}

/// Asks for the grants, has the starter start the launcher, and ends as the program ends; returns only when that fails.
///
/// # Errors
/// [`Failure::Via`], [`Failure::Grant`].
pub(crate) fn launch_via(mut launch: Launch, explain: bool, environment: Environment) -> Result<(), Failure> {
    let starter = Starter::connect()?;
    let grants = if explain {
        launch.options.push("--explain".into());
        Vec::new()
    } else {
        launch.credentials.iter().map(|credential| ask(&launch, credential)).collect::<Result<_, _>>()?
    };
    starter.start(&launch, environment, &grants)?.follow()
}

fn ask(launch: &Launch, credential: &CredentialName) -> Result<OwnedFd, Failure> {
    let ask = Ask {
        credential: credential.clone(),
        audience: launch.audience.clone(),
        worker: constraint(launch.protection),
    };
    let grant = Parent::connect(&parents_socket())
        .and_then(|parent| launch.wait.ask(parent, &ask, &launch.called)?.granted(tell_of));
    Ok(grant.map_err(|source| Failure::Grant { source })?.into_descriptor())
}

/// The worker is this very process, or one of its user, so nobody else's has to be able to use the grant.
pub(crate) fn constraint(level: ProtectionLevel) -> WorkerConstraint {
    WorkerConstraint { uid: Some(getuid().as_raw()), executable: None, protection: Some(level) }
}

/// Becomes the launcher without a grant, to say what it would do; returns only when that fails.
///
/// # Errors
/// [`Failure::Execute`].
pub(crate) fn explain(
    invocation: &Invocation,
    credentials: &[CredentialName],
    protection: ProtectionLevel,
    options: Vec<OsString>,
    program: Vec<OsString>,
) -> Result<(), Failure> {
    let launcher = invocation.neighbour("blindferry-launch")?;
    let mut command = Command::new(&launcher);
    for name in credentials {
        command.args(["--credential-name", name.as_str()]);
    }
    command.args(["--protection", protection.name()]);
    let error = command.args(options).arg("--").args(program).exec();
    Err(Failure::Execute { program: launcher, source: error })
}
