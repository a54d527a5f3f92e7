//! The half beside the program: starts it, sends it signals, says how it fares, and buries whatever loses its parent.

use crate::end::End;
use crate::link::{FromKeeper, Link, LinkError, ToKeeper};
use crate::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, ioctl_tiocsctty, kill_process, kill_process_group, setsid, wait};
use rustix::termios::tcsetpgrp;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use thiserror::Error;

/// Why there is no keeping of a program.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The other half is gone, or does not keep to the protocol.
    #[error("the caller is out of reach")]
    Link(#[from] LinkError),
    /// A session or a terminal of its own.
    #[error("cannot lead a session")]
    Lead(#[source] io::Error),
    /// The end of children cannot be noticed.
    #[error("cannot wait for children")]
    Children(#[source] io::Error),
    /// It could not be started.
    #[error("cannot start the program")]
    Start(#[source] io::Error),
}

/// What became of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It ended, and the other half knows.
    Ended(End),
    /// The other half went, so nobody wants the program any longer. It may still run.
    Abandoned,
}

/// Makes this process, which leads no group yet, the leader of a session, with this terminal or with none.
///
/// The program does not lead it: a leader's group has no parent in its session, and then the kernel stops nobody in it.
///
/// # Errors
/// [`KeepError::Lead`].
pub fn lead(terminal: Option<&OwnedFd>) -> Result<(), KeepError> {
    let failed = |error: Errno| KeepError::Lead(error.into());
    setsid().map_err(failed)?;
    terminal.map_or(Ok(()), ioctl_tiocsctty).map_err(failed)
}

/// Starts the program when the other half says so, and stays with it until it ends or nobody wants it any longer.
///
/// `children` is caught before anything is started. The terminal is the one that this process leads with; the command has
/// its standard streams already. Whatever ends as a child of this process is buried, also what it did not start: so it can
/// be the first process of a PID namespace, or a subreaper (prctl(2)).
///
/// # Errors
/// [`KeepError`].
pub fn keep(
    link: &Link,
    mut children: Signals,
    command: &mut Command,
    terminal: Option<BorrowedFd<'_>>,
) -> Result<Kept, KeepError> {
    let ToKeeper::Start { in_front } = link.heard()? else { return Err(LinkError::Unknown.into()) };
    let child = command.process_group(0).spawn().map_err(KeepError::Start)?;
    // Buried by its number below, with all others.
    let program = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(LinkError::Unknown)?;
    let mut keeper = Keeper { link, terminal, program, in_front: false };
    if in_front {
        keeper.take_front();
    }
    loop {
        let mut waiting = [PollFd::new(link, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(KeepError::Children(error.into())),
        }
        let [said, _] = waiting.map(|one| one.revents());
        let _seen = children.pending();
        if let Some(end) = keeper.look_after()? {
            return Ok(Kept::Ended(end));
        }
        if !said.is_empty() {
            match link.heard() {
                Ok(message) => keeper.obey(message),
                Err(error) if error.is_closed() => return Ok(Kept::Abandoned),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Keeper<'link> {
    link: &'link Link,
    terminal: Option<BorrowedFd<'link>>,
    program: Pid,
    in_front: bool,
}

impl Keeper<'_> {
    /// Everybody who ended or stopped since the last time.
    fn look_after(&mut self) -> Result<Option<End>, KeepError> {
        loop {
            let (process, status) = match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some(one)) => one,
                Ok(None) | Err(Errno::CHILD) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(KeepError::Children(error.into())),
            };
            if process != self.program {
                continue;
            }
            if let Some(end) = End::of(status) {
                match self.link.report(&FromKeeper::Ended(end)) {
                    Err(error) if !error.is_closed() => return Err(error.into()),
                    _ => return Ok(Some(end)),
                }
            }
            if let Some(reason) = status.stopping_signal().and_then(Signal::from_named_raw) {
                self.stopped(reason)?;
            }
        }
    }

    fn stopped(&mut self, reason: Signal) -> Result<(), KeepError> {
        if self.in_front && (reason == Signal::TTIN || reason == Signal::TTOU) && self.is_in_front() {
            // It asked for the terminal before it was told that it has it.
            self.to_group(Signal::CONT);
            return Ok(());
        }
        match self.link.report(&FromKeeper::Stopped(reason)) {
            Err(error) if !error.is_closed() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn obey(&mut self, message: ToKeeper) {
        match message {
            ToKeeper::Signal(signal) => {
                // Gone is as good as told: its end is being looked after.
                let _sent = kill_process(self.program, signal);
            }
            ToKeeper::SignalGroup(signal) => self.to_group(signal),
            ToKeeper::InFront => {
                if self.in_front {
                    self.to_group(Signal::CONT);
                } else {
                    self.take_front();
                }
            }
            ToKeeper::Start { .. } => {}
        }
    }

    /// Once: afterwards who is in front is the program's own affair, as it is between a shell and its jobs.
    fn take_front(&mut self) {
        if let Some(terminal) = self.terminal {
            // Where it fails the program is stopped when it reads, and that is told.
            self.in_front = tcsetpgrp(terminal, self.program).is_ok();
        }
        self.to_group(Signal::CONT);
    }

    fn is_in_front(&self) -> bool {
        self.terminal.is_some_and(|terminal| {
            rustix::termios::tcgetpgrp(terminal.as_fd()).is_ok_and(|foreground| foreground == self.program)
        })
    }

    fn to_group(&self, signal: Signal) {
        let _sent = kill_process_group(self.program, signal);
    }
}
