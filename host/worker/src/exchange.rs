//! One request and its answer over the broker's socket, tried again when the connection or the answer is lost.
//!
//! Trying again is safe because every request that costs something carries a request id: the same id with the same key
//! gets the same parcel, not a second token.

use crate::connect::Road;
use crate::worker::WorkerError;
use blindferry_handle::packet::{Packet, PacketError, PacketSocket, SocketError};
use blindferry_handle::wait::readable;
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::local::{self, WorkerReply, WorkerRequest};
use blindferry_proto::refusal::Refusal;
use blindferry_proto::session::LeaseEnd;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// A connection to the broker, and what it pushed unasked.
#[derive(Debug)]
pub(crate) struct Exchange {
    road: Road,
    socket: PacketSocket,
    /// Answers under way that nobody waits for. A broker answers one connection's requests in their order, so they come
    /// before any that is waited for.
    unheard: usize,
    ended: Option<(LeaseId, LeaseEnd)>,
}

/// An answer that is not a refusal, and the descriptors beside it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) reply: WorkerReply,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Exchange {
    pub(crate) fn new((road, socket): (Road, PacketSocket)) -> Self {
        Self { road, socket, unheard: 0, ended: None }
    }

    /// The same connection for another process, which is to use it alone from then on.
    pub(crate) fn duplicate(&self) -> Result<Self, SocketError> {
        let socket = self.socket.as_fd().try_clone_to_owned().map_err(|source| SocketError::SetUp { source })?;
        let socket = PacketSocket::from_fd(socket)?;
        Ok(Self { road: self.road.clone(), socket, unheard: self.unheard, ended: self.ended })
    }

    /// Asks until there is an answer, at most `1 + AGAIN_AFTER.len()` times.
    pub(crate) fn ask(&mut self, request: &WorkerRequest, handles: &[BorrowedFd<'_>]) -> Result<Answered, WorkerError> {
        let bytes = local::encode(request).map_err(|source| WorkerError::Encode { source })?;
        let mut pauses = AGAIN_AFTER.iter();
        loop {
            let failure = match self.ask_once(&bytes, handles, REPLY_WAIT) {
                Err(failure) if failure.is_passing() => failure,
                decided => return decided.map_err(Failure::into_error),
            };
            let Some(pause) = pauses.next() else { return Err(failure.into_error()) };
            thread::sleep(*pause);
            if failure.lost_connection() && !self.reconnect() {
                return Err(failure.into_error());
            }
        }
    }

    /// Says something without waiting for its answer, and does not insist.
    pub(crate) fn mention(&mut self, request: &WorkerRequest) -> Result<(), WorkerError> {
        let bytes = local::encode(request).map_err(|source| WorkerError::Encode { source })?;
        self.socket.send(&bytes, &[]).map_err(|source| WorkerError::Lost { source })?;
        self.unheard += 1;
        Ok(())
    }

    /// Waits for the broker to say that this lease ended; `None` when it did not within `wait`.
    pub(crate) fn lease_end(
        &mut self,
        lease: LeaseId,
        wait: Option<Duration>,
    ) -> Result<Option<LeaseEnd>, WorkerError> {
        let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
        loop {
            if let Some((ended, why)) = self.ended
                && ended == lease
            {
                return Ok(Some(why));
            }
            match self.receive(deadline) {
                Ok(_another) => {}
                Err(Failure::Silent { .. }) => return Ok(None),
                Err(failure) => return Err(failure.into_error()),
            }
        }
    }

    fn ask_once(&mut self, bytes: &[u8], handles: &[BorrowedFd<'_>], wait: Duration) -> Result<Answered, Failure> {
        self.socket.send(bytes, handles).map_err(Failure::Lost)?;
        let deadline = Instant::now().checked_add(wait);
        loop {
            if let Some(answered) = self.receive(deadline)? {
                return match answered.reply {
                    WorkerReply::Refused(refusal) => Err(Failure::Refused(refusal)),
                    _ => Ok(answered),
                };
            }
        }
    }

    /// One packet: an answer, or `None` for a push, which is remembered, and for an answer that nobody waits for.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Answered>, Failure> {
        wait_readable(self.socket.as_fd(), deadline)?;
        let Packet { bytes, descriptors } = self.socket.receive().map_err(Failure::Lost)?;
        match local::decode(&bytes).map_err(Failure::Undecodable)? {
            WorkerReply::LeaseEnded { lease, why } => {
                self.ended = Some((lease, why));
                Ok(None)
            }
            _ if self.unheard > 0 => {
                self.unheard -= 1;
                Ok(None)
            }
            reply => Ok(Some(Answered { reply, descriptors })),
        }
    }

    /// Whether there is a fresh connection. Never the old one: a late answer on it would be taken for the next.
    fn reconnect(&mut self) -> bool {
        // Fails when the connection is gone already, and then there is nothing to end.
        let _ended = self.socket.shutdown();
        match self.road.again() {
            Some(Ok(socket)) => {
                self.socket = socket;
                self.unheard = 0;
                true
            }
            // The broker may be restarting: keep the dead socket, the next attempt fails at once and comes back here.
            Some(Err(_)) => true,
            None => false,
        }
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why one attempt did not bring an answer.
#[derive(Debug)]
enum Failure {
    Lost(PacketError),
    Wait(io::Error),
    Silent { waited: Duration },
    Undecodable(local::LocalError),
    Refused(Refusal),
}

impl Failure {
    fn is_passing(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Silent { .. } => true,
            Self::Refused(refusal) => refusal.code.is_passing(),
            Self::Wait(_) | Self::Undecodable(_) => false,
        }
    }

    fn lost_connection(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    fn into_error(self) -> WorkerError {
        match self {
            Self::Lost(source) => WorkerError::Lost { source },
            Self::Wait(source) => WorkerError::Wait { source },
            Self::Silent { waited } => WorkerError::Silent { seconds: waited.as_secs() },
            Self::Undecodable(source) => WorkerError::Decode { source },
            Self::Refused(refusal) => WorkerError::Refused(refusal),
        }
    }
}

fn wait_readable(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<(), Failure> {
    let began = Instant::now();
    match readable(socket, deadline) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Silent { waited: began.elapsed() }),
        Err(error) => Err(Failure::Wait(error)),
    }
}

/// A redemption may take a round trip to the vault and one from there to an upstream.
const REPLY_WAIT: Duration = Duration::from_secs(30);

/// Pauses between attempts: long enough for a broker that is being restarted, short beside a grant's life.
const AGAIN_AFTER: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3)];
