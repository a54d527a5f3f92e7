//! A machine whose TPM was extended by a boot of the test's own making, and which has the logs of that boot.

use crate::boot::Boot;
use crate::peer::Peer;
use crate::program::ours;
use crate::tpm::Tpm;
use blindferry_attest::tpm::PcrSelection;
use blindferry_proto::logs::LogPaths;
use blindferry_proto::role::Role;
use blindferry_session::Attester;
use blindferry_session::client::ConnectError;
use std::fs;
use std::net::SocketAddr;

/// The PCRs that a quote must cover for a policy of events with command lines.
pub const EVENT_PCRS: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12];
/// The same for one that judges files too.
pub const FILE_PCRS: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 12];

impl Tpm {
    /// Extends it as this boot does, after a reboot, and writes the logs.
    pub fn play(&mut self, boot: &Boot) {
        self.reboot();
        let logged = boot.events.iter().map(|event| (event.pcr, event.digest));
        let unlogged = boot.unlogged.iter().map(|(pcr, digest)| (u32::try_from(*pcr).unwrap(), *digest));
        let files = boot.files.iter().map(|(_, template)| (10, crate::boot::sha256(&[template])));
        let all =
            logged.chain(unlogged).chain(files).map(|(pcr, digest)| format!("{pcr}:sha256={}", hex::encode(digest)));
        let all: Vec<String> = all.collect();
        self.tool("tpm2_pcrextend", &all.iter().map(String::as_str).collect::<Vec<_>>());
        self.write_logs(&boot.log(), &boot.ima_log());
    }

    /// Writes these as its logs, whatever was measured.
    pub fn write_logs(&self, events: &[u8], ima: &[u8]) {
        let paths = self.logs();
        fs::write(paths.events, events).unwrap();
        fs::write(paths.ima, ima).unwrap();
    }

    /// Where its logs are.
    #[must_use]
    pub fn logs(&self) -> LogPaths {
        LogPaths { events: self.directory().join("events.log"), ima: self.directory().join("ima.log") }
    }
}

impl Peer {
    /// Opens a session under `name` with a machine that has logs, quoting these PCRs.
    ///
    /// # Errors
    /// Which side refused the other.
    pub fn measured(
        tpm: &Tpm,
        pcrs: &[u8],
        (role, name): (Role, &str),
        vault_reference: &str,
        address: SocketAddr,
    ) -> Result<Self, ConnectError> {
        let process = tpm.device_process().with_logs(Some(tpm.logs()));
        let selection = PcrSelection::new(pcrs.iter().copied()).unwrap();
        let attester = move |device| Attester::new(device, selection);
        Self::with((ours("blindferry-device"), process), attester, role, name, vault_reference, address)
    }
}

/// Reference values that judge the events of a boot, as its policy has them.
#[must_use]
pub fn of_events(role: Role, boot: &Boot) -> String {
    format!("{}[tpm.events]\n{}", head(role, "fleet, by its events"), boot.policy)
}

/// Reference values that accept these PCR values and no other.
#[must_use]
pub fn of_values(role: Role, boot: &Boot, pcrs: &[u8]) -> String {
    let values = boot.pcrs();
    let lines = pcrs.iter().map(|pcr| format!("{pcr} = [\"{}\"]\n", hex::encode(values[usize::from(*pcr)])));
    format!("{}[tpm.pcrs]\n{}", head(role, "fleet, by its PCR values"), lines.collect::<String>())
}

fn head(role: Role, name: &str) -> String {
    format!("version = 2\nrole = \"{role}\"\n[[tpm]]\nname = \"{name}\"\nfirmware = \"any\"\n")
}
