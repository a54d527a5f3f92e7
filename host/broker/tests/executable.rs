//! The executable as an operator meets it: what it refuses to start with, and how it ends.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use blindferry_handle::packet::PacketSocket;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A directory with a configuration whose vault nobody runs, and a device process that never answers.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let script = place.path("device");
        fs::write(&script, "#!/bin/sh\nexec cat > /dev/null\n").unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        fs::write(
            place.path("vault.toml"),
            format!(
                "ak = \"000b{}\"\nversion = 1\nrole = \"vault\"\n[[tpm]]\nname = \"any\"\nfirmware = \"any\"\n\
                 dangerously_accept_any_pcrs = \"a test\"\n",
                "7".repeat(64)
            ),
        )
        .unwrap();
        fs::write(place.path("pins"), "").unwrap();
        place.configure("");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configure(&self, more: &str) {
        let directory = self.0.path().display();
        let text = format!(
            "name = \"worker-7\"\nvault = \"127.0.0.1:1\"\nvault_reference = \"{directory}/vault.toml\"\n\
             parents = \"{directory}/parents\"\nworkers = \"{directory}/workers\"\nworkers_mode = \"0600\"\n\
             device = \"{directory}/device\"\ntcti = \"none\"\npins = \"{directory}/pins\"\n{more}\n"
        );
        fs::write(self.path("broker.toml"), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blindferryd"));
        command.arg("--config").arg(self.path("broker.toml"));
        command.stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = self.command().args(arguments).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    }
}

fn ask(parents: &Path) -> Value {
    let parent = PacketSocket::connect(parents).unwrap();
    parent.send(br#"{"ask":{"credential":"deploy"}}"#, &[]).unwrap();
    serde_json::from_slice(&parent.receive().unwrap().bytes).unwrap()
}

fn started(place: &Place) -> Child {
    let child = place.command().spawn().unwrap();
    let began = Instant::now();
    while PacketSocket::connect(&place.path("workers")).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "it did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn the_configuration_can_be_checked_and_a_mistake_is_named_with_its_place() {
    let place = Place::new();
    assert_eq!(place.run(&["--check-config"]).0, Some(0));
    assert!(!place.path("parents").exists(), "nothing was started");
    place.configure("colour = \"blue\"");
    let (code, log) = place.run(&["--check-config"]);
    assert_eq!(code, Some(1));
    assert!(log.contains("broker.toml") && log.contains("line 10, column 1") && log.contains("colour"), "{log}");
}

#[test]
fn a_missing_reference_a_wrong_one_and_a_missing_device_are_named() {
    let place = Place::new();
    fs::write(place.path("vault.toml"), "version = 1\n").unwrap();
    let (code, log) = place.run(&[]);
    assert!(code == Some(1) && log.contains("vault.toml") && log.contains("`ak`"), "{log}");
    fs::remove_file(place.path("vault.toml")).unwrap();
    let (code, log) = place.run(&[]);
    assert!(code == Some(1) && log.contains("vault.toml") && log.contains("No such file"), "{log}");
    let place = Place::new();
    fs::remove_file(place.path("device")).unwrap();
    let (code, log) = place.run(&[]);
    assert!(code == Some(1) && log.contains("start the device process") && log.contains("No such file"), "{log}");
}

#[test]
fn without_a_vault_parents_hear_not_ready_and_sigterm_ends_it_in_good_order() {
    let place = Place::new();
    let mut broker = started(&place);
    assert_eq!(fs::metadata(place.path("workers")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ask(&place.path("parents"))["refused"]["code"], "not-ready");
    kill_process(Pid::from_child(&broker), Signal::TERM).unwrap();
    let Output { status, stderr, .. } = wait(&mut broker);
    let log = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cannot connect to the vault at 127.0.0.1:1"), "{log}");
    assert!(!place.path("parents").exists() && !place.path("workers").exists());
}

#[test]
fn a_vault_with_a_name_is_still_resolved_after_the_files_are_shut() {
    let place = Place::new();
    let text = fs::read_to_string(place.path("broker.toml")).unwrap();
    fs::write(place.path("broker.toml"), text.replace("127.0.0.1:1", "localhost:1")).unwrap();
    let mut broker = started(&place);
    std::thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&broker), Signal::TERM).unwrap();
    let log = String::from_utf8(wait(&mut broker).stderr).unwrap();
    assert!(log.contains("cannot connect to the vault at localhost:1: Connection refused"), "{log}");
}

#[test]
fn it_does_not_go_on_without_its_device_process() {
    let place = Place::new();
    fs::write(place.path("device"), "#!/bin/sh\nsleep 1\n").unwrap();
    let mut broker = started(&place);
    let Output { status, stderr, .. } = wait(&mut broker);
    let log = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the device process has ended"), "{log}");
}

#[test]
fn a_second_broker_does_not_take_the_sockets_of_the_first() {
    let place = Place::new();
    let mut first = started(&place);
    let (code, log) = place.run(&[]);
    assert!(code == Some(1) && log.contains("parents"), "{log}");
    assert_eq!(ask(&place.path("parents"))["refused"]["code"], "not-ready", "the first one still answers");
    first.kill().unwrap();
    first.wait().unwrap();
    // What a killed one left behind is no obstacle.
    let mut next = started(&place);
    next.kill().unwrap();
    next.wait().unwrap();
}

/// Waits at most ten seconds for its end.
fn wait(child: &mut Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut stderr = Vec::new();
    std::io::Read::read_to_end(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    Output { status: child.wait().unwrap(), stdout: Vec::new(), stderr }
}
