//! The link to the vault: every packet of the socketpair passes here, and each side's work is done elsewhere.
//!
//! The vault is trusted more than the front is, but a packet from it that makes no sense means that the two were not
//! built together, or worse; the link then ends, and the front with it.

use std::future::pending;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blindferry_handle::packet::{Packet, PacketError};
use blindferry_proto::bounded::{CodecError, Text, decode, encode};
use blindferry_proto::front::{Condition, FromFront, FromVault, StoreReply};
use blindferry_proto::limits::MAX_PACKET;
use blindferry_proto::refusal::Refusal;
use blindferry_seqpacket::AsyncPackets;
use blindferry_traces::Traces;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::dial::Dials;
use crate::page::Page;
use crate::page::reports::Reported;
use crate::publication::{Publication, PublishError};
use crate::pulse::Pulse;
use crate::store::Store;
use crate::traces;

/// What the vault's requests are answered with, and where its news go.
#[derive(Debug)]
pub struct Services {
    /// Answers store requests.
    pub store: Store,
    /// Makes upstream connections.
    pub dials: Dials,
    /// Takes the vault's answers.
    pub pulse: Arc<Pulse>,
    /// Takes how the vault is.
    pub condition: watch::Sender<Condition>,
    /// Takes what is published.
    pub publication: watch::Sender<Arc<Publication>>,
    /// Takes what requests took, where a collector is configured.
    pub traces: Option<Traces>,
    /// Takes what the operators' page shows.
    pub reported: watch::Sender<Option<Reported>>,
    /// The operators' page, where there is one.
    pub page: Option<Arc<Page>>,
}

/// How the link ended without an error of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// The vault was asked to stop, and either did or had its time.
    Stopped,
    /// The vault closed its end: it is dead or dying.
    Closed,
    /// The vault said that it cannot go on.
    Failed(Refusal),
}

