//! Packets on the socketpair between front and vault, in postcard's wire form. Descriptors travel beside them.
//!
//! The vault believes nothing that comes from here: connections are authenticated by TLS inside the vault, and what is
//! stored is ciphertext that the vault verifies.

use crate::backup::{Piece, Position};
use crate::bounded::{Bytes, Text, at_most};
use crate::identifier::{Digest, GrantId};
use crate::limits::{MAX_OPERATIONS, MAX_PAGE, MAX_STORED};
use crate::refusal::Refusal;
use crate::report::Report;
use serde::{Deserialize, Serialize};

/// From the front to the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromFront {
    /// A connection was accepted; it is the one descriptor beside this packet.
    Accepted {
        /// The other end's address, for the log.
        from: Text<64>,
    },
    /// The answer to [`FromVault::Dial`]: connected, and the connection is the one descriptor beside this packet.
    Dialled {
        /// The dial's number.
        id: u64,
    },
    /// The answer to [`FromVault::Dial`]: it did not work.
    NotDialled {
        /// The dial's number.
        id: u64,
        /// Why.
        why: Text<256>,
    },
    /// The answer to a store request.
    Stored {
        /// The request's number.
        id: u64,
        /// The answer.
        reply: StoreReply,
    },
    /// End in good order.
    Stop,
    /// Are you there? To be answered at once with [`FromVault::Here`].
    Look {
        /// The question's number.
        id: u64,
    },
    /// Somebody looks at the operators' page: a report, please. Answered by [`FromVault::Report`], at most twice a second.
    Report,
    /// The answer to [`FromVault::Ticket`].
    PageAt {
        /// The ticket's number.
        id: u64,
        /// What browsers call the page, such as `http://127.0.0.1:7490`; `None`: none is configured.
        origin: Option<Text<MAX_ORIGIN>>,
    },
}

/// From the vault to the front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromVault {
    /// Connect to an upstream, please.
    Dial {
        /// The vault's number for it.
        id: u64,
        /// Host name or address.
        host: Text<255>,
        /// TCP port.
        port: u16,
    },
    /// Read or change the store.
    Store {
        /// The vault's number for it.
        id: u64,
        /// What to do.
        request: StoreRequest,
    },
    /// How the vault is, for health, readiness and metrics.
    Condition(Condition),
    /// The public keys of the JWT signers, for JWKS and discovery.
    Publish {
        /// All of them; replaces what was published before.
        issuers: Vec<Issuer>,
    },
    /// The vault cannot go on; the line for people is all that the front learns.
    Failed(Refusal),
    /// The answer to [`FromFront::Look`], by the loop that does everything else.
    Here {
        /// The question's number.
        id: u64,
    },
    /// How everything is, for the operators' page; `None`: no operator has asked for the page, or not in the last hours.
    Report(Option<Box<Report>>),
    /// An operator asked for the page. Whoever brings the ticket in its time may look.
    Ticket {
        /// The vault's number for it.
        id: u64,
        /// The SHA-256 of the ticket's text.
        digest: Digest,
    },
    /// A request of a broker was answered a moment ago; told only where the front asked for traces.
    Traced(Traced),
}

/// One table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// The sealed key-encryption key, its recovery form, the policy approvals. In the clear by nature: sealed blobs.
    Sealed,
    /// The encrypted manifest of what else is stored.
    Manifest,
    /// Encrypted masters with their settings.
    Masters,
    /// Encrypted records of enrolled and allowed hosts.
    Hosts,
    /// Encrypted policy and reference values.
    Documents,
    /// Encrypted audit records, by sequence number.
    Audit,
}

/// A key of the store; audit records use their number, big-endian, so that they sort.
pub type Key = Bytes<160>;
/// A value of the store.
pub type Value = Bytes<MAX_STORED>;

/// What the vault asks of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreRequest {
    /// One value.
    Get {
        /// Its table.
        table: Table,
        /// Its key.
        key: Key,
    },
    /// Keys and values in order, those after `after`.
    List {
        /// The table.
        table: Table,
        /// Begin after this key; `None`: at the first.
        after: Option<Key>,
        /// At most so many, and at most [`MAX_PAGE`]; fewer when the answer would not fit a packet.
        most: u16,
    },
    /// The last key and value of a table.
    Last {
        /// The table.
        table: Table,
    },
    /// All of these, or none; durable before it is answered.
    Commit {
        /// At most [`MAX_OPERATIONS`].
        #[serde(deserialize_with = "at_most::<_, _, MAX_OPERATIONS>")]
        operations: Vec<Operation>,
    },
    /// Keep the store as it is now readable beside what goes on, in place of the snapshot before.
    Snapshot,
    /// The next pieces of a snapshot.
    Pieces {
        /// Which snapshot.
        snapshot: u64,
        /// Those after this; `None`: from the first.
        after: Option<Position>,
    },
}

