//! Real evidence and evidence made for tests: each case of the manifest has the outcome that it says, for the reason that
//! it says.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: clippy does not see that without a harness")]

use std::process::ExitCode;

use libtest_mimic::Trial;

pub(crate) use published::Vector;
use published::run;

#[path = "vectors/amd.rs"]
mod amd;
#[path = "vectors/differential.rs"]
mod differential;
#[path = "vectors/mutation.rs"]
mod mutation;
#[expect(dead_code, reason = "others need more of it")]
#[path = "support/published.rs"]
mod published;
#[path = "vectors/report.rs"]
mod report;
#[path = "differential/sev_crate.rs"]
mod sev_crate;

/// 2026-11-21: within the validity of every certificate that has not ended for good.
pub(crate) const NOW: u64 = 1_795_219_200;

/// What a test of a case comes to: why it failed, if it did.
pub(crate) type Outcome = Result<(), String>;

fn main() -> ExitCode {
    run(trials)
}

/// The tests of a case. Kinds that are not of SEV-SNP are tested where their verifiers are, all are recognised here.
fn trials(vector: &Vector) -> Vec<Trial> {
    let mut trials = vec![trial(vector, "is recognised", report::is_recognised)];
    if vector.kind().starts_with("snp-report") {
        trials.push(trial(vector, "accepted by us, it is accepted by the crate sev", differential::compared));
    }
    match vector.kind() {
        "amd-ca" => trials.push(trial(vector, "is what this program has", amd::authorities)),
        "amd-crl" => trials.push(trial(vector, "is obeyed while it is current", amd::revocation_list)),
        "snp-report" => {
            trials.push(trial(vector, "is judged", report::real));
            trials.push(trial(vector, "altered in a bit is refused", mutation::each_bit));
        }
        "snp-report-negative" => trials.push(trial(vector, "is refused", report::negative)),
        "snp-report-synthetic" => {
            trials.push(trial(vector, "is refused under AMD's roots", report::under_amd_roots));
            trials.push(trial(vector, "is judged under its own root", report::under_own_root));
        }
        _ => {}
    }
    trials
}

fn trial(vector: &Vector, claim: &str, test: fn(&Vector) -> Outcome) -> Trial {
    let vector = vector.clone();
    Trial::test(format!("{}: {claim}", vector.id()), move || test(&vector).map_err(Into::into)).with_kind("vector")
}

/// Fails with both values where they differ.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: found {found:?}, wanted {wanted:?}")) }
}
