//! A software TPM of the test's own: booted as a machine would, provisioned, gone with the test.

use crate::account::Account;
use crate::process::{Running, eventually};
use crate::program::ours;
use blindferry_attest::reference::{Firmware, ReferenceValues};
use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_proto::identifier::EkDigest;
use blindferry_proto::platform::DeviceProcess;
use blindferry_proto::role::Role;
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// The PCRs that the fleet of a test measures, quotes and seals to.
pub const PCRS: [u8; 3] = [0, 4, 7];

/// swtpm on loopback: the TPM at `port`, its control channel at the next.
#[derive(Debug)]
pub struct Tpm {
    process: Running,
    directory: PathBuf,
    account: Account,
    port: u16,
}

impl Tpm {
    /// A TPM whose state lies under `directory`, with PCRs extended as the boot of `image` would, provisioned for
    /// processes of `account`.
    #[must_use]
    pub fn boot(directory: &Path, account: Account, image: &str) -> Self {
        Self::power_on(directory, account).booted(image)
    }

    /// The same TPM, after the boot of `image`, provisioned.
    #[must_use]
    pub fn booted(self, image: &str) -> Self {
        self.measure(image);
        let provisioned = self.provision(&[]);
        assert!(provisioned.status.success(), "{}", String::from_utf8_lossy(&provisioned.stderr));
        self
    }

    /// A TPM as it is before anything was measured.
    #[must_use]
    pub fn power_on(directory: &Path, account: Account) -> Self {
        Self::power_on_after(directory, account, |_| {})
    }

    /// The same, after something was done to its state, in the directory that is given.
    #[must_use]
    pub fn power_on_after(directory: &Path, account: Account, manufacture: impl FnOnce(&Path)) -> Self {
        account.make_directory(directory);
        let state = directory.join("tpm");
        fs::create_dir_all(&state).unwrap();
        manufacture(&state);
        let (process, port) = start(directory, &state);
        Self { process, directory: directory.to_owned(), account, port }
    }

    /// Power off and on again: PCRs are zero, what is sealed and defined stays.
    pub fn reboot(&mut self) {
        // In good order: a TPM that lost power reports an unsafe clock for a while.
        self.tool("tpm2_shutdown", &["-c"]);
        self.process.stop();
        (self.process, self.port) = start(&self.directory, &self.directory.join("tpm"));
    }

    /// It answers nobody from now on; see [`Tpm::go_on`].
    pub fn hold(&self) {
        self.process.signal(Signal::STOP);
    }

