//! What the kernel did when it was asked in earnest.

use blindferry_handle::attempt;
use blindferry_handle::entry::{Entered, EntryError};
use blindferry_handle::memfd::{Execution, create};
use blindferry_handle::packet::PacketSocket;
use rustix::fs::{MemfdFlags, Mode, fchmod};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::error::Error;
use std::io;

/// What was tried, each with what the kernel said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// How the process that asks was started.
    pub start: Start,
    /// An executable memfd that cannot be read.
    pub exec_only_memory: Result<(), Errno>,
    /// A pidfd of the other end of a socket.
    pub peer_pidfd: Result<(), String>,
    /// [`attempt::filtered_calls`].
    pub filtered_calls: Result<(), Errno>,
    /// [`attempt::secret_memory`].
    pub secret_memory: Result<(), Errno>,
    /// [`attempt::landlock_abi`].
    pub landlock_abi: Result<u32, Errno>,
    /// [`attempt::no_writable_code`].
    pub no_writable_code: Result<(), Errno>,
    /// [`attempt::protection_keys`].
    pub protection_keys: Result<(), Errno>,
    /// [`attempt::user_namespace`].
    pub user_namespace: Result<(), Errno>,
    /// [`attempt::io_uring`].
    pub io_uring: Result<(), Errno>,
    /// `RLIMIT_MEMLOCK` of this process, in bytes; nothing means no limit, or the capability to go past it.
    pub locked_memory: Option<u64>,
    /// Whether this process is root's, whom the kernel allows what it forbids others.
    pub is_root: bool,
}

/// How a process of ours was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nobody could read it from its first instruction on.
    Unreadable,
    /// It was readable; it holds the capabilities to read everything, which defeats an executable that cannot be read.
    ReadsEverything,
    /// It was readable.
    Readable,
    /// It refused to go on, for this reason.
    Refused(String),
}

impl Start {
    /// By the answer of [`blindferry_handle::entry::enter`].
    #[must_use]
    pub fn of(entered: Result<&Entered, &EntryError>) -> Self {
        match entered {
            Ok(entered) if entered.non_dumpable_from_exec() => Self::Unreadable,
            Ok(_) if reads_everything() => Self::ReadsEverything,
            Ok(_) => Self::Readable,
            Err(error) => {
                let causes = std::iter::successors(error.source(), |error| (*error).source());
                Self::Refused(causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}")))
            }
        }
    }
}

impl Tried {
    /// Tries everything, here and now. Nothing of it stays behind.
    #[must_use]
    pub fn now(start: Start) -> Self {
        Self {
            start,
            exec_only_memory: exec_only_memory(),
            peer_pidfd: peer_pidfd(),
            filtered_calls: attempt::filtered_calls().map_err(number),
            secret_memory: attempt::secret_memory().map_err(number),
            landlock_abi: attempt::landlock_abi().map_err(number),
            no_writable_code: attempt::no_writable_code().map_err(number),
            protection_keys: attempt::protection_keys().map_err(number),
            user_namespace: attempt::user_namespace().map_err(number),
            io_uring: attempt::io_uring().map_err(number),
            locked_memory: locked_memory(),
            is_root: geteuid().is_root(),
        }
    }
}

/// As the images of [`blindferry_handle::image`] are made.
fn exec_only_memory() -> Result<(), Errno> {
    let memory = create("probe", Execution::Allowed, MemfdFlags::ALLOW_SEALING)?;
    fchmod(memory, Mode::XUSR | Mode::XGRP | Mode::XOTH)
}

fn peer_pidfd() -> Result<(), String> {
    let (ours, _theirs) = PacketSocket::pair().map_err(|error| error.to_string())?;
    ours.peer().map(drop).map_err(|error| error.to_string())
}

fn locked_memory() -> Option<u64> {
    let exempt = capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::IPC_LOCK));
    if exempt { None } else { getrlimit(Resource::Memlock).current }
}

fn reads_everything() -> bool {
    capabilities(None)
        .is_ok_and(|held| held.effective.intersects(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH))
}

fn number(error: io::Error) -> Errno {
    // Every attempt ends with a number of the kernel's.
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
