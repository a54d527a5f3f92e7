//! Questions about the key and the machine: which chip, which firmware, which product.

use std::collections::BTreeMap;

use super::{Answer, Case, Row, one_of, rule};
use crate::{
    attested::PinnedMachine,
    moment::rfc3339,
    snp::{
        crl::Revocation,
        product::Product,
        question::Question,
        rules::{Chips, CrlRule},
        tcb::{RawTcb, Tcb},
        vek::{Holder, KeyKind},
    },
};

/// Asked first.
pub(super) const ROWS: [Row; 12] = [
    Row {
        question: Question::CrlMissing,
        answer: |case| match (case.authentic.vek().revocation(), case.rules.crl) {
            (Revocation::NotRevoked { .. }, _) => Answer::Passed,
            (Revocation::Unknown, Some(CrlRule::Required)) => Answer::Refused,
            (Revocation::Unknown, Some(CrlRule::Optional) | None) => Answer::Open,
        },
        found: |case| match case.authentic.vek().revocation() {
            Revocation::NotRevoked { .. } => "a list that does not name the chain".to_owned(),
            Revocation::Unknown => "no list of this root".to_owned(),
        },
        wanted: |case| match case.rules.crl {
            Some(CrlRule::Required) => "a list of this root".to_owned(),
            Some(CrlRule::Optional) => "a list of this root, if there is one".to_owned(),
            None => rule(None::<()>, "crl", |()| String::new()),
        },
    },
    Row {
        question: Question::CrlStale,
        answer: |case| match (case.authentic.vek().revocation(), case.rules.crl) {
            (Revocation::Unknown, _) => Answer::Open,
            (Revocation::NotRevoked { from, until }, crl) => {
                let now = i64::try_from(case.wanted.now).unwrap_or(i64::MAX);
                match ((from..=until).contains(&now), crl) {
                    (true, _) => Answer::Passed,
                    (false, Some(CrlRule::Required)) => Answer::Refused,
                    (false, Some(CrlRule::Optional) | None) => Answer::Open,
                }
            }
        },
        found: |case| match case.authentic.vek().revocation() {
            Revocation::NotRevoked { from, until } => format!("valid {} to {}", rfc3339(from), rfc3339(until)),
            Revocation::Unknown => "no list of this root".to_owned(),
        },
        wanted: |case| format!("valid at {}", rfc3339(i64::try_from(case.wanted.now).unwrap_or(i64::MAX))),
    },
    Row {
        question: Question::SigningKey,
        answer: |case| {
            let (body, kind) = (case.body(), case.authentic.vek().kind());
            let named = KeyKind::of_signing_key(body.signing_key) == Some(kind);
            // The firmware that masks the chip's key does not sign with it.
            let possible = !(body.chip_key_masked && kind == KeyKind::Vcek);
            Answer::always(named && possible && case.rules.signed_by.is_none_or(|wanted| wanted == kind))
        },
        found: |case| {
            let kind = case.authentic.vek().kind().name();
            let masked = if case.body().chip_key_masked { ", chip key masked" } else { "" };
            format!("{} in the report{masked}, signed by a {kind}", signing_key(case.body().signing_key))
        },
        wanted: |case| match case.rules.signed_by {
            Some(kind) => format!("{0} in the report and signed by a {0}", kind.name()),
            None => "the same in both".to_owned(),
        },
    },
    Row {
        question: Question::Product,
        answer: |case| {
            let product = case.authentic.vek().product();
            // Before version 3 a report does not tell.
            Answer::always(case.body().cpu.is_none_or(|cpu| Product::of_cpu(cpu.family, cpu.model) == Some(product)))
        },
        found: |case| match case.body().cpu {
            Some(cpu) => {
                let product = Product::of_cpu(cpu.family, cpu.model).map_or("unknown", Product::name);
                format!("family {:02x}h model {:02x}h stepping {} ({product})", cpu.family, cpu.model, cpu.stepping)
            }
            None => "not told before version 3".to_owned(),
        },
        wanted: |case| case.authentic.vek().product().to_string(),
    },
    Row {
        question: Question::TcbEncoding,
        answer: |case| Answer::always(tcbs(case).into_iter().all(|(_, _, tcb)| tcb.is_some())),
        found: |case| {
            let each = tcbs(case).map(|(name, raw, _)| format!("{name} {raw}"));
            each.join(", ")
        },
        wanted: |case| format!("reserved bytes zero, as on {}", case.authentic.vek().product()),
    },
    Row {
        question: Question::TcbCertificate,
        answer: |case| Answer::always(case.tcb(|body| body.reported_tcb) == Some(case.authentic.vek().tcb())),
        found: |case| format!("certificate for {}", case.authentic.vek().tcb()),
        wanted: |case| format!("reported: {}", told(case.tcb(|body| body.reported_tcb))),
    },
    Row {
        question: Question::TcbOrder,
        answer: |case| {
            let (reported, current) = (case.tcb(|body| body.reported_tcb), case.tcb(|body| body.current_tcb));
            Answer::always(reported.zip(current).is_some_and(|(reported, current)| current.reaches(&reported)))
        },
        found: |case| format!("reported {}", told(case.tcb(|body| body.reported_tcb))),
        wanted: |case| format!("at most the current {}", told(case.tcb(|body| body.current_tcb))),
    },
    Row {
        question: Question::TcbProvisional,
        answer: |case| {
            let body = case.body();
            let committed = body.committed_tcb == body.current_tcb && body.committed_version == body.current_version;
            Answer::always(committed || case.rules.dangers.provisional_firmware.is_some())
        },
        found: |case| {
            let version = case.body().committed_version;
            format!("committed {} {version}", told(case.tcb(|body| body.committed_tcb)))
        },
        wanted: |case| match case.rules.dangers.provisional_firmware {
            Some(_) => "any: provisional firmware is accepted dangerously".to_owned(),
            None => {
                let version = case.body().current_version;
                format!("the current {} {version}", told(case.tcb(|body| body.current_tcb)))
            }
        },
    },
    Row {
        question: Question::ChipId,
        answer: |case| match case.holder() {
            Holder::Chip(chip) => Answer::always(case.body().chip_id.is_zero() || case.body().chip_id == *chip),
            // The key is of a provider; which chip it is loaded into is not certified.
            Holder::Provider(_) => Answer::Passed,
        },
        found: |case| format!("{} in the report", case.body().chip_id),
        wanted: |case| match case.holder() {
            Holder::Chip(chip) => chip.to_string(),
            Holder::Provider(_) => "any: a VLEK is of a provider".to_owned(),
        },
    },
    Row {
        question: Question::ChipMasked,
        answer: |case| {
            let masked = matches!(case.holder(), Holder::Chip(_)) && case.body().chip_id.is_zero();
            Answer::always(!masked || case.rules.dangers.masked_chip.is_some())
        },
        found: |case| if case.body().chip_id.is_zero() { "masked".to_owned() } else { "told".to_owned() },
        wanted: |case| match (case.holder(), &case.rules.dangers.masked_chip) {
            (Holder::Provider(_), _) => "any: a VLEK is of a provider".to_owned(),
            (Holder::Chip(_), Some(_)) => "any: masked chips are accepted dangerously".to_owned(),
            (Holder::Chip(_), None) => "told".to_owned(),
        },
    },
    Row {
        question: Question::ChipPinned,
        answer: |case| {
            Answer::to(case.wanted.machine.map(|machine| match (machine, case.holder()) {
                (PinnedMachine::Chip(pinned), Holder::Chip(chip)) => pinned == chip,
                (PinnedMachine::Provider(pinned), Holder::Provider(provider)) => pinned == provider,
                // Without a pin, something else has to say which machines are good.
                (PinnedMachine::ByReference, Holder::Chip(_)) => case.rules.chips.is_some(),
                (PinnedMachine::ByReference, Holder::Provider(_)) => case.rules.providers.is_some(),
                (PinnedMachine::Chip(_), Holder::Provider(_)) | (PinnedMachine::Provider(_), Holder::Chip(_)) => false,
            }))
        },
        found: |case| holder(case.holder()),
        wanted: |case| {
            rule(case.wanted.machine, "pinned machine", |machine| match machine {
                PinnedMachine::Chip(chip) => format!("chip {chip}"),
                PinnedMachine::Provider(provider) => format!("provider {provider:?}"),
                PinnedMachine::ByReference => "one that the reference values speak of".to_owned(),
            })
        },
    },
    Row {
        question: Question::ChipAllowed,
        answer: |case| match (case.holder(), &case.rules.chips) {
            (Holder::Chip(chip), Some(Chips::Only(chips))) => Answer::always(chips.contains(chip)),
            (Holder::Provider(_), _) | (Holder::Chip(_), Some(Chips::Any)) => Answer::Passed,
            (Holder::Chip(_), None) => Answer::Open,
        },
        found: |case| holder(case.holder()),
        wanted: |case| match (case.holder(), &case.rules.chips) {
            (Holder::Provider(_), _) => "any: a VLEK is of a provider".to_owned(),
            (Holder::Chip(_), chips) => rule(chips.as_ref(), "chips", |chips| match chips {
                Chips::Any => "any chip of AMD's".to_owned(),
                Chips::Only(chips) => one_of(chips),
            }),
        },
    },
];

