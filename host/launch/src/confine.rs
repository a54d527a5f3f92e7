//! What the launcher does about itself before it touches a secret, and what it takes along.

use blindferry_handle::entry::{Entry, EntryError, enter};
use blindferry_handle::inherit::{InheritError, close_all_but, close_on_exec_all_but, take_inherited};
use blindferry_handle::secret::protection;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

/// Why the launcher is not fit to hold a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    #[error("cannot protect the launcher itself")]
    Enter(#[source] EntryError),
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

/// Takes the descriptors that the program shall keep, and closes every other one that was inherited but the grant's.
pub(crate) fn take_along(keep: &[RawFd], grant: RawFd) -> Result<Vec<OwnedFd>, ConfineError> {
    let taken =
        keep.iter().map(|&number| take_inherited(number).map_err(|source| ConfineError::Keep { number, source }));
    let taken = taken.collect::<Result<Vec<_>, _>>()?;
    close_all_but(&[grant]).map_err(ConfineError::Close)?;
    Ok(taken)
}

/// Lets nothing through execve(2) but the standard streams and these.
pub(crate) fn let_through<'fd>(descriptors: impl Iterator<Item = &'fd OwnedFd>) -> Result<(), ConfineError> {
    let descriptors: Vec<_> = descriptors.map(AsFd::as_fd).collect();
    close_on_exec_all_but(&descriptors).map_err(ConfineError::Close)
}

/// One line for whoever starts us.
pub(crate) fn warn(text: &str) {
    eprintln!("blindferry-launch: warning: {text}");
}
