//! Serves one client, request by request, and executes itself anew after each that touched a secret.
//!
//! libtss2 and libcrypto copy what passes through them, and free without wiping. Nothing in this process can find those
//! copies; execve(2) drops the whole address space, and with it all of them. The new process has the same arguments and
//! the same socket, so the client notices nothing: requests that came meanwhile wait in the socket.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use blindferry_attest::tpm::PcrSelection;
use blindferry_device::protocol::{
    DeviceRefusal, KEY_LEN, Numbered, ProtocolError, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request,
};
use blindferry_handle::packet::{Packet, PacketError, PacketSocket};
use blindferry_handle::secret::{SecretBytes, SharedSecret};
use std::os::fd::{AsFd, OwnedFd};
use thiserror::Error;

use crate::confine::Confined;
use crate::pins::Pins;
use crate::tcti::Tcti;
use crate::transaction::{SaltKey, Transaction};
use crate::{attestation, counter, pcrs, sealing};

/// Why the device process ends.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// The client does not speak our protocol.
    #[error("the client sent what is no request")]
    Protocol { source: ProtocolError },
    /// The socket failed.
    #[error("cannot exchange packets with the client")]
    Packet { source: PacketError },
    /// Going on in this address space would keep copies of a secret.
    #[error("cannot execute the device process anew after a request that touched a secret")]
    Anew { source: io::Error },
}

/// Serves until the client is gone.
pub(crate) fn serve(_confined: Confined, socket: &PacketSocket, tcti: &Tcti, pins: &Path) -> Result<(), ServeError> {
    loop {
        let packet = match socket.receive() {
            Ok(packet) => packet,
            Err(PacketError::Closed) => return Ok(()),
            Err(source) => return Err(ServeError::Packet { source }),
        };
        let request = Numbered::<Request>::decode(&packet.bytes, REQUEST_LIMIT)
            .map_err(|source| ServeError::Protocol { source })?;
        let number = request.number;
        let touches_secret = touches_secret(&request.message);
        let answer =
            answer(tcti, pins, request.message, packet).unwrap_or_else(|refusal| Reply::Refused(refusal).into());
        send(socket, number, answer)?;
        if touches_secret {
            let Err(source) = execute_anew();
            return Err(ServeError::Anew { source });
        }
    }
}

/// Whether answering, successfully or not, may have brought a secret into this address space.
const fn touches_secret(request: &Request) -> bool {
    match request {
        Request::Seal { .. } | Request::Unseal { .. } | Request::Activate { .. } => true,
        Request::Describe | Request::Quote { .. } | Request::Pcrs { .. } | Request::Counter(_) => false,
    }
}

struct Answer {
    reply: Reply,
    secret: Option<SharedSecret>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, secret: None }
    }
}

fn answer(tcti: &Tcti, pins: &Path, request: Request, packet: Packet) -> Result<Answer, DeviceRefusal> {
    let key = received_key(&request, packet.descriptors)?;
    let pins = Pins::read(pins)?;
    let salt_key = SaltKey::Pinned(&pins.salt_key_name);
    let secret = |secret| Answer { reply: Reply::Secret, secret: Some(secret) };
    match (request, key) {
        (Request::Describe, _) => {
            Transaction::run(tcti, salt_key, |transaction| attestation::describe(transaction, &pins))
                .map(|description| Reply::Description(Box::new(description)).into())
        }
        (Request::Quote { binder, pcrs: indices }, _) => {
            let selection = selection(indices)?;
            Transaction::run(tcti, salt_key, |transaction| attestation::quote(transaction, &pins, binder, selection))
                .map(|evidence| Reply::Evidence(evidence).into())
        }
        (Request::Pcrs { pcrs: indices }, _) => {
            let selection = selection(indices)?;
            Transaction::run(tcti, salt_key, |transaction| pcrs::read(transaction, selection))
                .map(|values| Reply::Pcrs(values.iter().map(|(index, value)| (index, *value)).collect()).into())
        }
        (Request::Activate { credential, encrypted_secret }, _) => Transaction::run(tcti, salt_key, |transaction| {
            attestation::activate(transaction, &pins, &credential, &encrypted_secret)
        })
        .map(secret),
        (Request::Seal { authority, policy_ref }, Some(key)) => {
            Transaction::run(tcti, salt_key, |transaction| sealing::seal(transaction, &key, &authority, policy_ref))
                .map(|blob| Reply::Sealed(blob).into())
        }
        (Request::Seal { .. }, None) => Err(bad("the key to seal is missing")),
        (Request::Unseal { blob, authority, approval }, _) => {
            Transaction::run(tcti, salt_key, |transaction| sealing::unseal(transaction, &blob, &authority, &approval))
                .map(secret)
        }
        (Request::Counter(request), _) => {
            Transaction::run(tcti, salt_key, |transaction| counter::serve(transaction, request))
                .map(|value| Reply::Counter(value).into())
        }
    }
}

/// Takes the key out of the descriptor that came with a request to seal. No other request may carry one.
fn received_key(request: &Request, descriptors: Vec<OwnedFd>) -> Result<Option<SecretBytes>, DeviceRefusal> {
    match (request, <[OwnedFd; 1]>::try_from(descriptors)) {
        (Request::Seal { .. }, Ok([descriptor])) => {
            SecretBytes::adopt(descriptor, KEY_LEN).map(Some).map_err(|error| bad(&error.to_string()))
        }
        (Request::Seal { .. }, Err(_)) => Err(bad("a request to seal comes with one descriptor")),
        (_, Err(descriptors)) if descriptors.is_empty() => Ok(None),
        _ => Err(bad("a descriptor came with a request that has none")),
    }
}

fn selection(indices: Vec<u8>) -> Result<PcrSelection, DeviceRefusal> {
    PcrSelection::new(indices).map_err(|_| DeviceRefusal::BadSelection)
}

fn send(socket: &PacketSocket, number: u64, answer: Answer) -> Result<(), ServeError> {
    let bytes = Numbered { number, message: answer.reply }
        .encode(REPLY_LIMIT)
        .map_err(|source| ServeError::Protocol { source })?;
    let descriptor = answer.secret.as_ref().map(AsFd::as_fd);
    socket.send(&bytes, descriptor.as_slice()).map_err(|source| ServeError::Packet { source })?;
    if let Some(secret) = answer.secret {
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

fn bad(what: &str) -> DeviceRefusal {
    DeviceRefusal::BadRequest { what: what.to_owned() }
}
