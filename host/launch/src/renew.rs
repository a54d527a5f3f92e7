//! Renewal: a process of ours stays beside the program and writes each next token to where the last one was read.
//!
//! ```text
//!   blindferry-launch ── becomes ──▶ PROGRAM   same process id, same parent, same terminal; reads
//!        └─ leaves ──▶ the renewer              the lease's connection and key, the writable side of memfds, nothing else
//! ```
//!
//! The renewer is no child of the program and in no session of its, cannot be read by others of the user, and ends with
//! the program, whose pidfd it watches. The lease stays the program's: the broker knows a worker by who connected. If
//! the renewer is killed, the program keeps what it has until that expires.

use crate::deliver::Outlets;
use crate::redeem::Leases;
use crate::renew::notice::Notice;
use crate::renew::renewer::Renewer;
use blindferry_handle::beside::{BesideError, beside};
use blindferry_handle::wait::readable;
use blindferry_worker::hand_on::{HandOnError, HandedOn};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

pub(crate) mod notice;
mod renewer;

/// Why the tokens could not be kept fresh.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("cannot hold this process by its pidfd")]
    Pidfd(#[source] io::Error),
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    #[error("cannot hand a lease on")]
    HandOn(#[source] HandOnError),
    #[error("cannot leave a process beside the program")]
    Beside(#[source] BesideError),
    #[error("the process beside the program did not take the leases up")]
    NotReady,
}

/// Leaves the renewer behind. The leases are its own from here on: this process must not ask the broker any more.
///
/// # Errors
/// [`RenewError`]; then there is no renewer, or it ends with this process.
pub(crate) fn start(outlets: &Outlets, leases: &Leases, notice: &Notice) -> Result<(), RenewError> {
    let program = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| RenewError::Pidfd(error.into()))?;
    let (ready, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| RenewError::Pipe(error.into()))?;
    let handed: Result<Vec<_>, _> = leases.all().iter().map(HandedOn::of).collect();
    let handed = handed.map_err(RenewError::HandOn)?;

    let mut keep = vec![program.as_fd(), tell.as_fd()];
    keep.extend(outlets.written().map(AsFd::as_fd));
    keep.extend(handed.iter().flat_map(HandedOn::descriptors));
    keep.extend(notice.descriptors());
    let kept = beside(&keep, || {
        // What is lost with the renewer is told by it, or is seen by whoever waits below.
        let Ok(renewer) = Renewer::take_up(&program, &handed, outlets, notice) else { return };
        if write(&tell, b"!").is_ok() {
            renewer.keep();
        }
    });
    kept.map_err(RenewError::Beside)?;
    drop(tell);
    wait_for_word(&ready)
    // The shared memory of key and token goes with `handed`: the renewer has moved them into its own.
}

fn wait_for_word(ready: &OwnedFd) -> Result<(), RenewError> {
    if !readable(ready.as_fd(), Some(Instant::now() + PATIENCE)).unwrap_or(false) {
        return Err(RenewError::NotReady);
    }
    match read(ready, &mut [0; 1]) {
        Ok(1) => Ok(()),
        _ => Err(RenewError::NotReady),
    }
}

/// Nothing that the renewer does first takes long.
const PATIENCE: Duration = Duration::from_secs(10);
