//! Does the program get its token in the form that it expects, and nothing that it should not get?

use crate::fake_broker::{FakeBroker, honest};
use crate::launched::{Launch, as_nobody};
use blindferry_handle::inherit::keep_over_exec;
use blindferry_handle::packet::PacketError;
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_TOKEN;
use blindferry_proto::local::WorkerRequest;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;

const TOKEN: &[u8] = b"ghs_0123456789 = opaque";
const TEXT: &str = "ghs_0123456789 = opaque";
const PYTHON: &str = "/usr/bin/python3";

fn launch(name: &str) -> (FakeBroker, Launch) {
    let broker = FakeBroker::start(name, honest(TOKEN));
    let launch = Launch::of(&broker);
    (broker, launch)
}

fn printed(name: &str, args: &[&str]) -> String {
    let (_broker, launch) = launch(name);
    launch.args(args).printed()
}

#[test]
fn a_pipe_is_the_default_and_is_read_once() {
    assert_eq!(printed("pipe", &["--", "sh", "-c", "cat \"$TOKEN_FILE\""]), TEXT);
    assert_eq!(
        printed("pipe-twice", &["--", "sh", "-c", "cat $TOKEN_FILE; echo .; cat $TOKEN_FILE"]),
        format!("{TEXT}.\n")
    );
    let read = "import os; print(open(os.environ['GITHUB_DEPLOY_FILE']).read(), end='')";
    assert_eq!(printed("pipe-python", &["--credential-name", "github-deploy", "--", PYTHON, "-c", read]), TEXT);
}

#[test]
fn a_memfd_is_read_again_and_again_and_can_be_wiped_by_the_program() {
    let memfd = |script: &str| printed("memfd", &["--deliver", "memfd", "--", "sh", "-c", script]);
    assert_eq!(memfd("cat $TOKEN_FILE; cat $TOKEN_FILE"), format!("{TEXT}{TEXT}"));
    assert_eq!(memfd("cat $TOKEN_FILE; : > $TOKEN_FILE; cat $TOKEN_FILE"), TEXT);
    let read = "import os; p = os.environ['TOKEN_FILE']; print(open(p).read() + open(p).read(), end='')";
    assert_eq!(printed("memfd-python", &["--deliver", "memfd", "--", PYTHON, "-c", read]), format!("{TEXT}{TEXT}"));
}

#[test]
fn standard_input_is_the_token_and_then_ends() {
    assert_eq!(printed("stdin", &["--deliver", "stdin", "--", "cat"]), TEXT);
    let read = "import sys; print(sys.stdin.read(), end='')";
    assert_eq!(printed("stdin-python", &["--deliver", "stdin", "--", PYTHON, "-c", read]), TEXT);
}

#[test]
fn a_variable_is_the_token_only_when_it_was_asked_for() {
    let lines = printed("variable", &["--deliver", "env:GH_TOKEN", "--", "env"]);
    assert!(lines.lines().any(|line| line == format!("GH_TOKEN={TEXT}")), "{lines}");
    let read = "import os; print(os.environ['GH_TOKEN'], end='')";
    assert_eq!(printed("variable-python", &["--deliver", "env:GH_TOKEN", "--", PYTHON, "-c", read]), TEXT);
    assert!(!printed("no-variable", &["--", "env"]).contains(TEXT));
}

#[test]
fn several_forms_go_together() {
    let script = "cat; cat $TOKEN_FILE; printf %s \"$T\"";
    let args = ["--deliver", "stdin", "--deliver", "memfd", "--deliver", "env:T", "--", "sh", "-c", script];
    assert_eq!(printed("several", &args), TEXT.repeat(3));
}

#[test]
fn the_longest_token_fits_into_a_pipe() {
    let broker = FakeBroker::start("longest", honest(vec![b'x'; MAX_TOKEN].leak()));
    let printed = Launch::of(&broker).args(&["--", "sh", "-c", "wc -c < $TOKEN_FILE"]).printed();
    assert_eq!(printed.trim(), MAX_TOKEN.to_string());
}

#[test]
fn the_environment_is_stripped_to_the_list_and_what_was_asked_for() {
    let names = |args: &[&str]| {
        let (_broker, mut launch) = launch("environment");
        launch.command.env_clear().envs([
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/"),
            ("LC_TIME", "C"),
            ("LD_LIBRARY_PATH", "/nowhere"),
            ("AWS_SECRET_ACCESS_KEY", "the parent's"),
            ("BLINDFERRY_WORKERS", "/nowhere"),
            ("MINE", "1"),
        ]);
        let printed = launch.args(args).args(&["--deliver", "stdin", "--", "/usr/bin/env"]).printed();
        printed.lines().map(|line| line.split_once('=').unwrap().0.to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&[]), ["HOME", "LC_TIME", "PATH"].map(String::from).into());
    assert_eq!(names(&["--env", "MINE"]), ["HOME", "LC_TIME", "MINE", "PATH"].map(String::from).into());
    let all = ["BLINDFERRY_WORKERS", "HOME", "LC_TIME", "MINE", "PATH"];
    assert_eq!(names(&["--inherit-env"]), all.map(String::from).into(), "neither credentials nor what loads code");
}

