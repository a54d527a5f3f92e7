//! How a worker reaches its broker: a socket at a path, or a connection that was opened for it.

use blindferry_handle::packet::{PacketSocket, SocketError, path_of_socket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use blindferry_proto::local::WORKERS_VARIABLE;

/// Where the broker answers workers when nothing else is said.
pub const DEFAULT_WORKERS: &str = "/run/blindferry/workers.sock";

/// The path in `BLINDFERRY_WORKERS`, else [`DEFAULT_WORKERS`].
///
/// A wrong path costs the token's availability, not its secrecy: a false broker has nothing to put into a parcel. It
/// could hand over a token of its own making, see [`crate::Worker::expect_sender`].
#[must_use]
pub fn workers_socket() -> PathBuf {
    path_of_socket(WORKERS_VARIABLE, DEFAULT_WORKERS)
}

/// The way to a broker, kept so that a lost connection can be made again.
#[derive(Clone, Debug)]
pub(crate) enum Road {
    /// A path: connecting again is possible.
    Path(PathBuf),
    /// A connection that somebody else opened: when it is lost, it is lost.
    Inherited,
}

impl Road {
    pub(crate) fn to_path(path: &Path) -> Result<(Self, PacketSocket), SocketError> {
        Ok((Self::Path(path.to_owned()), PacketSocket::connect(path)?))
    }

    pub(crate) fn inherited(connection: OwnedFd) -> Result<(Self, PacketSocket), SocketError> {
        Ok((Self::Inherited, PacketSocket::from_fd(connection)?))
    }

    /// A new connection, where there is a way to make one.
    pub(crate) fn again(&self) -> Option<Result<PacketSocket, SocketError>> {
        match self {
            Self::Path(path) => Some(PacketSocket::connect(path)),
            Self::Inherited => None,
        }
    }
}
