//! No bit of accepted evidence can be changed: what is changed is not authentic.

use std::env;

use blindferry_attest::snp::{Anchors, EndorsedVek, KeyKind, Report, Request, SnpEvidence, examine};

use crate::{
    Outcome, Vector,
    report::{evidence, time_of},
};

/// A dense sample of the bits of the report and of each certificate; all of them with `BLINDFERRY_EVERY_BIT`. No bit is
/// outside of what is protected: a changed root or authority that comes with the evidence is refused too, although this
/// program has its own.
pub(crate) fn each_bit(vector: &Vector) -> Outcome {
    let whole = evidence(vector);
    let request = Request { now: time_of(vector), ..Request::default() };
    if examine(&whole, &request).claims.is_none() {
        // Without a certificate there is nothing that a signature could protect.
        return Ok(());
    }
    report(vector, &whole, request.now)?;
    for part in 0..whole.certificates().len() {
        let stride = stride(if part == 0 { 13 } else { 101 });
        let bits = whole.certificates()[part].len() * 8;
        let mut tried = 0;
        for bit in (0..bits).step_by(stride) {
            let mut certificates = whole.certificates().to_vec();
            certificates[part][bit / 8] ^= 1 << (bit % 8);
            let altered = SnpEvidence::new(whole.report().to_vec(), certificates, vec![]).unwrap();
            if examine(&altered, &request).claims.is_some() {
                return Err(format!("certificate {part} with bit {bit} altered leaves the report authentic"));
            }
            tried += 1;
        }
        println!("{}: certificate {part}: {tried} of {bits} bits altered, none authentic", vector.id());
    }
    Ok(())
}

/// With the chain verified once, as sessions keep it.
fn report(vector: &Vector, whole: &SnpEvidence, now: u64) -> Outcome {
    let certificates: Vec<_> = whole.certificates().iter().map(Vec::as_slice).collect();
    let kind = if vector.text("signing_key") == "VLEK" { KeyKind::Vlek } else { KeyKind::Vcek };
    let vek =
        EndorsedVek::endorse(kind, &certificates, &[], &Anchors::amd(), now).map_err(|error| error.to_string())?;
    let authentic = |bytes: &[u8]| Report::parse(bytes).and_then(|report| vek.authenticate(report, now).map(drop));
    authentic(whole.report()).map_err(|error| error.to_string())?;
    let bits = whole.report().len() * 8;
    let mut tried = 0;
    for bit in (0..bits).step_by(stride(3)) {
        let mut altered = whole.report().to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        if authentic(&altered).is_ok() {
            return Err(format!("the report with bit {bit} altered is authentic"));
        }
        tried += 1;
    }
    println!("{}: report: {tried} of {bits} bits altered, none authentic", vector.id());
    Ok(())
}

/// Strides that have no factor in common with 8, so that every position in a byte has its turn.
fn stride(usual: usize) -> usize {
    if env::var_os("BLINDFERRY_EVERY_BIT").is_some() { 1 } else { usual }
}