/// Why the link cannot go on.
#[derive(Debug, Error)]
pub enum LinkError {
    /// What came is not a packet of this protocol.
    #[error("the vault sent what is not a message")]
    Malformed(#[source] CodecError),
    /// The vault never sends descriptors.
    #[error("the vault sent {count} descriptors, which it never does")]
    Descriptors {
        /// How many.
        count: usize,
    },
    /// What is to be published cannot be.
    #[error("the vault sent what cannot be published")]
    Publish(#[source] PublishError),
    /// Our message does not fit a packet.
    #[error("cannot encode a message to the vault")]
    Encode(#[source] CodecError),
    /// The socket failed.
    #[error("cannot send to the vault")]
    Send(#[source] PacketError),
    /// The socket failed.
    #[error("cannot receive from the vault")]
    Receive(#[source] PacketError),
}

/// Where packets to the vault wait for room in its socket. Answers wait as long as it takes; accepted connections are
/// dropped when too many wait.
#[derive(Clone, Debug)]
pub struct Outbox {
    answers: mpsc::Sender<Outgoing>,
    accepted: mpsc::Sender<Outgoing>,
}

/// The other end of the [`Outbox`].
#[derive(Debug)]
pub struct Outgoings {
    answers: mpsc::Receiver<Outgoing>,
    accepted: mpsc::Receiver<Outgoing>,
}

/// The vault does not take connections as fast as they come.
#[derive(Debug, PartialEq, Eq)]
pub struct VaultBusy;

#[derive(Debug)]
struct Outgoing {
    message: FromFront,
    descriptor: Option<OwnedFd>,
}

impl Outbox {
    /// An empty one, and its other end for [`run`].
    #[must_use]
    pub fn new() -> (Self, Outgoings) {
        let (answers, answers_out) = mpsc::channel(ANSWERS_LIMIT);
        let (accepted, accepted_out) = mpsc::channel(ACCEPTED_LIMIT);
        (Self { answers, accepted }, Outgoings { answers: answers_out, accepted: accepted_out })
    }

    /// Gives an accepted connection to the vault, or closes it.
    ///
    /// # Errors
    /// [`VaultBusy`] when too many wait already; the connection is closed.
    pub fn give(&self, connection: OwnedFd, from: SocketAddr) -> Result<(), VaultBusy> {
        let message = FromFront::Accepted { from: Text::cut(&from.to_string()) };
        self.accepted.try_send(Outgoing { message, descriptor: Some(connection) }).map_err(|_| VaultBusy)
    }

    /// Asks the vault whether it is there.
    pub async fn look(&self, id: u64) {
        self.answer(FromFront::Look { id }, None).await;
    }

    /// Sends an answer, and a connection beside it if there is one, waiting for room. Once the link has ended it goes
    /// nowhere.
    pub async fn answer(&self, message: FromFront, descriptor: Option<OwnedFd>) {
        drop(self.answers.send(Outgoing { message, descriptor }).await);
    }
}

/// Runs the link until the vault ends it, or until `stop` is ready and the vault has stopped or had its time for it.
///
/// # Errors
/// [`LinkError`]; the vault must not be trusted to go on then.
pub async fn run(
    packets: AsyncPackets,
    services: Services,
    (outbox, outgoings): (Outbox, Outgoings),
    stop: impl Future<Output = ()>,
) -> Result<LinkEnd, LinkError> {
    let packets = Arc::new(packets);
    let asked_to_stop = AtomicBool::new(false);
    let stopping = async {
        stop.await;
        services.pulse.stop();
        asked_to_stop.store(true, Ordering::Relaxed);
        match send(&packets, &FromFront::Stop, None).await {
            // Gone already, which is what was asked for.
            Ok(()) | Err(LinkError::Send(PacketError::Closed)) => {}
            Err(error) => return Err(error),
        }
        sleep(STOP_GRACE).await;
        tracing::warn!(name: "vault-slow-to-stop", "the vault did not stop in time");
        Ok(LinkEnd::Stopped)
    };
    let end = tokio::select! {
        end = read_all(&packets, &services, &outbox) => end,
        error = write_all(&packets, outgoings) => match error {
            // The reader has seen or will see the same, after what the vault sent before.
            LinkError::Send(PacketError::Closed) => read_all(&packets, &services, &outbox).await,
            error => Err(error),
        },
        end = stopping => end,
    }?;
    Ok(if end == LinkEnd::Closed && asked_to_stop.load(Ordering::Relaxed) { LinkEnd::Stopped } else { end })
}

async fn read_all(packets: &Arc<AsyncPackets>, services: &Services, outbox: &Outbox) -> Result<LinkEnd, LinkError> {
    loop {
        let Packet { bytes, descriptors } = match packets.receive().await {
            Ok(packet) => packet,
            Err(PacketError::Closed) => return Ok(LinkEnd::Closed),
            Err(error) => return Err(LinkError::Receive(error)),
        };
        if !descriptors.is_empty() {
            return Err(LinkError::Descriptors { count: descriptors.len() });
        }
        match decode(&bytes, MAX_PACKET).map_err(LinkError::Malformed)? {
            FromVault::Dial { id, host, port } => services.dials.dial(id, host, port, outbox.clone()),
            FromVault::Store { id, request } => {
                // Queued here, in the order of arrival, and answered by the store's own thread: what waits for a disk
                // does not wait for another thread to be woken as well.
                let to = (Arc::clone(packets), outbox.clone());
                if let Err(reply) = services.store.answer(request, move |reply| stored(&to, id, reply)) {
                    outbox.answer(FromFront::Stored { id, reply }, None).await;
                }
            }
            FromVault::Condition(condition) => {
                services.condition.send_replace(condition);
            }
            FromVault::Publish { issuers } => {
                let publication = Publication::new(&issuers).map_err(LinkError::Publish)?;
                services.publication.send_replace(Arc::new(publication));
            }
            FromVault::Report(report) => {
                services.reported.send_replace(Some(Reported::now(report)));
            }
            FromVault::Ticket { id, digest } => {
                let answer = match &services.page {
                    Some(page) => page.announce(id, digest.0),
                    None => FromFront::PageAt { id, origin: None },
                };
                outbox.answer(answer, None).await;
            }
            FromVault::Failed(refusal) => return Ok(LinkEnd::Failed(refusal)),
            FromVault::Here { id } => services.pulse.answered(id),
            FromVault::Traced(traced) => {
                if let Some(to) = &services.traces {
                    traces::tell(to, traced);
                }
            }
        }
    }
}

/// Sends an answer from the store's thread, or leaves it to [`write_all`] when the socket has no room, or the link has
/// ended.
fn stored((packets, outbox): &(Arc<AsyncPackets>, Outbox), id: u64, reply: StoreReply) {
    let message = FromFront::Stored { id, reply };
    let sent = encode(&message, MAX_PACKET).is_ok_and(|bytes| packets.socket().send(&bytes, &[]).is_ok());
    if !sent {
        drop(outbox.answers.blocking_send(Outgoing { message, descriptor: None }));
    }
}

async fn write_all(packets: &AsyncPackets, Outgoings { mut answers, mut accepted }: Outgoings) -> LinkError {
    loop {
        let outgoing = tokio::select! {
            biased;
            Some(outgoing) = answers.recv() => outgoing,
            Some(outgoing) = accepted.recv() => outgoing,
            // Nobody is left who could send; the reader decides when the link ends.
            else => pending().await,
        };
        if let Err(error) = send_or_do_without(packets, outgoing).await {
            return error;
        }
    }
}

/// A connection that cannot be passed (the kernel bounds the descriptors in flight) is closed; the link goes on.
async fn send_or_do_without(packets: &AsyncPackets, outgoing: Outgoing) -> Result<(), LinkError> {
    let Outgoing { message, descriptor } = outgoing;
    match (send(packets, &message, descriptor.as_ref()).await, message) {
        (Err(LinkError::Send(error @ PacketError::Send { .. })), FromFront::Accepted { from }) => {
            tracing::warn!(name: "connection-not-passed", %error, %from, "cannot pass an accepted connection on");
            Ok(())
        }
        (Err(LinkError::Send(error @ PacketError::Send { .. })), FromFront::Dialled { id }) => {
            tracing::warn!(name: "connection-not-passed", %error, "cannot pass a dialled connection on");
            let why = Text::cut("the connection could not be passed on");
            send(packets, &FromFront::NotDialled { id, why }, None).await
        }
        (result, _) => result,
    }
}

async fn send(packets: &AsyncPackets, message: &FromFront, descriptor: Option<&OwnedFd>) -> Result<(), LinkError> {
    let bytes = encode(message, MAX_PACKET).map_err(LinkError::Encode)?;
    let descriptors: Vec<_> = descriptor.map(AsFd::as_fd).into_iter().collect();
    packets.send(&bytes, &descriptors).await.map_err(LinkError::Send)
}

/// Answers that may wait for the vault to read. As many as store requests and dials that may be under way.
const ANSWERS_LIMIT: usize = 512;
/// Accepted connections that may wait for the vault to read: what it takes in a moment, and no more, so that a
/// connection that would wait long is told at once.
const ACCEPTED_LIMIT: usize = 32;
/// The vault's time to stop. It stops at once; leases outlive a restart no longer than their tokens and idle times.
const STOP_GRACE: Duration = Duration::from_secs(5);
