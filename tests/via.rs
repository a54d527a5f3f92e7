//! Is a program that the broker's starter starts out of its caller's reach, and yet as if the caller had started it?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_tests::account::{CALLER, USER, is_root};
use blindferry_tests::attack::look;
use blindferry_tests::attack_launch::{ATTACKER, Tracer};
use blindferry_tests::missing;
use blindferry_tests::process::{children, eventually, lives, send};
use blindferry_tests::program::ours;
use blindferry_tests::starter::{Starter, with_groups};
use fake_broker::{FakeBroker, Seen, honest};
use blindferry_proto::local::WorkerReply;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

#[path = "../host/worker/tests/worker/fake_broker.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake_broker;
#[path = "../host/worker/tests/worker/fake_vault.rs"]
mod fake_vault;

const TOKEN: &str = "a-token-for-a-program-of-the-starter-5d20c9";

/// A starter and a broker, or nothing where the tests are not root.
fn starter(name: &str) -> Option<(Starter, FakeBroker)> {
    if !is_root() {
        println!("skipped: only root can run a starter, and callers of another user");
        return None;
    }
    let broker = FakeBroker::start(&format!("via-{name}"), honest(TOKEN.as_bytes()));
    Some((Starter::start(name, &broker.path(), &[]), broker))
}

#[test]
fn a_program_of_the_starter_runs_as_if_its_caller_had_started_it() {
    let Some((starter, _broker)) = starter("same") else { return };
    let script = "pwd; umask; id; ulimit -n; ulimit -Hn; ulimit -s; cat; printenv PATH HOME; ls -ln /proc/self/fd/2 | wc -l; \
                  stat -c '%u %g' . /etc /root; echo complaint >&2; exit 7";
    let run = |mut command: Command| -> Output {
        command.env("HOME", "/tmp").current_dir(starter.users());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
        child.wait_with_output().unwrap()
    };
    let around = |script: &str| format!("umask 027; ulimit -Sn 77; ulimit -Hn 99; {script}");
    let groups = [USER.uid(), 64_990, 64_991];
    let mut plain = with_groups(USER, &groups);
    plain.args(["sh", "-c", &around("exec \"$@\""), "sh", "sh", "-c", script]);
    let mut via = with_groups(USER, &groups);
    via.args(["sh", "-c", &around("exec \"$@\""), "sh"]).arg(ours("blindferry"));
    let via = starter.run_by(via, &["--", "sh", "-c", script]);
    let (plain, via) = (run(plain), run(via));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&plain.stdout).contains("0027") && text(&plain.stdout).contains("64991"), "{}", text(&plain.stdout));
    assert_eq!(text(&via.stdout), text(&plain.stdout), "{}", text(&via.stderr));
    assert_eq!((text(&via.stderr), via.status.code()), ("complaint\n".to_owned(), Some(7)));
}
