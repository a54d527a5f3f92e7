//! Signals as something to wait for beside descriptors.

use rustix::process::Signal;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Signals that no longer do what they do by default, and wait to be looked at. For good: a process has one.
#[derive(Debug)]
pub struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// What a program that stands in for another passes on, its terminal's among them. What this process was started to
    /// ignore, as by nohup(1), stays ignored, here and in what it starts.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn of_a_proxy() -> io::Result<Self> {
        let ignored = ignored()?;
        Self::catch(PASSED_ON.iter().filter(|signal| ignored & bit(**signal) == 0).copied())
    }

    /// The end of children, and nothing else.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn of_children() -> io::Result<Self> {
        Self::catch([Signal::CHILD])
    }

    fn catch(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let numbers: Vec<_> = signals.into_iter().map(Signal::as_raw).collect();
        SignalDelivery::with_pipe(read, write, SignalOnly, numbers).map(Self)
    }

    /// Those that came since the last time. Two of a kind may be one.
    pub fn pending(&mut self) -> Vec<Signal> {
        self.0.pending().filter_map(Signal::from_named_raw).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// SIGCHLD is not among them: the keeper is told of the program by its link. SIGTTIN and SIGTTOU stop us, as they should.
const PASSED_ON: &[Signal] = &[
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TSTP,
    Signal::CONT,
    Signal::WINCH,
];

/// proc(5): `SigIgn`, a bit for each signal, the first for number 1.
fn ignored() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn bit(signal: Signal) -> u64 {
    u32::try_from(signal.as_raw() - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}
