//! Real, altered and made reports, through our verifier and that of the crate `sev`.

use blindferry_attest::snp::{Request, examine};

use crate::{
    Outcome, Vector,
    report::{code, evidence, time_of},
    sev_crate::{self, Comparison},
};

/// By the built-in rules, which need no reference value: whatever these accept, the other accepts.
pub(crate) fn compared(vector: &Vector) -> Outcome {
    let evidence = evidence(vector);
    let examination = examine(&evidence, &Request { now: time_of(vector), ..Request::default() });
    let ours = Some(code(&examination)).filter(|code| *code != "accepted");
    let theirs = sev_crate::judge(&evidence);
    println!("{}: ours {ours:?}, theirs {theirs:?}", vector.id());
    let mut comparison = Comparison::default();
    comparison.add(vector.id(), ours, theirs);
    comparison.differences().map(drop)
}
