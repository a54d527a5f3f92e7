//! A device process's loop: one client, request by request, and a new address space after each that touched a secret.
//!
//! Libraries copy what passes through them, and free without wiping; nothing in the process can find those copies.
//! execve(2) drops the whole address space, and with it all of them. The new process has the same arguments and the same
//! socket, so the client notices nothing: requests that came meanwhile wait in the socket.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use blindferry_attest::evidence::MAX_EVIDENCE;
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::{PacketError, PacketSocket};
use blindferry_handle::secret::{SecretBytes, SharedSecret};
use thiserror::Error;

use crate::protocol::{DeviceRefusal, KEY_LEN, Numbered, ProtocolError, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request};

/// Why a device process ends.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The client does not speak our protocol.
    #[error("the client sent what is no request")]
    Protocol {
        /// In which way.
        source: ProtocolError,
    },
    /// The socket failed.
    #[error("cannot exchange packets with the client")]
    Packet {
        /// Why.
        source: PacketError,
    },
    /// Going on in this address space would keep copies of a secret.
    #[error("cannot execute the device process anew after a request that touched a secret")]
    Anew {
        /// What the kernel said.
        source: io::Error,
    },
}

/// A reply, and what goes with it.
#[derive(Debug)]
pub struct Answer {
    reply: Reply,
    beside: Beside,
}

/// What travels beside a reply.
#[derive(Debug)]
enum Beside {
    Nothing,
    Secret(SharedSecret),
    Evidence(Handle),
}

impl Answer {
    /// A reply whose secret travels beside it.
    #[must_use]
    pub fn with(reply: Reply, secret: SharedSecret) -> Self {
        Self { reply, beside: Beside::Secret(secret) }
    }

    /// Encoded evidence that is too long for a reply, in a sealed memfd.
    ///
    /// # Errors
    /// When it is longer than any evidence, or there is no memfd.
    pub fn with_evidence(evidence: &[u8]) -> Result<Self, DeviceRefusal> {
        let sealed = Handle::seal_within("evidence", evidence, MAX_EVIDENCE).map_err(|error| {
            DeviceRefusal::Process { operation: "put evidence into a memfd".to_owned(), reason: error.to_string() }
        })?;
        Ok(Self { reply: Reply::EvidenceBeside, beside: Beside::Evidence(sealed) })
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, beside: Beside::Nothing }
    }
}

/// Serves until the client is gone. `answer` gets each request, and the key that came with it if it is one to seal.
///
/// # Errors
/// [`ServeError`]; the client finds its socket closed.
pub fn serve(
    socket: &PacketSocket,
    answer: impl Fn(Request, Option<SecretBytes>) -> Result<Answer, DeviceRefusal>,
) -> Result<(), ServeError> {
    loop {
        let packet = match socket.receive() {
            Ok(packet) => packet,
            Err(PacketError::Closed) => return Ok(()),
            Err(source) => return Err(ServeError::Packet { source }),
        };
        let request = Numbered::<Request>::decode(&packet.bytes, REQUEST_LIMIT)
            .map_err(|source| ServeError::Protocol { source })?;
        let Numbered { number, message: request } = request;
        let touches_secret = touches_secret(&request);
        let answered = received_key(&request, packet.descriptors).and_then(|key| answer(request, key));
        send(socket, number, answered.unwrap_or_else(|refusal| Reply::Refused(refusal).into()))?;
        if touches_secret {
            let Err(source) = execute_anew();
            return Err(ServeError::Anew { source });
        }
    }
}

/// Whether answering, successfully or not, may have brought a secret into this address space.
const fn touches_secret(request: &Request) -> bool {
    match request {
        Request::Seal { .. }
        | Request::SealToGuest { .. }
        | Request::Unseal { .. }
        | Request::UnsealAsGuest { .. }
        | Request::Activate { .. } => true,
        Request::Describe | Request::Quote { .. } | Request::Pcrs { .. } | Request::Counter(_) => false,
    }
}

/// Takes the key out of the descriptor that came with a request to seal. No other request may carry one.
fn received_key(request: &Request, descriptors: Vec<OwnedFd>) -> Result<Option<SecretBytes>, DeviceRefusal> {
    let seals = matches!(request, Request::Seal { .. } | Request::SealToGuest { .. });
    match (seals, <[OwnedFd; 1]>::try_from(descriptors)) {
        (true, Ok([descriptor])) => {
            SecretBytes::adopt(descriptor, KEY_LEN).map(Some).map_err(|error| bad(&error.to_string()))
        }
        (true, Err(_)) => Err(bad("a request to seal comes with one descriptor")),
        (false, Err(descriptors)) if descriptors.is_empty() => Ok(None),
        (false, _) => Err(bad("a descriptor came with a request that has none")),
    }
}

fn send(socket: &PacketSocket, number: u64, answer: Answer) -> Result<(), ServeError> {
    let bytes = Numbered { number, message: answer.reply }
        .encode(REPLY_LIMIT)
        .map_err(|source| ServeError::Protocol { source })?;
    let descriptor = match &answer.beside {
        Beside::Nothing => None,
        Beside::Secret(secret) => Some(secret.as_fd()),
        Beside::Evidence(sealed) => Some(sealed.as_fd()),
    };
    socket.send(&bytes, descriptor.as_slice()).map_err(|source| ServeError::Packet { source })?;
    if let Beside::Secret(secret) = answer.beside {
        secret.handed_over();
    }
    Ok(())
}

/// The same executable, arguments, environment and standard streams, in a new address space.
fn execute_anew() -> Result<Infallible, io::Error> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    Err(command.args(arguments).exec())
}

/// A request that is not one.
#[must_use]
pub fn bad(what: &str) -> DeviceRefusal {
    DeviceRefusal::BadRequest { what: what.to_owned() }
}
