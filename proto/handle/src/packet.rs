//! Packets with descriptors between processes of one host: `SOCK_SEQPACKET` Unix sockets.
//!
//! A packet arrives whole or not at all, so there is no framing to get wrong, and descriptors cannot drift from the
//! bytes they belong to. A packet that breaks a bound is refused as a whole, and the descriptors that came with it are
//! closed.

use std::cell::RefCell;
use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    shutdown, socket_with, socketpair, sockopt,
};
use thiserror::Error;

use crate::peer::{Peer, PeerError};

pub use crate::packet::listener::PacketListener;
use crate::packet::room::Room;

mod listener;
mod room;

/// Where a socket is: the path in this environment variable, else the usual one. An empty variable says nothing.
#[must_use]
pub fn path_of_socket(variable: &str, usual: &str) -> PathBuf {
    env::var_os(variable).filter(|path| !path.is_empty()).map_or_else(|| usual.into(), PathBuf::from)
}

/// The most bytes in one packet.
pub const MAX_PACKET: usize = 128 * 1024;

/// The most descriptors in one packet.
pub const MAX_DESCRIPTORS: usize = 4;

/// What arrived in one piece. Descriptors are close-on-exec, and closed unless taken out.
#[derive(Debug)]
pub struct Packet {
    /// 1 to [`MAX_PACKET`] bytes.
    pub bytes: Vec<u8>,
    /// At most [`MAX_DESCRIPTORS`], in the order sent. What they are is the receiver's to check.
    pub descriptors: Vec<OwnedFd>,
}

/// A connected `SOCK_SEQPACKET` Unix socket.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

/// Why a packet was not sent or was refused on arrival.
#[derive(Debug, Error)]
pub enum PacketError {
    /// The other end is gone.
    #[error("the other end has closed the connection")]
    Closed,
    /// A packet without bytes, which on arrival could not be told from the end of the connection.
    #[error("a packet needs at least one byte")]
    Empty,
    /// More than [`MAX_PACKET`] bytes to send.
    #[error("{len} bytes are more than a packet may hold")]
    TooLong {
        /// How many bytes there are.
        len: usize,
    },
    /// More than [`MAX_DESCRIPTORS`] descriptors, to send or received.
    #[error("{count} descriptors are more than a packet may carry")]
    TooManyDescriptors {
        /// How many descriptors there are.
        count: usize,
    },
    /// A packet of more than [`MAX_PACKET`] bytes arrived; all of it is dropped.
    #[error("a packet of more than {MAX_PACKET} bytes arrived")]
    Truncated,
    /// More descriptors arrived than fit, or than this process may have open; all of the packet is dropped.
    #[error("the descriptors of a packet did not all arrive")]
    DescriptorsTruncated,
    /// sendmsg(2) failed.
    #[error("cannot send a packet")]
    Send {
        /// What the kernel said.
        source: io::Error,
    },
    /// recvmsg(2) failed.
    #[error("cannot receive a packet")]
    Receive {
        /// What the kernel said.
        source: io::Error,
    },
}

impl PacketError {
    /// Whether the socket is non-blocking and the call would have had to wait. Nothing was sent or taken.
    #[must_use]
    pub fn is_would_block(&self) -> bool {
        matches!(self, Self::Send { source } | Self::Receive { source } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Why a packet socket could not be made.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The descriptor is not a `SOCK_SEQPACKET` Unix socket.
    #[error("the descriptor is not a SOCK_SEQPACKET Unix socket")]
    WrongKind,
    /// A connected socket was given where a listening one is needed, or the reverse.
    #[error("the socket is listening where a connection is needed, or the reverse")]
    WrongRole,
    /// The kernel allows a smaller send buffer (`net.core.wmem_max`) than a packet needs.
    #[error("a send buffer of {granted} bytes cannot hold a packet, raise net.core.wmem_max")]
    SmallBuffer {
        /// The size that the kernel granted, in bytes.
        granted: usize,
    },
    /// Making or setting up a socket failed.
    #[error("cannot set up a packet socket")]
    SetUp {
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing answers at this path, or not us.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something other than a socket is in the way; it is left alone. A symbolic link counts as such.
    #[error("{} is not a socket and will not be replaced", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// A living process answers on this path.
    #[error("somebody is listening on {} already", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Listening at this path failed.
    #[error("cannot listen on {}", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// accept(2) failed.
    #[error("cannot accept a connection")]
    Accept {
        /// What the kernel said.
        source: io::Error,
    },
}

impl SocketError {
    /// Whether a non-blocking listener has nobody to accept.
    #[must_use]
    pub fn is_would_block(&self) -> bool {
        matches!(self, Self::Accept { source } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

impl PacketSocket {
    /// Two ends of one connection, blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// [`SocketError::SetUp`] or [`SocketError::SmallBuffer`].
    pub fn pair() -> Result<(Self, Self), SocketError> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(set_up)?;
        Ok((Self::prepared(one)?, Self::prepared(other)?))
    }

    /// Connects to the listener at `path`, at most 107 bytes long. Blocking and close-on-exec.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] when nobody answers there.
    pub fn connect(path: &Path) -> Result<Self, SocketError> {
        let refused = |error: Errno| SocketError::Connect { path: path.to_owned(), source: error.into() };
        let address = SocketAddrUnix::new(path).map_err(refused)?;
        let socket = Self::prepared(new_socket()?)?;
        connect(&socket, &address).map_err(refused)?;
        Ok(socket)
    }

    /// Takes a descriptor that was inherited or received, once it has been seen to be a connected `SOCK_SEQPACKET`
    /// Unix socket. Otherwise it is closed.
    ///
    /// # Errors
    ///
    /// [`SocketError::WrongKind`] or [`SocketError::WrongRole`] for anything else.
    pub fn from_fd(descriptor: OwnedFd) -> Result<Self, SocketError> {
        require_kind(&descriptor)?;
        if sockopt::socket_acceptconn(&descriptor).map_err(set_up)? {
            return Err(SocketError::WrongRole);
        }
        Self::prepared(descriptor)
    }

    fn prepared(descriptor: OwnedFd) -> Result<Self, SocketError> {
        sockopt::set_socket_send_buffer_size(&descriptor, SEND_BUFFER).map_err(set_up)?;
        let granted = sockopt::socket_send_buffer_size(&descriptor).map_err(set_up)?;
        // net/unix/af_unix.c keeps 32 bytes back.
        if granted < MAX_PACKET + 32 {
            return Err(SocketError::SmallBuffer { granted });
        }
        Ok(Self(descriptor))
    }

    /// Sends one packet. The descriptors are duplicated into it: the sender's own stay open.
    ///
    /// # Errors
    ///
    /// A bound broken ([`PacketError::Empty`], [`PacketError::TooLong`], [`PacketError::TooManyDescriptors`]) before
    /// anything is sent; [`PacketError::Closed`]; [`PacketError::Send`]. Never part of a packet.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), PacketError> {
        if bytes.is_empty() {
            return Err(PacketError::Empty);
        }
        if bytes.len() > MAX_PACKET {
            return Err(PacketError::TooLong { len: bytes.len() });
        }
        let mut space = [MaybeUninit::uninit(); ANCILLARY];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if descriptors.len() > MAX_DESCRIPTORS
            || (!descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)))
        {
            return Err(PacketError::TooManyDescriptors { count: descriptors.len() });
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    return Err(PacketError::Closed);
                }
                Err(error) => {
                    return Err(PacketError::Send { source: error.into() });
                }
            }
        }
    }

