//! The worker's road: connect, redeem, hold a lease, give it back.

use crate::connect::Road;
use crate::exchange::{Answered, Exchange};
use crate::key::{KeyError, KeyPair, fill_random};
use crate::open::{Expected, OpenError, Opened, open};
use crate::receive::exactly_one;
use crate::token::Token;
use blindferry_handle::memfd::{Handle, HandleError};
use blindferry_handle::packet::{PacketError, SocketError};
use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::{Digest, GrantId, LeaseId, ParcelKey, RequestId};
use blindferry_proto::local::{LocalError, WorkerReply, WorkerRequest};
use blindferry_proto::name::VariableName;
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::session::LeaseEnd;
use rustix::process::geteuid;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A worker that has a connection to its broker and a key pair of its own, and redeems one grant.
///
/// A program that needs several tokens makes several workers.
pub struct Worker {
    exchange: Exchange,
    key: KeyPair,
    executable: Option<Digest>,
    protection: Option<ProtectionLevel>,
    inherited: Vec<VariableName>,
    sender: Option<ParcelKey>,
}

/// A lease and its current token. Dropping it wipes the token and leaves the lease to the broker, which ends it with
/// this process; [`Leased::end`] gives it back at once.
pub struct Leased {
    pub(crate) exchange: Exchange,
    pub(crate) key: KeyPair,
    pub(crate) lease: LeaseId,
    pub(crate) grant: GrantId,
    pub(crate) sender: ParcelKey,
    pub(crate) token: Token,
}

impl Worker {
    /// Connects to the broker's socket for workers, see [`crate::workers_socket`].
    ///
    /// # Errors
    /// [`WorkerError::Connect`] when no broker answers there, [`WorkerError::Key`] when no key pair can be made.
    pub fn connect(path: &Path) -> Result<Self, WorkerError> {
        Self::over(Road::to_path(path).map(Exchange::new))
    }

    /// Takes a connection to the broker that was opened for this worker, by whoever started it. When it is lost, it
    /// cannot be made again.
    ///
    /// # Errors
    /// [`WorkerError::Connect`] when it is not a connected packet socket, [`WorkerError::Key`] when no key pair can be
    /// made.
    pub fn from_connection(connection: OwnedFd) -> Result<Self, WorkerError> {
        Self::over(Road::inherited(connection).map(Exchange::new))
    }

    fn over(exchange: Result<Exchange, SocketError>) -> Result<Self, WorkerError> {
        let exchange = exchange.map_err(|source| WorkerError::Connect { source })?;
        let key = KeyPair::generate().map_err(|source| WorkerError::Key { source })?;
        Ok(Self { exchange, key, executable: None, protection: None, inherited: Vec::new(), sender: None })
    }

    /// Tells the vault the SHA-256 of the program that this process is about to become: for launchers.
    #[must_use]
    pub fn about_to_execute(self, executable: Digest) -> Self {
        Self { executable: Some(executable), ..self }
    }

    /// Tells the vault the level of protection that the program will run at: for launchers that established it.
    #[must_use]
    pub fn under_protection(self, level: ProtectionLevel) -> Self {
        Self { protection: Some(level), ..self }
    }

    /// Tells the vault which credentials of the parent the program gets as well, by the names of their variables: for
    /// launchers. More than [`blindferry_proto::limits::MAX_INHERITED`] are refused by the broker.
    #[must_use]
    pub fn passing_on(self, inherited: Vec<VariableName>) -> Self {
        Self { inherited, ..self }
    }

    /// Accepts no parcel but from this key of the vault.
    ///
    /// Without it the worker takes the broker's word for whose key it is. A broker gone bad could then hand over a token
    /// of its own making, never read a real one.
    #[must_use]
    pub fn expect_sender(self, sender: ParcelKey) -> Self {
        Self { sender: Some(sender), ..self }
    }

