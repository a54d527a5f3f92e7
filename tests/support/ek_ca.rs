//! A maker of TPMs: a CA of its own, and software TPMs that leave its works with an EK certificate.

use crate::account::Account;
use crate::tpm::Tpm;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The maker; its files go away with the directory that it was given.
#[derive(Debug)]
pub struct EkCa {
    directory: PathBuf,
}

impl EkCa {
    /// A maker whose CA is in this directory, and not in the machine's.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        fs::create_dir_all(directory.join("statedir")).unwrap();
        let own = ["statedir", "signingkey", "issuercert", "certserial"];
        let text = own.map(|key| format!("{key} = {}\n", directory.join(key).display())).concat();
        fs::write(directory.join("ca.conf"), text).unwrap();
        let setup = format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
             create_certs_tool_options = /etc/swtpm-localca.options\n",
            directory.join("ca.conf").display()
        );
        fs::write(directory.join("setup.conf"), setup).unwrap();
        Self { directory: directory.to_owned() }
    }

    /// A TPM of this maker, booted and provisioned as [`Tpm::boot`] does it.
    #[must_use]
    pub fn boot(&self, directory: &Path, account: Account, image: &str) -> Tpm {
        let manufacture = |state: &Path| {
            let mut setup = Command::new("swtpm_setup");
            setup.args(["--tpm2", "--create-ek-cert", "--ecc", "--config"]).arg(self.directory.join("setup.conf"));
            let made = setup.arg("--tpmstate").arg(state).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        };
        Tpm::power_on_after(directory, account, manufacture).booted(image)
    }

    /// Its CA's certificates in PEM: of the key that signs EK certificates.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("issuercert")
    }
}
