//! What does a judgement cost, from the bytes of the wire to the verdict, beside the signature check that nobody can do
//! without, and beside the library `sev`?
//!
//! `cargo bench -p blindferry-bench`

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement of what fails measures nothing")]

use blindferry_attest::evidence::Evidence;
use blindferry_bench::Case;
use sev::{
    certs::snp::{Certificate, Chain, Verifiable as _},
    firmware::guest::AttestationReport,
    parser::ByteParser as _,
};

use crate::{
    evidence::{OfGuest, OfMachine},
    guest::Guest,
};

#[expect(dead_code, reason = "attest's tests need more of it")]
#[path = "../../attest/tests/judgement/boot.rs"]
mod boot;
mod evidence;
#[expect(dead_code, reason = "attest's tests need more of it")]
#[path = "../../attest/tests/judgement/guest.rs"]
mod guest;
#[path = "../../attest/tests/judgement/synthetic.rs"]
mod synthetic;

const P384: &str = "bare P-384";
const P256: &str = "bare P-256";
const RSA: &str = "bare RSA-2048";

fn main() {
    let (vcek, vlek) = (OfGuest::new(Guest::good()), OfGuest::new(Guest::good().loaded()));
    let unlisted = OfGuest::new(Guest::good().with(|guest| {
        guest.crl = None;
        guest.reference = guest.reference.clone().with("crl", "\"optional\"");
    }));
    let (short, long, rsa) = (OfMachine::p256(None), OfMachine::p256(Some(EVENTS)), OfMachine::rsa(EVENTS));
    let chain = Chain::from_der(&vcek.ark, &vcek.ask, &vcek.certificate).unwrap();
    blindferry_bench::main(&[
        Case::new(P384, || vcek.signature.verify()),
        Case::new("Genoa report, VCEK, cached chain", || vcek.judge(true)).beside(P384),
        Case::new("Genoa report, VLEK, cached chain", || vlek.judge(true)).beside(P384),
        Case::new("Genoa report, VCEK, whole chain", || unlisted.judge(false)).beside(P384),
        Case::new("Genoa report, VLEK, whole chain and revocation list", || vlek.judge(false)).beside(P384),
        Case::new("the same bytes decoded alone", || Evidence::decode(&vcek.evidence).unwrap()),
        Case::new("sev 8: report, parsed VCEK", || judge_by_sev(&vcek, &chain.vek)).beside(P384),
        Case::new("sev 8: report, whole chain", || judge_by_sev_with_chain(&vcek)).beside(P384),
        Case::new(P256, || short.signature.verify()),
        Case::new("P-256 quote", || short.judge()).beside(P256),
        Case::new("P-256 quote, 200 events", || long.judge()).beside(P256),
        Case::new(RSA, || rsa.signature.verify()),
        Case::new("RSA-2048 quote, 200 events", || rsa.judge()).beside(RSA),
    ]);
}

fn judge_by_sev(guest: &OfGuest, vek: &Certificate) {
    let report = AttestationReport::from_bytes(&guest.report).unwrap();
    (vek, &report).verify().unwrap();
}

fn judge_by_sev_with_chain(guest: &OfGuest) {
    let chain = Chain::from_der(&guest.ark, &guest.ask, &guest.certificate).unwrap();
    let report = AttestationReport::from_bytes(&guest.report).unwrap();
    (&chain, &report).verify().unwrap();
}

const EVENTS: usize = 200;
