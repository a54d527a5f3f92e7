//! The connection between the two halves: small packets, and once the master of a terminal.

use crate::end::End;
use blindferry_handle::packet::{PacketError, PacketSocket, SocketError};
use rustix::process::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// One end of the connection.
#[derive(Debug)]
pub struct Link(PacketSocket);

/// What the half in the caller's session says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToKeeper {
    /// Start the program; in front of its terminal, or in the background until it wants to read from it.
    Start {
        /// In front.
        in_front: bool,
    },
    /// Send it this signal.
    Signal(Signal),
    /// Send its whole group this signal.
    SignalGroup(Signal),
    /// Its terminal is relayed now: let it go on in front of it.
    InFront,
}

/// What the half beside the program says.
#[derive(Debug)]
pub enum FromKeeper {
    /// Everything is prepared. The master of the program's terminal, if it has one.
    Ready(Option<OwnedFd>),
    /// It cannot be prepared, for this reason.
    Unfit(String),
    /// Something that whoever runs the program should know, before it is ready.
    Note(String),
    /// The program stopped.
    Stopped(Signal),
    /// The program ended.
    Ended(End),
}

/// The other half cannot be spoken to.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The connection cannot be made.
    #[error("cannot connect the two halves")]
    Connect(#[from] SocketError),
    /// A packet was not sent or not received.
    #[error("cannot reach the other half")]
    Packet(#[from] PacketError),
    /// It says what is not in the protocol.
    #[error("the other half does not keep to the protocol")]
    Unknown,
}

impl LinkError {
    /// Whether the other half is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Packet(PacketError::Closed))
    }
}

impl Link {
    /// Both ends.
    ///
    /// # Errors
    /// [`LinkError::Connect`].
    pub fn pair() -> Result<(Self, Self), LinkError> {
        let (one, other) = PacketSocket::pair()?;
        Ok((Self(one), Self(other)))
    }

    /// An end that was inherited or received.
    ///
    /// # Errors
    /// [`LinkError::Connect`] when it is something else.
    pub fn from_fd(descriptor: OwnedFd) -> Result<Self, LinkError> {
        Ok(Self(PacketSocket::from_fd(descriptor)?))
    }

    /// The descriptor alone, to be handed on.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0.into_fd()
    }

    /// Says something to the keeper.
    ///
    /// # Errors
    /// [`LinkError::Packet`].
    pub fn tell(&self, message: ToKeeper) -> Result<(), LinkError> {
        let bytes = match message {
            ToKeeper::Start { in_front } => [b's', u8::from(in_front)],
            ToKeeper::Signal(signal) => [b'p', number(signal)],
            ToKeeper::SignalGroup(signal) => [b'g', number(signal)],
            ToKeeper::InFront => *b"f.",
        };
        Ok(self.0.send(&bytes, &[])?)
    }

    /// Waits for what the half in the caller's session says.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn heard(&self) -> Result<ToKeeper, LinkError> {
        let packet = self.0.receive()?;
        match *packet.bytes.as_slice() {
            [b's', in_front @ 0..=1] => Ok(ToKeeper::Start { in_front: in_front == 1 }),
            [b'p', signal] => named(signal).map(ToKeeper::Signal),
            [b'g', signal] => named(signal).map(ToKeeper::SignalGroup),
            [b'f', b'.'] => Ok(ToKeeper::InFront),
            _ => Err(LinkError::Unknown),
        }
    }

    /// Says something to the half in the caller's session.
    ///
    /// # Errors
    /// [`LinkError::Packet`].
    pub fn report(&self, message: &FromKeeper) -> Result<(), LinkError> {
        let master: Vec<BorrowedFd<'_>> = match message {
            FromKeeper::Ready(master) => master.iter().map(AsFd::as_fd).collect(),
            _ => Vec::new(),
        };
        let bytes = match message {
            FromKeeper::Ready(_) => b"r.".to_vec(),
            FromKeeper::Unfit(why) => [b"u", shortened(why)].concat(),
            FromKeeper::Note(text) => [b"n", shortened(text)].concat(),
            FromKeeper::Stopped(signal) => vec![b't', number(*signal)],
            FromKeeper::Ended(End::Exited(code)) => vec![b'e', *code],
            FromKeeper::Ended(End::Killed(signal)) => vec![b'k', number(*signal)],
        };
        Ok(self.0.send(&bytes, &master)?)
    }

    /// Waits for what the keeper says.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn reported(&self) -> Result<FromKeeper, LinkError> {
        let mut packet = self.0.receive()?;
        match packet.bytes.as_slice() {
            b"r." => Ok(FromKeeper::Ready(packet.descriptors.pop())),
            [b'u', why @ ..] if why.len() <= MOST_TEXT => Ok(FromKeeper::Unfit(text(why))),
            [b'n', note @ ..] if note.len() <= MOST_TEXT => Ok(FromKeeper::Note(text(note))),
            [b't', signal] => named(*signal).map(FromKeeper::Stopped),
            [b'e', code] => Ok(FromKeeper::Ended(End::Exited(*code))),
            [b'k', signal] => Ok(FromKeeper::Ended(End::Killed(named(*signal)?))),
            _ => Err(LinkError::Unknown),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Of a reason or a note, in bytes.
const MOST_TEXT: usize = 1024;

fn shortened(text: &str) -> &[u8] {
    text.as_bytes().get(..MOST_TEXT).unwrap_or(text.as_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(signal: Signal) -> u8 {
    // Signals have numbers up to 64.
    u8::try_from(signal.as_raw()).unwrap_or(0)
}

fn named(number: u8) -> Result<Signal, LinkError> {
    Signal::from_named_raw(number.into()).ok_or(LinkError::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        let (ours, theirs) = Link::pair().unwrap();
        let all = [
            ToKeeper::Start { in_front: true },
            ToKeeper::Start { in_front: false },
            ToKeeper::Signal(Signal::TERM),
            ToKeeper::SignalGroup(Signal::INT),
            ToKeeper::InFront,
        ];
        for message in all {
            ours.tell(message).unwrap();
            assert_eq!(theirs.heard().unwrap(), message);
        }
        for end in [End::Exited(7), End::Killed(Signal::SEGV)] {
            theirs.report(&FromKeeper::Ended(end)).unwrap();
            assert!(matches!(ours.reported().unwrap(), FromKeeper::Ended(heard) if heard == end));
        }
        theirs.report(&FromKeeper::Unfit("no namespaces".to_owned())).unwrap();
        assert!(matches!(ours.reported().unwrap(), FromKeeper::Unfit(why) if why == "no namespaces"));
        theirs.report(&FromKeeper::Note("long".repeat(MOST_TEXT))).unwrap();
        assert!(matches!(ours.reported().unwrap(), FromKeeper::Note(note) if note.len() == MOST_TEXT));
    }

    #[test]
    fn what_is_not_in_the_protocol_is_refused() {
        let (ours, theirs) = PacketSocket::pair().unwrap();
        let link = Link(theirs);
        for bytes in [&b"s\x02"[..], b"p\x00", b"g\xff", b"f", b"x.", b"s\x01\x01"] {
            ours.send(bytes, &[]).unwrap();
            assert!(matches!(link.heard(), Err(LinkError::Unknown)), "{bytes:?}");
            ours.send(bytes, &[]).unwrap();
            assert!(matches!(link.reported(), Err(LinkError::Unknown)), "{bytes:?}");
        }
        drop(ours);
        assert!(link.heard().unwrap_err().is_closed());
    }
}
