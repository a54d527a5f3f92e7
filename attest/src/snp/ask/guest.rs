//! Questions about the guest: what its owner lets the host do, what it was launched from, who asked.

use subtle::ConstantTimeEq as _;

use super::{Answer, Row, one_of, rule};
use crate::snp::{
    identifier::ReportData,
    question::Question,
    report::{GuestPolicy, VMPL_HOST},
};

/// Asked after the machine.
pub(super) const POLICY: [Row; 13] = [
    Row {
        question: Question::PolicyReserved,
        answer: |case| {
            let policy = case.body().policy.0;
            Answer::always(policy & !GuestPolicy::KNOWN == 0 && policy & GuestPolicy::RESERVED_ONE != 0)
        },
        found: |case| format!("{:#x}", case.body().policy.0),
        wanted: |_| format!("bit 17 one, bits above {:#x} zero", GuestPolicy::KNOWN),
    },
    Row {
        question: Question::PolicyDebug,
        answer: |case| Answer::always(case.body().policy.0 & GuestPolicy::DEBUG == 0),
        found: |case| if case.body().policy.0 & GuestPolicy::DEBUG == 0 { "forbidden" } else { "allowed" }.to_owned(),
        wanted: |_| "forbidden".to_owned(),
    },
    Row {
        question: Question::PolicyMigration,
        answer: |case| Answer::always(case.body().policy.0 & GuestPolicy::MIGRATE_MA == 0),
        found: |case| {
            if case.body().policy.0 & GuestPolicy::MIGRATE_MA == 0 { "forbidden" } else { "allowed" }.to_owned()
        },
        wanted: |_| "forbidden".to_owned(),
    },
    Row {
        question: Question::PolicyAbi,
        answer: |case| Answer::to(case.rules.abi.map(|floor| case.body().policy.abi() >= floor)),
        found: |case| {
            let (major, minor) = case.body().policy.abi();
            format!("{major}.{minor}")
        },
        wanted: |case| rule(case.rules.abi, "guest.abi", |(major, minor)| format!("at least {major}.{minor}")),
    },
    bit::<{ GuestPolicy::SMT }>(Question::PolicySmt),
    bit::<{ GuestPolicy::SINGLE_SOCKET }>(Question::PolicySingleSocket),
    bit::<{ GuestPolicy::CXL_ALLOW }>(Question::PolicyCxl),
    bit::<{ GuestPolicy::MEM_AES_256_XTS }>(Question::PolicyXts),
    bit::<{ GuestPolicy::RAPL_DIS }>(Question::PolicyRapl),
    bit::<{ GuestPolicy::CIPHERTEXT_HIDING }>(Question::PolicyCiphertext),
    bit::<{ GuestPolicy::PAGE_SWAP_DISABLE }>(Question::PolicyPageSwap),
    Row {
        question: Question::HostMade,
        answer: |case| Answer::always(case.body().vmpl != VMPL_HOST),
        found: |case| if case.body().vmpl == VMPL_HOST { "by the host" } else { "by the guest" }.to_owned(),
        wanted: |_| "by the guest".to_owned(),
    },
    Row {
        question: Question::Vmpl,
        answer: |case| {
            let vmpl = case.body().vmpl;
            match &case.rules.vmpl {
                Some(wanted) => Answer::always(wanted.contains(&vmpl)),
                // There are four; the host's is refused above.
                None if vmpl > 3 && vmpl != VMPL_HOST => Answer::Refused,
                None => Answer::Open,
            }
        },
        found: |case| case.body().vmpl.to_string(),
        wanted: |case| match &case.rules.vmpl {
            Some(wanted) => one_of(wanted),
            None => "0 to 3; not judged further: no vmpl was given".to_owned(),
        },
    },
];

