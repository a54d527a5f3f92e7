//! Who connected: the credentials the kernel recorded, pinned by a pidfd.
//!
//! Both come from the moment of `connect` (or of `socketpair`), not from the moment of asking. A peer that connects
//! and then executes another program keeps its pidfd, and a descriptor may have been passed on since: a [`Peer`] says
//! which process *made* the connection and whether that process still lives, and nothing about the program it runs.
//! On a socket inherited from a launcher, the maker is the launcher.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

/// The process that made a connection. Holding one tells you that it was alive when asked, and under which user.
#[derive(Debug)]
pub struct Peer {
    pid: i32,
    uid: u32,
    gid: u32,
    pidfd: OwnedFd,
}

/// Why a peer could not be identified. Each is a reason to refuse it.
#[derive(Debug, Error)]
pub enum PeerError {
    /// `SO_PEERCRED` failed: not a connected Unix socket.
    #[error("cannot read the peer's credentials")]
    Credentials {
        /// What the kernel said.
        source: io::Error,
    },
    /// `SO_PEERPIDFD` is missing: Linux before 6.5.
    #[error("the kernel has no SO_PEERPIDFD, Linux 6.5 or later is needed")]
    Unsupported,
    /// `SO_PEERPIDFD` failed.
    #[error("cannot get a pidfd of the peer")]
    Pidfd {
        /// What the kernel said.
        source: io::Error,
    },
    /// `SO_PEERGROUPS` failed, or there are more than [`MAX_GROUPS`].
    #[error("cannot read the peer's groups")]
    Groups {
        /// What the kernel said.
        source: io::Error,
    },
    /// The process that connected has ended; whoever uses its socket now is somebody else.
    #[error("the process that connected has ended")]
    Dead,
}

impl Peer {
    /// The process that made the connection behind `socket` (`SO_PEERCRED` and `SO_PEERPIDFD`, unix(7)).
    ///
    /// # Errors
    ///
    /// [`PeerError::Dead`] when that process has ended, even when another holds its end of the socket by now.
    pub fn of(socket: impl AsFd) -> Result<Self, PeerError> {
        let socket = socket.as_fd();
        // SAFETY: `struct ucred` is three integers, for which zero is a value. Not rustix's UCred: its pid is non-zero
        // by type, while the kernel reports 0 for a peer outside our pid namespace.
        let mut credentials: libc::ucred = unsafe { std::mem::zeroed() };
        // SAFETY: SO_PEERCRED writes one `struct ucred`; integers, so every bit pattern is valid.
        unsafe { option(socket, libc::SO_PEERCRED, &mut credentials) }
            .map_err(|source| PeerError::Credentials { source })?;
        Ok(Self { pid: credentials.pid, uid: credentials.uid, gid: credentials.gid, pidfd: living_pidfd(socket)? })
    }

    /// Its process id in our pid namespace, 0 when it is outside. **For logs only**: a number is recycled as soon as
    /// the process is reaped. Whatever decides, use [`Peer::pidfd`].
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its effective user when it connected.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its effective group when it connected.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Its pidfd, close-on-exec. Readable (`POLLIN`) once the process has ended, so that an event loop can wait for it.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The pidfd alone, for whoever watches the process from now on.
    #[must_use]
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Whether the process has not ended yet. Asked by poll(2), which needs no permission to signal it; a zombie has
    /// ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive(self.pidfd.as_fd())
    }
}

/// The supplementary groups of the process that made the connection behind `socket`, as they were then
/// (`SO_PEERGROUPS`, unix(7)). `/proc` would tell those of now, which a set-user-ID program may have changed meanwhile.
///
/// # Errors
///
/// [`PeerError::Groups`]; also when there are more than [`MAX_GROUPS`].
pub fn groups(socket: impl AsFd) -> Result<Vec<u32>, PeerError> {
    let failed = |source| PeerError::Groups { source };
    let mut groups = vec![0_u32; MAX_GROUPS];
    let room = libc::socklen_t::try_from(MAX_GROUPS * size_of::<u32>());
    let mut written = room.map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    // SAFETY: `groups` is valid for writes of `written` bytes, which bounds what the kernel writes: whole integers of 32
    // bits, of which every pattern is valid.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut written,
        )
    };
    if result != 0 {
        // ERANGE when there are more.
        return Err(failed(io::Error::last_os_error()));
    }
    groups.truncate(written as usize / size_of::<u32>());
    Ok(groups)
}

/// The most supplementary groups that are told.
pub const MAX_GROUPS: usize = 1024;

/// Whether the process behind a pidfd has not ended yet. When the kernel will not say, it counts as ended.
#[must_use]
pub fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut waited = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    loop {
        match poll(&mut waited, Some(&Timespec::default())) {
            Ok(ready) => return ready == 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn living_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, PeerError> {
    let mut number: libc::c_int = -1;
    // SAFETY: SO_PEERPIDFD writes one int.
    let asked = unsafe { option(socket, SO_PEERPIDFD, &mut number) };
    match asked {
        Ok(()) if number >= 0 => {}
        Ok(()) => return Err(PeerError::Dead),
        // ESRCH, and EINVAL on some versions: the peer was reaped and the kernel will make no pidfd of it any more.
        Err(source) if matches!(source.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => {
            return Err(PeerError::Dead);
        }
        Err(source) if source.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            return Err(PeerError::Unsupported);
        }
        Err(source) => return Err(PeerError::Pidfd { source }),
    }
    // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(number) };
    if is_alive(pidfd.as_fd()) { Ok(pidfd) } else { Err(PeerError::Dead) }
}

/// Reads a socket option of level `SOL_SOCKET` that is exactly a `T`.
///
/// # Safety
///
/// The kernel must write a `T` for `name`, or any bytes must make a valid `T`.
unsafe fn option<T>(socket: BorrowedFd<'_>, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let Ok(size) = libc::socklen_t::try_from(size_of::<T>()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut written = size;
    // SAFETY: `value` is valid for writes of `size` bytes, which bounds what the kernel writes; the caller vouches for
    // what those bytes are.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, std::ptr::from_mut(value).cast(), &raw mut written)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if written == size { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// `include/uapi/asm-generic/socket.h`, since Linux 6.5. Not yet in libc for every target.
const SO_PEERPIDFD: libc::c_int = 77;

/// `include/uapi/asm-generic/socket.h`, since Linux 4.13.
const SO_PEERGROUPS: libc::c_int = 59;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PacketSocket;

    #[test]
    fn our_own_pair_has_this_processs_groups() {
        let (one, _other) = PacketSocket::pair().unwrap();
        let mut own: Vec<u32> = rustix::process::getgroups().unwrap().into_iter().map(|group| group.as_raw()).collect();
        let mut told = groups(&one).unwrap();
        own.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, own);
    }

    #[test]
    fn our_own_pair_names_this_process() {
        let (one, _other) = PacketSocket::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(u32::try_from(peer.pid()).unwrap(), std::process::id());
        assert_eq!(peer.uid(), rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid(), rustix::process::getegid().as_raw());
        assert!(peer.is_alive());
    }

    #[test]
    fn what_is_not_a_socket_has_no_peer() {
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert!(matches!(Peer::of(&pipe), Err(PeerError::Credentials { .. })));
    }
}
