//! Real evidence and evidence made for tests: each case of the manifest has the outcome that it says, for the reason that
//! it says.
//!
//! The vectors are not part of the project. They are looked for in the folder that `BLINDFERRY_VECTORS` names, else in
//! `shared/vectors/attestation` beside or above the workspace; where there are none, one ignored test says so.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: clippy does not see that without a harness")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

#[path = "vectors/amd.rs"]
mod amd;
#[path = "vectors/differential.rs"]
mod differential;
#[path = "vectors/mutation.rs"]
mod mutation;
#[path = "vectors/report.rs"]
mod report;
#[path = "differential/sev_crate.rs"]
mod sev_crate;

/// 2026-11-21: within the validity of every certificate that has not ended for good.
pub(crate) const NOW: u64 = 1_795_219_200;

/// One case of the manifest.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    root: PathBuf,
    pub(crate) id: String,
    kind: String,
    case: Value,
}

/// What a test of a case comes to: why it failed, if it did.
pub(crate) type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match vectors() {
        Some(vectors) => vectors.iter().flat_map(trials).collect(),
        None => vec![
            Trial::test("absent: no manifest.json; set BLINDFERRY_VECTORS to the folder of the vectors", || Ok(()))
                .with_ignored_flag(true),
        ],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn vectors() -> Option<Vec<Vector>> {
    let named = env::var_os("BLINDFERRY_VECTORS").map(PathBuf::from);
    let near =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/vectors/attestation"));
    let root = named.into_iter().chain(near).find(|folder| folder.join("manifest.json").is_file())?;
    let manifest: Value = serde_json::from_slice(&fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let vectors = manifest["vectors"].as_array().unwrap().iter().map(|case| Vector {
        root: root.clone(),
        id: case["id"].as_str().unwrap().to_owned(),
        kind: case["kind"].as_str().unwrap().to_owned(),
        case: case.clone(),
    });
    Some(vectors.collect())
}

/// The tests of a case. Kinds that are not of SEV-SNP are tested where their verifiers are, all are recognised here.
fn trials(vector: &Vector) -> Vec<Trial> {
    let mut trials = vec![trial(vector, "is recognised", report::is_recognised)];
    if vector.kind.starts_with("snp-report") {
        trials.push(trial(vector, "accepted by us, it is accepted by the crate sev", differential::compared));
    }
    match vector.kind.as_str() {
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
    Trial::test(format!("{}: {claim}", vector.id), move || test(&vector).map_err(Into::into)).with_kind("vector")
}

impl Vector {
    /// A file by its part in the case; nothing when the case has none.
    pub(crate) fn file(&self, part: &str) -> Option<Vec<u8>> {
        self.case["files"][part].as_str().map(|path| self.read(path))
    }

    /// All files: path and content.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = &self.case["files"];
        let listed = files.as_array().map(|paths| paths.iter().collect::<Vec<_>>());
        let paths = listed.unwrap_or_else(|| files.as_object().unwrap().values().collect());
        paths.into_iter().map(|path| path.as_str().unwrap()).map(|path| (path.to_owned(), self.read(path))).collect()
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// What the manifest says is to be expected.
    pub(crate) fn expected(&self, what: &str) -> &Value {
        &self.case["expect"][what]
    }

    pub(crate) fn text(&self, what: &str) -> &str {
        self.expected(what).as_str().unwrap_or_default()
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.root.join(path)).unwrap()
    }
}

/// Fails with both values where they differ.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: found {found:?}, wanted {wanted:?}")) }
}
