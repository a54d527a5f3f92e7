//! The TOML form of `[[snp]]`: reads it strictly, writes it canonically.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Deserialize;

use super::{
    ReferenceError,
    document::{fixed_hex, list, quoted},
    guest::GuestSet,
};
use crate::snp::{
    ChipId, HostData, KeyDigest, KeyKind, Measurement, Product, Tcb,
    report::{GuestPolicy, PlatformInfo},
    rules::{Bits, Chips, CrlRule, Dangers, Rules},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuestTable {
    name: String,
    products: Vec<ProductText>,
    signed_by: KeyText,
    chips: Option<ChipsText>,
    providers: Option<Vec<String>>,
    vmpl: Vec<u32>,
    measurements: Option<Vec<String>>,
    id_keys: Option<Vec<String>>,
    author_keys: Option<Vec<String>>,
    family_id: Option<String>,
    image_id: Option<String>,
    guest_svn: Option<u32>,
    host_data: Option<Vec<String>>,
    crl: CrlText,
    dangerously_trust_milan: Option<String>,
    dangerously_accept_masked_chip: Option<String>,
    dangerously_accept_provisional_firmware: Option<String>,
    dangerously_accept_no_alias_check: Option<String>,
    dangerously_accept_any_measurement: Option<String>,
    floor: BTreeMap<ProductText, TcbTable>,
    launch_floor: Option<BTreeMap<ProductText, TcbTable>>,
    #[serde(default)]
    guest: BTreeMap<String, Rule>,
    #[serde(default)]
    platform: BTreeMap<String, Rule>,
    #[serde(default)]
    mitigation: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProductText {
    Milan,
    Genoa,
    Turin,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyText {
    Vcek,
    Vlek,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CrlText {
    Required,
    Optional,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ChipsText {
    Word(String),
    List(Vec<String>),
}

/// A value under `[snp.guest]` or `[snp.platform]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Rule {
    Bit(bool),
    Text(String),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbTable {
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

impl GuestTable {
    pub(super) fn into_set(self) -> Result<GuestSet, ReferenceError> {
        let name = self.name.clone();
        let rules = self.rules().map_err(|(key, wanted)| ReferenceError::Guest { name: name.clone(), key, wanted })?;
        GuestSet::new(name, rules)
    }

    fn rules(self) -> Result<Rules, Fault> {
        let chips = match self.chips {
            None => None,
            Some(ChipsText::Word(word)) if word == "any" => Some(Chips::Any),
            Some(ChipsText::Word(_)) => return Err(("chips".to_owned(), "\"any\" or a list")),
            Some(ChipsText::List(list)) => Some(Chips::Only(values("chips", list, ChipId::new)?)),
        };
        let floor = floors("floor", self.floor)?;
        let launch_floor = self.launch_floor.map(|launch| floors("launch_floor", launch)).transpose()?;
        let (abi, guest) = guest_rules(self.guest)?;
        let mut platform = platform_rules(self.platform)?;
        if self.dangerously_accept_no_alias_check.is_none() {
            platform = platform.with(PlatformInfo::ALIAS_CHECK, true);
        }
        let (launch_mitigations, current_mitigations) = mitigations(self.mitigation)?;
        Ok(Rules {
            products: Some(unique("products", self.products.into_iter().map(Product::from))?),
            signed_by: Some(match self.signed_by {
                KeyText::Vcek => KeyKind::Vcek,
                KeyText::Vlek => KeyKind::Vlek,
            }),
            providers: self.providers.map(|list| unique("providers", list)).transpose()?,
            chips,
            vmpl: Some(unique("vmpl", self.vmpl)?),
            measurements: optional("measurements", self.measurements, Measurement::new)?,
            id_keys: optional("id_keys", self.id_keys, KeyDigest::new)?,
            author_keys: optional("author_keys", self.author_keys, KeyDigest::new)?,
            family_id: self.family_id.map(|text| value("family_id", &text)).transpose()?,
            image_id: self.image_id.map(|text| value("image_id", &text)).transpose()?,
            guest_svn: self.guest_svn,
            host_data: optional("host_data", self.host_data, HostData::new)?,
            // A guest that was launched under older firmware was in its hands.
            launch_floor: Some(launch_floor.unwrap_or_else(|| floor.clone())),
            floor: Some(floor),
            abi,
            guest,
            platform,
            launch_mitigations,
            current_mitigations,
            crl: Some(match self.crl {
                CrlText::Required => CrlRule::Required,
                CrlText::Optional => CrlRule::Optional,
            }),
            dangers: Dangers {
                trust_milan: self.dangerously_trust_milan,
                masked_chip: self.dangerously_accept_masked_chip,
                provisional_firmware: self.dangerously_accept_provisional_firmware,
                no_alias_check: self.dangerously_accept_no_alias_check,
                any_measurement: self.dangerously_accept_any_measurement,
            },
        })
    }
}

impl From<ProductText> for Product {
    fn from(text: ProductText) -> Self {
        match text {
            ProductText::Milan => Self::Milan,
            ProductText::Genoa => Self::Genoa,
            ProductText::Turin => Self::Turin,
        }
    }
}

/// Writes one set, as [`GuestTable`] reads it.
pub(super) fn write(out: &mut String, set: &GuestSet) {
    let rules = set.rules();
    let _ = write!(out, "\n[[snp]]\nname = {}\n", quoted(set.name()));
    list(out, "products", rules.products.iter().flatten().map(|product| product_text(*product).to_owned()));
    let _ = writeln!(out, "signed_by = \"{}\"", rules.signed_by.map_or("", KeyKind::word));
    match &rules.chips {
        None => {}
        Some(Chips::Any) => out.push_str("chips = \"any\"\n"),
        Some(Chips::Only(chips)) => list(out, "chips", chips.iter().map(ToString::to_string)),
    }
    if let Some(providers) = &rules.providers {
        let _ = writeln!(out, "providers = [");
        for provider in providers {
            let _ = writeln!(out, "    {},", quoted(provider));
        }
        out.push_str("]\n");
    }
    let levels: Vec<_> = rules.vmpl.iter().flatten().map(ToString::to_string).collect();
    let _ = writeln!(out, "vmpl = [{}]", levels.join(", "));
    hex_list(out, "measurements", rules.measurements.as_ref());
    hex_list(out, "id_keys", rules.id_keys.as_ref());
    hex_list(out, "author_keys", rules.author_keys.as_ref());
    for (key, value) in [("family_id", rules.family_id), ("image_id", rules.image_id)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{key} = \"{}\"", hex::encode(value));
        }
    }
    if let Some(svn) = rules.guest_svn {
        let _ = writeln!(out, "guest_svn = {svn}");
    }
    hex_list(out, "host_data", rules.host_data.as_ref());
    if let Some(crl) = rules.crl {
        let _ = writeln!(out, "crl = \"{}\"", if crl == CrlRule::Required { "required" } else { "optional" });
    }
    for (key, reason) in rules.dangers.iter() {
        let _ = writeln!(out, "{key} = {}", quoted(reason));
    }
    for (key, floors) in [("floor", &rules.floor), ("launch_floor", &rules.launch_floor)] {
        for (product, tcb) in floors.iter().flatten() {
            let _ = write!(out, "\n[snp.{key}.{}]\n{}", product_text(*product), tcb_text(tcb));
        }
    }
    write_bits(out, rules);
}

fn write_bits(out: &mut String, rules: &Rules) {
    if rules.abi.is_some() || rules.guest != Bits::default() {
        out.push_str("\n[snp.guest]\n");
        if let Some((major, minor)) = rules.abi {
            let _ = writeln!(out, "abi = \"{major}.{minor}\"");
        }
        write_table(out, rules.guest, &GUEST_KEYS);
    }
    // Without a danger that says otherwise it is required, and not written.
    let platform = Bits { set: rules.platform.set & !PlatformInfo::ALIAS_CHECK, ..rules.platform };
    if platform != Bits::default() {
        out.push_str("\n[snp.platform]\n");
        write_table(out, platform, &PLATFORM_KEYS);
    }
    let vectors = [("launch", rules.launch_mitigations), ("current", rules.current_mitigations)];
    if vectors.iter().any(|(_, vector)| vector.is_some()) {
        out.push_str("\n[snp.mitigation]\n");
        for (key, vector) in vectors {
            if let Some(vector) = vector {
                let _ = writeln!(out, "{key} = \"{vector:016x}\"");
            }
        }
    }
}

fn write_table(out: &mut String, bits: Bits, keys: &[(&str, u64)]) {
    for (key, mask) in keys {
        if let Some(wanted) = bits.of(*mask) {
            let _ = writeln!(out, "{key} = {wanted}");
        }
    }
}

fn tcb_text(tcb: &Tcb) -> String {
    let fmc = tcb.fmc.map(|fmc| format!("fmc = {fmc}\n")).unwrap_or_default();
    let Tcb { bootloader, tee, snp, microcode, .. } = tcb;
    format!("{fmc}bootloader = {bootloader}\ntee = {tee}\nsnp = {snp}\nmicrocode = {microcode}\n")
}

pub(super) fn product_text(product: Product) -> &'static str {
    match product {
        Product::Milan => "milan",
        Product::Genoa => "genoa",
        Product::Turin => "turin",
    }
}

/// A key that is wrong, and what is needed.
type Fault = (String, &'static str);

fn hex_list<T: ToString>(out: &mut String, key: &str, values: Option<&BTreeSet<T>>) {
    if let Some(values) = values {
        list(out, key, values.iter().map(ToString::to_string));
    }
}

fn floors(key: &str, tables: BTreeMap<ProductText, TcbTable>) -> Result<BTreeMap<Product, Tcb>, Fault> {
    let tables = tables.into_iter().map(|(product, table)| {
        let (product, TcbTable { fmc, bootloader, tee, snp, microcode }) = (Product::from(product), table);
        if fmc.is_some() != (product == Product::Turin) {
            return Err((key.to_owned(), "fmc for turin, and for no other product"));
        }
        Ok((product, Tcb { fmc, bootloader, tee, snp, microcode }))
    });
    tables.collect()
}

fn guest_rules(table: BTreeMap<String, Rule>) -> Result<(Option<(u8, u8)>, Bits), Fault> {
    let (mut abi, mut bits) = (None, Bits::default());
    for (key, rule) in table {
        let mask = GUEST_KEYS.iter().find(|(known, _)| *known == key).map(|(_, mask)| *mask);
        match (mask, rule) {
            (Some(mask), Rule::Bit(wanted)) => bits = bits.with(mask, wanted),
            (None, Rule::Text(text)) if key == "abi" => {
                abi = Some(version(&text).ok_or_else(|| ("guest.abi".to_owned(), "a version such as \"1.51\""))?);
            }
            _ => return Err((format!("guest.{key}"), "a key of the table guest, with true or false (abi: a version)")),
        }
    }
    Ok((abi, bits))
}

fn platform_rules(table: BTreeMap<String, Rule>) -> Result<Bits, Fault> {
    let mut bits = Bits::default();
    for (key, rule) in table {
        let mask = PLATFORM_KEYS.iter().find(|(known, _)| *known == key).map(|(_, mask)| *mask);
        match (mask, rule) {
            (Some(mask), Rule::Bit(wanted)) => bits = bits.with(mask, wanted),
            _ => return Err((format!("platform.{key}"), "a key of the table platform, with true or false")),
        }
    }
    Ok(bits)
}

fn mitigations(table: BTreeMap<String, String>) -> Result<(Option<u64>, Option<u64>), Fault> {
    let (mut launch, mut current) = (None, None);
    for (key, text) in table {
        let vector = fixed_hex::<8>(&text).map(u64::from_be_bytes).filter(|vector| *vector != 0);
        let wanted = "launch or current, each 16 lower-case hexadecimal digits that are not all zero";
        match (key.as_str(), vector) {
            ("launch", Some(vector)) => launch = Some(vector),
            ("current", Some(vector)) => current = Some(vector),
            _ => return Err((format!("mitigation.{key}"), wanted)),
        }
    }
    Ok((launch, current))
}

/// One text for each version.
fn version(text: &str) -> Option<(u8, u8)> {
    let (major, minor) = text.split_once('.')?;
    let version = (major.parse::<u8>().ok()?, minor.parse::<u8>().ok()?);
    (format!("{}.{}", version.0, version.1) == text).then_some(version)
}

fn optional<const N: usize, T: Ord>(
    key: &str,
    texts: Option<Vec<String>>,
    make: fn([u8; N]) -> T,
) -> Result<Option<BTreeSet<T>>, Fault> {
    texts.map(|texts| values(key, texts, make)).transpose()
}

fn values<const N: usize, T: Ord>(key: &str, texts: Vec<String>, make: fn([u8; N]) -> T) -> Result<BTreeSet<T>, Fault> {
    let read = texts.iter().map(|text| value(key, text).map(make)).collect::<Result<Vec<_>, _>>()?;
    unique(key, read)
}

fn value<const N: usize>(key: &str, text: &str) -> Result<[u8; N], Fault> {
    // All zero is how the firmware says that there is none.
    fixed_hex::<N>(text).filter(|bytes| bytes.iter().any(|byte| *byte != 0)).ok_or_else(|| {
        (key.to_owned(), "lower-case hexadecimal values of the full length that are not all zero, each once")
    })
}

fn unique<T: Ord>(key: &str, values: impl IntoIterator<Item = T>) -> Result<BTreeSet<T>, Fault> {
    let mut set = BTreeSet::new();
    for value in values {
        if !set.insert(value) {
            return Err((key.to_owned(), "each value once"));
        }
    }
    Ok(set)
}

const GUEST_KEYS: [(&str, u64); 7] = [
    ("smt", GuestPolicy::SMT),
    ("single_socket", GuestPolicy::SINGLE_SOCKET),
    ("cxl", GuestPolicy::CXL_ALLOW),
    ("memory_aes_256_xts", GuestPolicy::MEM_AES_256_XTS),
    ("rapl_disabled", GuestPolicy::RAPL_DIS),
    ("ciphertext_hiding", GuestPolicy::CIPHERTEXT_HIDING),
    ("page_swap_disabled", GuestPolicy::PAGE_SWAP_DISABLE),
];

const PLATFORM_KEYS: [(&str, u64); 7] = [
    ("smt", PlatformInfo::SMT),
    ("tsme", PlatformInfo::TSME),
    ("ecc", PlatformInfo::ECC),
    ("rapl_disabled", PlatformInfo::RAPL_DIS),
    ("ciphertext_hiding", PlatformInfo::CIPHERTEXT_HIDING),
    ("iommu_write_safe", PlatformInfo::IOMMU_WRITE_SAFE),
    ("tio", PlatformInfo::TIO),
];
