//! Quotes made here, through our verifier, `tpm2_checkquote` and Python's `cryptography`: they accept all that we accept.

use std::collections::BTreeSet;

use blindferry_attest::tpm::QuoteClock;
use blindferry_proto::role::Role;

use crate::{
    quotes::{Asked, python, tpm2_checkquote},
    synthetic::{AK_ATTRIBUTES, Case, PCR_4, PCR_7, binder, name_of},
};

/// What it changes, and the change.
type Fault = (&'static str, fn(&mut Case));

/// Changes of a good case, each alone.
const FAULTS: &[Fault] = &[
    ("nothing", |_| {}),
    ("magic", |case| case.magic = 0x7f54_4347),
    ("another structure", |case| case.kind = 0x8017),
    ("another challenge", |case| case.challenge[31] ^= 1),
    ("no challenge", |case| case.challenge.clear()),
    ("a shorter challenge", |case| case.challenge.truncate(31)),
    ("a longer challenge", |case| case.challenge.push(0)),
    ("the other role", |case| case.challenge = binder(Role::Vault).as_bytes().to_vec()),
    ("fewer PCRs", |case| case.selection = vec![0, 0, 0, 1, 0x00, 0x0b, 3, 0x80, 0, 0]),
    ("more PCRs", |case| case.selection = vec![0, 0, 0, 1, 0x00, 0x0b, 3, 0x91, 0, 0]),
    ("the bank of SHA-1", |case| case.selection = vec![0, 0, 0, 1, 0x00, 0x04, 3, 0x90, 0, 0]),
    ("a value left out", |case| case.pcrs = vec![(4, PCR_4)]),
    ("a value of another PCR", |case| case.pcrs = vec![(4, PCR_4), (8, PCR_7)]),
    ("another value", |case| case.pcrs[1].1 = [0x79; 32]),
    ("another digest", |case| case.pcr_digest = Some(vec![1; 32])),
    ("no digest", |case| case.pcr_digest = Some(vec![])),
    ("old firmware", |case| case.firmware = 3),
    ("another key than was pinned", |case| case.pinned = Some(name_of(b"another key"))),
    ("a key that is not restricted", |case| case.attributes = AK_ATTRIBUTES & !(1 << 16)),
    ("a key that can leave its TPM", |case| case.attributes = AK_ATTRIBUTES & !(1 << 1)),
    ("a key without a scheme", |case| case.key_scheme = vec![0x00, 0x10]),
    ("a key whose scheme has SHA-1", |case| case.key_scheme = vec![0x00, 0x18, 0x00, 0x04]),
    ("a signature with SHA-384", |case| case.signature_scheme = [0x0018, 0x000c]),
    ("a Name with SHA-1", |case| {
        case.pinned = Some(name_of(b"any"));
        case.name_alg = 0x0004;
    }),
    ("bytes behind the quote", |case| case.after_attest = vec![0]),
    ("bytes behind the key", |case| case.after_public = vec![0]),
    ("bytes behind the signature", |case| case.after_signature = vec![0]),
    ("a flag that is neither", |case| case.safe = 2),
    ("a clock that is not safe", |case| case.safe = 0),
    ("a clock that went back", |case| {
        case.earlier = Some(QuoteClock { clock: 1_000_001, reset_count: 5, restart_count: 2 });
    }),
    ("reference values of another role", |case| case.role = Role::Vault),
];

/// What the others accept and we refuse: why we do, and the codes of our refusals.
const STRICTER: &[(&str, &[&str])] = &[
    ("what a restricted key signs that does not begin with TPM_GENERATED, no TPM made", &["tpm-quote-magic"]),
    (
        "the key is the one that was pinned, in a TPM, and signs nothing but what that TPM made",
        &["tpm-ak-name", "tpm-ak-attributes", "tpm-ak-scheme"],
    ),
    ("no judgement rests on SHA-1", &["tpm-hash-weak"]),
    (
        "no byte is left over and each flag is one of its two values",
        &["tpm-ak-public", "tpm-attest", "tpm-signature-form"],
    ),
    (
        "the values are of exactly the PCRs that were quoted, and these are the ones that were asked for",
        &["tpm-pcr-selection", "tpm-pcr-values"],
    ),
    (
        "the values, the firmware and the role are those of the reference values",
        &["tpm-pcr-value", "tpm-firmware", "reference-role"],
    ),
    ("the TPM vouches for its clock, and no counter went back", &["tpm-clock-unsafe", "tpm-clock-reset"]),
];

/// Quotes, and how we judge them: the code of our refusal, or nothing.
fn quotes() -> (Vec<Option<&'static str>>, Vec<Asked>) {
    let mut all = (vec![], vec![]);
    for (_, change) in FAULTS {
        let mut case = Case::good();
        change(&mut case);
        let parts = case.parts();
        all.1.push(Asked {
            message: parts.attest.clone(),
            signature: parts.signature.clone(),
            public: parts.public.clone(),
            challenge: binder(Role::Broker).as_bytes().to_vec(),
            pcrs: case.pcrs.clone(),
        });
        all.0.push(case.judge_parts(parts).err().map(|refusal| refusal.code()));
    }
    all
}

/// Fails when we accept what another refuses, or when the list of what it alone accepts is not `listed`.
fn compare(ours: &[Option<&'static str>], theirs: &[Result<(), String>], listed: &BTreeSet<&str>) {
    let mut differences = BTreeSet::new();
    for (((name, _), ours), theirs) in FAULTS.iter().zip(ours).zip(theirs) {
        match (ours, theirs) {
            (None, Err(why)) => panic!("{name}: we accept, the other refuses: {why}"),
            (Some(code), Ok(())) => drop(differences.insert(*code)),
            (None, Ok(())) | (Some(_), Err(_)) => {}
        }
    }
    assert_eq!((ours.len(), ours.iter().filter(|refused| refused.is_none()).count()), (theirs.len(), 1));
    assert_eq!(&differences, listed);
}

fn listed() -> BTreeSet<&'static str> {
    STRICTER.iter().flat_map(|(_, codes)| codes.iter().copied()).collect()
}

#[test]
fn tpm2_checkquote_accepts_what_we_accept_and_where_it_alone_accepts_is_written_down() {
    let (ours, asked) = quotes();
    let Some(theirs) = tpm2_checkquote(&asked) else { return };
    compare(&ours, &theirs, &listed());
}

/// A script around the package: it checks the signature, and compares what `tpm2_checkquote` compares, and the magic.
#[test]
fn pythons_cryptography_accepts_what_we_accept_and_where_it_alone_accepts_is_written_down() {
    let (ours, asked) = quotes();
    let Some(theirs) = python(&asked) else { return };
    let mut listed = listed();
    assert!(listed.remove("tpm-quote-magic"));
    compare(&ours, &theirs, &listed);
}
