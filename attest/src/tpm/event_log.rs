//! The event log of a PC client's firmware and boot loaders, parsed strictly: what is said to have been extended into PCRs.
//!
//! Two forms exist (TCG PC Client Platform Firmware Profile, sections 10.2 and 10.4): crypto-agile logs, whose first event
//! tells the banks, and older ones with SHA-1 digests alone. Three types lead from claim to fact:
//!
//! - [`Log`]: it parsed. Anyone can write one.
//! - [`Replayed`]: its digests give the PCR values that a TPM quoted. So the digests are facts; types and data are not.
//! - [`Fact`]: a digest, and the bytes behind it where they were hashed again and gave it.

pub mod explain;
pub mod fact;
pub mod kind;
mod parse;
pub mod replay;
pub mod variable;

pub use fact::{CheckedData, Content, Fact};
pub use kind::Kind;
pub use replay::{Bank, Compared, Replayed};

use crate::reader::Malformed;

/// The largest log that is parsed, in bytes. Logs of real machines have 3 to 100 KiB.
pub const MAX_EVENT_LOG: usize = 1024 * 1024;

/// The most events in one log.
pub const MAX_EVENTS: usize = 8192;

/// The most data of one event, in bytes. The longest are lists of revoked digests and the logs of Windows.
pub const MAX_EVENT_DATA: usize = 128 * 1024;

/// A log as it was handed over. Holding one tells you:
/// - every length was within bounds and inside the log, and no byte was left over;
/// - each event has one digest for each bank that the log names;
/// - nothing else: to learn more, see [`Log::compare`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    format: Format,
    locality: u8,
    events: Vec<Event<'a>>,
}

/// The form of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// TCG_PCR_EVENT: one SHA-1 digest for each event.
    Sha1Only,
    /// TCG_PCR_EVENT2 after a Spec ID event: a digest for each of these TPM_ALG_IDs.
    CryptoAgile(Vec<u16>),
}

/// One event as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pcr: u32,
    kind: Kind,
    digests: Digests<'a>,
    data: &'a [u8],
}

/// The digests of an event in the banks that we know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digests<'a> {
    sha1: Option<&'a [u8; 20]>,
    sha256: Option<&'a [u8; 32]>,
    sha384: Option<&'a [u8; 48]>,
}

/// Why a log was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// More bytes than any log has; nothing was parsed.
    #[error("the event log has {found} bytes, more than {MAX_EVENT_LOG}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Not a byte.
    #[error("the event log is empty; is the TPM's driver loaded, and was the machine started through UEFI?")]
    Empty,
    /// More events than any log has.
    #[error("the event log has more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// The bytes end inside an event, or a length in it is a lie.
    #[error("event {number} of the event log does not parse; the log was cut off or altered")]
    Malformed {
        /// Which, from 0.
        number: usize,
        /// What was wrong.
        source: Malformed,
    },
    /// The Spec ID event that opens a crypto-agile log does not parse.
    #[error("the Spec ID event of the event log does not parse")]
    Header(#[source] Malformed),
    /// An event was extended into a PCR that does not exist.
    #[error("event {number} of the event log is of PCR {found}; there are 0 to 23")]
    Pcr {
        /// Which event, from 0.
        number: usize,
        /// Its PCR.
        found: u32,
    },
    /// An event has not one digest for each bank that the log names.
    #[error("event {number} of the event log has not one digest for each bank of the log")]
    Digests {
        /// Which event, from 0.
        number: usize,
    },
    /// What the log says of the locality at start is impossible, or comes twice or too late.
    #[error(
        "event {number} of the event log tells a locality at start that cannot be, twice, or after PCR 0 was extended"
    )]
    Locality {
        /// Which event, from 0.
        number: usize,
    },
    /// The log has no SHA-256 digests, and no judgement rests on SHA-1.
    #[error(
        "the event log has no SHA-256 digests, and no judgement rests on SHA-1; \
         switch the firmware to TPM 2.0 with a SHA-256 bank"
    )]
    NoSha256,
    /// A PCR that was asked for was not quoted.
    #[error("PCR {pcr} was not quoted, so that nothing is known of its events")]
    NotQuoted {
        /// Which.
        pcr: u8,
    },
    /// The data of an event is of a type whose digest has to be that of the data, and is not.
    #[error(
        "event {number} of the event log, {called} in PCR {pcr}, has data that does not give its digest; it was altered"
    )]
    Data {
        /// Which, from 0.
        number: usize,
        /// Its PCR.
        pcr: u32,
        /// What the log calls it.
        called: Kind,
    },
    /// The events do not give the value that was quoted: some are missing, invented, altered or out of order.
    #[error(
        "the event log gives PCR {pcr} the value {}, quoted is {}; the log is incomplete or false",
        hex::encode(found),
        hex::encode(wanted)
    )]
    Replay {
        /// The first PCR that differs.
        pcr: u8,
        /// What the log gives.
        found: [u8; 32],
        /// What was quoted.
        wanted: [u8; 32],
    },
}

impl EventLogError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "event-log-too-long",
            Self::Empty => "event-log-empty",
            Self::TooManyEvents => "event-log-too-many-events",
            Self::Malformed { source: Malformed::TooLong { .. }, .. } => "event-log-event-too-long",
            Self::Malformed { .. } => "event-log-truncated",
            Self::Header(_) => "event-log-header",
            Self::Pcr { .. } => "event-log-pcr",
            Self::Digests { .. } => "event-log-digests",
            Self::Locality { .. } => "event-log-locality",
            Self::NoSha256 => "event-log-no-sha256",
            Self::NotQuoted { .. } => "event-log-not-quoted",
            Self::Data { .. } => "event-log-data",
            Self::Replay { .. } => "event-log-replay",
        }
    }
}

impl<'a> Log<'a> {
    /// Parses a log as Linux gives it (`/sys/kernel/security/tpm0/binary_bios_measurements`), of either form. The result
    /// borrows from `bytes`; beside it, at most [`MAX_EVENTS`] entries of fixed size are allocated.
    ///
    /// # Errors
    ///
    /// On the first length, count or index that cannot be.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        parse::log(bytes)
    }

    /// Its form.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The locality that TPM2_Startup is said to have come from: what PCR 0 started at.
    #[must_use]
    pub fn locality(&self) -> u8 {
        self.locality
    }

    /// The events in order; without the Spec ID event that opens a crypto-agile log.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }
}

impl<'a> Event<'a> {
    /// The PCR that it is said to have been extended into. For events that extend nothing it can be anything.
    #[must_use]
    pub fn pcr(&self) -> u32 {
        self.pcr
    }

    /// What it is said to be. No digest covers this.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its data as the log has it: a claim, whatever the digest.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Its digest in one bank.
    #[must_use]
    pub fn digest(&self, bank: Bank) -> Option<&'a [u8]> {
        match bank {
            Bank::Sha1 => self.digests.sha1.map(<[u8; 20]>::as_slice),
            Bank::Sha256 => self.digests.sha256.map(<[u8; 32]>::as_slice),
            Bank::Sha384 => self.digests.sha384.map(<[u8; 48]>::as_slice),
        }
    }
}
