//! What a guest of SEV-SNP has to be like. Made from reference values, or the built-in rules of somebody who has none.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    identifier::{ChipId, HostData, KeyDigest, Measurement},
    product::Product,
    tcb::Tcb,
    vek::KeyKind,
};

/// Rules for the questions. Where one is `None`, there is no reference value, and its question stays open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) products: Option<BTreeSet<Product>>,
    pub(crate) signed_by: Option<KeyKind>,
    pub(crate) providers: Option<BTreeSet<String>>,
    pub(crate) chips: Option<Chips>,
    pub(crate) vmpl: Option<BTreeSet<u32>>,
    pub(crate) measurements: Option<BTreeSet<Measurement>>,
    pub(crate) id_keys: Option<BTreeSet<KeyDigest>>,
    pub(crate) author_keys: Option<BTreeSet<KeyDigest>>,
    pub(crate) family_id: Option<[u8; 16]>,
    pub(crate) image_id: Option<[u8; 16]>,
    pub(crate) guest_svn: Option<u32>,
    pub(crate) host_data: Option<BTreeSet<HostData>>,
    pub(crate) floor: Option<BTreeMap<Product, Tcb>>,
    pub(crate) launch_floor: Option<BTreeMap<Product, Tcb>>,
    pub(crate) abi: Option<(u8, u8)>,
    pub(crate) guest: Bits,
    pub(crate) platform: Bits,
    pub(crate) launch_mitigations: Option<u64>,
    pub(crate) current_mitigations: Option<u64>,
    pub(crate) crl: Option<CrlRule>,
    pub(crate) dangers: Dangers,
}

/// What was allowed in words that start with `dangerously`, each with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dangers {
    pub(crate) trust_milan: Option<String>,
    pub(crate) masked_chip: Option<String>,
    pub(crate) provisional_firmware: Option<String>,
    pub(crate) no_alias_check: Option<String>,
    pub(crate) any_measurement: Option<String>,
}

/// Which processors are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chips {
    /// Every one that AMD certified.
    Any,
    /// These alone; not empty.
    Only(BTreeSet<ChipId>),
}

/// Whether there has to be a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrlRule {
    /// There has to be one, and it has to be current.
    Required,
    /// One that is there is obeyed; that there is none is no reason to refuse.
    Optional,
}

/// Rules for single bits; a bit that is in neither is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    /// These have to be one.
    pub(crate) set: u64,
    /// These have to be zero.
    pub(crate) clear: u64,
}

impl Bits {
    /// What the bit has to be, if anything.
    pub(crate) const fn of(self, mask: u64) -> Option<bool> {
        if self.set & mask != 0 {
            Some(true)
        } else if self.clear & mask != 0 {
            Some(false)
        } else {
            None
        }
    }

    pub(crate) const fn with(self, mask: u64, wanted: bool) -> Self {
        if wanted { Self { set: self.set | mask, ..self } } else { Self { clear: self.clear | mask, ..self } }
    }
}

impl Dangers {
    /// Those that are there: key and reason.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { trust_milan, masked_chip, provisional_firmware, no_alias_check, any_measurement } = self;
        [
            ("dangerously_trust_milan", trust_milan),
            ("dangerously_accept_masked_chip", masked_chip),
            ("dangerously_accept_provisional_firmware", provisional_firmware),
            ("dangerously_accept_no_alias_check", no_alias_check),
            ("dangerously_accept_any_measurement", any_measurement),
        ]
        .into_iter()
        .filter_map(|(key, reason)| Some((key, reason.as_deref()?)))
    }
}
