//! No bit of accepted evidence can be changed: what is changed is not authentic.

use std::env;

use blindferry_attest::snp::{Request, SnpEvidence, examine};

use crate::{
    Outcome, Vector,
    report::{evidence, time_of},
};

/// Each bit of the report, and of each certificate a sample; all of them with `BLINDFERRY_EVERY_BIT`. A changed root or
/// authority that came with the evidence is refused too, although this program has its own.
pub(crate) fn each_bit(vector: &Vector) -> Outcome {
    let whole = evidence(vector);
    let request = Request { now: time_of(vector), ..Request::default() };
    if examine(&whole, &request).claims.is_none() {
        // Without a certificate there is nothing that a signature could protect.
        return Ok(());
    }
    let every = env::var_os("BLINDFERRY_EVERY_BIT").is_some();
    let parts = 1 + whole.certificates().len();
    for part in 0..parts {
        // Strides that have no factor in common with 8, so that every position in a byte has its turn.
        let stride = match (every, part) {
            (true, _) => 1,
            (false, 0) => 3,
            (false, 1) => 11,
            (false, _) => 61,
        };
        let len = if part == 0 { whole.report().len() } else { whole.certificates()[part - 1].len() };
        let mut tried = 0;
        for bit in (0..len * 8).step_by(stride) {
            let (mut report, mut certificates) = (whole.report().to_vec(), whole.certificates().to_vec());
            let bytes = if part == 0 { &mut report } else { &mut certificates[part - 1] };
            bytes[bit / 8] ^= 1 << (bit % 8);
            let altered = SnpEvidence::new(report, certificates, vec![]).unwrap();
            if examine(&altered, &request).claims.is_some() {
                return Err(format!("part {part} with bit {bit} altered is authentic"));
            }
            tried += 1;
        }
        println!("{}: part {part}: {tried} of {} bits altered, none authentic", vector.id, len * 8);
    }
    Ok(())
}
