//! The executable itself, with a scripted vault and a scripted device process: what they are given, who ends when, and
//! what is left after a kill.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// One of the programs in `tests/support`, which cargo builds beside the tests unless it is told to build one test target alone.
fn program(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join(name);
    assert!(path.exists(), "{} is not built: choose tests by name, not by --test", path.display());
    path
}

struct Enclave {
    directory: TempDir,
    listen: SocketAddr,
    public: SocketAddr,
}

struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Enclave {
    fn new() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let enclave = Self { directory: tempfile::tempdir().unwrap(), listen: free(), public: free() };
        let text = format!(
            "listen = \"{}\"\npublic = \"{}\"\nstore = {:?}\ntcti = \"scripted\"\npins = {:?}\nvault = {:?}\ndevice = {:?}\n\
             [limits]\nconnections_per_source = 3\n",
            enclave.listen,
            enclave.public,
            enclave.path("store.redb"),
            enclave.path("pins"),
            program("scripted-vault"),
            program("scripted-device"),
        );
        fs::write(enclave.path("enclave.toml"), text).unwrap();
        enclave
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blindferry-enclave"));
        command.arg(what).arg("--config").arg(self.path("enclave.toml")).env("A_VARIABLE", "not for the vault");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn serve(&self) -> Running {
        let child = self.command("serve").stderr(Stdio::inherit()).spawn().unwrap();
        let running = Running { child };
        until("the front is ready", || self.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
        running
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.public).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn say(&self, word: &str) -> String {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        stream.write_all(word.as_bytes()).unwrap();
        let mut answer = String::new();
        // A reset is an answer as well: nothing.
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}: not within 20 seconds");
        sleep(Duration::from_millis(20));
    }
}

fn ended(mut running: Running) -> Output {
    let mut output = Output { status: running.child.wait().unwrap(), stdout: vec![], stderr: vec![] };
    if let Some(stderr) = &mut running.child.stderr {
        stderr.read_to_end(&mut output.stderr).unwrap();
    }
    output
}

fn terminate(running: &Running) {
    let process = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
}

fn note(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn the_vault_has_exactly_its_descriptors_and_no_environment() {
    let enclave = Enclave::new();
    let _running = enclave.serve();
    let metrics = enclave.get("/metrics").unwrap();
    assert!(metrics.contains("blindferry_mint_failures_total{kind=\"descriptors 0 1 2 3 4\"} 1\n"), "{metrics}");
    assert!(metrics.contains("blindferry_mint_failures_total{kind=\"environment\"} 0\n"), "{metrics}");
    assert!(metrics.contains("blindferry_mint_failures_total{kind=\"arguments serve\"} 1\n"), "{metrics}");
    assert_eq!(note(&enclave.path("pins")), "scripted, 0 variables");
}

#[test]
fn the_front_holds_no_end_of_the_socket_between_vault_and_device() {
    let enclave = Enclave::new();
    let _running = enclave.serve();
    enclave.say("drop-device");
    // It sees the end only if the vault alone had the other end.
    until("the device ends", || note(&enclave.path("pins")) == "the client has gone");
    assert_eq!(enclave.say("hello"), "hello from the vault");
}

#[test]
fn connections_reach_the_vault_and_the_store_serves_it() {
    let enclave = Enclave::new();
    let _running = enclave.serve();
    // More than may be open at a time from here: each has ended, and is counted as ended.
    for _ in 0..4 {
        assert_eq!(enclave.say("hello"), "hello from the vault");
    }
    assert_eq!(enclave.say("store"), "Committed");
    sleep(Duration::from_millis(1100));
    assert_eq!(enclave.say("store"), "Exists");
    assert!(enclave.get("/prod/.well-known/jwks.json").unwrap().ends_with("\r\n\r\n{\"keys\":[]}"));
}

#[test]
fn told_to_stop_the_front_ends_well_and_so_do_the_others() {
    let enclave = Enclave::new();
    let running = enclave.serve();
    terminate(&running);
    assert!(ended(running).status.success());
    assert_eq!(note(&enclave.path("pins")), "the client has gone");
}

#[test]
fn when_the_vault_dies_the_front_says_so_and_ends_with_an_error() {
    for (word, line) in
        [("die", "the vault has ended (exit status: 7)"), ("malformed", "the vault sent what is not a message")]
    {
        let enclave = Enclave::new();
        let child = enclave.command("serve").spawn().unwrap();
        let running = Running { child };
        until("the front is ready", || enclave.get("/readyz").is_some_and(|answer| answer.contains("200 OK")));
        enclave.say(word);
        let output = ended(running);
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains(line), "{log}");
    }
}

#[test]
fn after_kill_9_the_others_end_and_the_next_front_finds_the_store_whole() {
    let enclave = Enclave::new();
    let mut running = enclave.serve();
    assert_eq!(enclave.say("store"), "Committed");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    until("the device ends", || note(&enclave.path("pins")) == "the client has gone");
    let _again = enclave.serve();
    assert_eq!(enclave.say("store"), "Exists");
}

#[test]
fn a_second_front_is_refused_before_it_starts_anything() {
    let enclave = Enclave::new();
    let _running = enclave.serve();
    let output = enclave.command("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("another front is using "), "{log}");
    assert_eq!(note(&enclave.path("pins")), "scripted, 0 variables");
}

#[test]
fn init_writes_to_our_output_past_the_front_and_its_refusal_is_ours() {
    let enclave = Enclave::new();
    let first = enclave.command("init").args(["--", "--pcr", "7"]).output().unwrap();
    assert_eq!(String::from_utf8(first.stdout).unwrap(), "recovery key: init --pcr 7\n");
    assert!(first.status.success());
    let second = enclave.command("init").output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8(second.stderr).unwrap().contains("there is a sealed key already"));
    let forced = enclave.command("init").arg("--force").output().unwrap();
    assert_eq!(String::from_utf8(forced.stdout).unwrap(), "recovery key: init --force\n");
}

#[test]
fn recover_reads_our_input_past_the_front_and_ends_as_the_vault_does() {
    let enclave = Enclave::new();
    let mut child = enclave.command("recover").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"words").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "recovered with words\n");
    assert_eq!(output.status.code(), Some(9));
}

#[test]
fn check_config_reads_and_does_nothing() {
    let enclave = Enclave::new();
    fs::write(enclave.path("pins"), "").unwrap();
    assert!(enclave.command("check-config").output().unwrap().status.success());
    assert!(!enclave.path("store.redb").exists());
    fs::write(enclave.path("enclave.toml"), "listen = 7\n").unwrap();
    let refused = enclave.command("check-config").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("line 1, column 10"));
}

#[test]
fn confined_each_power_is_gone_and_what_is_needed_is_left() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("store")).unwrap();
    fs::write(directory.path().join("store/store.redb"), "").unwrap();
    let output = Command::new(program("confined")).arg(directory.path()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    let lines: Vec<_> = BufReader::new(output.stdout.as_slice()).lines().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 17);
    for line in lines {
        assert_eq!(line.starts_with("still: "), line.ends_with(": done"), "{line}");
    }
}
