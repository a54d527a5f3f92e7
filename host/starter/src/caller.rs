//! Who calls: user, groups and limits, as the kernel tells them of the process that connected, and whether that process
//! is confined.
//!
//! A program that is started here is a child of the starter's, and inherits nothing of what confines the caller: no
//! filter of system calls, no Landlock domain, no namespace. So a confined caller gets none, or the starter would be the
//! way out of every sandbox that lets its socket be reached.

use crate::limits::{BadLimits, Limit, parse};
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::peer::{Peer, PeerError, groups};
use blindferry_proto::start::{StartCode, StartRefusal};
use std::fs;
use std::io;

/// A process without confinement, of a user who is not root. Holding one tells you that it lived when that was asked.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) limits: Vec<Limit>,
}

/// Why nothing is started for a caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    #[error("cannot tell who calls")]
    Peer(#[from] PeerError),
    #[error("cannot read {file} of process {process}")]
    Read { process: i32, file: &'static str, source: io::Error },
    #[error("cannot tell the limits of process {process}")]
    Limits { process: i32, source: BadLimits },
    #[error("the caller is root")]
    Root,
    #[error("the caller is confined: {by}")]
    Confined { by: &'static str },
}

impl Caller {
    /// The process that made the connection behind `socket`.
    ///
    /// # Errors
    /// [`CallerError`].
    pub(crate) fn of(socket: &PacketSocket) -> Result<Self, CallerError> {
        let peer = socket.peer()?;
        if peer.uid() == 0 {
            return Err(CallerError::Root);
        }
        let process = peer.pid();
        if process == 0 {
            return Err(CallerError::Confined { by: "a PID namespace beside the starter's" });
        }
        let read = |process: &str, file| fs::read_to_string(format!("/proc/{process}/{file}"));
        let theirs =
            |file| read(&process.to_string(), file).map_err(|source| CallerError::Read { process, file, source });
        let own = |file| read("self", file).map_err(|source| CallerError::Read { process: 0, file, source });
        let confinement = confinement(&theirs("status")?, &own("status")?, theirs("uid_map")? == own("uid_map")?);
        let limits = parse(&theirs("limits")?).map_err(|source| CallerError::Limits { process, source })?;
        let groups = groups(socket)?;
        // Only now is it sure that all this was said of it, and not of a later process by its number.
        require_alive(&peer)?;
        match confinement {
            Some(by) => Err(CallerError::Confined { by }),
            None => Ok(Self { uid: peer.uid(), gid: peer.gid(), groups, limits }),
        }
    }
}

impl CallerError {
    /// What the caller is told.
    pub(crate) fn refusal(&self) -> StartRefusal {
        match self {
            Self::Root => StartRefusal::new(StartCode::Root, "nothing can be kept from root: run without --via broker"),
            Self::Confined { by } => StartRefusal::new(
                StartCode::Confined,
                &format!(
                    "this process is confined ({by}), and what it starts here would not be: run without --via broker"
                ),
            ),
            Self::Peer(_) | Self::Read { .. } | Self::Limits { .. } => {
                StartRefusal::new(StartCode::Internal, "the starter cannot tell who calls; its log has more")
            }
        }
    }
}

fn require_alive(peer: &Peer) -> Result<(), PeerError> {
    if peer.is_alive() { Ok(()) } else { Err(PeerError::Dead) }
}

/// What confines a process, by its `/proc/PID/status` and the starter's own.
fn confinement(theirs: &str, own: &str, same_users: bool) -> Option<&'static str> {
    let number = |status, name| field(status, name).and_then(|value| value.parse::<u64>().ok());
    match () {
        () if field(theirs, "NSpid").is_none_or(|ids| ids.split_ascii_whitespace().count() != 1) => {
            Some("a PID namespace of its own")
        }
        () if !same_users => Some("a user namespace of its own"),
        // Whatever needs no privilege to confine itself needs this flag.
        () if number(theirs, "NoNewPrivs") != Some(0) => Some("no_new_privs"),
        () if number(theirs, "Seccomp_filters").is_none_or(|n| n > number(own, "Seccomp_filters").unwrap_or(0)) => {
            Some("a filter of system calls")
        }
        () => None,
    }
}

fn field<'status>(status: &'status str, name: &str) -> Option<&'status str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: &str = "Name:\tsh\nNSpid:\t77\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n";

    #[test]
    fn what_confines_a_caller_is_seen() {
        let of = |theirs: &str| confinement(theirs, FREE, true);
        assert_eq!(of(FREE), None);
        assert_eq!(of(&FREE.replace("77", "77\t3")), Some("a PID namespace of its own"));
        assert_eq!(of(&FREE.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1")), Some("no_new_privs"));
        assert_eq!(of(&FREE.replace("filters:\t0", "filters:\t1")), Some("a filter of system calls"));
        assert_eq!(confinement(FREE, FREE, false), Some("a user namespace of its own"));
    }

    #[test]
    fn what_is_not_said_is_no_freedom() {
        for line in ["NSpid:\t77\n", "NoNewPrivs:\t0\n", "Seccomp_filters:\t0\n"] {
            assert!(confinement(&FREE.replace(line, ""), FREE, true).is_some(), "{line}");
        }
    }

    #[test]
    fn a_filter_that_the_starter_has_too_is_the_machines() {
        let filtered = FREE.replace("filters:\t0", "filters:\t1");
        assert_eq!(confinement(&filtered, &filtered, true), None);
    }
}
