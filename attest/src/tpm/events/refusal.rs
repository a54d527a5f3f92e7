//! Why events were refused: each with what was found, what was wanted, and what an operator can do.

use crate::tpm::{event_log::EventLogError, ima::ImaError};

/// What is wrong with the events of a machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventRefusal {
    /// The policy speaks of events, and there is no log.
    #[error(
        "the evidence has no event log, which the policy needs; may the device process read the kernel's securityfs?"
    )]
    NoEventLog,
    /// The log does not parse, or does not replay.
    #[error(transparent)]
    EventLog(EventLogError),
    /// A PCR has no separator, or more than one, or one that tells of an error.
    #[error(
        "PCR {pcr} has not one separator without an error; the firmware did not finish, or the log is of another form"
    )]
    Separator {
        /// Which.
        pcr: u8,
    },
    /// Secure Boot is not on.
    #[error("Secure Boot is {found}, on is wanted; switch it on in the firmware")]
    SecureBoot {
        /// What the variable says.
        found: &'static str,
    },
    /// Something was measured that no rule knows.
    #[error(
        "PCR {pcr} was extended with {}, called {called}, which no rule accounts for; \
         if it is meant to be, judge this machine by PCR values",
        hex::encode(digest)
    )]
    Unexpected {
        /// Where.
        pcr: u8,
        /// What.
        digest: [u8; 32],
        /// What the log calls it.
        called: String,
    },
    /// An image was started that is not on the list.
    #[error(
        "an image with Authenticode digest {} was started, which the policy does not list; \
         if it is meant to run, add it to boot_applications",
        hex::encode(found)
    )]
    Image {
        /// Its digest.
        found: [u8; 32],
    },
    /// No image was started at all.
    #[error("the event log knows of no image that was started; was the machine started through UEFI?")]
    NoImage,
    /// Boot services were not left in order.
    #[error("the event log does not show that boot services were left in order (PCR 5); start the machine again")]
    ExitBootServices,
    /// A variable of the firmware has another value than the policy lists.
    #[error(
        "variable {name} has the digest {}, wanted is {}; if it was updated on purpose, add the digest",
        found.as_ref().map_or("of nothing".to_owned(), hex::encode),
        wanted.iter().map(hex::encode).collect::<Vec<_>>().join(" or ")
    )]
    Variable {
        /// Its name.
        name: &'static str,
        /// The digest of the event that measured it, if any did.
        found: Option<[u8; 32]>,
        /// Those that are listed.
        wanted: Vec<[u8; 32]>,
    },
    /// No accepted command line was measured.
    #[error(
        "the kernel measured no command line that the policy lists (PCR 9); was it changed, or is Linux older than 6.1?"
    )]
    CommandLine,
    /// Something was measured beside the command line that is not on the list of files.
    #[error(
        "PCR 9 was extended with {}, which is no listed command line and no listed file; \
         if it is a command line or an initrd that is meant to be, add it",
        hex::encode(found)
    )]
    File {
        /// Its digest.
        found: [u8; 32],
    },
    /// Something overrides what the image says.
    #[error(
        "PCR 12 is {}, not zero: a command line, a credential or an extension was given to the image from outside; \
         list the value under [tpm.pcrs] if it is meant to be",
        hex::encode(found)
    )]
    Override {
        /// Its value.
        found: [u8; 32],
    },
    /// The policy speaks of files, and there is no list of them.
    #[error(
        "the evidence has no IMA list, which the policy needs; does the kernel have an IMA policy (ima_policy=tcb)?"
    )]
    NoImaLog,
    /// The list does not parse, or does not replay.
    #[error(transparent)]
    ImaLog(ImaError),
    /// The list does not begin as the kernel begins it.
    #[error("the IMA list does not begin with boot_aggregate; it was altered, or is of another kernel")]
    ImaBegin,
    /// A file could change while it was read.
    #[error("file {path:?} was open for writing while it was measured, so that nothing is known of what was read")]
    ImaViolation {
        /// Its path.
        path: String,
    },
    /// A file is neither listed nor signed.
    #[error("file {path:?} with {digest} is neither listed nor signed by a listed key; if it is meant to be, add it")]
    ImaFile {
        /// Its path.
        path: String,
        /// Its digest, with the algorithm.
        digest: String,
    },
}

impl EventRefusal {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoEventLog => "event-log-missing",
            Self::EventLog(source) => source.code(),
            Self::Separator { .. } => "event-separator",
            Self::SecureBoot { .. } => "event-secure-boot",
            Self::Unexpected { .. } => "event-unexpected",
            Self::Image { .. } => "event-boot-application",
            Self::NoImage => "event-no-boot-application",
            Self::ExitBootServices => "event-exit-boot-services",
            Self::Variable { .. } => "event-variable",
            Self::CommandLine => "event-command-line",
            Self::File { .. } => "event-file",
            Self::Override { .. } => "event-override",
            Self::NoImaLog => "ima-log-missing",
            Self::ImaLog(source) => source.code(),
            Self::ImaBegin => "ima-boot-aggregate",
            Self::ImaViolation { .. } => "ima-violation",
            Self::ImaFile { .. } => "ima-file",
        }
    }
}