    /// Redeems the grant in this handle for a token and the lease that comes with it.
    ///
    /// A lost connection or answer is made good by asking again with the same request id and the same key, a few times:
    /// that brings the same parcel, not another token.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] with the vault's reason; [`WorkerError::Lost`] or [`WorkerError::Silent`] when the broker
    /// stays away; [`WorkerError::Open`] when what came is not a parcel for this worker. The grant cannot be used again
    /// then: another key would be refused.
    pub fn redeem(mut self, grant: Handle) -> Result<Leased, WorkerError> {
        let request = random_request()?;
        let redeem = WorkerRequest::Redeem {
            request,
            key: self.key.public(),
            executable: self.executable,
            protection: self.protection,
            inherited: self.inherited,
        };
        let answered = self.exchange.ask(&redeem, &[grant.as_fd()])?;
        let parcelled = Parcelled::from_answer(answered)?;
        let lease = parcelled.lease;
        let (Opened { token: bytes, grant, sender }, token_type, expires) =
            parcelled.open(&self.key, request, None, self.sender)?;
        let token = Token::new(bytes, token_type, expires, now());
        let mut leased = Leased { exchange: self.exchange, key: self.key, lease, grant, sender, token };
        leased.acknowledge(request);
        Ok(leased)
    }
}

impl Leased {
    /// The current token, also when its time is over.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// For logs; it opens nothing.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The current token while it is good for a while yet, else the next one.
    ///
    /// # Errors
    /// As [`Leased::renew`].
    pub fn fresh(&mut self) -> Result<&Token, WorkerError> {
        if self.token.is_due(now()) { self.renew() } else { Ok(&self.token) }
    }

    /// Gets the next token of the lease and wipes the one before.
    ///
    /// # Errors
    /// [`WorkerError::LeaseOver`] when the broker has said so; otherwise as [`Worker::redeem`]. The old token stays in
    /// place then.
    pub fn renew(&mut self) -> Result<&Token, WorkerError> {
        match self.lease_end() {
            Ok(Some(why)) => return Err(WorkerError::LeaseOver { why }),
            // A broker that was started again meanwhile: the request below makes a new connection.
            Ok(None) | Err(WorkerError::Lost { .. }) => {}
            Err(error) => return Err(error),
        }
        let request = random_request()?;
        let answered = self.exchange.ask(&WorkerRequest::Renew { lease: self.lease, request }, &[])?;
        let parcelled = Parcelled::from_answer(answered)?;
        if parcelled.lease != self.lease {
            return Err(WorkerError::Unexpected { wanted: "a parcel of this lease" });
        }
        let (opened, token_type, expires) = parcelled.open(&self.key, request, Some(self.grant), Some(self.sender))?;
        self.token = Token::new(opened.token, token_type, expires, now());
        self.acknowledge(request);
        Ok(&self.token)
    }

    /// Why the lease ended, if the broker has said so by now. Does not wait.
    ///
    /// # Errors
    /// [`WorkerError::Lost`] when the broker hung up.
    pub fn lease_end(&mut self) -> Result<Option<LeaseEnd>, WorkerError> {
        self.exchange.lease_end(self.lease, Some(Duration::ZERO))
    }

    /// Waits until the lease ends: at most `wait`, or for as long as it takes. [`AsFd`] serves programs that poll.
    ///
    /// # Errors
    /// [`WorkerError::Lost`] when the broker hangs up.
    pub fn wait_lease_end(&mut self, wait: Option<Duration>) -> Result<Option<LeaseEnd>, WorkerError> {
        self.exchange.lease_end(self.lease, wait)
    }

    /// The token alone. The lease goes on until this process ends or nobody renews it in time.
    #[must_use]
    pub fn into_token(self) -> Token {
        self.token
    }

    /// Gives the lease back and wipes the token, here in any case.
    ///
    /// # Errors
    /// What kept the broker from knowing; it ends the lease with this process then.
    pub fn end(self) -> Result<(), WorkerError> {
        let Self { mut exchange, key, lease, token, .. } = self;
        drop((key, token));
        match exchange.ask(&WorkerRequest::End { lease }, &[])?.reply {
            WorkerReply::Done => Ok(()),
            _ => Err(WorkerError::Unexpected { wanted: "that the lease is given back" }),
        }
    }

    /// Tells the vault that it may forget the parcel, and waits for no answer: the token is there. Unheard, the vault
    /// forgets it when the grant's time is over, so that there is nothing to do about a failure here.
    fn acknowledge(&mut self, request: RequestId) {
        let _unsaid = self.exchange.mention(&WorkerRequest::Acknowledge { lease: self.lease, request });
    }
}

