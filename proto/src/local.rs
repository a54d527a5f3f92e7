//! JSON packets on the host's Unix sockets (`SOCK_SEQPACKET`): parent ⇄ broker and worker ⇄ broker.
//!
//! JSON, so that a parent in any language needs nothing but its standard library. One packet is one message; grants
//! and parcels travel beside it as descriptors (handles), never inside it. Identifiers are lower-case hexadecimal.

use crate::identifier::{GrantId, LeaseId, ParcelKey, RequestId, WorkerKey};
use crate::limits::{MAX_INHERITED, MAX_PACKET};
use crate::name::{Audience, CredentialName, VariableName};
use crate::protection::ProtectionLevel;
use crate::refusal::Refusal;
use crate::session::{LeaseEnd, WorkerConstraint};
use crate::waiting::{Waiting, Words};
use crate::{
    bounded::{Text, at_most},
    identifier::Digest,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Names another path for the socket on which the broker answers workers.
pub const WORKERS_VARIABLE: &str = "BLINDFERRY_WORKERS";

/// What a parent may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ParentRequest {
    /// A grant for one token of this credential, please.
    Ask {
        /// Which credential.
        credential: CredentialName,
        /// Whom the token shall be for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audience: Option<Audience>,
        /// Who may redeem it.
        #[serde(default)]
        worker: WorkerConstraint,
        /// Where a person has to approve: wait for that, and show these words. Without it such an ask is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait: Option<Words>,
    },
}

/// What the broker answers a parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParentReply {
    /// The grant lies in the one handle beside this packet.
    Granted {
        /// For logs; it opens nothing.
        grant: GrantId,
        /// When it is over, in seconds since the epoch.
        expires: u64,
    },
    /// No.
    Refused(Refusal),
    /// A person has to approve. One of the other two follows; until then the broker takes nothing but the connection's
    /// end, which withdraws the ask.
    Waiting(Waiting),
}

/// What a worker may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WorkerRequest {
    /// Redeems the grant in the one handle beside this packet.
    Redeem {
        /// Random; the same again asks for the same parcel again.
        request: RequestId,
        /// The key to encrypt to.
        key: WorkerKey,
        /// The SHA-256 of the program about to be executed, if the sender is a launcher that measured it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        executable: Option<Digest>,
        /// The level of protection that the program will run at, if the sender is a launcher that established one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        protection: Option<ProtectionLevel>,
        /// Variables with credentials of the parent that the program gets as well, if the sender is a launcher: names,
        /// never values.
        #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "at_most::<_, _, MAX_INHERITED>")]
        inherited: Vec<VariableName>,
    },
    /// The parcel arrived and opens: the vault may forget it.
    Acknowledge {
        /// The lease.
        lease: LeaseId,
        /// The request that it answered.
        request: RequestId,
    },
    /// The next token of a lease, encrypted to the same key.
    Renew {
        /// The lease.
        lease: LeaseId,
        /// Random; the same again asks for the same parcel again.
        request: RequestId,
    },
    /// Gives the lease back.
    End {
        /// The lease.
        lease: LeaseId,
    },
}

/// What the broker answers a worker, and pushes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerReply {
    /// The parcel lies in the one handle beside this packet.
    Parcelled {
        /// The lease.
        lease: LeaseId,
        /// The key that authenticates the parcel.
        sender: ParcelKey,
        /// When the token is over, in seconds since the epoch.
        expires: u64,
        /// The form of the token, such as `Bearer`.
        token_type: Text<32>,
    },
    /// Done; there is nothing to tell.
    Done,
    /// No.
    Refused(Refusal),
    /// Pushed, not asked for: the lease ended.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// Why.
        why: LeaseEnd,
    },
}

/// Bytes of one JSON message on these sockets.
pub const MAX_LOCAL: usize = 4096;
const _: () = assert!(MAX_LOCAL <= MAX_PACKET);

/// Encodes a message for a local socket.
///
/// # Errors
/// [`LocalError`] when it does not fit.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, LocalError> {
    let bytes = serde_json::to_vec(message).map_err(LocalError::Json)?;
    within(bytes.len()).map(|()| bytes)
}

/// Decodes a message from a local socket.
///
/// # Errors
/// [`LocalError`] when it is too long or not such a message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LocalError> {
    within(bytes.len())?;
    serde_json::from_slice(bytes).map_err(LocalError::Json)
}

/// A packet is not a message of these sockets.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Over [`MAX_LOCAL`].
    #[error("a message of {length} bytes, over {MAX_LOCAL}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not JSON, or not this message.
    #[error("not a message of this socket")]
    Json(#[source] serde_json::Error),
}

fn within(length: usize) -> Result<(), LocalError> {
    if length > MAX_LOCAL { Err(LocalError::TooLong { length }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_redemption_fits_a_packet_and_one_name_more_is_refused() {
        // Each a character that JSON has to escape.
        let name: VariableName = "\\".repeat(VariableName::MAX).parse().unwrap();
        let redeem = |count: usize| WorkerRequest::Redeem {
            request: RequestId([255; 16]),
            key: WorkerKey([255; 32]),
            executable: Some(Digest([255; 32])),
            protection: Some(ProtectionLevel::OwnNamespace),
            inherited: vec![name.clone(); count],
        };
        let bytes = encode(&redeem(MAX_INHERITED)).unwrap();
        assert_eq!(decode::<WorkerRequest>(&bytes).unwrap(), redeem(MAX_INHERITED));
        assert!(decode::<WorkerRequest>(&encode(&redeem(MAX_INHERITED + 1)).unwrap()).is_err());
    }

    #[test]
    fn a_name_that_no_variable_should_have_is_not_one() {
        for bad in ["", "A=B", "A B", "A\n", "\u{1b}[2J", "ü"] {
            assert!(bad.parse::<VariableName>().is_err(), "{bad:?}");
        }
    }
}
