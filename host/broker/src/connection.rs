//! What both local sockets have in common: who may connect, how a packet becomes a message, and how long anybody waits.

use crate::admission::{Admission, Place};
use crate::peer::Process;
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::PacketError;
use blindferry_proto::causes::with_causes;
use blindferry_proto::local::{self, ParentReply};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_seqpacket::{AsyncListener, AsyncPackets};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// A connection of a process that lived when it was accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) process: Process,
    packets: AsyncPackets,
    _place: Place,
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming<T> {
    /// A message, and the descriptors beside it.
    Message(T, Vec<OwnedFd>),
    /// A packet that is no message. The sender is told, and may go on: packets cannot get out of step.
    Refused(Refusal),
    /// The other end is gone.
    Gone,
}

impl Connection {
    /// The next message.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> Incoming<T> {
        let packet = match self.packets.receive().await {
            Ok(packet) => packet,
            Err(
                PacketError::Truncated | PacketError::TooManyDescriptors { .. } | PacketError::DescriptorsTruncated,
            ) => {
                return Incoming::Refused(Refusal::new(RefusalCode::Malformed, "the packet is over its bounds"));
            }
            Err(_) => return Incoming::Gone,
        };
        // A descriptor can be passed on, and a dead process's number given to another: whoever speaks now is not the
        // process that the kernel named when this connection was made.
        if !self.process.is_alive() {
            return Incoming::Refused(dead());
        }
        match local::decode(&packet.bytes) {
            Ok(message) => Incoming::Message(message, packet.descriptors),
            Err(error) => Incoming::Refused(Refusal::new(RefusalCode::Malformed, &with_causes(&error))),
        }
    }

    /// Sends a reply, with a handle or without. True when the other end has it in its socket; a reader that is too slow
    /// is as good as gone.
    pub(crate) async fn reply<T: Serialize + Sync>(&self, reply: &T, handle: Option<&Handle>) -> bool {
        let Ok(bytes) = local::encode(reply) else {
            // All replies are bounded well below the limit.
            warn!(name: "reply-too-long", "a reply does not fit into a packet");
            return false;
        };
        let descriptors: Vec<_> = handle.iter().map(|handle| handle.as_fd()).collect();
        matches!(timeout(SEND_LIMIT, self.packets.send(&bytes, &descriptors)).await, Ok(Ok(())))
    }
}

/// Accepts connections for ever, each served by its own task for as long as it holds its place. Dropping the future
/// ends them all and closes the listener.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: AsyncListener,
    admission: Admission,
    serve: impl Fn(Connection) -> F,
) {
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = served.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(packets) => {
                    if let Some(connection) = admit(packets, &admission) {
                        served.spawn(serve(connection));
                    }
                }
                Err(error) => {
                    warn!(name: "accept-failed", why = with_causes(&error), "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn admit(packets: AsyncPackets, admission: &Admission) -> Option<Connection> {
    let refused = match Process::of(packets.socket()) {
        Ok(process) => match admission.admit(process.uid()) {
            Ok(place) => return Some(Connection { process, packets, _place: place }),
            Err(full) => Refusal::new(RefusalCode::Busy, &full.to_string()),
        },
        Err(blindferry_handle::peer::PeerError::Dead) => dead(),
        Err(error) => {
            warn!(name: "peer-unknown", why = with_causes(&error), "cannot tell who connected");
            Refusal::new(RefusalCode::Internal, "the broker cannot tell who connected")
        }
    };
    // At debug only: whoever floods the socket shall not flood the log as well.
    debug!(name: "connection-refused", %refused, "connection refused");
    // Both sockets write a refusal in the same way. A fresh socket has room for it; whoever does not read it loses it.
    if let Ok(bytes) = local::encode(&ParentReply::Refused(refused)) {
        let _lost = packets.socket().send(&bytes, &[]);
    }
    None
}

fn dead() -> Refusal {
    Refusal::new(RefusalCode::Denied, "the process that made this connection has ended: connect anew")
}

/// Whoever connects says something within this time.
pub(crate) const FIRST_LIMIT: Duration = Duration::from_secs(10);
/// A reply that does not fit into the socket for so long is not being read.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Out of descriptors, most likely: some time for connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