/// One change in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Writes a value.
    Put {
        /// Its table.
        table: Table,
        /// Its key.
        key: Key,
        /// The value.
        value: Value,
    },
    /// Writes a value where there is none; where there is one the transaction does nothing and is refused.
    Create {
        /// Its table.
        table: Table,
        /// Its key.
        key: Key,
        /// The value.
        value: Value,
    },
    /// Removes a value, if it is there.
    Delete {
        /// Its table.
        table: Table,
        /// Its key.
        key: Key,
    },
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreReply {
    /// The value, or that there is none.
    Got(Option<Value>),
    /// A page; empty at the end.
    Page(Vec<(Key, Value)>),
    /// The last of the table, if it is not empty.
    Last(Option<(Key, Value)>),
    /// Written, durably.
    Committed,
    /// A value that was to be created exists.
    Exists,
    /// The store could not; nothing was written.
    Failed {
        /// Why, for the log.
        why: Text<256>,
    },
    /// A snapshot was taken.
    Snapshot {
        /// Its number.
        snapshot: u64,
    },
    /// Pieces of it, in order; empty at the end.
    Pieces(#[serde(deserialize_with = "at_most::<_, _, MAX_PAGE>")] Vec<Piece>),
}

/// How the vault is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// It has unsealed its key-encryption key and serves.
    pub ready: bool,
    /// Counters and gauges by name (Prometheus names without the `blindferry_` in front) and optional label.
    pub figures: Vec<Figure>,
    /// How long its steps take.
    #[serde(deserialize_with = "at_most::<_, _, MAX_STEPS>")]
    pub steps: Vec<Durations>,
}

/// What answering one request of a broker took: numbers and words of the code, and which grant it was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// The grant, by the identity that the audit has: it opens nothing.
    pub grant: GrantId,
    /// What the broker calls its side of the request in a trace.
    pub parent: [u8; 8],
    /// The request, by the name that the metrics have for it.
    pub step: Text<32>,
    /// The code of the refusal that was the answer.
    pub refusal: Option<Text<32>>,
    /// From its frame to its answer, in microseconds.
    pub microseconds: u64,
    /// What was done meanwhile.
    #[serde(deserialize_with = "at_most::<_, _, MAX_STEPS>")]
    pub parts: Vec<Part>,
}

/// One step within a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The step, by the name that the metrics have for it.
    pub step: Text<32>,
    /// When it began, in microseconds since the request did.
    pub began: u64,
    /// How long it took, in microseconds.
    pub microseconds: u64,
}

/// How long one kind of step has taken, since the vault was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// The step.
    pub step: Text<32>,
    /// How many took how long, in buckets that both sides know.
    #[serde(deserialize_with = "at_most::<_, _, MAX_BUCKETS>")]
    pub buckets: Vec<u64>,
    /// All of them together, in microseconds.
    pub microseconds: u64,
}

/// Kinds of steps in a [`Condition`], and steps in a [`Traced`].
pub const MAX_STEPS: usize = 64;
/// Buckets of [`Durations`].
pub const MAX_BUCKETS: usize = 64;

/// One figure for the metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// Its name.
    pub name: Text<64>,
    /// One label's value, for families such as refusals by code.
    pub label: Option<Text<64>>,
    /// Its value.
    pub value: u64,
    /// Whether it only ever grows.
    pub counter: bool,
}

/// An issuer whose keys the front publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// The issuer's URL.
    pub url: Text<512>,
    /// Its JWK set (RFC 7517) as JSON: public keys only.
    pub jwks: Text<16384>,
    /// The algorithms of its keys.
    pub algorithms: Vec<Text<16>>,
}

/// Bytes of the page's origin: a scheme, a host name, a port.
pub const MAX_ORIGIN: usize = 300;

const _: () = assert!(MAX_OPERATIONS <= 64 && MAX_PAGE <= 256);
