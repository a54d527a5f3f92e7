//! The vault's end of the socketpair to the front: store, dials, accepted connections.
//!
//! Nothing from here is believed. An accepted connection has to do TLS and prove itself; a dialled one has to show the
//! upstream's certificate; what is stored has to decrypt. A front that answers wrongly, late or not at all costs us a
//! refusal.

use crate::connection::{NotAConnection, connection};
use crate::figures::Kind;
use crate::store::{Backing, StoreError};
use crate::traced;
use crate::upstream::{Dial, DialError};
use blindferry_handle::packet::{Packet, PacketError};
use blindferry_proto::bounded::{CodecError, Text, decode, encode};
use blindferry_proto::causes::with_causes;
use blindferry_proto::front::{FromFront, FromVault, MAX_ORIGIN, StoreReply, StoreRequest};
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_PACKET;
use blindferry_seqpacket::AsyncPackets;
use blindferry_watch::figures::Steps;
use std::collections::HashMap;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Requests to the front that may wait for an answer at once.
pub const WAITING: usize = 4096;

/// The front, as the vault sees it. Clones speak over the same socket.
#[derive(Clone, Debug)]
pub struct FrontLink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    packets: AsyncPackets,
    waiting: Mutex<Waiting>,
    steps: Steps<Kind>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    stored: HashMap<u64, oneshot::Sender<StoreReply>>,
    dialled: HashMap<u64, oneshot::Sender<Result<OwnedFd, Text<256>>>>,
    announced: HashMap<u64, oneshot::Sender<Option<Text<MAX_ORIGIN>>>>,
}

/// What the front brings unasked.
#[derive(Debug)]
pub enum Incoming {
    /// A connection, from somewhere.
    Accepted {
        /// The connection, non-blocking.
        connection: TcpStream,
        /// From where, as the front says.
        from: Text<64>,
    },
    /// Somebody looks at the operators' page.
    Report,
    /// End in good order.
    Stop,
}

impl FrontLink {
    /// Speaks over this socket.
    #[must_use]
    pub fn new(packets: AsyncPackets) -> Self {
        Self(Arc::new(Inner { packets, waiting: Mutex::default(), steps: Steps::default() }))
    }

    /// How long steps take, those here and all others: they are told over this link.
    #[must_use]
    pub fn steps(&self) -> &Steps<Kind> {
        &self.0.steps
    }

    /// A step has just ended: for the metrics, and for the trace of the request that is under way.
    pub(crate) fn took(&self, kind: Kind, took: Duration) {
        self.steps().observe(kind, took);
        traced::note(kind, took);
    }

    /// Receives until the front brings something unasked; answers go to whoever waits for them.
    ///
    /// # Errors
    /// [`LinkError`]: the front is gone, or speaks nonsense. The vault ends then.
    pub async fn next(&self) -> Result<Incoming, LinkError> {
        loop {
            let packet = self.0.packets.receive().await.map_err(|source| LinkError::Receive { source })?;
            let Packet { bytes, descriptors } = packet;
            let message = decode(&bytes, MAX_PACKET).map_err(|source| LinkError::Message { source })?;
            let mut descriptors = descriptors.into_iter();
            let (descriptor, further) = (descriptors.next(), descriptors.next());
            if further.is_some() {
                return Err(LinkError::Descriptors);
            }
            match (message, descriptor) {
                (FromFront::Accepted { from }, Some(descriptor)) => match connection(descriptor) {
                    Ok(connection) => return Ok(Incoming::Accepted { connection, from }),
                    Err(_) => continue,
                },
                (FromFront::Dialled { id }, Some(descriptor)) => self.dialled(id, Ok(descriptor)),
                (FromFront::NotDialled { id, why }, None) => self.dialled(id, Err(why)),
                (FromFront::Stored { id, reply }, None) => {
                    let waiting = self.waiting().stored.remove(&id);
                    // Whoever asked may have given up: then nobody wants the answer.
                    let _given_up = waiting.map(|waiting| waiting.send(reply));
                }
                (FromFront::PageAt { id, origin }, None) => {
                    let waiting = self.waiting().announced.remove(&id);
                    let _given_up = waiting.map(|waiting| waiting.send(origin));
                }
                (FromFront::Report, None) => return Ok(Incoming::Report),
                (FromFront::Stop, None) => return Ok(Incoming::Stop),
                // Here and not in a task: who answers is the loop that would otherwise seem to be well.
                (FromFront::Look { id }, None) => self.tell(&FromVault::Here { id }).await?,
                _ => return Err(LinkError::Descriptors),
            }
        }
    }

    /// Tells the front something.
    ///
    /// # Errors
    /// [`LinkError`] when it cannot be told.
    pub async fn tell(&self, message: &FromVault) -> Result<(), LinkError> {
        let bytes = encode(message, MAX_PACKET).map_err(|source| LinkError::Message { source })?;
        self.0.packets.send(&bytes, &[]).await.map_err(|source| LinkError::Send { source })
    }

