//! A process of ours that stays beside the one that this process is about to become.
//!
//! The program keeps this process's id, its parent and its place on the terminal; what stays beside it is no child of
//! it, belongs to a session of its own so that no key reaches it, and holds no descriptor but those it was told to.
//! Secret pages do not come along ([`crate::secret`]): what it needs of them is handed over in a
//! [`SharedSecret`](crate::secret::SharedSecret).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, setsid, waitpid};
use thiserror::Error;

use crate::secret;

/// Why nobody stays beside.
#[derive(Debug, Error)]
pub enum BesideError {
    /// `/proc` is missing or says something else than expected.
    #[error("cannot count threads")]
    Count(#[source] io::Error),
    /// Another thread may hold a lock, which nobody would ever open in the copy.
    #[error("this process has {threads} threads, only one can be left")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// fork(2) failed.
    #[error("cannot make a process")]
    Fork(#[source] io::Error),
}

/// Leaves a copy of this process behind that does `run` and ends. It is no child of this one: whoever adopts orphans
/// here reaps it. Of its descriptors, those not in `keep` lead to `/dev/null`, but for standard error.
///
/// `run` must not touch a secret that this process holds, nor drop it: the copy does not have those pages, and ends with a
/// fault. It can make its own.
///
/// # Errors
///
/// [`BesideError`]; then there is no other process.
pub fn beside(keep: &[BorrowedFd<'_>], run: impl FnOnce()) -> Result<(), BesideError> {
    let threads = fs::read_dir("/proc/self/task").map_err(BesideError::Count)?.count();
    if threads != 1 {
        return Err(BesideError::Threads { threads });
    }
    // SAFETY: this process has one thread, so the copy has all of it: no lock is held by somebody who is not there.
    match unsafe { libc::fork() } {
        -1 => Err(BesideError::Fork(io::Error::last_os_error())),
        0 => {
            // Between the two: its end makes the next one an orphan.
            // Cannot fail: a process that was just made leads no group.
            let _session = setsid();
            // SAFETY: as above.
            match unsafe { libc::fork() } {
                -1 => end(1),
                0 => {
                    secret::begin_anew();
                    let went = catch_unwind(AssertUnwindSafe(|| let_go_of_all_but(keep).map(|()| run())));
                    end(i32::from(!matches!(went, Ok(Ok(())))))
                }
                _ => end(0),
            }
        }
        between => match reap(between) {
            // Whoever ignores SIGCHLD has nothing to reap, and is told nothing.
            Ok(true) | Err(Errno::CHILD) => Ok(()),
            Ok(false) => Err(BesideError::Fork(io::ErrorKind::OutOfMemory.into())),
            Err(error) => Err(BesideError::Fork(error.into())),
        },
    }
}

fn reap(child: libc::pid_t) -> Result<bool, Errno> {
    loop {
        match waitpid(Pid::from_raw(child), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            ended => return ended.map(|ended| ended.is_some_and(|(_, status)| status.exit_status() == Some(0))),
        }
    }
}

/// Makes every descriptor but these and standard error lead to `/dev/null`. None is closed: values that were copied along
/// still own their numbers, which must not come to mean something else.
fn let_go_of_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let nowhere = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut numbers: Vec<RawFd> = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    let kept =
        |number: RawFd| number == 2 || number == nowhere.as_raw_fd() || keep.iter().any(|fd| fd.as_raw_fd() == number);
    for number in numbers.into_iter().filter(|number| !kept(*number)) {
        let flags = if number < 3 { 0 } else { libc::O_CLOEXEC };
        // SAFETY: the number stays open and with its owner; only what it leads to is another file from here on. The
        // directory's own number is free again, and becomes one that nobody owns and nobody closes.
        if unsafe { libc::dup3(nowhere.as_fd().as_raw_fd(), number, flags) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// At once: nothing that the copy inherited is put in order by it.
fn end(status: libc::c_int) -> ! {
    // SAFETY: ends the process and touches no memory.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_second_thread_nothing_is_copied() {
        // The harness has its own besides.
        assert!(matches!(beside(&[], || {}), Err(BesideError::Threads { threads }) if threads > 1));
    }
}
