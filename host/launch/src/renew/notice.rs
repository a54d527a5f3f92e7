//! How a program hears that there is a new token: by a signal, by a command, or not at all.

use crate::environment::Environment;
use crate::level::Level;
use crate::program::{Program, ProgramError};
use crate::protect::ProtectError;
use blindferry_handle::image::ExecOnlyImage;
use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// A signal by which programs are asked to read their files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Asks {
    Hup,
    Usr1,
    Usr2,
}

/// What is done after a renewal.
#[derive(Default)]
pub(crate) struct Notice {
    signal: Option<Asks>,
    command: Option<Runnable>,
    /// The command that runs, so that it can be ended with the program.
    running: Mutex<Option<OwnedFd>>,
}

/// A command that can be executed again and again.
struct Runnable {
    image: Option<ExecOnlyImage>,
    file: PathBuf,
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

/// Why a program was not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoticeError {
    #[error("cannot signal the program")]
    Signal(#[source] io::Error),
    #[error("cannot execute the command")]
    Execute(#[source] io::Error),
    #[error("the command took more than {} seconds, and was ended", PATIENCE.tv_sec)]
    Slow,
    #[error("the command failed: {0}")]
    Failed(std::process::ExitStatus),
}

impl Notice {
    /// `command` is divided at blanks; it gets `environment`, which is the program's without any token.
    ///
    /// # Errors
    /// A command that is not found or cannot be made unreadable.
    pub(crate) fn new(
        signal: Option<Asks>,
        command: Option<&str>,
        level: Level,
        environment: &Environment,
    ) -> Result<Self, NoticeUnusable> {
        let command = command.map(|line| Runnable::new(line, level, environment)).transpose()?;
        Ok(Self { signal, command, running: Mutex::new(None) })
    }

    /// What of it another process has to inherit.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.command.iter().filter_map(|command| command.image.as_ref().map(AsFd::as_fd))
    }

    /// Tells the program; waits for a command, but not for ever.
    pub(super) fn give(&self, program: &OwnedFd) -> Result<(), NoticeError> {
        if let Some(signal) = self.signal {
            pidfd_send_signal(program, signal.signal()).map_err(|error| NoticeError::Signal(error.into()))?;
        }
        self.command.as_ref().map_or(Ok(()), |command| self.run(command))
    }

    /// Ends a command that runs.
    pub(super) fn stop(&self) {
        if let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // It has ended by itself, else.
            let _ended = pidfd_send_signal(running, Signal::KILL);
        }
    }

    fn run(&self, runnable: &Runnable) -> Result<(), NoticeError> {
        let mut child = runnable.command().spawn().map_err(NoticeError::Execute)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let watched = pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok());
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = pidfd;
        let in_time = watched.is_some_and(|watched| {
            matches!(poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&PATIENCE)), Ok(1..))
        });
        if !in_time {
            // Not reaped yet, so it is still this process.
            let _ended = child.kill();
        }
        let status = child.wait();
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match status.map_err(NoticeError::Execute)? {
            _ if !in_time => Err(NoticeError::Slow),
            status if status.success() => Ok(()),
            status => Err(NoticeError::Failed(status)),
        }
    }
}

impl Runnable {
    fn new(line: &str, level: Level, environment: &Environment) -> Result<Self, NoticeUnusable> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let Program { file, words } =
            Program::find(&words, environment.get("PATH")).map_err(NoticeUnusable::Command)?;
        let image = match level {
            Level::None => None,
            Level::ExecOnly | Level::OwnGroup | Level::OwnNamespace => Some(
                ExecOnlyImage::from_path(&file)
                    .map_err(|source| NoticeUnusable::Protect(ProtectError::Copy { file: file.clone(), source }))?,
            ),
        };
        let environment = environment.clone().into_pairs().collect();
        Ok(Self { image, file, words, environment })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.image.as_ref().map_or_else(|| self.file.clone(), ExecOnlyImage::exec_path));
        let mut words = self.words.iter();
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        command.args(words).env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Asks {
    fn signal(self) -> Signal {
        match self {
            Self::Hup => Signal::HUP,
            Self::Usr1 => Signal::USR1,
            Self::Usr2 => Signal::USR2,
        }
    }
}

/// Why a command cannot be run after renewals.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoticeUnusable {
    #[error("cannot find the command")]
    Command(#[source] ProgramError),
    #[error("cannot execute the command")]
    Protect(#[source] ProtectError),
}

/// A command that takes longer is ended.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
