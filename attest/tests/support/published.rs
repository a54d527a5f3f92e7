//! The published vectors: where they are, what their manifest says of each, and a run of the tests made from it.
//!
//! They are not part of the project. They are looked for in the folder that `BLINDFERRY_VECTORS` names, else in
//! `shared/vectors/attestation` beside or above the workspace; where there are none, one ignored test says so.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

/// One case of the manifest.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    root: PathBuf,
    case: Value,
}

/// Runs the tests that are made of each case.
pub(crate) fn run(trials: impl Fn(&Vector) -> Vec<Trial>) -> ExitCode {
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
    let cases = manifest["vectors"].as_array().unwrap().iter();
    Some(cases.map(|case| Vector { root: root.clone(), case: case.clone() }).collect())
}

impl Vector {
    /// A case of other files in the same folder, which the manifest does not have.
    pub(crate) fn beside(&self, files: Value) -> Self {
        Self { root: self.root.clone(), case: serde_json::json!({ "files": files }) }
    }

    pub(crate) fn id(&self) -> &str {
        self.case["id"].as_str().unwrap()
    }

    pub(crate) fn kind(&self) -> &str {
        self.case["kind"].as_str().unwrap()
    }

    /// Whether the case has a file for this part.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.case["files"][part].is_string()
    }

    /// A file by its part in the case; nothing when the case has none.
    pub(crate) fn file(&self, part: &str) -> Option<Vec<u8>> {
        self.case["files"][part].as_str().map(|name| self.named(name))
    }

    /// A file that the case has to have.
    pub(crate) fn needed(&self, part: &str) -> Vec<u8> {
        self.file(part).unwrap_or_else(|| panic!("{} has no file {part}", self.id()))
    }

    /// A file by its name in the folder of the vectors.
    pub(crate) fn named(&self, name: &str) -> Vec<u8> {
        fs::read(self.root.join(name)).unwrap()
    }

    /// All files: name and content.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.names().into_iter().map(|name| (name.to_owned(), self.named(name))).collect()
    }

    /// Where the file of a part is.
    pub(crate) fn path(&self, part: &str) -> String {
        self.at(self.case["files"][part].as_str().unwrap())
    }

    /// Where all files are.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.names().into_iter().map(|name| self.at(name)).collect()
    }

    /// What the manifest says is to be expected.
    pub(crate) fn expected(&self, what: &str) -> &Value {
        &self.case["expect"][what]
    }

    /// The same as text; empty when it says nothing.
    pub(crate) fn text(&self, what: &str) -> &str {
        self.expected(what).as_str().unwrap_or_default()
    }

    fn names(&self) -> Vec<&str> {
        let files = &self.case["files"];
        let listed = files.as_array().map(|names| names.iter().collect::<Vec<_>>());
        let names = listed.unwrap_or_else(|| files.as_object().unwrap().values().collect());
        names.into_iter().map(|name| name.as_str().unwrap()).collect()
    }

    fn at(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }
}
