//! Another process of the same user, outside the program's namespace: it attacks what the launcher asks it to attack.
//!
//! From within the namespace nobody can try what somebody outside can do. So the starter starts a second launcher,
//! which stays outside. It is an ordinary process of the user, whom others of the user can end; that only ends a launch.

use crate::probe::readable;
use blindferry_handle::inherit::{InheritError, take_inherited};
use blindferry_handle::packet::{PacketError, PacketSocket, SocketError};
use std::os::fd::RawFd;

/// The launcher's end of the conversation.
pub(crate) struct Outsider(PacketSocket);

/// Why the outsider cannot be asked, or answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideError {
    #[error("there is no process of this user outside to try it: `blindferry run --via broker` has one started")]
    None,
    #[error("cannot take the socket to the process outside")]
    Inherit(#[source] InheritError),
    #[error("cannot use the socket to the process outside")]
    Socket(#[source] SocketError),
    #[error("cannot talk to the process outside")]
    Talk(#[source] PacketError),
    #[error("the process outside did not understand")]
    Misunderstood,
}

impl Outsider {
    pub(crate) fn inherited(number: Option<RawFd>) -> Result<Self, OutsideError> {
        let socket = take_inherited(number.ok_or(OutsideError::None)?).map_err(OutsideError::Inherit)?;
        PacketSocket::from_fd(socket).map(Self).map_err(OutsideError::Socket)
    }

    /// What of this process the outsider got at.
    pub(crate) fn attack(&self, victim: u32) -> Result<Option<&'static str>, OutsideError> {
        self.0.send(&victim.to_le_bytes(), &[]).map_err(OutsideError::Talk)?;
        let answer = self.0.receive().map_err(OutsideError::Talk)?.bytes;
        match answer.as_slice() {
            NOTHING => Ok(None),
            answer => {
                let known = WHAT.into_iter().find(|what| what.as_bytes() == answer);
                known.map(Some).ok_or(OutsideError::Misunderstood)
            }
        }
    }
}

impl Drop for Outsider {
    /// For the keeper as well, which has the same socket open for as long as the program runs.
    fn drop(&mut self) {
        // Who has gone already needs no telling.
        let _gone = self.0.shutdown();
    }
}

/// Answers until the launcher needs it no more.
pub(crate) fn serve(number: RawFd) -> Result<(), OutsideError> {
    let outsider = Outsider::inherited(Some(number))?;
    let socket = &outsider.0;
    loop {
        let victim = match socket.receive() {
            Ok(packet) => packet.bytes,
            Err(PacketError::Closed) => return Ok(()),
            Err(error) => return Err(OutsideError::Talk(error)),
        };
        let victim = <[u8; 4]>::try_from(victim).map_err(|_| OutsideError::Misunderstood)?;
        let answer = readable(u32::from_le_bytes(victim)).map_or(NOTHING, str::as_bytes);
        socket.send(answer, &[]).map_err(OutsideError::Talk)?;
    }
}

const NOTHING: &[u8] = b"nothing";

/// What [`readable`] may name.
const WHAT: [&str; 3] = ["its memory", "its environment", "its descriptors"];