/// Asked after the guest's policy: whose the key is, and how new the firmware is.
pub(super) const FLOORS: [Row; 3] = [
    Row {
        question: Question::Provider,
        answer: |case| match (case.holder(), &case.rules.providers) {
            (Holder::Chip(_), _) => Answer::Passed,
            (Holder::Provider(provider), Some(providers)) => Answer::always(providers.contains(provider)),
            (Holder::Provider(_), None) => Answer::Open,
        },
        found: |case| holder(case.holder()),
        wanted: |case| match case.holder() {
            Holder::Chip(_) => "any: a VCEK is of a chip".to_owned(),
            Holder::Provider(_) => rule(case.rules.providers.as_ref(), "providers", one_of),
        },
    },
    Row {
        question: Question::TcbFloor,
        answer: |case| {
            Answer::to(
                floor_of(case, case.rules.floor.as_ref())
                    .map(|floor| case.tcb(|body| body.reported_tcb).is_some_and(|tcb| tcb.reaches(floor))),
            )
        },
        found: |case| format!("reported {}", told(case.tcb(|body| body.reported_tcb))),
        wanted: |case| rule(floor_of(case, case.rules.floor.as_ref()), "floor", |floor| format!("at least {floor}")),
    },
    Row {
        question: Question::LaunchTcbFloor,
        answer: |case| {
            Answer::to(
                floor_of(case, case.rules.launch_floor.as_ref())
                    .map(|floor| case.tcb(|body| body.launch_tcb).is_some_and(|tcb| tcb.reaches(floor))),
            )
        },
        found: |case| format!("at launch {}", told(case.tcb(|body| body.launch_tcb))),
        wanted: |case| {
            let floor = floor_of(case, case.rules.launch_floor.as_ref());
            rule(floor, "launch_floor", |floor| format!("at least {floor}"))
        },
    },
];

