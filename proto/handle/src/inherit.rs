//! Descriptors that were inherited by number: taken once at the start, closed when nobody asked for them.
//!
//! A number is a claim: nothing says that it is open, that it was meant for us, or that another part of the program
//! has not taken it too. What makes taking one sound is close-on-exec. A descriptor that came through execve(2) cannot
//! have the flag, or it would have been closed; and whatever Rust code opens has it from birth. So a descriptor without
//! the flag is inherited and not yet owned, and taking it sets the flag.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use thiserror::Error;

/// Why a descriptor could not be taken.
#[derive(Debug, Error)]
pub enum InheritError {
    /// Standard input, output and error belong to the standard library.
    #[error("descriptor {number} is a standard stream and stays where it is")]
    StandardStream {
        /// Which.
        number: RawFd,
    },
    /// Nothing is open under this number.
    #[error("no descriptor {number} was inherited")]
    NotOpen {
        /// Which.
        number: RawFd,
    },
    /// It is close-on-exec, so this process opened it itself and some value owns it.
    #[error("descriptor {number} was opened by this process, not inherited")]
    NotInherited {
        /// Which.
        number: RawFd,
    },
    /// The number has been taken before.
    #[error("descriptor {number} has been taken already")]
    Taken {
        /// Which.
        number: RawFd,
    },
    /// fcntl(2) failed.
    #[error("cannot take descriptor {number}")]
    Take {
        /// Which.
        number: RawFd,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes the inherited descriptor `number` and makes it close-on-exec. Call it at the start, before other threads and
/// before foreign code that opens descriptors without the flag.
///
/// # Errors
///
/// [`InheritError`]; the descriptor is then left as it was.
pub fn take_inherited(number: RawFd) -> Result<OwnedFd, InheritError> {
    if (0..3).contains(&number) {
        return Err(InheritError::StandardStream { number });
    }
    if number < 0 {
        return Err(InheritError::NotOpen { number });
    }
    // Held over the check and the taking, so that of two takers one loses.
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(InheritError::Taken { number });
    }
    // SAFETY: borrowed for this call only, and a number under which nothing is open is answered with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    match fcntl_getfd(borrowed) {
        Ok(flags) if flags.contains(FdFlags::CLOEXEC) => {
            return Err(InheritError::NotInherited { number });
        }
        Ok(_) => {}
        Err(Errno::BADF) => return Err(InheritError::NotOpen { number }),
        Err(error) => {
            return Err(InheritError::Take { number, source: error.into() });
        }
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|error| InheritError::Take { number, source: error.into() })?;
    taken.insert(number);
    // SAFETY: open, seen to have been inherited rather than opened here (see the module's argument), and `taken` lets
    // each number through once: no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every inherited descriptor that is neither taken nor in `keep`. The standard streams stay, and so does
/// whatever this process opened itself. Call it at the start; needs `/proc`.
///
/// # Errors
///
/// When `/proc/self/fd` cannot be listed; then nothing was closed.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    for number in open {
        if number < 3 || keep.contains(&number) || taken.contains(&number) {
            continue;
        }
        // SAFETY: borrowed for this call only; the directory's own descriptor is closed by now and answers EBADF.
        let inherited =
            fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC));
        if inherited {
            // SAFETY: inherited and not taken, so no value in this process owns it (see the module's argument).
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok(())
}

/// Lets the next execve(2) close every descriptor but the standard streams and those in `keep`, which it lets through.
/// Until then nothing is closed. close_range(2) with `CLOSE_RANGE_CLOEXEC`, Linux 5.11.
///
/// # Errors
///
/// What the kernel said, among others that one in `keep` is not open.
pub fn close_on_exec_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors; no memory is involved and nothing is closed.
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if marked != 0 {
        return Err(io::Error::last_os_error());
    }
    keep.iter().try_for_each(|descriptor| keep_over_exec(*descriptor))
}

/// Lets a descriptor through the next execve(2), under its present number. Every child started from now on inherits
/// it, also one started by another thread.
///
/// # Errors
///
/// What the kernel said.
pub fn keep_over_exec(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let number = descriptor.as_raw_fd();
    // Without the flag it would look inherited: whoever asks for this number must hear that it has an owner.
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
    Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
}

/// Numbers that belong to a value of this process for good, as far as this module is concerned.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, IntoRawFd};

    /// As execve(2) would leave it: open under a number, without the flag.
    fn inherited() -> RawFd {
        let (reader, _writer) = std::io::pipe().unwrap();
        // High up, where the tests beside this one open nothing.
        let high = rustix::io::fcntl_dupfd_cloexec(&reader, 700).unwrap();
        fcntl_setfd(&high, FdFlags::empty()).unwrap();
        high.into_raw_fd()
    }

    #[test]
    fn an_inherited_descriptor_is_taken_once_and_closed_on_exec() {
        let number = inherited();
        let taken = take_inherited(number).unwrap();
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        assert!(matches!(take_inherited(number), Err(InheritError::Taken { .. } | InheritError::NotInherited { .. })));
    }

    #[test]
    fn what_this_process_opened_itself_cannot_be_taken() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(matches!(
            take_inherited(reader.as_raw_fd()),
            Err(InheritError::Taken { .. } | InheritError::NotInherited { .. })
        ));
        keep_over_exec(reader.as_fd()).unwrap();
        assert!(matches!(
            take_inherited(reader.as_raw_fd()),
            Err(InheritError::Taken { .. } | InheritError::NotInherited { .. })
        ));
    }

    #[test]
    fn closed_negative_and_standard_numbers_are_refused() {
        assert!(matches!(take_inherited(-1), Err(InheritError::NotOpen { .. })));
        assert!(matches!(take_inherited(900_000), Err(InheritError::NotOpen { .. })));
        assert!(matches!(take_inherited(0), Err(InheritError::StandardStream { .. })));
    }
}
