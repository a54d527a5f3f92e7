//! Questions about how the machine is set up: PLATFORM_INFO and the vectors of mitigations.

use super::{Answer, Row, rule};
use crate::snp::{question::Question, report::PlatformInfo};

/// Asked after the guest's policy.
pub(super) const ROWS: [Row; 11] = [
    Row {
        question: Question::PlatformReserved,
        answer: |case| Answer::always(case.body().platform.0 & !PlatformInfo::KNOWN == 0),
        found: |case| format!("{:#x}", case.body().platform.0),
        wanted: |_| format!("bits above {:#x} zero", PlatformInfo::KNOWN),
    },
    bit::<{ PlatformInfo::ALIAS_CHECK }>(Question::AliasCheck),
    bit::<{ PlatformInfo::SMT }>(Question::PlatformSmt),
    bit::<{ PlatformInfo::TSME }>(Question::PlatformTsme),
    bit::<{ PlatformInfo::ECC }>(Question::PlatformEcc),
    bit::<{ PlatformInfo::RAPL_DIS }>(Question::PlatformRapl),
    bit::<{ PlatformInfo::CIPHERTEXT_HIDING }>(Question::PlatformCiphertext),
    bit::<{ PlatformInfo::IOMMU_WRITE_SAFE }>(Question::PlatformIommu),
    bit::<{ PlatformInfo::TIO }>(Question::PlatformTio),
    Row {
        question: Question::MitigationLaunch,
        answer: |case| {
            let found = case.body().mitigations.map(|vectors| vectors.launch);
            Answer::to(case.rules.launch_mitigations.map(|wanted| covers(found, wanted)))
        },
        found: |case| vector(case.body().mitigations.map(|vectors| vectors.launch)),
        wanted: |case| {
            rule(case.rules.launch_mitigations, "mitigation.launch", |wanted| format!("all of {wanted:016x}"))
        },
    },
    Row {
        question: Question::MitigationCurrent,
        answer: |case| {
            let found = case.body().mitigations.map(|vectors| vectors.current);
            Answer::to(case.rules.current_mitigations.map(|wanted| covers(found, wanted)))
        },
        found: |case| vector(case.body().mitigations.map(|vectors| vectors.current)),
        wanted: |case| {
            rule(case.rules.current_mitigations, "mitigation.current", |wanted| format!("all of {wanted:016x}"))
        },
    },
];

/// A row for one bit of PLATFORM_INFO.
const fn bit<const MASK: u64>(question: Question) -> Row {
    Row {
        question,
        answer: |case| {
            let found = case.body().platform.0 & MASK != 0;
            Answer::to(case.rules.platform.of(MASK).map(|wanted| wanted == found))
        },
        found: |case| u8::from(case.body().platform.0 & MASK != 0).to_string(),
        wanted: |case| rule(case.rules.platform.of(MASK), "rule in platform", |wanted| u8::from(wanted).to_string()),
    }
}

/// A report that does not tell its mitigations has none.
fn covers(found: Option<u64>, wanted: u64) -> bool {
    found.unwrap_or_default() & wanted == wanted
}

fn vector(found: Option<u64>) -> String {
    found.map_or_else(|| "not told before version 5".to_owned(), |vector| format!("{vector:016x}"))
}
