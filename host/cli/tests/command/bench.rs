//! A directory with an operator's configuration, and the command started in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// An operator's machine.
pub(crate) struct Bench {
    directory: TempDir,
}

/// How a command went.
pub(crate) struct Went {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.file(name, &format!("#!/bin/sh\n{text}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A configuration whose vault nobody serves and whose device process only waits.
    pub(crate) fn configured(&self) -> String {
        self.file("vault.toml", &vault_reference());
        self.script("device", "cat >/dev/null\n");
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        self.file(
            "operator.toml",
            &format!(
                "name = \"desk\"\nvault = \"127.0.0.1:{port}\"\nvault_reference = \"vault.toml\"\n\
                 tcti = \"swtpm:host=127.0.0.1,port=1\"\npins = \"pins.toml\"\ndevice = \"device\"\n"
            ),
        )
    }

    /// Runs the command with this on its standard input.
    pub(crate) fn run(&self, words: &[&str], input: &[u8]) -> Went {
        let mut child =
            self.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Whoever refuses its arguments does not read.
        let _hung_up = child.stdin.take().unwrap().write_all(input);
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        Went {
            code: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_blindferry")));
        command.args(words).env("XDG_CONFIG_HOME", self.path("config")).env_remove("BLINDFERRY_PARENTS");
        command
    }
}

/// A vault's reference that parses.
pub(crate) fn vault_reference() -> String {
    format!("ak = \"000b{}\"\naudit_key = \"{}\"\n{}", "11".repeat(32), "22".repeat(32), reference("vault"))
}

/// Reference values that parse.
pub(crate) fn reference(role: &str) -> String {
    format!(
        "version = 1\nrole = \"{role}\"\n\n[[tpm]]\nname = \"a\"\nfirmware = \"any\"\n\n[tpm.pcrs]\n7 = [\"{}\"]\n",
        "33".repeat(32)
    )
}
