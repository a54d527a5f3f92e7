//! How a program ended, and ending in the same way.

use rustix::process::{Signal, WaitStatus, getpid, kill_process};
use std::process::exit;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(u8),
    /// This signal ended it.
    Killed(Signal),
}

impl End {
    /// What wait(2) says, unless the process only stopped or went on.
    #[must_use]
    pub fn of(status: WaitStatus) -> Option<Self> {
        if let Some(code) = status.exit_status() {
            // The kernel keeps eight bits of what a program gives exit(2).
            return u8::try_from(code & 0xff).ok().map(Self::Exited);
        }
        // A signal without a name of its own, such as one of real time, is told as SIGKILL's kin: it ended the program.
        status.terminating_signal().map(|number| Self::Killed(Signal::from_named_raw(number).unwrap_or(Signal::KILL)))
    }

    /// As a shell tells it: the status, or 128 and the signal's number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => u8::try_from(signal.as_raw()).map_or(u8::MAX, |number| number.saturating_add(128)),
        }
    }

    /// Ends this process in the same way: by the same signal, where that can be, so that whoever waits sees what it would
    /// have seen.
    pub fn follow(self) -> ! {
        if let Self::Killed(signal) = self {
            if signal == Signal::KILL {
                let _sent = kill_process(getpid(), signal);
            }
            // Puts the default back and raises it. Nobody is left to tell when that fails; the number tells it as well.
            let _raised = signal_hook::low_level::emulate_default_handler(signal.as_raw());
        }
        exit(self.code().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_as_a_shell_tells_it() {
        assert_eq!(End::Exited(3).code(), 3);
        assert_eq!(End::Killed(Signal::TERM).code(), 143);
        assert_eq!(End::Killed(Signal::KILL).code(), 137);
    }
}
