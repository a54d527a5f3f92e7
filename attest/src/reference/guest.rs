//! One accepted kind of SEV-SNP guest: consistent by construction.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_TEXT, ReferenceError};
use crate::snp::{
    Authentic, KeyKind, Product,
    report::{GuestPolicy, PlatformInfo},
    rules::{Bits, Chips, CrlRule, Rules},
    vek::Holder,
};

/// A kind of SEV-SNP guest that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSet {
    name: String,
    pub(super) rules: Rules,
}

impl GuestSet {
    /// The one constructor: whatever exists is consistent, and leaves no question open that has to be decided.
    pub(super) fn new(name: String, rules: Rules) -> Result<Self, ReferenceError> {
        if name.is_empty() || name.len() > MAX_TEXT || name.chars().any(char::is_control) {
            return Err(ReferenceError::Name { name: name.chars().take(MAX_TEXT).collect() });
        }
        for (key, reason) in rules.dangers.iter() {
            if reason.trim().is_empty() || reason.len() > MAX_TEXT || reason.chars().any(char::is_control) {
                return Err(ReferenceError::Danger { name, key });
            }
        }
        match fault(&rules) {
            Some((key, wanted)) => Err(ReferenceError::Guest { name, key: key.to_owned(), wanted }),
            None => Ok(Self { name, rules }),
        }
    }

    /// A set that accepts guests like this one: the same image on the same chip, with no older firmware.
    ///
    /// `milan` is the reason to trust a chip of that line, which is refused without one.
    pub(super) fn capture(name: &str, guest: &Authentic<'_>, milan: Option<&str>) -> Result<Self, ReferenceError> {
        let (body, vek) = (guest.body(), guest.vek());
        let mut rules = Rules {
            products: Some(BTreeSet::from([vek.product()])),
            signed_by: Some(vek.kind()),
            vmpl: Some(BTreeSet::from([body.vmpl])),
            measurements: Some(BTreeSet::from([body.measurement])),
            floor: Some(BTreeMap::from([(vek.product(), vek.tcb())])),
            launch_floor: Some(BTreeMap::from([(vek.product(), vek.tcb())])),
            platform: Bits::default().with(PlatformInfo::ALIAS_CHECK, true),
            guest: Bits::default().with(GuestPolicy::SMT, body.policy.0 & GuestPolicy::SMT != 0),
            crl: Some(CrlRule::Optional),
            ..Rules::default()
        };
        match vek.holder() {
            Holder::Chip(chip) => rules.chips = Some(Chips::Only(BTreeSet::from([*chip]))),
            Holder::Provider(provider) => rules.providers = Some(BTreeSet::from([provider.clone()])),
        }
        if vek.product() == Product::Milan {
            rules.dangers.trust_milan = milan.map(str::to_owned);
        }
        Self::new(name.to_owned(), rules)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it accepts in words that start with `dangerously`: key and reason.
    pub fn dangers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.rules.dangers.iter()
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// The first key that contradicts another, or is missing, and what is needed.
fn fault(rules: &Rules) -> Option<(&'static str, &'static str)> {
    let Rules { products, signed_by, providers, chips, vmpl, measurements, id_keys, author_keys, dangers, .. } = rules;
    let products = match products {
        Some(products) if !products.is_empty() => products,
        _ => return Some(("products", "at least one of \"milan\", \"genoa\", \"turin\"")),
    };
    if products.contains(&Product::Milan) != dangers.trust_milan.is_some() {
        return Some(("dangerously_trust_milan", "a reason when \"milan\" is among the products, and only then"));
    }
    match (signed_by, chips, providers) {
        (Some(KeyKind::Vcek), Some(_), None) | (Some(KeyKind::Vlek), None, Some(_)) => {}
        (Some(KeyKind::Vcek), ..) => {
            return Some(("chips", "\"any\" or a list with signed_by = \"vcek\", and no providers"));
        }
        (Some(KeyKind::Vlek), ..) => return Some(("providers", "a list with signed_by = \"vlek\", and no chips")),
        (None, ..) => return Some(("signed_by", "\"vcek\" or \"vlek\"")),
    }
    if matches!(chips, Some(Chips::Only(chips)) if chips.is_empty()) || is_empty(providers.as_ref()) {
        return Some(("chips or providers", "at least one"));
    }
    if *signed_by == Some(KeyKind::Vlek) && dangers.masked_chip.is_some() {
        return Some(("dangerously_accept_masked_chip", "signed_by = \"vcek\", since a VLEK never tells the chip"));
    }
    if vmpl.as_ref().is_none_or(|levels| levels.is_empty() || levels.iter().any(|level| *level > 3)) {
        return Some(("vmpl", "at least one level from 0 to 3"));
    }
    if is_empty(measurements.as_ref()) || is_empty(id_keys.as_ref()) || is_empty(author_keys.as_ref()) {
        return Some(("measurements, id_keys or author_keys", "at least one value where the key is there"));
    }
    let image = measurements.is_some() || id_keys.is_some() || author_keys.is_some();
    if image == dangers.any_measurement.is_some() {
        return Some((
            "measurements",
            "measurements, id_keys or author_keys, or dangerously_accept_any_measurement alone",
        ));
    }
    let block = id_keys.is_some() || author_keys.is_some();
    if !block && (rules.guest_svn.is_some() || rules.family_id.is_some() || rules.image_id.is_some()) {
        return Some((
            "guest_svn, family_id or image_id",
            "id_keys or author_keys, without which anybody can choose it",
        ));
    }
    if is_empty(rules.host_data.as_ref()) {
        return Some(("host_data", "at least one value where the key is there"));
    }
    for (key, floors) in [("floor", &rules.floor), ("launch_floor", &rules.launch_floor)] {
        let exactly = floors.as_ref().is_some_and(|floors| floors.keys().eq(products.iter()));
        if !exactly {
            return Some((key, "a table for each of the products, and for no other"));
        }
    }
    let alias_check = rules.platform.of(PlatformInfo::ALIAS_CHECK);
    if alias_check.is_some() == dangers.no_alias_check.is_some() || alias_check == Some(false) {
        return Some(("dangerously_accept_no_alias_check", "left away, so that the check is required, or a reason"));
    }
    if rules.crl.is_none() {
        return Some(("crl", "\"required\" or \"optional\""));
    }
    None
}

fn is_empty<T>(values: Option<&BTreeSet<T>>) -> bool {
    values.is_some_and(BTreeSet::is_empty)
}
