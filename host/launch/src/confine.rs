//! What the launcher does about itself before it touches a secret, and what it takes along.

use blindferry_handle::entry::{Entry, EntryError, enter};
use blindferry_handle::inherit::{InheritError, close_all_but, close_on_exec_all_but, take_inherited};
use blindferry_handle::secret::protection;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};

/// Why the launcher is not fit to hold a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("cannot protect the launcher itself")]
    Enter(#[source] EntryError),
    #[error("cannot end with the keeper")]
    EndWith(#[source] io::Error),
    #[error("the keeper has ended")]
    KeeperGone,
    #[error("cannot close the descriptors that nobody asked for")]
    Close(#[source] io::Error),
    #[error("cannot keep descriptor {number} for the program")]
    Keep { number: RawFd, source: InheritError },
}

/// Becomes unreadable, or starts again as a process that is. No core files and no new privileges from here on; the
/// program inherits both.
pub(crate) fn become_unreadable() -> Result<(), ConfineError> {
    let entered = enter(&Entry::new().allow_debugger_by_option()).map_err(ConfineError::Enter)?;
    for warning in [entered.warning(), protection().warning()].into_iter().flatten() {
        warn(warning);
    }
    Ok(())
}

/// Ends with the process that keeps this one, also as the program: so no token outlives whoever ends the keeper.
pub(crate) fn end_with(keeper: i32) -> Result<(), ConfineError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| ConfineError::EndWith(error.into()))?;
    // It may have ended before it was asked to take this one along.
    if getppid().map(Pid::as_raw_pid) == Some(keeper) { Ok(()) } else { Err(ConfineError::KeeperGone) }
}

/// Takes the descriptors that the program shall keep, and closes every other one that was inherited but those of grants.
pub(crate) fn take_along(keep: &[RawFd], grants: &[RawFd]) -> Result<Vec<OwnedFd>, ConfineError> {
    let taken =
        keep.iter().map(|&number| take_inherited(number).map_err(|source| ConfineError::Keep { number, source }));
    let taken = taken.collect::<Result<Vec<_>, _>>()?;
    close_all_but(grants).map_err(ConfineError::Close)?;
    Ok(taken)
}

/// Lets nothing through execve(2) but the standard streams and these.
pub(crate) fn let_through<'fd>(descriptors: impl Iterator<Item = &'fd OwnedFd>) -> Result<(), ConfineError> {
    let descriptors: Vec<_> = descriptors.map(AsFd::as_fd).collect();
    close_on_exec_all_but(&descriptors).map_err(ConfineError::Close)
}

/// One line for whoever starts us.
pub(crate) fn warn(text: &str) {
    say(&format!("warning: {text}"));
}

/// One line, without a prefix of its own. Nobody is left to tell when it cannot be written.
pub(crate) fn say(text: &str) {
    let _written = writeln!(io::stderr(), "blindferry-launch: {text}");
}
