//! The program's parent, a process of the caller's user without any power: leads its session, starts the launcher, passes
//! signals on, and lets nothing of the program outlive a caller who is gone.

use crate::order::{DIRECTORY, ENVIRONMENT, GRANT, LINK, OUTSIDER, WORDS};
use blindferry_handle::inherit::{InheritError, close_on_exec_all_but, take_inherited};
use blindferry_handle::memfd::{Handle, HandleError};
use blindferry_proto::causes::with_causes;
use blindferry_proto::name::CredentialName;
use blindferry_proto::start::{BadStrings, MAX_STRINGS, split};
use blindferry_terminal::{FromKeeper, Kept, Link, LinkError, Signals, keep, lead};
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, fchdir, getpgid, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Why a program is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("descriptor {number} is missing")]
    Missing { number: RawFd, source: InheritError },
    #[error("cannot speak to the caller")]
    Link(#[source] LinkError),
    #[error("cannot notice signals")]
    Signals(#[source] io::Error),
    #[error("cannot look after what the program leaves behind")]
    Reap(#[source] Errno),
    #[error("cannot take the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot enter the working directory")]
    Directory(#[source] Errno),
    #[error("cannot read the words")]
    Words(#[source] HandleError),
    #[error("the words are none")]
    Strings(#[source] BadStrings),
    #[error("cannot pass the descriptors on")]
    Pass(#[source] io::Error),
    #[error("cannot keep the program")]
    Keep(#[source] blindferry_terminal::KeepError),
}

/// Starts the launcher when the caller says so, and stays until it has ended, and all that came of it too where the caller
/// went first. The caller hears of what fails.
pub(crate) fn keep_launcher(launcher: &Path, grants: &[CredentialName], terminal: Option<u8>) -> Result<(), KeepError> {
    let link = Link::from_fd(inherited(LINK)?).map_err(KeepError::Link)?;
    let kept = prepare(launcher, grants, terminal).inspect_err(|error| {
        // Who does not hear it has gone.
        let _told = link.report(&FromKeeper::Unfit(with_causes(error)));
    });
    let Prepared { mut command, children, terminal, passed: _passed } = kept?;
    link.report(&FromKeeper::Ready(None)).map_err(KeepError::Link)?;
    let terminal = terminal.as_ref().map(AsFd::as_fd);
    match keep(&link, children, &mut command, terminal) {
        Ok(Kept::Ended(_)) => Ok(()),
        Ok(Kept::Abandoned) => {
            end_all();
            Ok(())
        }
        Err(error) => {
            end_all();
            Err(KeepError::Keep(error))
        }
    }
}

struct Prepared {
    command: Command,
    children: Signals,
    terminal: Option<OwnedFd>,
    passed: Vec<OwnedFd>,
}

fn prepare(launcher: &Path, grants: &[CredentialName], terminal: Option<u8>) -> Result<Prepared, KeepError> {
    // The hang-up of a terminal goes to who leads its session. The program gets its own.
    let hung_up = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(Signal::HUP.as_raw(), hung_up).map_err(KeepError::Signals)?;
    let children = Signals::of_children().map_err(KeepError::Signals)?;
    set_child_subreaper(Some(getpid())).map_err(KeepError::Reap)?;
    let terminal = terminal.map(|stream| stream_of(stream).try_clone_to_owned()).transpose();
    let terminal = terminal.map_err(KeepError::Terminal)?;
    lead(terminal.as_ref()).map_err(KeepError::Keep)?;
    fchdir(inherited(DIRECTORY)?).map_err(KeepError::Directory)?;
    let words = Handle::from_fd_within(inherited(WORDS)?, MAX_STRINGS).and_then(|words| words.read());
    let words = words.map_err(KeepError::Words)?;
    let mut passed = vec![inherited(OUTSIDER)?, inherited(ENVIRONMENT)?];
    let mut command = Command::new(launcher);
    command.env_clear().args(["--protection", "own-namespace", "--keeper", &getpid().to_string()]);
    command.args(["--outsider-fd", &OUTSIDER.to_string(), "--environment-fd", &ENVIRONMENT.to_string()]);
    for (number, name) in (GRANT..).zip(grants) {
        passed.push(inherited(number)?);
        command.args(["--grant-fd", &format!("{number}={name}")]);
    }
    command.args(split(&words).map_err(KeepError::Strings)?.into_iter().map(OsStr::from_bytes));
    let borrowed: Vec<_> = passed.iter().map(AsFd::as_fd).collect();
    close_on_exec_all_but(&borrowed).map_err(KeepError::Pass)?;
    Ok(Prepared { command, children, terminal, passed })
}

fn stream_of(number: u8) -> BorrowedFd<'static> {
    match number {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        _ => rustix::stdio::stderr(),
    }
}

fn inherited(number: RawFd) -> Result<OwnedFd, KeepError> {
    take_inherited(number).map_err(|source| KeepError::Missing { number, source })
}

/// As when a terminal is closed; what has not ended a little later is made to. All that a program started becomes a child
/// of this process when its own parent ends.
fn end_all() {
    for child in children() {
        let group = getpgid(Some(child)).ok().filter(|group| Ok(*group) != getpgid(None));
        for signal in [Signal::HUP, Signal::CONT] {
            // Who is gone needs no signal.
            let _sent = group.map_or_else(|| kill_process(child, signal), |group| kill_process_group(group, signal));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        let left = children();
        if left.is_empty() {
            return;
        }
        if deadline <= Instant::now() {
            for child in &left {
                let _sent = kill_process(*child, Signal::KILL);
            }
        }
        pause();
    }
}

/// Processes that this one would have to bury, as the kernel lists them.
fn children() -> Vec<Pid> {
    let listed = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    listed.split_ascii_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
}

/// Until something may have changed; the end of a child cuts it short.
fn pause() {
    let nothing: &mut [PollFd<'_>] = &mut [];
    let _woken = poll(nothing, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
}

/// Between a caller's end and that of a program which does not end by `SIGHUP`.
const PATIENCE: Duration = Duration::from_secs(3);