/// Asked last, so that a distrusted product hides no other fault.
pub(super) const PRODUCT_ROWS: [Row; 2] = [
    Row {
        question: Question::ProductAllowed,
        answer: |case| {
            let product = case.authentic.vek().product();
            Answer::to(case.rules.products.as_ref().map(|products| products.contains(&product)))
        },
        found: |case| case.authentic.vek().product().to_string(),
        wanted: |case| rule(case.rules.products.as_ref(), "products", one_of),
    },
    Row {
        question: Question::ProductDistrusted,
        answer: |case| {
            let distrusted = case.authentic.vek().product() == Product::Milan;
            Answer::always(!distrusted || case.rules.dangers.trust_milan.is_some())
        },
        found: |case| case.authentic.vek().product().to_string(),
        wanted: |case| match case.rules.dangers.trust_milan {
            Some(_) => "any: Milan is trusted dangerously".to_owned(),
            None => "one whose keys software cannot extract".to_owned(),
        },
    },
];

fn tcbs(case: &Case<'_>) -> [(&'static str, RawTcb, Option<Tcb>); 4] {
    let (body, product) = (case.body(), case.authentic.vek().product());
    [
        ("reported", body.reported_tcb),
        ("current", body.current_tcb),
        ("committed", body.committed_tcb),
        ("launch", body.launch_tcb),
    ]
    .map(|(name, raw)| (name, raw, raw.of(product)))
}

/// Every accepted product has a floor; for another, the question of the product refuses, which tells more.
fn floor_of<'a>(case: &Case<'_>, floors: Option<&'a BTreeMap<Product, Tcb>>) -> Option<&'a Tcb> {
    floors?.get(&case.authentic.vek().product())
}

fn told(tcb: Option<Tcb>) -> String {
    tcb.map_or_else(|| "unreadable".to_owned(), |tcb| tcb.to_string())
}

fn holder(holder: &Holder) -> String {
    match holder {
        Holder::Chip(chip) => format!("chip {chip}"),
        Holder::Provider(provider) => format!("provider {provider:?}"),
    }
}

fn signing_key(value: u8) -> String {
    match (KeyKind::of_signing_key(value), value) {
        (Some(kind), _) => kind.name().to_owned(),
        (None, 7) => "none".to_owned(),
        (None, value) => format!("reserved value {value}"),
    }
}
