//! When there is no launch: which exit status says so, and is the token in anything that is said?

use crate::fake_broker::{FakeBroker, Seen, honest};
use crate::launched::Launch;
use blindferry_proto::local::WorkerReply;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use std::path::Path;
use std::process::Output;

fn run(broker: &FakeBroker, args: &[&str]) -> (i32, String) {
    said(&Launch::of(broker).args(args).output())
}

fn said(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_status_of_the_program_is_that_of_the_launch() {
    let broker = FakeBroker::start("status", honest(b"token"));
    assert_eq!(run(&broker, &["--", "sh", "-c", "exit 7"]), (7, String::new()));
}

#[test]
fn a_refusal_is_124_and_says_why() {
    let no = Refusal::new(RefusalCode::Denied, "policy night-freeze");
    let broker = FakeBroker::start("refused", move |_: &Seen| vec![(WorkerReply::Refused(no.clone()), None)]);
    let (status, said) = run(&broker, &["--", "true"]);
    assert_eq!((status, said.trim()), (124, "blindferry-launch: no token: refused: denied: policy night-freeze"));
}

#[test]
fn what_the_launcher_itself_cannot_do_is_125() {
    let broker = FakeBroker::start("own", honest(b"token"));
    for args in [
        &["true"][..],
        &["--"],
        &["--deliver", "file", "--", "true"],
        &["--deliver", "pipe", "--deliver", "memfd", "--", "true"],
        &["--keep-fd", "99", "--", "true"],
        &["--credential-name", "NOT LEGAL", "--", "true"],
        &["--env", "LD_PRELOAD=/tmp/x.so", "--", "true"],
        &["--env", "GITHUB_TOKEN", "--", "true"],
        &["--env", "GITHUB_TOKEN=x", "--", "true"],
        &["--inherit-credentials", "BASH_ENV", "--", "true"],
        &["--pass", "nonsense", "--", "true"],
    ] {
        let (status, said) = run(&broker, args);
        assert_eq!(status, 125, "{args:?}: {said}");
        assert!(!said.is_empty());
    }
    assert!(broker.seen().is_empty(), "nothing was redeemed");
    let launcher = Path::new(env!("CARGO_BIN_EXE_blindferry-launch"));
    let nobody_there = Launch::at(Path::new("/nowhere.sock"), launcher).args(&["--", "true"]).output();
    let (status, said) = said(&nobody_there);
    assert_eq!(status, 125);
    assert!(said.contains("/nowhere.sock"), "{said}");
}

#[test]
fn a_grant_that_is_none_is_125_before_anything_is_redeemed() {
    let broker = FakeBroker::start("no-grant", honest(b"token"));
    let mut launch = Launch::of(&broker);
    launch.command = crate::launched::as_nobody(env!("CARGO_BIN_EXE_blindferry-launch"));
    let path = broker.path();
    let (status, said) =
        said(&launch.args(&["--grant-fd", "77", "--workers", path.to_str().unwrap(), "--", "true"]).output());
    assert_eq!(status, 125);
    assert!(said.contains("77"), "{said}");
    assert!(broker.seen().is_empty());
}

#[test]
fn a_program_that_is_not_found_is_127_and_one_that_cannot_be_executed_126() {
    let broker = FakeBroker::start("program", honest(b"token"));
    assert_eq!(run(&broker, &["--", "no-such-program"]).0, 127);
    assert_eq!(run(&broker, &["--", "/etc/passwd"]).0, 126);
    assert_eq!(run(&broker, &["--", "/etc"]).0, 126);
    assert!(broker.seen().is_empty(), "a grant is not spent on what cannot run");
}

#[test]
fn a_token_that_cannot_be_delivered_is_not_said() {
    let broker = FakeBroker::start("nul", honest(b"unsayable\0token"));
    let (status, said) = run(&broker, &["--deliver", "env:T", "--", "env"]);
    assert_eq!(status, 125);
    assert!(said.contains("NUL") && !said.contains("unsayable"), "{said}");
}
