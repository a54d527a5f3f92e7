//! Listening for packet connections on a path in the file system.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, chmod, fchmod, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags, accept_with, bind, connect, listen, sockopt};

use super::{PacketSocket, SocketError, new_socket, require_kind, set_up};

/// A listening `SOCK_SEQPACKET` Unix socket. One that it bound itself is unlinked on drop, unless something else has
/// taken its place by then.
#[derive(Debug)]
pub struct PacketListener {
    socket: OwnedFd,
    bound: Option<Bound>,
}

#[derive(Debug)]
struct Bound {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl PacketListener {
    /// Listens on `path`, at most 107 bytes long, with exactly the permission bits `mode` (whoever may write may
    /// connect). They are in force before the first connection can be made.
    ///
    /// A socket left behind is replaced when nothing answers on it. Anything else in the way is left alone, and the
    /// last component is never followed as a symbolic link. The directory must be one that only trusted users can
    /// write to.
    ///
    /// # Errors
    ///
    /// [`SocketError::Occupied`], [`SocketError::InUse`], or [`SocketError::Bind`] with what the kernel said.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, SocketError> {
        let failed = |error: Errno| SocketError::Bind { path: path.to_owned(), source: error.into() };
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        remove_stale(path, &address)?;
        let mode = Mode::from_raw_mode(mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
        let socket = new_socket()?;
        // Before the bind: unix_bind() creates the file with the mode of the socket's own inode, less the umask.
        fchmod(&socket, mode).map_err(failed)?;
        bind(&socket, &address).map_err(|error| match error {
            Errno::ADDRINUSE => SocketError::InUse { path: path.to_owned() },
            error => failed(error),
        })?;
        let status = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let listener =
            Self { socket, bound: Some(Bound { path: path.to_owned(), device: status.st_dev, inode: status.st_ino }) };
        if Mode::from_raw_mode(status.st_mode) != mode {
            undo_umask(path, mode).map_err(failed)?;
        }
        // Only now can anybody connect.
        listen(&listener.socket, BACKLOG).map_err(failed)?;
        Ok(listener)
    }

    /// Takes a listening socket that was inherited, for instance from a service manager. Its path is not ours to
    /// unlink.
    ///
    /// # Errors
    ///
    /// [`SocketError::WrongKind`] or [`SocketError::WrongRole`] for anything else.
    pub fn from_fd(descriptor: OwnedFd) -> Result<Self, SocketError> {
        require_kind(&descriptor)?;
        if !sockopt::socket_acceptconn(&descriptor).map_err(set_up)? {
            return Err(SocketError::WrongRole);
        }
        Ok(Self { socket: descriptor, bound: None })
    }

    /// The next connection, blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// [`SocketError::Accept`], which [`SocketError::is_would_block`] may know.
    pub fn accept(&self) -> Result<PacketSocket, SocketError> {
        loop {
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Ok(socket) => return PacketSocket::prepared(socket),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    return Err(SocketError::Accept { source: error.into() });
                }
            }
        }
    }

    /// Whether [`Self::accept`] fails instead of waiting. Accepted sockets are blocking all the same.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, nonblocking)?)
    }
}

impl AsFd for PacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PacketListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for PacketListener {
    fn drop(&mut self) {
        let Some(bound) = &self.bound else { return };
        let ours = |status: Stat| status.st_dev == bound.device && status.st_ino == bound.inode;
        if statat(CWD, &bound.path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(ours) {
            // Nobody is left to tell, and the next bind replaces what stays behind.
            let _unlinked = unlinkat(CWD, &bound.path, AtFlags::empty());
        }
    }
}

fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), SocketError> {
    let failed = |error: Errno| SocketError::Bind { path: path.to_owned(), source: error.into() };
    let status = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => status,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if FileType::from_raw_mode(status.st_mode) != FileType::Socket {
        return Err(SocketError::Occupied { path: path.to_owned() });
    }
    // Not waiting: a listener that is too busy to accept is alive.
    let probe = new_socket()?;
    rustix::io::ioctl_fionbio(&probe, true).map_err(set_up)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => unlinkat(CWD, path, AtFlags::empty()).map_err(failed),
        // Connected, or a full backlog, or a socket of another type, or no permission to ask: somebody may live there.
        Ok(()) | Err(_) => Err(SocketError::InUse { path: path.to_owned() }),
    }
}

/// Gives the socket file the bits that the umask took, through a descriptor that is known to be that socket file.
fn undo_umask(path: &Path, mode: Mode) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::Socket {
        return Err(Errno::NOTSOCK);
    }
    chmod(crate::image::descriptor_path(file.as_fd()), mode)
}

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 128;