#[test]
fn a_credential_of_the_parent_passes_by_its_name_and_is_told() {
    let (_broker, mut launch) = launch("inherited");
    launch.command.envs([("AWS_SECRET_ACCESS_KEY", "the parent's"), ("LD_LIBRARY_PATH", "/nowhere")]);
    let options = ["--pass", "library-path", "--inherit-credentials", "AWS_SECRET_ACCESS_KEY", "--env", "NEW=1"];
    let output = launch.args(&options).args(&["--deliver", "stdin", "--", "/usr/bin/env"]).output();
    let printed = String::from_utf8(output.stdout).unwrap();
    for line in ["AWS_SECRET_ACCESS_KEY=the parent's", "LD_LIBRARY_PATH=/nowhere", "NEW=1"] {
        assert!(printed.lines().any(|printed| printed == line), "{printed}");
    }
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.trim(), "blindferry-launch: warning: inherits credentials of its parent: AWS_SECRET_ACCESS_KEY");
}

#[test]
fn a_descriptor_that_the_parent_leaked_does_not_reach_the_program() {
    let leaked = fs::File::open("/etc/passwd").unwrap();
    keep_over_exec(leaked.as_fd()).unwrap();
    let open = |args: &[&str]| {
        let (_broker, launch) = launch("descriptors");
        let list = [
            "--deliver",
            "stdin",
            "--",
            PYTHON,
            "-c",
            "import os; print(*sorted(map(int, os.listdir('/proc/self/fd'))))",
        ];
        launch.args(args).args(&list).printed().trim().to_owned()
    };
    // The fourth is that of the listing itself.
    assert_eq!(open(&[]), "0 1 2 3");
    let number = leaked.as_raw_fd().to_string();
    assert!(open(&["--keep-fd", &number]).split(' ').any(|open| open == number));
    let control = as_nobody("sh").args(["-c", &format!("cat /proc/self/fd/{number}")]).output().unwrap();
    assert!(!control.stdout.is_empty(), "without the launcher it does");
}

#[test]
fn the_grant_and_the_connection_to_the_broker_end_before_the_program_begins() {
    let (broker, launch) = launch("connection");
    let program = launch.args(&["--", "sleep", "5"]).command.spawn().unwrap();
    while broker.seen().len() < 2 {
        std::thread::yield_now();
    }
    assert!(matches!(broker.connections()[0].receive(), Err(PacketError::Closed)));
    let seen = broker.seen();
    assert_eq!(seen[0].grant.as_deref(), Some(&b"opaque grant"[..]));
    assert_eq!(seen[1].connection, 0);
    let WorkerRequest::Acknowledge { .. } = seen[1].request else { panic!("{seen:?}") };
    stop(program);
}

#[test]
fn the_digest_is_of_the_bytes_that_run() {
    let digest = |args: &[&str]| {
        let (broker, launch) = launch("digest");
        assert!(launch.args(args).output().status.success());
        let WorkerRequest::Redeem { executable, .. } = broker.seen()[0].request else { panic!() };
        executable
    };
    assert_eq!(digest(&["--", "true"]), Some(sha256(&fs::read("/usr/bin/true").unwrap())));
    let script = Script::new("digest", "#!/usr/bin/env sh\ntrue\n");
    assert_eq!(digest(&["--", script.path()]), Some(sha256(&fs::read("/bin/sh").unwrap())));
    assert_eq!(digest(&["--protection", "none", "--", "true"]), None);
}

#[test]
fn a_script_runs_with_its_name_and_arguments() {
    let script = Script::new("script", "#!/bin/sh -u\necho \"$0|$1|$#\"; cat \"$TOKEN_FILE\"\n");
    assert_eq!(printed("script", &["--", script.path(), "a b"]), format!("{}|a b|1\n{TEXT}", script.path()));
}

#[test]
fn a_broken_pipe_ends_the_program_as_it_would_any_other() {
    let status = printed("signals", &["--", "cat", "/proc/self/status"]);
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let broken_pipe = 1 << (13 - 1);
    assert_eq!(mask("SigIgn:") & broken_pipe, 0, "Rust's runtime ignores SIGPIPE, the program must not inherit that");
    assert_eq!(mask("SigBlk:"), 0);
}

#[test]
fn a_program_that_compiles_at_run_time_runs() {
    if !fs::exists("/usr/bin/node").unwrap() {
        eprintln!("skipped: no node");
        return;
    }
    let script = "let s = 0; for (let i = 0; i < 1e6; i++) s += i % 7; \
                  process.stdout.write(require('fs').readFileSync(process.env.TOKEN_FILE, 'utf8'))";
    assert_eq!(printed("node", &["--deliver", "memfd", "--", "/usr/bin/node", "-e", script]), TEXT);
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap())
}

pub(crate) fn stop(mut program: std::process::Child) {
    program.kill().unwrap();
    program.wait().unwrap();
}

/// An executable script that every user may read.
pub(crate) struct Script(String);

impl Script {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blindferry-launch-{}-{name}.sh", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path.to_str().unwrap().to_owned())
    }

    pub(crate) fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}