    /// Asks the store.
    ///
    /// # Errors
    /// [`LinkError`] when there is no answer. Whether a commit happened is then not known.
    pub async fn store(&self, request: StoreRequest) -> Result<StoreReply, LinkError> {
        let since = Instant::now();
        let kind = if matches!(request, StoreRequest::Commit { .. }) { Kind::StoreCommit } else { Kind::StoreRead };
        let reply = self.ask(|waiting| &mut waiting.stored, |id| FromVault::Store { id, request }).await?;
        self.took(kind, since.elapsed());
        Ok(reply)
    }

    /// Tells the front of a ticket for the page, by its hash; gives where the page is, `None` where there is none.
    ///
    /// # Errors
    /// [`LinkError`] when there is no answer.
    pub async fn announce(&self, digest: Digest) -> Result<Option<Text<MAX_ORIGIN>>, LinkError> {
        self.ask(|waiting| &mut waiting.announced, |id| FromVault::Ticket { id, digest }).await
    }

    /// Has the front connect to an upstream.
    ///
    /// # Errors
    /// [`LinkError::NotDialled`] when it could not.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, LinkError> {
        let host =
            Text::new(host).map_err(|_| LinkError::NotDialled { why: Text::cut("the host name is too long") })?;
        let dialled = self.ask(|waiting| &mut waiting.dialled, |id| FromVault::Dial { id, host, port }).await?;
        let descriptor = dialled.map_err(|why| LinkError::NotDialled { why })?;
        connection(descriptor).map_err(|source| LinkError::Connection { source })
    }

    /// Puts a question with a number of its own, and waits for the answer that names it.
    async fn ask<T>(
        &self,
        of: impl Fn(&mut Waiting) -> &mut HashMap<u64, oneshot::Sender<T>>,
        question: impl FnOnce(u64) -> FromVault,
    ) -> Result<T, LinkError> {
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting();
            let id = waiting.number()?;
            of(&mut waiting).insert(id, reply);
            id
        };
        if let Err(error) = self.tell(&question(id)).await {
            of(&mut self.waiting()).remove(&id);
            return Err(error);
        }
        answer.await.map_err(|_| LinkError::Gone)
    }

    fn dialled(&self, id: u64, outcome: Result<OwnedFd, Text<256>>) {
        let waiting = self.waiting().dialled.remove(&id);
        // A connection that nobody waits for is closed by being dropped.
        let _given_up = waiting.map(|waiting| waiting.send(outcome));
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backing for FrontLink {
    async fn request(&self, request: StoreRequest) -> Result<StoreReply, StoreError> {
        self.store(request).await.map_err(|error| StoreError::Unreachable { why: with_causes(&error) })
    }
}

impl Dial for FrontLink {
    async fn dial(&self, host: &str, port: u16) -> Result<tokio::net::TcpStream, DialError> {
        match self.connect(host, port).await {
            Ok(connection) => tokio::net::TcpStream::from_std(connection).map_err(DialError::Stream),
            Err(LinkError::NotDialled { why }) => Err(DialError::Refused { why: why.as_str().to_owned() }),
            Err(LinkError::Connection { source }) => Err(DialError::NotAConnection(source)),
            Err(_) => Err(DialError::Gone),
        }
    }
}

impl Waiting {
    /// The next question's number. Who gave up waiting is looked for only when there seems to be no room.
    fn number(&mut self) -> Result<u64, LinkError> {
        if self.len() >= WAITING {
            self.stored.retain(|_, waiting| !waiting.is_closed());
            self.dialled.retain(|_, waiting| !waiting.is_closed());
            self.announced.retain(|_, waiting| !waiting.is_closed());
        }
        if self.len() >= WAITING {
            return Err(LinkError::Busy);
        }
        self.last += 1;
        Ok(self.last)
    }

    fn len(&self) -> usize {
        self.stored.len() + self.dialled.len() + self.announced.len()
    }
}

/// The front does not do what it is there for.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It is gone, or the socket failed.
    #[error("cannot receive from the front")]
    Receive {
        /// Why.
        source: PacketError,
    },
    /// The socket failed.
    #[error("cannot send to the front")]
    Send {
        /// Why.
        source: PacketError,
    },
    /// A packet that is no message.
    #[error("a packet between front and vault is not a message")]
    Message {
        /// Why not.
        source: CodecError,
    },
    /// Too many descriptors, or too few.
    #[error("a message from the front came with descriptors that it must not have, or without one that it must have")]
    Descriptors,
    /// [`WAITING`] requests wait.
    #[error("too many requests wait for the front")]
    Busy,
    /// The link ended while we waited.
    #[error("the front went away before it answered")]
    Gone,
    /// It could not connect to an upstream.
    #[error("the front could not connect: {why}")]
    NotDialled {
        /// Why not, as the front says.
        why: Text<256>,
    },
    /// What it passed is no connection.
    #[error("the front passed something that is no connection")]
    Connection {
        /// Why not.
        source: NotAConnection,
    },
}
