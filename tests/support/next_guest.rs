//! The vault's next guest: another image, on another chip, that takes over from the enclave of a fleet.

use crate::account::ENCLAVE;
use crate::command::Ended;
use crate::guest_fleet::{GuestEnclave, GuestFleet};
use crate::program::ours;
use crate::silicon::reference;
use serde_json::Value;
use std::fs;
use std::process::{Output, Stdio};

/// What the next guest is launched from.
pub const NEXT_IMAGE: &str = "enclave image, one version on";
/// The bytes of its chip's id.
pub const NEXT_CHIP: u8 = 0xe2;

impl GuestFleet {
    /// A guest of [`NEXT_IMAGE`] on [`NEXT_CHIP`], without a store.
    #[must_use]
    pub fn next_guest(&self) -> GuestEnclave {
        self.guest_of(NEXT_IMAGE, NEXT_CHIP)
    }

    /// `blindferry succeed` on `next`, towards the enclave of this fleet, as a successor of this name that knows the vault
    /// by `predecessor`.
    #[must_use]
    pub fn succeed(&self, next: &GuestEnclave, name: &str, predecessor: &str) -> Ended {
        let path = |file: &str| next.directory.join(file);
        fs::write(path("predecessor.toml"), predecessor).unwrap();
        fs::write(path("values.ref"), reference("vault", NEXT_IMAGE)).unwrap();
        let mut command = ENCLAVE.command(&ours("blindferry"));
        command.args(["--json", "succeed", "--name", name, "--vault", &self.enclave.listen.to_string()]);
        command.arg("--enclave").arg(path("enclave.toml")).arg("--enclave-program").arg(ours("blindferry-enclave"));
        command.arg("--vault-reference").arg(path("predecessor.toml")).arg("--vault-values").arg(path("values.ref"));
        command.arg("--reference-out").arg(path("vault.toml"));
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).env_clear().output().unwrap();
        let said = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
        Ended { code: status.code().unwrap(), said, complained: String::from_utf8_lossy(&stderr).into_owned() }
    }
}

impl GuestEnclave {
    /// The vault reference that `succeed` wrote here.
    #[must_use]
    pub fn succeeded_reference(&self) -> String {
        fs::read_to_string(self.directory.join("vault.toml")).unwrap()
    }

    /// Replaces the store by that of an enclave that does not run.
    pub fn bring_store_of(&self, other: &Self) {
        let here = self.directory.join("store.redb");
        fs::copy(other.directory.join("store.redb"), &here).unwrap();
        ENCLAVE.give(&here);
    }
}
