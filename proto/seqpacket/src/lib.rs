//! Packets with descriptors between processes of one host, under tokio.
//!
//! The socket, its bounds and its refusals are those of [`blindferry_handle::packet`]; this crate only waits for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use blindferry_handle::packet::{Packet, PacketError, PacketListener, PacketSocket, SocketError};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::time::sleep;

/// A packet socket that waits without blocking. Several tasks may use one through a shared reference; each packet goes
/// to one of them, whole.
#[derive(Debug)]
pub struct AsyncPackets(AsyncFd<PacketSocket>);

impl AsyncPackets {
    /// Makes the socket non-blocking and registers it. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn new(socket: PacketSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the socket owns its descriptor for as long as it lives"
        )]
        AsyncFd::with_interest(socket, Interest::READABLE).map(Self)
    }

    /// Sends one packet, waiting for room. Cancel-safe: if dropped before it is ready, nothing was sent.
    ///
    /// # Errors
    ///
    /// As [`PacketSocket::send`].
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), PacketError> {
        loop {
            match self.0.get_ref().send(bytes, descriptors) {
                Err(error) if error.is_would_block() => {
                    if self.room().await.is_err() {
                        // No descriptor is left to wait with, and the socket is as good as before.
                        sleep(PAUSE).await;
                    }
                }
                done => return done,
            }
        }
    }

    /// Waits until the peer has taken something. Registered for this alone: a socket that always is would wake us each
    /// time that the peer takes a packet.
    async fn room(&self) -> io::Result<()> {
        let socket = self.0.get_ref().as_fd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor is owned for as long as it is waited for"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::WRITABLE)?;
        let _ready = socket.writable().await?;
        Ok(())
    }

    /// Receives one packet, waiting for it. Cancel-safe: if dropped before it is ready, nothing was taken.
    ///
    /// # Errors
    ///
    /// As [`PacketSocket::receive`].
    pub async fn receive(&self) -> Result<Packet, PacketError> {
        loop {
            let mut ready = self.0.readable().await.map_err(|source| PacketError::Receive { source })?;
            match self.0.get_ref().receive() {
                Err(error) if error.is_would_block() => ready.clear_ready_matching(Ready::READABLE),
                done => return done,
            }
        }
    }

    /// The socket itself, for asking who is at the other end. It is non-blocking.
    #[must_use]
    pub fn socket(&self) -> &PacketSocket {
        self.0.get_ref()
    }

    /// The socket alone, still non-blocking.
    #[must_use]
    pub fn into_socket(self) -> PacketSocket {
        self.0.into_inner()
    }
}

/// A packet listener that waits without blocking.
#[derive(Debug)]
pub struct AsyncListener(AsyncFd<PacketListener>);

impl AsyncListener {
    /// Makes the listener non-blocking and registers it. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn new(listener: PacketListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the socket owns its descriptor for as long as it lives"
        )]
        AsyncFd::with_interest(listener, Interest::READABLE).map(Self)
    }

    /// The next connection. Cancel-safe: if dropped before it is ready, no connection was taken.
    ///
    /// # Errors
    ///
    /// As [`PacketListener::accept`]; a listener that ran out of descriptors answers so until some are closed, and the
    /// caller should wait a little before the next attempt.
    pub async fn accept(&self) -> Result<AsyncPackets, SocketError> {
        loop {
            let mut ready = self.0.readable().await.map_err(|source| SocketError::Accept { source })?;
            match self.0.get_ref().accept() {
                Err(error) if error.is_would_block() => ready.clear_ready(),
                Ok(socket) => {
                    return AsyncPackets::new(socket).map_err(|source| SocketError::Accept { source });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The listener itself.
    #[must_use]
    pub fn listener(&self) -> &PacketListener {
        self.0.get_ref()
    }
}

/// Between two tries to send where nothing says when there is room.
const PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use blindferry_handle::packet::MAX_PACKET;
    use tokio::time::timeout;

    use super::*;

    fn pair() -> (AsyncPackets, AsyncPackets) {
        let (one, other) = PacketSocket::pair().unwrap();
        (AsyncPackets::new(one).unwrap(), AsyncPackets::new(other).unwrap())
    }

    #[tokio::test]
    async fn a_packet_that_comes_later_is_waited_for() {
        let (one, other) = pair();
        let (reader, _writer) = io::pipe().unwrap();
        let waiting = tokio::spawn(async move { other.receive().await });
        tokio::task::yield_now().await;
        one.send(b"here", &[reader.as_fd()]).await.unwrap();
        let packet = waiting.await.unwrap().unwrap();
        assert_eq!((packet.bytes.as_slice(), packet.descriptors.len()), (b"here".as_slice(), 1));
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for_and_nothing_is_lost_or_reordered() {
        let (one, other) = pair();
        let sender = tokio::spawn(async move {
            for mark in 0..50_u8 {
                one.send(&vec![mark; MAX_PACKET], &[]).await.unwrap();
            }
        });
        for mark in 0..50_u8 {
            let packet = other.receive().await.unwrap();
            assert_eq!((packet.bytes.len(), packet.bytes.first()), (MAX_PACKET, Some(&mark)));
        }
        sender.await.unwrap();
        assert!(matches!(other.receive().await, Err(PacketError::Closed)));
    }

    #[tokio::test]
    async fn a_cancelled_wait_loses_no_packet() {
        let (one, other) = pair();
        for mark in 0..20_u8 {
            assert!(timeout(Duration::from_millis(1), other.receive()).await.is_err());
            one.send(&[mark], &[]).await.unwrap();
            assert_eq!(other.receive().await.unwrap().bytes, [mark]);
        }
    }

    #[tokio::test]
    async fn a_listener_serves_one_connection_after_another() {
        let path = std::env::temp_dir().join(format!("blindferry-seqpacket-{}", std::process::id()));
        let listener = AsyncListener::new(PacketListener::bind(&path, 0o600).unwrap()).unwrap();
        assert!(timeout(Duration::from_millis(1), listener.accept()).await.is_err());
        for round in 0..3_u8 {
            let client = PacketSocket::connect(&path).unwrap();
            let served = listener.accept().await.unwrap();
            client.send(&[round], &[]).unwrap();
            assert_eq!(served.receive().await.unwrap().bytes, [round]);
            assert!(served.socket().peer().unwrap().is_alive());
        }
        drop(listener);
        assert!(!path.exists());
    }
}
