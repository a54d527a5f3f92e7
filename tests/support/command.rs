//! `blindferry` on the operator's machine, with a configuration of its own.

use crate::account::CALLER;
use crate::fleet::{Fleet, OPERATOR};
use crate::program::ours;
use crate::tpm::PCRS;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// The operator's desk.
#[derive(Debug)]
pub struct Desk {
    directory: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub code: i32,
    /// Its one document.
    pub said: Value,
    /// Its standard error.
    pub complained: String,
}

impl Desk {
    /// Of the operator of this fleet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let directory = fleet.directory().join("desk");
        CALLER.make_directory(&directory);
        fs::write(directory.join("vault.toml"), &fleet.enclave.reference).unwrap();
        let text = format!(
            "name = \"{OPERATOR}\"\nvault = \"{}\"\nvault_reference = \"vault.toml\"\ntcti = \"{}\"\npins = \"{}\"\n\
             pcrs = {PCRS:?}\n",
            fleet.enclave.listen,
            fleet.operator_tpm.tcti(),
            fleet.operator_tpm.pins().display(),
        );
        fs::write(directory.join("operator.toml"), text).unwrap();
        Self { directory }
    }

    /// Runs `blindferry` with these words.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Ended {
        let mut command = CALLER.command(&ours("blindferry"));
        command.arg("--json").arg("--config").arg(self.directory.join("operator.toml")).args(words);
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        let said = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
        Ended { code: status.code().unwrap(), said, complained: String::from_utf8_lossy(&stderr).into_owned() }
    }

    /// What it says when all goes well.
    pub fn says(&self, words: &[&str]) -> Value {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.complained);
        ended.said
    }

    /// Writes a file on the desk, and gives its path.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path: &Path = &self.directory.join(name);
        fs::write(path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}
