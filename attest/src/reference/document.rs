//! The TOML form of reference values: reads it strictly, writes it canonically.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use blindferry_proto::role::Role;
use serde::Deserialize;

use super::{AcceptedPcrs, Firmware, MAX_REFERENCE, MAX_SETS, MAX_TEXT, ReferenceSet, ReferenceValues};
use crate::tpm::{PcrSelection, pcr::PcrError};

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
    #[error("reference values are of version {found}, this program knows version {VERSION}")]
    Version {
        /// The version.
        found: i64,
    },
    /// There is no `[[tpm]]`, so that nothing could be accepted.
    #[error("reference values name no platform: at least one [[tpm]] is needed")]
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
            Self::PcrIndex { .. } => "reference-pcr-index",
            Self::PcrValue { .. } => "reference-pcr-value",
            Self::NoValue { .. } => "reference-pcr-no-value",
            Self::Pcrs { .. } => "reference-pcrs",
            Self::Selection { .. } => "reference-pcr-selection",
        }
    }
}

pub(super) fn parse(text: &str) -> Result<ReferenceValues, ReferenceError> {
    if text.len() > MAX_REFERENCE {
        return Err(ReferenceError::TooLong { found: text.len() });
    }
    // The version first, so that a newer file is called that and not malformed.
    let Versioned { version } = toml::from_str(text).map_err(ReferenceError::Toml)?;
    if version != VERSION {
        return Err(ReferenceError::Version { found: version });
    }
    let Document { _version, role, tpm } = toml::from_str(text).map_err(ReferenceError::Toml)?;
    let sets = tpm.into_iter().map(ReferenceSet::try_from).collect::<Result<_, _>>()?;
    ReferenceValues::new(role.into(), sets)
}

pub(super) fn write(values: &ReferenceValues) -> String {
    let mut out = format!("version = {VERSION}\nrole = \"{}\"\n", RoleText::from(values.role()).text());
    for set in &values.sets {
        let _ = write!(out, "\n[[tpm]]\nname = {}\n", quoted(&set.name));
        match &set.firmware {
            Firmware::Any => out.push_str("firmware = \"any\"\n"),
            Firmware::Only(versions) => list(&mut out, "firmware", versions.iter().map(|one| format!("{one:016x}"))),
        }
        match &set.pcrs {
            AcceptedPcrs::DangerouslyAny(reason) => {
                let _ = writeln!(out, "dangerously_accept_any_pcrs = {}", quoted(reason));
            }
            AcceptedPcrs::Only(accepted) => {
                out.push_str("\n[tpm.pcrs]\n");
                for (pcr, values) in accepted {
                    list(&mut out, &pcr.to_string(), values.iter().map(hex::encode));
                }
            }
        }
    }
    out
}

#[derive(Deserialize)]
struct Versioned {
    version: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    // Judged already; here so that it is a known key.
    #[serde(rename = "version")]
    _version: i64,
    role: RoleText,
    #[serde(default)]
    tpm: Vec<TpmTable>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleText {
    Vault,
    Broker,
    Operator,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TpmTable {
    name: String,
    firmware: FirmwareText,
    dangerously_accept_any_pcrs: Option<String>,
    pcrs: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FirmwareText {
    Word(String),
    Versions(Vec<String>),
}

impl TryFrom<TpmTable> for ReferenceSet {
    type Error = ReferenceError;

    fn try_from(table: TpmTable) -> Result<Self, ReferenceError> {
        let TpmTable { name, firmware, dangerously_accept_any_pcrs, pcrs } = table;
        let firmware = read_firmware(&name, firmware)?;
        let pcrs = match (pcrs, dangerously_accept_any_pcrs) {
            (Some(pcrs), None) => AcceptedPcrs::Only(read_pcrs(&name, pcrs)?),
            (None, Some(reason)) => AcceptedPcrs::DangerouslyAny(reason),
            (None, None) | (Some(_), Some(_)) => return Err(ReferenceError::NoPcrs { name }),
        };
        Self::new(name, firmware, pcrs)
    }
}

impl RoleText {
    fn text(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Broker => "broker",
            Self::Operator => "operator",
        }
    }
}

impl From<RoleText> for Role {
    fn from(text: RoleText) -> Self {
        match text {
            RoleText::Vault => Self::Vault,
            RoleText::Broker => Self::Broker,
            RoleText::Operator => Self::Operator,
        }
    }
}

impl From<Role> for RoleText {
    fn from(role: Role) -> Self {
        match role {
            Role::Vault => Self::Vault,
            Role::Broker => Self::Broker,
            Role::Operator => Self::Operator,
        }
    }
}

fn read_firmware(name: &str, firmware: FirmwareText) -> Result<Firmware, ReferenceError> {
    let refused = |found: &str| ReferenceError::Firmware { name: name.to_owned(), found: found.to_owned() };
    match firmware {
        FirmwareText::Word(word) if word == "any" => Ok(Firmware::Any),
        FirmwareText::Word(word) => Err(refused(&word)),
        FirmwareText::Versions(versions) => {
            let mut only = BTreeSet::new();
            for text in &versions {
                let version = fixed_hex::<8>(text).ok_or_else(|| refused(text))?;
                only.insert(u64::from_be_bytes(version));
            }
            Ok(Firmware::Only(only))
        }
    }
}

fn read_pcrs(
    name: &str,
    pcrs: BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<u8, BTreeSet<[u8; 32]>>, ReferenceError> {
    let mut accepted = BTreeMap::new();
    for (key, texts) in pcrs {
        // One way to write each number, so that no PCR can stand there twice.
        let pcr = (0u8..24).find(|pcr| pcr.to_string() == key);
        let pcr = pcr.ok_or_else(|| ReferenceError::PcrIndex { name: name.to_owned(), found: key })?;
        let mut values = BTreeSet::new();
        for found in texts {
            let fresh = fixed_hex(&found).is_some_and(|value| values.insert(value));
            if !fresh {
                return Err(ReferenceError::PcrValue { name: name.to_owned(), pcr, found });
            }
        }
        accepted.insert(pcr, values);
    }
    Ok(accepted)
}

/// Exactly `N` bytes of lower-case hexadecimal: one text for each value, so that files can be compared.
pub(super) fn fixed_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn list(out: &mut String, key: &str, items: impl Iterator<Item = String>) {
    let _ = writeln!(out, "{key} = [");
    for item in items {
        let _ = writeln!(out, "    \"{item}\",");
    }
    out.push_str("]\n");
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The version of the form that this program reads and writes.
const VERSION: i64 = 1;
