//! `read`: is parent and worker in one, and writes the token to standard output.
//!
//! No other program is started: this process is unreadable from its first instruction, which is what `exec-only` means,
//! and a child of it tries that while the vault decides about the grant.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::launch::constraint;
use crate::output::note;
use crate::wait::{Wait, tell_of};
use blindferry_handle::attacked::{Attack, AttackError};
use blindferry_handle::entry::Entered;
use blindferry_handle::secret::protection;
use blindferry_parent::{Ask, Parent, ParentError, parents_socket};
use blindferry_proto::name::{Audience, CredentialName};
use blindferry_proto::protection::ProtectionLevel;
use blindferry_worker::{Token, Worker, WorkerError, workers_socket};
use rustix::io::{Errno, write};
use rustix::stdio::stdout;
use rustix::thread::{CapabilitySet, capabilities};
use std::io::{self, IsTerminal};

/// Write a token to standard output, in plaintext
///
/// For programs that read a token from a pipe. Whoever reads standard output has the token: a file, a pipe's reader, a
/// log. `blindferry run` gives it to one program alone and is to be preferred. The lease ends with this process.
#[derive(Debug, clap::Args)]
pub(crate) struct Read {
    /// The credential
    name: CredentialName,
    /// Whom the token shall be for
    #[arg(long)]
    audience: Option<Audience>,
    #[command(flatten)]
    wait: Wait,
    /// Write it although standard output is a terminal
    #[arg(long)]
    force: bool,
}

/// Why there is no token on standard output, once the broker was asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("a debugger is attached, and the vault would be told that nothing reads this process")]
    Traced,
    #[error("this process cannot be shown to be out of reach of others of this user")]
    Reach(#[source] AttackError),
    #[error("cannot redeem the grant")]
    Redeem(#[source] WorkerError),
    #[error("cannot write the token to standard output")]
    Write(#[source] io::Error),
}

impl ReadError {
    /// The number that the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Redeem(WorkerError::Refused(_)) => Exit::Refused,
            Self::Redeem(
                WorkerError::Connect { .. }
                | WorkerError::Lost { .. }
                | WorkerError::Silent { .. }
                | WorkerError::Decode { .. }
                | WorkerError::Unexpected { .. },
            ) => Exit::Unreachable,
            _ => Exit::Local,
        }
    }

    /// The next step, where there is an obvious one.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Traced => Some("detach it; no option lets a token be read under a debugger"),
            Self::Reach(_) => Some("`blindferry doctor` tells what this machine lacks"),
            Self::Redeem(WorkerError::Connect { .. }) => {
                Some("see whether blindferryd runs, and whether BLINDFERRY_WORKERS names its socket")
            }
            _ => None,
        }
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`], when the token was not read.
pub(crate) fn run(entered: &Entered, Read { name, audience, wait, force }: Read) -> Result<(), Failure> {
    if io::stdout().is_terminal() && !force {
        return Err(Failure::TokenOnTerminal);
    }
    if entered.traced() {
        return Err(ReadError::Traced.into());
    }
    let level = ProtectionLevel::ExecOnly;
    let ask = Ask { credential: name, audience, worker: constraint(level) };
    let grant = |source: ParentError| Failure::Grant { source };
    let parent = Parent::connect(&parents_socket()).map_err(grant)?;
    let asking = wait.ask(parent, &ask, "blindferry read: standard output").map_err(grant)?;

    // While the vault decides.
    let attack = Attack::begin().map_err(ReadError::Reach)?;
    let mut worker = Some(Worker::connect(&workers_socket()).map_err(ReadError::Redeem)?);
    warnings().for_each(|warning| note(&format!("warning: {warning}")));
    let _withstood = attack.outcome().map_err(ReadError::Reach)?;

    let grant = asking.granted(|waiting| {
        tell_of(waiting);
        // The broker hangs up on a worker that says nothing for so long as a person may take.
        worker = None;
    });
    let grant = grant.map_err(|source| Failure::Grant { source })?.into_handle();
    let worker = worker.map_or_else(|| Worker::connect(&workers_socket()), Ok).map_err(ReadError::Redeem)?;
    let leased = worker.under_protection(level).redeem(grant).map_err(ReadError::Redeem)?;
    written(leased.token()).map_err(|source| ReadError::Write(source.into()).into())
}

/// What should be said loudly.
fn warnings() -> impl Iterator<Item = &'static str> {
    let sees_everything = capabilities(None).is_ok_and(|held| held.permitted.contains(CapabilitySet::SYS_PTRACE));
    let others = sees_everything.then_some(
        "this user holds CAP_SYS_PTRACE, which nothing keeps out: its other processes with it can read the token",
    );
    [others, protection().warning()].into_iter().flatten()
}

/// From secret pages to standard output, without a buffer between.
fn written(token: &Token) -> Result<(), Errno> {
    #[expect(clippy::disallowed_methods, reason = "standard output is whom the token was asked for")]
    token.expose(|mut rest| {
        while !rest.is_empty() {
            match write(stdout(), rest) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Whoever read this has read enough.
                Err(Errno::PIPE) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}
