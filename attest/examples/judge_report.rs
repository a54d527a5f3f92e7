//! Judges a report of AMD SEV-SNP as the other end of a session does, then shows all questions and answers to a person.
//!
//! `cargo run -p blindferry-attest --example judge_report`

use std::error::Error;

use blindferry_attest::{
    attested::{Expected, Identity, Pinned, PinnedGuest, PinnedMachine, appraise},
    binder::Binder,
    checks::Outcome,
    evidence::Evidence,
    reference::ReferenceValues,
    snp::{Request, SnpEvidence, examine},
};
use blindferry_proto::role::Role;

fn main() -> Result<(), Box<dyn Error>> {
    let reference = ReferenceValues::parse(include_str!("evidence/guest.toml"))?;
    // A root that is not AMD's is never trusted in silence.
    for danger in reference.dangers() {
        println!("accepted dangerously: {} ({})", danger.key, danger.reason);
    }

    // The report as the firmware gave it; the VCEK and the ASK that signed it, in DER; here no revocation list.
    let report = include_bytes!("evidence/report.bin").to_vec();
    let certificates = vec![include_bytes!("evidence/vcek.der").to_vec(), include_bytes!("evidence/ask.der").to_vec()];
    let evidence = SnpEvidence::new(report, certificates, vec![])?;

    // The session's road: a value that nothing else can make, or the first refusal.
    let guest = PinnedGuest {
        machine: PinnedMachine::ByReference, // the first time; then the chip that answered
        report_id: None,                     // the first time; then that of the first answer
        now: NOW,
        crls: &[],
        endorsed: None,
    };
    let expected = |exporter| -> Result<Expected<'_>, Box<dyn Error>> {
        let binder = Binder::compute(Role::Vault, TLS_KEY, exporter)?;
        Ok(Expected { binder, role: Role::Vault, pinned: Pinned::Guest(guest) })
    };
    let attested = appraise(Evidence::Snp(evidence.clone()), expected(&EXPORTER)?, &reference)?;
    println!("attested as {:?}", attested.reference_name());
    if let Identity::Chip(chip) = attested.identity() {
        println!("on chip {chip}");
    }

    // The same report over another channel.
    match appraise(Evidence::Snp(evidence.clone()), expected(&[8; 32])?, &reference) {
        Ok(_) => println!("accepted over another channel"),
        Err(refusal) => println!("over another channel {}: {refusal}", refusal.code()),
    }

    // The command's road: every answer, which proves nothing to a program.
    let examination = examine(&evidence, &Request { now: NOW, reference: Some(&reference), ..Request::default() });
    for check in &examination.checks {
        let mark = match check.outcome() {
            Outcome::Passed => "ok",
            Outcome::Refused(code) => code,
            Outcome::Open => "open",
        };
        println!("{mark:>6}  {}: {}", check.name(), check.found());
    }
    Ok(())
}

/// What the peer showed in TLS (DER SubjectPublicKeyInfo), and what both ends exported from the channel.
const TLS_KEY: &[u8] = b"a TLS key";
const EXPORTER: [u8; 32] = [7; 32];

/// 2026-11-21. The library has no clock.
const NOW: u64 = 1_795_219_200;
