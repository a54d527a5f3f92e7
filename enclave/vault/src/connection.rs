//! Whether a descriptor from the front is a connection: asked of the kernel, since the front's word is worth nothing.
//!
//! A listener, or a socket that was never connected, would only be noticed by a deadline many seconds later.

use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getpeername};
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

/// Takes a descriptor for a connection, non-blocking, if it is one: TCP over IPv4 or IPv6, with a peer.
///
/// # Errors
/// [`NotAConnection`]; the descriptor is closed then.
pub fn connection(descriptor: OwnedFd) -> Result<TcpStream, NotAConnection> {
    let stream = socket_type(&descriptor).map_err(|error| NotAConnection::Socket(error.into()))?;
    let family = socket_domain(&descriptor).map_err(|error| NotAConnection::Socket(error.into()))?;
    if stream != SocketType::STREAM || !matches!(family, AddressFamily::INET | AddressFamily::INET6) {
        return Err(NotAConnection::Kind);
    }
    if socket_acceptconn(&descriptor).map_err(|error| NotAConnection::Socket(error.into()))? {
        return Err(NotAConnection::Listens);
    }
    match getpeername(&descriptor) {
        Ok(Some(_)) => {}
        Ok(None) | Err(Errno::NOTCONN) => return Err(NotAConnection::NoPeer),
        Err(error) => return Err(NotAConnection::Socket(error.into())),
    }
    let connection = TcpStream::from(descriptor);
    connection.set_nonblocking(true).map_err(NotAConnection::Socket)?;
    Ok(connection)
}

/// What was passed is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NotAConnection {
    /// It is no socket, or one that cannot be asked.
    #[error("it is no socket")]
    Socket(#[source] io::Error),
    /// It is a socket of another kind.
    #[error("it is no socket of TCP over IPv4 or IPv6")]
    Kind,
    /// It waits for connections itself.
    #[error("it is a socket that listens")]
    Listens,
    /// It was never connected, or its peer is gone.
    #[error("it is a socket without a peer")]
    NoPeer,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::socket;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_connection_is_taken_and_does_not_block() {
        let over = |listener: TcpListener| {
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_theirs, _) = listener.accept().unwrap();
            let taken = connection(ours.into()).unwrap();
            assert_eq!(taken.peek(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        };
        over(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            Ok(listener) => over(listener),
            Err(error) => println!("skipped: no IPv6 here ({error})"),
        }
    }

    #[test]
    fn what_is_no_connection_is_refused_at_once_and_by_what_it_is() {
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        datagrams.connect(datagrams.local_addr().unwrap()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let unconnected = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        assert!(matches!(connection(std::io::pipe().unwrap().0.into()), Err(NotAConnection::Socket(_))));
        assert!(matches!(connection(datagrams.into()), Err(NotAConnection::Kind)));
        assert!(matches!(connection(UnixStream::pair().unwrap().0.into()), Err(NotAConnection::Kind)));
        assert!(matches!(connection(listener.into()), Err(NotAConnection::Listens)));
        assert!(matches!(connection(unconnected), Err(NotAConnection::NoPeer)));
    }
}
