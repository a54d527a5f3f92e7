//! `blindferry`, the command, as an operator or a person of the worker host runs it.

use crate::account::{CALLER, ENCLAVE, USER};
use crate::fleet::{Fleet, OPERATOR};
use crate::program::ours;
use crate::tpm::PCRS;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

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

impl Ended {
    fn of(Output { status, stdout, stderr }: Output) -> Self {
        let said = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
        Self { code: status.code().unwrap(), said, complained: String::from_utf8_lossy(&stderr).into_owned() }
    }
}

impl Desk {
    /// Of the operator of this fleet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let directory = fleet.directory().join("desk");
        CALLER.make_directory(&directory);
        configure(fleet, &directory);
        Self { directory }
    }

    /// Runs `blindferry` with these words.
    #[must_use]
    pub fn run(&self, words: &[&str]) -> Ended {
        let mut command = CALLER.command(&ours("blindferry"));
        command.arg("--json").arg("--config").arg(self.directory.join("operator.toml")).args(words);
        Ended::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// What it says when all goes well.
    pub fn says(&self, words: &[&str]) -> Value {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.complained);
        ended.said
    }

    /// Its configuration.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("operator.toml")
    }

    /// Writes a file on the desk, and gives its path.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path: &Path = &self.directory.join(name);
        fs::write(path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// `blindferry` of the fleet's operator, run as [`USER`]; on the worker host it finds the broker's sockets.
#[must_use]
pub fn blindferry(fleet: &Fleet) -> Command {
    let directory = fleet.user_directory();
    let configuration = configure(fleet, &directory);
    let mut command = USER.command(&ours("blindferry"));
    command.arg("--config").arg(configuration);
    command.current_dir(directory);
    command.env("BLINDFERRY_PARENTS", fleet.host.parents()).env("BLINDFERRY_WORKERS", fleet.host.workers());
    command
}

/// `blindferry` as the enclave's user runs it on the enclave's machine, with these words and this on its standard input.
#[must_use]
pub fn enclave_command(fleet: &Fleet, words: &[&str], input: &str) -> Ended {
    let directory = fleet.directory().join("enclave");
    let mut command = ENCLAVE.command(&ours("blindferry"));
    command.arg("--json").args(words).arg("--enclave").arg(directory.join("enclave.toml")).current_dir(directory);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who refuses at once does not read.
    let _refused = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ended::of(child.wait_with_output().unwrap())
}

/// Whether a child has read all of what was written to its standard input.
#[must_use]
pub fn has_read_all(child: &Child) -> bool {
    let input = child.stdin.as_ref().unwrap();
    rustix::io::ioctl_fionread(input).unwrap() == 0
}

/// Writes the configuration of the fleet's operator into a directory, and gives its path.
fn configure(fleet: &Fleet, directory: &Path) -> PathBuf {
    let [configuration, reference] = ["operator.toml", "vault.toml"].map(|name| directory.join(name));
    fs::write(&reference, &fleet.enclave.reference).unwrap();
    let text = format!(
        "name = \"{OPERATOR}\"\nvault = \"{}\"\nvault_reference = \"{}\"\ntcti = \"{}\"\npins = \"{}\"\npcrs = {PCRS:?}\n",
        fleet.enclave.listen,
        reference.display(),
        fleet.operator_tpm.tcti(),
        fleet.operator_tpm.pins().display(),
    );
    fs::write(&configuration, text).unwrap();
    configuration
}
