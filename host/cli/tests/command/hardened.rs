//! What the command gave up, seen from outside while it runs.

use crate::bench::Bench;
use blindferry_calls::deny_io_uring;
use blindferry_handle::attempt::io_uring;
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn io_uring_is_given_up_but_not_for_the_programs_that_the_command_becomes() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let path = pipe.to_str().unwrap();
    let key = "00".repeat(32);
    let own = filters(std::process::id());
    assert_eq!(filters_of(&["env", "--", "cat", path], &pipe), own, "positive control: nothing is inherited");
    assert_eq!(filters_of(&["audit", "verify", path, "--key", &key], &pipe), own + 1);
}

#[test]
fn denied_io_uring_is_refused_and_was_there_before() {
    if let Err(error) = io_uring() {
        println!("skipped: this machine has no io_uring to deny: {error}");
        return;
    }
    deny_io_uring().unwrap();
    assert_eq!(io_uring().unwrap_err().raw_os_error(), Some(rustix::io::Errno::PERM.raw_os_error()));
}

#[test]
fn the_option_for_debuggers_is_known_and_changes_nothing_without_one() {
    let went = Bench::new().run(&["env", "--allow-debugger", "--", "true"], b"");
    assert_eq!((went.code, went.err.as_str()), (0, ""));
}

#[test]
fn a_token_is_not_read_under_a_debugger_whatever_the_option_says() {
    let traced = |words: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", env!("CARGO_BIN_EXE_blindferry"), "--allow-debugger"]).args(words);
        command.stdout(Stdio::piped()).output()
    };
    let Ok(control) = traced(&["completions", "bash"]) else {
        println!("skipped: there is no strace here");
        return;
    };
    let told = String::from_utf8_lossy(&control.stderr).into_owned();
    assert!(control.status.success() && told.contains("a debugger is attached"), "positive control: {told}");
    let refused = traced(&["read", "api"]).unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{told}");
    assert!(told.contains("no token: a debugger is attached"), "{told}");
}

/// How many filters of system calls a command runs under that has opened `pipe` to read it.
fn filters_of(words: &[&str], pipe: &Path) -> u32 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blindferry"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = command.spawn().unwrap();
    // Waits for the reader.
    let writer = OpenOptions::new().write(true).open(pipe).unwrap();
    let found = filters(running.id());
    drop(writer);
    running.wait().unwrap();
    found
}

fn filters(process: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")).unwrap().trim().parse().unwrap()
}
