//! A terminal of the program's own.

use crate::terminal::Terminal;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::ioctl_fionbio;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, tcsetattr, tcsetwinsize};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// Both ends of a pseudo-terminal (pty(7)).
#[derive(Debug)]
pub struct PseudoTerminal {
    /// For who relays.
    pub master: OwnedFd,
    /// For the program.
    pub slave: OwnedFd,
}

impl PseudoTerminal {
    /// Makes one by this multiplexor: `/dev/ptmx`, or that of another mount of devpts.
    ///
    /// The program's end is opened through the other one (TIOCGPTPEER), never by its name, which may lead elsewhere.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(multiplexor: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = open(multiplexor, flags, Mode::empty())?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        Ok(Self { master, slave })
    }
}

/// Gives the program's end the user's size, and makes this end one that does not wait.
pub(crate) fn prepare(master: BorrowedFd<'_>, terminal: &Terminal) -> io::Result<()> {
    resize(master, terminal)?;
    Ok(ioctl_fionbio(master, true)?)
}

/// Gives the program's end the user's settings.
pub(crate) fn imitate(master: BorrowedFd<'_>, terminal: &Terminal) -> io::Result<()> {
    Ok(tcsetattr(master, OptionalActions::Now, terminal.settings())?)
}

/// The user's present size; the program is told by SIGWINCH.
pub(crate) fn resize(master: BorrowedFd<'_>, terminal: &Terminal) -> io::Result<()> {
    Ok(tcsetwinsize(master, terminal.size()?)?)
}
