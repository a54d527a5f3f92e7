//! Why text is not reference values.

use super::{MAX_REFERENCE, MAX_ROOTS, MAX_SETS, MAX_TEXT, document::NEWEST};
use crate::{
    snp::SnpRefusal,
    tpm::{PcrSelection, pcr::PcrError},
};

/// Why text is not reference values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// More than [`MAX_REFERENCE`] bytes; nothing was parsed.
    #[error("reference values have {found} bytes, more than {MAX_REFERENCE}")]
    TooLong {
        /// Their length in bytes.
        found: usize,
    },
    /// The text is not TOML of this form.
    #[error("cannot parse reference values")]
    Toml(#[source] toml::de::Error),
    /// The form is of a version that this program does not know.
    #[error("reference values are of version {found}, this program knows version {NEWEST}")]
    Version {
        /// The version.
        found: i64,
    },
    /// There is neither `[[tpm]]` nor `[[snp]]`, so that nothing could be accepted.
    #[error("reference values name no platform: at least one [[tpm]] or [[snp]] is needed")]
    NoSets,
    /// There are too many.
    #[error("reference values name {found} platforms, more than {MAX_SETS}")]
    TooManySets {
        /// How many there are.
        found: usize,
    },
    /// A name is empty, too long, or has control characters.
    #[error("{name:?} is no name: 1 to {MAX_TEXT} bytes without control characters are needed")]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// Two sets have one name.
    #[error("two platforms are named {name:?}")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// The list of firmware versions is empty.
    #[error("{name:?} accepts no firmware: list versions, or write firmware = \"any\"")]
    NoFirmware {
        /// The set.
        name: String,
    },
    /// Firmware is neither `"any"` nor 16 hexadecimal digits.
    #[error("{name:?} has firmware {found:?}: \"any\", or a list of 16 lower-case hexadecimal digits each, is needed")]
    Firmware {
        /// The set.
        name: String,
        /// What is there.
        found: String,
    },
    /// There are neither PCR values nor the words that do without, or there are both.
    #[error("{name:?} needs either [tpm.pcrs] or dangerously_accept_any_pcrs = \"reason\", one of the two")]
    NoPcrs {
        /// The set.
        name: String,
    },
    /// The reason for accepting any PCR value is empty, too long, or has control characters.
    #[error("{name:?} gives no reason for accepting any PCR value")]
    Reason {
        /// The set.
        name: String,
    },
    /// A set that accepts any PCR value stands beside others, and would make them void.
    #[error("{name:?} accepts any PCR value, which makes the other platforms of the file void")]
    AnyBesideOthers {
        /// The set.
        name: String,
    },
    /// A file of version 1 has what only version 2 knows.
    #[error("reference values of version 1 know no [[snp]]: write version = 2")]
    GuestInVersion1,
    /// A key of `[[snp]]` is missing, malformed, or contradicts another.
    #[error("{name:?}, key {key}: needed is {wanted}")]
    Guest {
        /// The set.
        name: String,
        /// The key.
        key: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// The reason behind a key that starts with `dangerously` is empty, too long, or has control characters.
    #[error("{name:?} gives no reason for {key}")]
    Danger {
        /// The set.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// A `[[dangerously_trusted_root]]` is no root of AMD's form.
    #[error("dangerously_trusted_root {index} is not one self-signed CA in PEM, of the form of AMD's roots")]
    Root {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        source: SnpRefusal,
    },
    /// There are too many roots.
    #[error("reference values trust {found} roots dangerously, more than {MAX_ROOTS}")]
    TooManyRoots {
        /// How many there are.
        found: usize,
    },
    /// A root that nothing is judged under.
    #[error("reference values trust a root dangerously, but have no [[snp]]")]
    RootWithoutGuest,
    /// A key under `[tpm.pcrs]` is not a PCR.
    #[error("{name:?} lists PCR {found:?}, which is no number from 0 to 23")]
    PcrIndex {
        /// The set.
        name: String,
        /// The key.
        found: String,
    },
    /// A PCR value is not 64 lower-case hexadecimal digits, or stands there twice.
    #[error("{name:?} lists {found:?} for PCR {pcr}: 64 lower-case hexadecimal digits are needed, each value once")]
    PcrValue {
        /// The set.
        name: String,
        /// The PCR.
        pcr: u8,
        /// The value.
        found: String,
    },
    /// A PCR is listed without a value, so that nothing could be accepted.
    #[error("{name:?} lists PCR {pcr} without a value")]
    NoValue {
        /// The set.
        name: String,
        /// The PCR.
        pcr: u8,
    },
    /// The PCRs are not a selection.
    #[error("the PCRs of {name:?} cannot be quoted")]
    Pcrs {
        /// The set.
        name: String,
        /// Why not.
        source: PcrError,
    },
    /// Two sets list different PCRs.
    #[error("{name:?} lists PCRs {found:?}, the first platform {wanted:?}: all must list the same")]
    Selection {
        /// The set that differs from the first.
        name: String,
        /// Its PCRs.
        found: PcrSelection,
        /// Those of the first.
        wanted: PcrSelection,
    },
}

impl ReferenceError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "reference-too-long",
            Self::Toml(_) => "reference-toml",
            Self::Version { .. } => "reference-version",
            Self::NoSets => "reference-no-platform",
            Self::TooManySets { .. } => "reference-too-many-platforms",
            Self::Name { .. } => "reference-name",
            Self::NameTwice { .. } => "reference-name-twice",
            Self::NoFirmware { .. } => "reference-no-firmware",
            Self::Firmware { .. } => "reference-firmware",
            Self::NoPcrs { .. } => "reference-no-pcrs",
            Self::Reason { .. } => "reference-reason",
            Self::AnyBesideOthers { .. } => "reference-any-beside-others",
            Self::GuestInVersion1 => "reference-snp-version",
            Self::Guest { .. } => "reference-snp",
            Self::Danger { .. } => "reference-danger-reason",
            Self::Root { .. } => "reference-root",
            Self::TooManyRoots { .. } => "reference-too-many-roots",
            Self::RootWithoutGuest => "reference-root-without-snp",
            Self::PcrIndex { .. } => "reference-pcr-index",
            Self::PcrValue { .. } => "reference-pcr-value",
            Self::NoValue { .. } => "reference-pcr-no-value",
            Self::Pcrs { .. } => "reference-pcrs",
            Self::Selection { .. } => "reference-pcr-selection",
        }
    }
}
