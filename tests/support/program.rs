//! The executables under test, beside the test's own, and the tools that a machine may lack.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One of our executables, built in the same profile as this test.
///
/// # Panics
/// When it is not built: `cargo build --workspace` comes before the tests of the whole, and `tests/run` sees to it.
#[must_use]
pub fn ours(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let directory = own.ancestors().find(|path| path.join("deps").is_dir());
    let path = directory.unwrap().join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", path.display());
    path
}

/// Whether one of these tools is missing; a line says which, and that the test shows nothing.
#[must_use]
pub fn missing(tools: &[&str]) -> bool {
    for tool in tools {
        let version = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if version.is_err() {
            println!("skipped: {tool} is not installed");
            return true;
        }
    }
    false
}

/// What every test with a TPM needs.
pub const TPM_TOOLS: &[&str] = &["swtpm", "swtpm_setup", "tpm2_pcrextend"];