impl WorkerError {
    /// Whether asking again later may help: nothing was decided. Of a lease, everything else is the end.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Silent { .. } | Self::Connect { .. } | Self::Wait { .. } => true,
            Self::Refused(refusal) => refusal.code.is_passing(),
            _ => false,
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("key", &self.key.public()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl AsFd for Leased {
    /// The connection to the broker: readable when [`Leased::lease_end`] has something to look at.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exchange.as_fd()
    }
}

/// Why a worker has no token.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No broker is there, or the descriptor is not a connection to one.
    #[error("cannot reach the broker")]
    Connect {
        /// Why.
        source: SocketError,
    },
    /// No key pair.
    #[error("cannot make the worker's key pair")]
    Key {
        /// Why.
        source: KeyError,
    },
    /// No random bytes for a request id.
    #[error("cannot get random bytes for a request id")]
    Random {
        /// What the kernel said.
        source: io::Error,
    },
    /// The parent left no such descriptor open, or it was taken already.
    #[error("descriptor {number} was not inherited")]
    NotInherited {
        /// Its number.
        number: i32,
        /// Why not.
        source: blindferry_handle::inherit::InheritError,
    },
    /// A request that does not fit into a packet.
    #[error("cannot encode the request")]
    Encode {
        /// Why.
        source: LocalError,
    },
    /// The connection failed, and could not be made again.
    #[error("the connection is lost")]
    Lost {
        /// Why.
        source: PacketError,
    },
    /// The broker does not answer.
    #[error("no answer within {seconds} seconds")]
    Silent {
        /// How long the last attempt waited, in seconds.
        seconds: u64,
    },
    /// Waiting for the broker failed.
    #[error("cannot wait for the broker")]
    Wait {
        /// What the kernel said.
        source: io::Error,
    },
    /// The answer is not a message.
    #[error("cannot decode the broker's answer")]
    Decode {
        /// Why.
        source: LocalError,
    },
    /// The answer was no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// An answer to another question.
    #[error("the broker's answer is not {wanted}")]
    Unexpected {
        /// What it should have been.
        wanted: &'static str,
    },
    /// A packet must bring exactly one handle.
    #[error("{count} descriptors where one handle is due")]
    Descriptors {
        /// How many came.
        count: usize,
    },
    /// A descriptor is not a sealed handle.
    #[error("cannot take the handle")]
    Handle {
        /// Why.
        source: HandleError,
    },
    /// The parcel is not for this worker, or not authentic.
    #[error("cannot open the parcel")]
    Open {
        /// Why.
        source: OpenError,
    },
    /// There will be no further token.
    #[error("the lease is over: {why:?}")]
    LeaseOver {
        /// Why.
        why: LeaseEnd,
    },
}

/// A parcel that arrived, not opened yet, and what the broker says about it.
struct Parcelled {
    lease: LeaseId,
    sender: ParcelKey,
    expires: u64,
    token_type: Text<32>,
    parcel: Vec<u8>,
}

impl Parcelled {
    fn from_answer(answered: Answered) -> Result<Self, WorkerError> {
        let WorkerReply::Parcelled { lease, sender, expires, token_type } = answered.reply else {
            return Err(WorkerError::Unexpected { wanted: "a parcel" });
        };
        let descriptor = exactly_one(answered.descriptors)?;
        let handle = Handle::from_fd(descriptor).map_err(|source| WorkerError::Handle { source })?;
        let parcel = handle.read().map_err(|source| WorkerError::Handle { source })?;
        Ok(Self { lease, sender, expires, token_type, parcel })
    }

    fn open(
        self,
        key: &KeyPair,
        request: RequestId,
        grant: Option<GrantId>,
        sender: Option<ParcelKey>,
    ) -> Result<(Opened, String, u64), WorkerError> {
        // The effective user: what the broker's kernel reports of a connection.
        let uid = geteuid().as_raw();
        let expected = Expected { request, uid, grant, claimed_sender: self.sender, sender };
        let opened = open(&self.parcel, key, &expected).map_err(|source| WorkerError::Open { source })?;
        Ok((opened, self.token_type.as_str().to_owned(), self.expires))
    }
}

fn random_request() -> Result<RequestId, WorkerError> {
    let mut request = RequestId([0; RequestId::LEN]);
    fill_random(&mut request.0).map_err(|source| WorkerError::Random { source })?;
    Ok(request)
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the library is a shell: it alone knows when a token is due")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
