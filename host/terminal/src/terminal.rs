//! The user's terminal: raw while it is relayed, and as it was in every other moment.

use rustix::fs::{Mode, OFlags, open};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A terminal that this process was given. Dropping it puts it back as it was.
#[derive(Debug)]
pub struct Terminal {
    descriptor: OwnedFd,
    usual: Termios,
    mode: TerminalMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TerminalMode {
    Usual,
    Raw,
}

impl Terminal {
    /// The first of these descriptors that is a terminal, if one is.
    ///
    /// It is opened once more where that is allowed, so that reading and writing need not wait: a flag of the open file
    /// is shared with everybody who has the descriptor, the shell among them.
    ///
    /// # Errors
    /// What the kernel said about one that is a terminal.
    pub fn among(descriptors: &[BorrowedFd<'_>]) -> io::Result<Option<Self>> {
        let Some(given) = descriptors.iter().find(|descriptor| isatty(descriptor)) else {
            return Ok(None);
        };
        let path = format!("/proc/self/fd/{}", given.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let descriptor = match open(path, flags, Mode::empty()) {
            Ok(own) => own,
            Err(_) => given.try_clone_to_owned()?,
        };
        let usual = tcgetattr(&descriptor)?;
        Ok(Some(Self { descriptor, usual, mode: TerminalMode::Usual }))
    }

    /// Its size.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn size(&self) -> io::Result<Winsize> {
        Ok(tcgetwinsize(&self.descriptor)?)
    }

    /// Its settings while it is not raw, as they were when it was last looked at.
    #[must_use]
    pub fn settings(&self) -> &Termios {
        &self.usual
    }

    /// Whether what is typed is for this process's group.
    pub(crate) fn is_ours(&self) -> bool {
        tcgetpgrp(&self.descriptor).is_ok_and(|foreground| foreground == getpgrp())
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.mode == TerminalMode::Raw
    }

    /// Hands every byte through. Only when it is ours: else this process would be stopped.
    pub(crate) fn become_raw(&mut self) -> io::Result<()> {
        if self.mode == TerminalMode::Raw {
            return Ok(());
        }
        // It may have been set anew while this process was stopped.
        self.usual = tcgetattr(&self.descriptor)?;
        let mut raw = self.usual.clone();
        raw.make_raw();
        tcsetattr(&self.descriptor, OptionalActions::Now, &raw)?;
        self.mode = TerminalMode::Raw;
        Ok(())
    }

    /// As it was.
    pub(crate) fn restore(&mut self) {
        if self.mode == TerminalMode::Raw {
            // A terminal that is gone needs nothing.
            let _set = tcsetattr(&self.descriptor, OptionalActions::Now, &self.usual);
            self.mode = TerminalMode::Usual;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