    /// It answers again, also what was asked meanwhile.
    pub fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Reset under a running system: PCRs are zero again, nothing that was loaded is left, and clients stay connected.
    pub fn reset(&self) {
        // CMD_INIT without flags, of swtpm's control channel (swtpm_ioctls(3)): the number of the command, then flags. It
        // answers with a result of 4 bytes.
        let mut control = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port + 1)).unwrap();
        control.write_all(&[0, 0, 0, 2, 0, 0, 0, 0]).unwrap();
        let mut result = [0xff; 4];
        control.read_exact(&mut result).unwrap();
        assert_eq!(result, [0; 4], "the TPM is not reset");
    }

    /// What a boot of `image` measures: another value into each of [`PCRS`].
    pub fn measure(&self, image: &str) {
        for pcr in PCRS {
            self.extend(pcr, &format!("{image}, PCR {pcr}"));
        }
    }

    /// Measures `what` into a PCR of the SHA-256 bank.
    pub fn extend(&self, pcr: u8, what: &str) {
        let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, what.as_bytes()));
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={digest}")]);
    }

    /// Where `blindferry-device` finds it.
    #[must_use]
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// The port of its command channel; its control channel is at the next.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The pin file of its device process.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.directory.join("pins.toml")
    }

    /// The device process that serves it.
    #[must_use]
    pub fn device_process(&self) -> DeviceProcess {
        DeviceProcess::Tpm { tcti: self.tcti(), pins: self.pins(), logs: None }
    }

    /// Where it has its files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Pins the Names of its keys.
    #[must_use]
    pub fn provision(&self, options: &[&str]) -> std::process::Output {
        let mut command = self.account.command(&ours("blindferry-device"));
        command.args(["provision", "--tcti", &self.tcti(), "--pins"]).arg(self.pins()).args(options);
        command.output().unwrap()
    }

    /// The hash of its endorsement key, as it is pinned.
    #[must_use]
    pub fn ek(&self) -> EkDigest {
        let pins: toml::Table = fs::read_to_string(self.pins()).unwrap().parse().unwrap();
        pins["ek-hash"].as_str().unwrap().parse().unwrap()
    }

    /// The present values of [`PCRS`].
    #[must_use]
    pub fn values(&self) -> PcrValues {
        let list = PCRS.map(|pcr| pcr.to_string()).join(",");
        let out = self.directory.join("values.bin");
        self.tool("tpm2_pcrread", &[&format!("sha256:{list}"), "-o", out.to_str().unwrap()]);
        let bytes = fs::read(out).unwrap();
        let digests = bytes.chunks_exact(32).map(|value| <[u8; 32]>::try_from(value).unwrap());
        let values: Vec<(u8, [u8; 32])> = PCRS.into_iter().zip(digests).collect();
        PcrValues::new(PcrSelection::new(PCRS).unwrap(), &values).unwrap()
    }

    /// Reference values that accept this machine as it is.
    #[must_use]
    pub fn reference(&self, role: Role, name: &str) -> String {
        ReferenceValues::capture(role, name, Firmware::Any, &self.values()).unwrap().to_toml()
    }

    /// Runs one of tpm2-tools on it.
    pub fn tool(&self, tool: &str, arguments: &[&str]) {
        let output = self.output(tool, arguments);
        assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The same; whether it worked.
    #[must_use]
    pub fn try_tool(&self, tool: &str, arguments: &[&str]) -> bool {
        self.output(tool, arguments).status.success()
    }

    fn output(&self, tool: &str, arguments: &[&str]) -> std::process::Output {
        Command::new(tool).args(arguments).env("TPM2TOOLS_TCTI", self.tcti()).output().unwrap()
    }
}

/// libtss2's words for a TPM at this port.
#[must_use]
pub fn tcti(port: u16) -> String {
    format!("swtpm:host=127.0.0.1,port={port}")
}

/// Two ports side by side that are this test's until its process ends; the first is given.
///
/// Below the range that the kernel takes for outgoing connections, and beside a third port that is held as the mark that
/// they are taken: tests are processes that start their fleets at the same time.
#[must_use]
pub fn adjacent_ports() -> u16 {
    static HELD: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    let first = (std::process::id() % 1000) * 12;
    for slot in 0..4000 {
        let mark = 20_000 + u16::try_from((first + slot * 3) % 12_000).unwrap();
        if let Some(held) = bind(mark)
            && bind(mark + 1).is_some()
            && bind(mark + 2).is_some()
        {
            HELD.lock().unwrap().push(held);
            return mark + 1;
        }
    }
    panic!("no ports are left");
}

fn start(directory: &Path, state: &Path) -> (Running, u16) {
    // Between the choice of the ports and their use somebody else may take them.
    for _ in 0..20 {
        let port = adjacent_ports();
        let mut command = Command::new("swtpm");
        command
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", state.display())])
            .args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={port}")])
            .args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1)])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut process = Running::start(command, &directory.join("swtpm.log"));
        let answered = eventually("swtpm", || match process.ended() {
            Some(_) => Some(false),
            None => answers(port).then_some(true),
        });
        if answered {
            return (process, port);
        }
    }
    panic!("swtpm does not start");
}

/// Whether a TPM answers TPM2_GetCapability at this port.
fn answers(port: u16) -> bool {
    // TPM_ST_NO_SESSIONS, length, command; TPM_CAP_TPM_PROPERTIES, TPM_PT_MANUFACTURER, one of them.
    const COMMAND: [u8; 22] = [0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7a, 0, 0, 0, 6, 0, 0, 1, 5, 0, 0, 0, 1];
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&COMMAND)?;
        stream.read_exact(&mut [0; 10])
    };
    ask().is_ok()
}
