//! A software TPM of the test's own, gone with the test.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// swtpm on loopback: the TPM at `port`, its control channel at the next.
pub(crate) struct Swtpm {
    process: Child,
    pub(crate) port: u16,
    pub(crate) directory: PathBuf,
}

impl Swtpm {
    /// A new TPM without certificates. `None`, with a printed reason, where there is no swtpm.
    pub(crate) fn start() -> Option<Self> {
        Self::start_after(|_| {})
    }

    /// A new TPM as swtpm_setup makes it: with persistent EKs and EK certificates of a local CA.
    pub(crate) fn start_with_certificates() -> Option<Self> {
        Self::start_after(|directory| {
            // Its CA is made in the directory as well, not in the machine's.
            let configuration = directory.join("ca.conf");
            let text = ["statedir", "signingkey", "issuercert", "certserial"]
                .map(|key| format!("{key} = {}\n", directory.join(key).display()))
                .concat();
            std::fs::write(&configuration, text).unwrap();
            std::fs::create_dir(directory.join("statedir")).unwrap();
            std::fs::write(directory.join("options"), "--platform-manufacturer test\n").unwrap();
            let setup = format!(
                "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = /etc/swtpm-localca.options\n",
                configuration.display()
            );
            std::fs::write(directory.join("setup.conf"), setup).unwrap();
            let made = Command::new("swtpm_setup")
                .args(["--tpm2", "--create-ek-cert", "--ecc", "--config"])
                .arg(directory.join("setup.conf"))
                .arg("--tpmstate")
                .arg(directory)
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        })
    }

    fn start_after(prepare: impl Fn(&Path)) -> Option<Self> {
        for tool in ["swtpm", "tpm2_unseal"] {
            let version = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if version.is_err() {
                println!("skipped: {tool} is not installed");
                return None;
            }
        }
        let directory = directory();
        prepare(&directory);
        // Between the choice of the ports and their use somebody else may take them.
        for _ in 0..20 {
            let port = adjacent_ports();
            let mut process = Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .args(["--tpmstate", &format!("dir={}", directory.display())])
                .args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={port}")])
                .args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1)])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if answers(port) {
                return Some(Self { process, port, directory });
            }
            process.kill().unwrap();
            process.wait().unwrap();
        }
        panic!("swtpm does not start");
    }

    pub(crate) fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// Runs one of tpm2-tools on this TPM, in its directory.
    pub(crate) fn tool(&self, command: &str) -> Vec<u8> {
        tool(&self.directory, self.port, command)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // The child was not waited for, so the id is still its own.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn tcti(port: u16) -> String {
    format!("swtpm:host=127.0.0.1,port={port}")
}

/// Runs one of tpm2-tools on the TPM at this port.
pub(crate) fn tool(directory: &Path, port: u16, command: &str) -> Vec<u8> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(directory)
        .env("TPM2TOOLS_TCTI", tcti(port))
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Two ports side by side that were free a moment ago; the first is given.
pub(crate) fn adjacent_ports() -> u16 {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return port;
        }
    }
}

/// Waits until a TPM answers TPM2_GetCapability.
fn answers(port: u16) -> bool {
    // TPM_ST_NO_SESSIONS, length, command; TPM_CAP_TPM_PROPERTIES, TPM_PT_MANUFACTURER, one of them.
    const COMMAND: [u8; 22] = [0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7a, 0, 0, 0, 6, 0, 0, 1, 5, 0, 0, 0, 1];
    let ask = || -> io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&COMMAND)?;
        stream.read_exact(&mut [0; 10])
    };
    (0..100).any(|_| {
        let answered = ask().is_ok();
        if !answered {
            thread::sleep(Duration::from_millis(20));
        }
        answered
    })
}

fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("blindferry-device-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}