    /// Receives one packet.
    ///
    /// # Errors
    ///
    /// [`PacketError::Closed`] at the end; a packet that breaks a bound is dropped, its descriptors closed, and the
    /// reason given. The connection is still usable then, but its peer does not keep to the protocol.
    pub fn receive(&self) -> Result<Packet, PacketError> {
        ROOM.with_borrow_mut(|room| {
            let room = match room {
                Some(room) => room,
                None => room.insert(Room::new().map_err(|source| PacketError::Receive { source })?),
            };
            self.receive_into(room.bytes())
        })
    }

    fn receive_into(&self, room: &mut [u8]) -> Result<Packet, PacketError> {
        let mut space = [MaybeUninit::uninit(); ANCILLARY];
        // Owns what arrives from here on: whatever is not drained is closed when it is dropped.
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(room)];
            match recvmsg(&self.0, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(PacketError::Closed),
                Err(error) => {
                    return Err(PacketError::Receive { source: error.into() });
                }
            }
        };
        // Taken out and cleared at once, whatever becomes of it: the room is there for as long as the thread.
        let bytes = room.get_mut(..received.bytes).map_or_else(Vec::new, |filled| {
            let bytes = filled.to_vec();
            filled.fill(0);
            bytes
        });
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(arrived) = message {
                descriptors.extend(arrived);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(PacketError::DescriptorsTruncated);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(PacketError::Truncated);
        }
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(PacketError::TooManyDescriptors { count: descriptors.len() });
        }
        if received.bytes == 0 {
            return Err(if descriptors.is_empty() { PacketError::Closed } else { PacketError::Empty });
        }
        Ok(Packet { bytes, descriptors })
    }

    /// Whether calls that would wait fail instead, with an error that [`PacketError::is_would_block`] knows.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, nonblocking)?)
    }

    /// The process that made this connection.
    ///
    /// # Errors
    ///
    /// [`PeerError`]; among others when that process has ended.
    pub fn peer(&self) -> Result<Peer, PeerError> {
        Peer::of(&self.0)
    }

    /// Ends the connection in both directions, for every descriptor that shares it. What has already arrived can still
    /// be received.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn shutdown(&self) -> io::Result<()> {
        Ok(shutdown(&self.0, Shutdown::Both)?)
    }

    /// The descriptor alone.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn new_socket() -> Result<OwnedFd, SocketError> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(set_up)
}

fn require_kind(descriptor: &OwnedFd) -> Result<(), SocketError> {
    let kind = |error| match error {
        Errno::NOTSOCK | Errno::BADF => SocketError::WrongKind,
        error => set_up(error),
    };
    if sockopt::socket_domain(descriptor).map_err(kind)? != AddressFamily::UNIX
        || sockopt::socket_type(descriptor).map_err(kind)? != SocketType::SEQPACKET
    {
        return Err(SocketError::WrongKind);
    }
    Ok(())
}

fn set_up(error: Errno) -> SocketError {
    SocketError::SetUp { source: error.into() }
}

/// One packet and a second that waits behind it; the kernel doubles the figure for its own bookkeeping.
const SEND_BUFFER: usize = 2 * MAX_PACKET;

/// Room for [`MAX_DESCRIPTORS`]; the kernel says `MSG_CTRUNC` when more arrive.
const ANCILLARY: usize = cmsg_space!(ScmRights(MAX_DESCRIPTORS));

thread_local! {
    /// Where packets arrive, of whichever socket: most are short, and room for the longest, cleared for each, would cost
    /// more than the packet.
    static ROOM: RefCell<Option<Room>> = const { RefCell::new(None) };
}

#[cfg(test)]
mod tests;
