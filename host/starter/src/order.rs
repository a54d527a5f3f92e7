//! What the starter orders the stage to do, and their conversation: one packet at a time, over a socketpair.

use crate::limits::Limit;
use blindferry_handle::packet::{PacketError, PacketSocket};
use blindferry_proto::bounded::{CodecError, decode, encode};
use blindferry_proto::limits::MAX_PACKET;
use blindferry_proto::name::CredentialName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// The word that makes this executable the stage.
pub(crate) const STAGE: &str = "--stage";

/// The stage's descriptors, beside the streams.
pub(crate) const CONTROL: RawFd = 3;
pub(crate) const ENVIRONMENT: RawFd = 4;
pub(crate) const OUTSIDER: RawFd = 5;
pub(crate) const WORDS: RawFd = 6;
pub(crate) const DIRECTORY: RawFd = 7;
pub(crate) const LINK: RawFd = 8;
/// The first grant; those of the other credentials follow, in their order.
pub(crate) const GRANT: RawFd = 9;

/// Whom to become, and what to execute.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) role: Role,
    pub(crate) launcher: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) umask: u16,
}

/// Two processes are made for a caller, of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// The keeper of the launcher, in a user namespace.
    Keeper { grants: Vec<CredentialName>, terminal: Option<u8> },
    /// Another process of the user, outside, that the launcher lets attack what it protects.
    Outsider,
}

/// What the stage says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It is in a namespace in which nobody has a number yet.
    Unshared,
    /// It is who it shall be, and will do what it is there for.
    Ready,
    /// It cannot.
    Failed { why: String },
}

/// What the starter says after the order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum GoOn {
    /// Users and groups have their numbers.
    Mapped,
    /// The starter still lives, now that its end would be the stage's.
    Begin,
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Control(pub(crate) PacketSocket);

/// Why starter and stage do not understand each other.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    #[error("starter and stage cannot talk")]
    Packet(#[source] PacketError),
    #[error("starter and stage do not speak the same language")]
    Form(#[source] CodecError),
}

impl Control {
    pub(crate) fn say(&self, message: &impl Serialize) -> Result<(), TalkError> {
        let bytes = encode(message, MAX_PACKET).map_err(TalkError::Form)?;
        self.0.send(&bytes, &[]).map_err(TalkError::Packet)
    }

    /// What the other end says, or nothing when it has ended or executed something else.
    pub(crate) fn hear<T: DeserializeOwned>(&self) -> Result<Option<T>, TalkError> {
        match self.0.receive() {
            Ok(packet) => decode(&packet.bytes, MAX_PACKET).map(Some).map_err(TalkError::Form),
            Err(PacketError::Closed) => Ok(None),
            Err(error) => Err(TalkError::Packet(error)),
        }
    }
}
