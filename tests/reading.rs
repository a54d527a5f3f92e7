//! Does `blindferry read` get a token by itself: with no other program, as protected as it says, and refused with a code?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_proto::operator::Approvee;
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::session::LeaseEnd;
use blindferry_tests::account::{USER, is_root};
use blindferry_tests::command::{Desk, blindferry};
use blindferry_tests::fleet::{Fleet, HOST, Plan};
use blindferry_tests::operator::settings;
use blindferry_tests::process::eventually;
use blindferry_tests::program::ours;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Output, Stdio};

const MASTER: &str = "what one process reads and writes";

#[test]
fn the_command_alone_redeems_what_it_asked_for_and_starts_no_other_program() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());

    // As packages install it, but without the launcher beside it and without any program in PATH.
    let alone = fleet.directory().join("alone");
    fs::create_dir(&alone).unwrap();
    let installed = alone.join("blindferry");
    fs::copy(ours("blindferry"), &installed).unwrap();
    if is_root() {
        chown(&installed, Some(0), Some(0)).unwrap();
    }
    fs::set_permissions(&installed, fs::Permissions::from_mode(0o711)).unwrap();
    let mut command = USER.command(&installed);
    command.env("BLINDFERRY_PARENTS", fleet.host.parents()).env("BLINDFERRY_WORKERS", fleet.host.workers());
    command.args(["read", "api"]).env("PATH", &alone).stdin(Stdio::null());

    let before = read_by_children();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    assert_eq!((stdout.as_slice(), status.code()), (MASTER.as_bytes(), Some(0)));
    if is_root() {
        // Whoever may read the executable has it start anew from a copy.
        let taken = read_by_children() - before;
        assert!(taken < 256 << 10, "{taken} bytes read: something was copied or measured");
    }

    let redeemed = operator.events().into_iter().find_map(|event| match event {
        Event::Redeemed { worker, inherited, .. } => Some((worker, inherited)),
        _ => None,
    });
    let (worker, inherited) = redeemed.unwrap();
    assert_eq!((worker.pid, worker.uid), (pid, USER.uid()));
    assert_eq!((worker.protection, worker.executable), (Some(ProtectionLevel::ExecOnly), None));
    assert!(inherited.is_empty());
    let ended = |event: &Event| matches!(event, Event::LeaseEnded { why: LeaseEnd::WorkerGone, .. });
    eventually("the end of the lease", || operator.events().iter().any(ended).then_some(()));
}

#[test]
fn a_read_that_waits_for_a_person_gets_its_token_after_the_yes() {
    let plan = Plan {
        policy: "@id(\"by-hand\") @approval(\"required\") permit (principal, action, resource);",
        ..Plan::default()
    };
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    fleet.enclave.serve();
    fleet.operator().approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    fleet.host.serve();
    fleet.operator().put("api", settings(Kind::Release), MASTER.as_bytes());
    let desk = Desk::of(&fleet);
    let mut child = read(&fleet, &["api"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let ask = line.split_once("`blindferry approve ").unwrap().1.trim_end().trim_end_matches('`').to_owned();
    assert_eq!(desk.says(&["approve", &ask, "--yes"])["approved"], true);
    let mut token = String::new();
    child.stdout.take().unwrap().read_to_string(&mut token).unwrap();
    assert_eq!((token.as_str(), child.wait().unwrap().code()), (MASTER, Some(0)));
}

#[test]
fn a_refusal_has_its_code_and_a_reader_that_has_read_enough_is_no_failure() {
    let Some(fleet) = Fleet::start() else { return };
    fleet.operator().put("api", settings(Kind::Release), MASTER.as_bytes());
    let ended = |command: &mut Command| {
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(stdout.is_empty());
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    };
    let (code, told) = ended(&mut read(&fleet, &["--json", "none-such"]));
    assert!(code == 1 && told.contains("\"code\":\"unknown\""), "{code}: {told}");

    let mut nobody_there = read(&fleet, &["api"]);
    let (code, told) = ended(nobody_there.env("BLINDFERRY_WORKERS", fleet.directory().join("no.sock")));
    assert!(code == 3 && told.contains("BLINDFERRY_WORKERS"), "{code}: {told}");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = read(&fleet, &["api"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (code, told) = ended(read(&fleet, &["api"]).stdout(full));
    assert!(code == 5 && told.contains("cannot write the token"), "{code}: {told}");
}

fn read(fleet: &Fleet, words: &[&str]) -> Command {
    let mut command = blindferry(fleet);
    command.arg("read").args(words).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Bytes that this process and the children it has waited for have read.
fn read_by_children() -> u64 {
    let counts = fs::read_to_string("/proc/self/io").unwrap();
    counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}