/// Asked after the platform.
pub(super) const IDENTITY: [Row; 9] = [
    Row {
        question: Question::Measurement,
        answer: |case| match (&case.rules.measurements, &case.rules.dangers.any_measurement) {
            (Some(wanted), _) => Answer::always(wanted.contains(&case.body().measurement)),
            (None, Some(_)) => Answer::Passed,
            (None, None) => Answer::Open,
        },
        found: |case| case.body().measurement.to_string(),
        wanted: |case| match (&case.rules.measurements, &case.rules.dangers.any_measurement) {
            (None, Some(_)) => "any: every measurement is accepted dangerously".to_owned(),
            (wanted, _) => rule(wanted.as_ref(), "measurements", one_of),
        },
    },
    Row {
        question: Question::IdKey,
        answer: |case| Answer::to(case.rules.id_keys.as_ref().map(|keys| keys.contains(&case.body().id_key_digest))),
        found: |case| {
            let digest = case.body().id_key_digest;
            if digest.is_zero() { "no id block".to_owned() } else { digest.to_string() }
        },
        wanted: |case| rule(case.rules.id_keys.as_ref(), "id_keys", one_of),
    },
    Row {
        question: Question::AuthorKey,
        answer: |case| {
            let body = case.body();
            let keys = case.rules.author_keys.as_ref();
            Answer::to(keys.map(|keys| body.author_key_enabled && keys.contains(&body.author_key_digest)))
        },
        found: |case| match case.body().author_key_enabled {
            true => case.body().author_key_digest.to_string(),
            false => "no author key".to_owned(),
        },
        wanted: |case| rule(case.rules.author_keys.as_ref(), "author_keys", one_of),
    },
    Row {
        question: Question::FamilyId,
        answer: |case| Answer::to(case.rules.family_id.map(|wanted| case.body().family_id == wanted)),
        found: |case| hex::encode(case.body().family_id),
        wanted: |case| rule(case.rules.family_id, "family_id", hex::encode),
    },
    Row {
        question: Question::ImageId,
        answer: |case| Answer::to(case.rules.image_id.map(|wanted| case.body().image_id == wanted)),
        found: |case| hex::encode(case.body().image_id),
        wanted: |case| rule(case.rules.image_id, "image_id", hex::encode),
    },
    Row {
        question: Question::GuestSvn,
        answer: |case| Answer::to(case.rules.guest_svn.map(|floor| case.body().guest_svn >= floor)),
        found: |case| case.body().guest_svn.to_string(),
        wanted: |case| rule(case.rules.guest_svn, "guest_svn", |floor| format!("at least {floor}")),
    },
    Row {
        question: Question::HostData,
        answer: |case| Answer::to(case.rules.host_data.as_ref().map(|wanted| wanted.contains(&case.body().host_data))),
        found: |case| case.body().host_data.to_string(),
        wanted: |case| rule(case.rules.host_data.as_ref(), "host_data", one_of),
    },
    Row {
        question: Question::ReportData,
        answer: |case| {
            let found = case.body().report_data;
            let equals = |wanted: ReportData| found.as_bytes().ct_eq(wanted.as_bytes()).into();
            Answer::to(case.wanted.report_data.map(equals))
        },
        found: |case| case.body().report_data.to_string(),
        wanted: |case| rule(case.wanted.report_data, "report data", |wanted| wanted.to_string()),
    },
    Row {
        question: Question::ReportId,
        answer: |case| Answer::to(case.wanted.report_id.map(|wanted| case.body().report_id == *wanted)),
        found: |case| case.body().report_id.to_string(),
        wanted: |case| rule(case.wanted.report_id, "earlier report", ToString::to_string),
    },
];

/// A row for one bit of POLICY.
const fn bit<const MASK: u64>(question: Question) -> Row {
    Row {
        question,
        answer: |case| {
            let found = case.body().policy.0 & MASK != 0;
            Answer::to(case.rules.guest.of(MASK).map(|wanted| wanted == found))
        },
        found: |case| u8::from(case.body().policy.0 & MASK != 0).to_string(),
        wanted: |case| rule(case.rules.guest.of(MASK), "rule in guest", |wanted| u8::from(wanted).to_string()),
    }
}
