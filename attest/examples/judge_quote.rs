//! Judges a TPM 2.0 quote with the firmware's event log, by a policy that speaks of events, and says what the log says.
//!
//! `cargo run -p blindferry-attest --example judge_quote`

use std::error::Error;

use blindferry_attest::{
    attested::{Expected, Pinned, appraise},
    binder::Binder,
    evidence::{Evidence, TpmEvidence},
    reference::ReferenceValues,
    tpm::{
        AkName, QuoteClock,
        event_log::{Log, explain::explain},
    },
};
use blindferry_proto::role::Role;

fn main() -> Result<(), Box<dyn Error>> {
    let reference = ReferenceValues::parse(include_str!("evidence/machine.toml"))?;
    // Known from enrolment: the Name of the key, which lives in the TPM whose EK was accepted.
    let name: AkName = include_str!("evidence/ak.name").trim().parse()?;

    // What TPM2_Quote gave, the key's public area, the values of the quoted PCRs, and the log as Linux keeps it
    // (/sys/kernel/security/tpm0/binary_bios_measurements).
    let attest = include_bytes!("evidence/quote.attest").to_vec();
    let signature = include_bytes!("evidence/quote.signature").to_vec();
    let public = include_bytes!("evidence/ak.public").to_vec();
    let log = include_bytes!("evidence/event.log").to_vec();
    println!("the log says:");
    for line in explain(&Log::parse(&log)?) {
        println!("{line}");
    }

    let evidence = TpmEvidence::new(attest, signature, public, pcrs()?)?.with_logs(log, vec![])?;
    let binder = Binder::compute(Role::Broker, b"a TLS key", &[7; 32])?;
    let pinned = Pinned::Ak { name: &name, earlier: None };
    let expected = Expected { binder, role: Role::Broker, pinned };
    let attested = appraise(Evidence::Tpm(evidence), expected, &reference)?;
    println!("attested as {:?}", attested.reference_name());

    // To be kept: a later quote whose clock is behind this one shows an old state of the TPM.
    let clock: Option<QuoteClock> = attested.clock().map(QuoteClock::from);
    println!("at {clock:?}");
    Ok(())
}

/// A line for each PCR: index and value.
fn pcrs() -> Result<Vec<Pcr>, Box<dyn Error>> {
    let line = |line: &str| -> Result<Pcr, Box<dyn Error>> {
        let (index, value) = line.split_once(' ').ok_or("a PCR is an index and a value")?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(value, &mut bytes)?;
        Ok((index.parse()?, bytes))
    };
    include_str!("evidence/pcrs").lines().map(line).collect()
}

type Pcr = (u8, [u8; 32]);
