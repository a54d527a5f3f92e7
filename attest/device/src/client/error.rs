//! Why a device process gave no answer: a stable code for programs, a sentence for the operator.

use std::time::Duration;

use blindferry_handle::memfd::HandleError;
use blindferry_handle::packet::PacketError;
use thiserror::Error;

use super::WAITING_LIMIT;
use crate::protocol::{DeviceRefusal, ProtocolError};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The device process says no.
    #[error(transparent)]
    Refused(DeviceRefusal),
    /// [`WAITING_LIMIT`] requests wait already.
    #[error("{WAITING_LIMIT} requests wait for the TPM already")]
    Busy,
    /// No answer in time. A later request first waits for this one's reply.
    #[error("the TPM has not answered for {after:?}")]
    Stalled {
        /// The deadline.
        after: Duration,
    },
    /// The device process has ended, or broke the protocol earlier; it must be started anew.
    #[error("the device process has ended")]
    Ended,
    /// The socket cannot be watched.
    #[error("cannot register the socket of the device process")]
    Register {
        /// What the runtime said.
        source: std::io::Error,
    },
    /// A packet did not go out or come in.
    #[error("cannot exchange packets with the device process")]
    Packet {
        /// Why.
        source: PacketError,
    },
    /// A message could not be written or read.
    #[error("cannot speak with the device process")]
    Protocol {
        /// Why.
        source: ProtocolError,
    },
    /// A reply that answers another question, or to nobody.
    #[error("the device process gave an answer that does not belong to the request to {operation}")]
    Unexpected {
        /// What was asked.
        operation: &'static str,
    },
    /// Evidence arrived, but not in a sealed memfd, or more than was asked for.
    #[error("cannot read the evidence that the device process sent")]
    Evidence {
        /// Why.
        source: HandleError,
    },
    /// The unsealed key arrived, but not in memory that can be adopted.
    #[error("cannot adopt the secret memory that the device process sent")]
    Adopt {
        /// Why.
        source: blindferry_handle::secret::SecretError,
    },
}

impl DeviceError {
    /// The stable name of the error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Busy => "device-busy",
            Self::Stalled { .. } => "device-stalled",
            Self::Ended => "device-ended",
            Self::Register { .. } | Self::Packet { .. } | Self::Evidence { .. } | Self::Adopt { .. } => "device-io",
            Self::Protocol { .. } | Self::Unexpected { .. } => "device-protocol",
        }
    }
}
