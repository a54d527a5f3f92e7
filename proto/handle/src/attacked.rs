//! Whether another process of the same user can get at this one, by trying: a child attacks it, and ends.
//!
//! The child has memory of its own, so the kernel judges it as it would any other process of the user: it gets through
//! where this process is dumpable. It puts aside the capabilities of root, which nothing keeps out. Under root the trial
//! says little all the same, since there this process's own capabilities keep such a child out.
//!
//! It begins and ends in two steps, so that whoever waits for something else has it done meanwhile.

use std::ffi::{CStr, CString};
use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, WaitOptions, WaitStatus, getpid, pidfd_getfd, pidfd_open, waitpid,
};
use rustix::thread::CapabilitySet;
use thiserror::Error;

use crate::power::PutAside;

/// A child that attacks this process. Dropping it waits for its end, which it comes to by itself.
#[derive(Debug)]
pub struct Attack(Option<Pid>);

/// This process was attacked, and nothing could be read.
#[derive(Debug)]
#[must_use = "a trial that nobody looks at shows nothing"]
pub struct Withstood(());

/// Why this process is not known to be out of reach.
#[derive(Debug, Error)]
pub enum AttackError {
    /// The child could not be made or waited for, or was ended by somebody else.
    #[error("cannot have it tried")]
    Try(#[source] io::Error),
    /// It is within reach.
    #[error("tried on this machine, it does not hold: another process of this user got at {what}")]
    Read {
        /// What could be opened.
        what: &'static str,
    },
}

impl Attack {
    /// Has a child attack this process from here on.
    ///
    /// # Errors
    /// [`AttackError::Try`].
    pub fn begin() -> Result<Self, AttackError> {
        let victim = getpid();
        let place = |file| CString::new(format!("/proc/{}/{file}", victim.as_raw_pid()));
        let places = place("mem").and_then(|memory| Ok((memory, place("environ")?)));
        let (memory, environment) = places.map_err(|error| AttackError::Try(error.into()))?;
        // SAFETY: the child makes system calls about what was prepared above; it allocates nothing and takes no lock,
        // which a thread of ours may have held, and ends without running anything else of ours.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = attack(victim, &memory, &environment);
            // SAFETY: ends the child, without its destructors and buffers, which are copies of ours.
            unsafe { libc::_exit(code) };
        }
        if child < 0 {
            return Err(AttackError::Try(io::Error::last_os_error()));
        }
        Ok(Self(Pid::from_raw(child)))
    }

    /// What came of it.
    ///
    /// # Errors
    /// [`AttackError::Read`] when something could be read, [`AttackError::Try`] when that is not known.
    pub fn outcome(mut self) -> Result<Withstood, AttackError> {
        let ended = self.0.take().map(wait_for).transpose();
        let ended = ended.map_err(|error| AttackError::Try(error.into()))?;
        match ended.and_then(WaitStatus::exit_status) {
            Some(NOTHING) => Ok(Withstood(())),
            Some(MEMORY) => Err(AttackError::Read { what: "its memory" }),
            Some(ENVIRONMENT) => Err(AttackError::Read { what: "its environment" }),
            Some(DESCRIPTORS) => Err(AttackError::Read { what: "its descriptors" }),
            // A filter that kills whoever tries says nothing of those whom it does not bind.
            _ => Err(AttackError::Try(io::ErrorKind::Interrupted.into())),
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _nobody_asks = self.0.take().map(wait_for);
    }
}

/// The child's whole life.
fn attack(victim: Pid, memory: &CStr, environment: &CStr) -> libc::c_int {
    let root = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::SYS_PTRACE;
    let _put_aside = PutAside::of(root);
    // Opening is where the kernel decides.
    let opens = |path: &CStr| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).is_ok();
    if opens(memory) {
        return MEMORY;
    }
    if opens(environment) {
        return ENVIRONMENT;
    }
    let taken = pidfd_open(victim, PidfdFlags::empty())
        .and_then(|pidfd| pidfd_getfd(pidfd, libc::STDERR_FILENO, PidfdGetfdFlags::empty()));
    if taken.is_ok() { DESCRIPTORS } else { NOTHING }
}

fn wait_for(child: Pid) -> rustix::io::Result<WaitStatus> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// How the child ends. Numbers that nothing else ends with by accident.
const NOTHING: libc::c_int = 70;
const MEMORY: libc::c_int = 71;
const ENVIRONMENT: libc::c_int = 72;
const DESCRIPTORS: libc::c_int = 73;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
    use std::process::Command;

    #[test]
    fn a_process_that_can_be_read_is_and_one_that_cannot_is_not() {
        if rustix::process::geteuid().is_root() {
            // Root's processes are kept from each other by their capabilities.
            let mut unprivileged = Command::new("setpriv");
            unprivileged.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "env"]);
            let name = "attacked::tests::a_process_that_can_be_read_is_and_one_that_cannot_is_not";
            let test = unprivileged.arg(std::env::current_exe().unwrap()).args(["--exact", name]);
            assert!(test.status().unwrap().success());
            return;
        }
        let before = dumpable_behavior().unwrap();
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
        let readable = Attack::begin().unwrap().outcome();
        set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
        let unreadable = Attack::begin().unwrap().outcome();
        set_dumpable_behavior(before).unwrap();
        assert!(matches!(readable, Err(AttackError::Read { .. })), "{readable:?}");
        assert!(unreadable.is_ok(), "{unreadable:?}");
    }

    #[test]
    fn a_child_that_does_not_come_to_its_end_shows_nothing() {
        // SAFETY: the child ends at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child, as if it had been the attack of another program.
            unsafe { libc::_exit(0) };
        }
        let outcome = Attack(Pid::from_raw(child)).outcome();
        assert!(matches!(outcome, Err(AttackError::Try(_))), "{outcome:?}");
    }
}
