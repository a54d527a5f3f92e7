//! The TOML form of reference values: reads it strictly, writes it canonically.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use blindferry_proto::role::Role;
use serde::Deserialize;

use super::{
    AcceptedPcrs, Firmware, MAX_REFERENCE, MAX_ROOTS, MAX_TEXT, ReferenceError, ReferenceSet, ReferenceValues,
    guest_table::{self, GuestTable, ProductText, product_text},
};
use crate::snp::anchor::{Anchors, DangerousRoot};
use crate::tpm::events::{self, EventPolicy};

pub(super) fn parse(text: &str) -> Result<ReferenceValues, ReferenceError> {
    if text.len() > MAX_REFERENCE {
        return Err(ReferenceError::TooLong { found: text.len() });
    }
    // The version first, so that a newer file is called that and not malformed.
    let Versioned { version } = toml::from_str(text).map_err(ReferenceError::Toml)?;
    if !(OLDEST..=NEWEST).contains(&version) {
        return Err(ReferenceError::Version { found: version });
    }
    let document: Document = toml::from_str(text).map_err(ReferenceError::Toml)?;
    let Document { _version, role, tpm, snp, dangerously_trusted_root: roots } = document;
    let events = tpm.iter().any(|table| table.events.is_some());
    if version < NEWEST && events {
        return Err(ReferenceError::EventsInVersion1);
    }
    if version < NEWEST && !(snp.is_empty() && roots.is_empty()) {
        return Err(ReferenceError::GuestInVersion1);
    }
    if roots.len() > MAX_ROOTS {
        return Err(ReferenceError::TooManyRoots { found: roots.len() });
    }
    let sets = tpm.into_iter().map(ReferenceSet::try_from).collect::<Result<_, _>>()?;
    let guests = snp.into_iter().map(GuestTable::into_set).collect::<Result<_, _>>()?;
    let roots = roots.into_iter().enumerate().map(|(index, table)| table.into_root(index)).collect::<Result<_, _>>()?;
    ReferenceValues::new(role.into(), sets, guests, Anchors::dangerously_with(roots))
}

pub(super) fn write(values: &ReferenceValues) -> String {
    // The oldest version that has it all, so that older programs go on reading what they can judge.
    let version = if values.guests.is_empty() && !values.needs_logs() { OLDEST } else { NEWEST };
    let mut out = format!("version = {version}\nrole = \"{}\"\n", RoleText::from(values.role()).text());
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
            AcceptedPcrs::Only(accepted) if accepted.is_empty() => {}
            AcceptedPcrs::Only(accepted) => {
                out.push_str("\n[tpm.pcrs]\n");
                for (pcr, values) in accepted {
                    list(&mut out, &pcr.to_string(), values.iter().map(hex::encode));
                }
            }
        }
        if let Some(events) = &set.events {
            events.write(&mut out);
        }
    }
    for guest in &values.guests {
        guest_table::write(&mut out, guest);
    }
    for root in values.anchors.dangerous() {
        let _ = write!(
            out,
            "\n[[dangerously_trusted_root]]\nproduct = \"{}\"\nreason = {}\ncertificate = \"\"\"\n{}\"\"\"\n",
            product_text(root.product()),
            quoted(root.reason()),
            root.to_pem(),
        );
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
    #[serde(default)]
    snp: Vec<GuestTable>,
    #[serde(default)]
    dangerously_trusted_root: Vec<RootTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootTable {
    product: ProductText,
    reason: String,
    certificate: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleText {
    Vault,
    Broker,
    Operator,
    Successor,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TpmTable {
    name: String,
    firmware: FirmwareText,
    dangerously_accept_any_pcrs: Option<String>,
    pcrs: Option<BTreeMap<String, Vec<String>>>,
    events: Option<events::Table>,
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
        let TpmTable { name, firmware, dangerously_accept_any_pcrs, pcrs, events } = table;
        let firmware = read_firmware(&name, firmware)?;
        let events = match events.map(EventPolicy::try_from).transpose() {
            Ok(events) => events,
            Err(source) => return Err(ReferenceError::Events { name, source }),
        };
        let pcrs = match (pcrs, &events, dangerously_accept_any_pcrs) {
            (Some(pcrs), _, None) => AcceptedPcrs::Only(read_pcrs(&name, pcrs)?),
            (None, Some(_), None) => AcceptedPcrs::Only(BTreeMap::new()),
            (None, None, Some(reason)) => AcceptedPcrs::DangerouslyAny(reason),
            _ => return Err(ReferenceError::NoPcrs { name }),
        };
        Self::new(name, firmware, pcrs, events)
    }
}

impl RootTable {
    fn into_root(self, index: usize) -> Result<DangerousRoot, ReferenceError> {
        let Self { product, reason, certificate } = self;
        if reason.trim().is_empty() || reason.len() > MAX_TEXT || reason.chars().any(char::is_control) {
            let name = format!("dangerously_trusted_root {index}");
            return Err(ReferenceError::Danger { name, key: "dangerously_trusted_root" });
        }
        DangerousRoot::new(product.into(), &certificate, reason)
            .map_err(|source| ReferenceError::Root { index, source })
    }
}

impl RoleText {
    fn text(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Broker => "broker",
            Self::Operator => "operator",
            Self::Successor => "successor",
        }
    }
}

impl From<RoleText> for Role {
    fn from(text: RoleText) -> Self {
        match text {
            RoleText::Vault => Self::Vault,
            RoleText::Broker => Self::Broker,
            RoleText::Operator => Self::Operator,
            RoleText::Successor => Self::Successor,
        }
    }
}

impl From<Role> for RoleText {
    fn from(role: Role) -> Self {
        match role {
            Role::Vault => Self::Vault,
            Role::Broker => Self::Broker,
            Role::Operator => Self::Operator,
            Role::Successor => Self::Successor,
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

pub(super) fn list(out: &mut String, key: &str, items: impl Iterator<Item = String>) {
    let _ = writeln!(out, "{key} = [");
    for item in items {
        let _ = writeln!(out, "    \"{item}\",");
    }
    out.push_str("]\n");
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The version before `[[snp]]` and `[tpm.events]`; still written where there is neither.
const OLDEST: i64 = 1;

/// The newest version that this program reads and writes.
pub(super) const NEWEST: i64 = 2;
