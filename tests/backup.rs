//! Is what an operator keeps of a running enclave enough to have it back, and does a vault that is back say what it lost?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_tests::account::ENCLAVE;
use blindferry_tests::command::{Desk, Ended, enclave_command};
use blindferry_tests::fleet::Fleet;
use blindferry_tests::load::Load;
use blindferry_tests::operator::settings;
use blindferry_tests::process::Running;
use blindferry_tests::program::ours;
use blindferry_tests::taken_front::contents_of;
use blindferry_tests::worker::released;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

const MASTER: &str = "sk-live-of-the-backups-71c2";

#[test]
fn a_backup_taken_while_grants_are_issued_is_one_moment_and_who_is_restored_from_it_says_so() {
    let Some(mut fleet) = Fleet::start() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let load = Load::of_grants(&fleet, "api");
    load.wait_for(20);
    let file = fleet.directory().join("desk/store.backup");
    let kept = desk.says(&["backup", file.to_str().unwrap()]);
    let record = kept["record"].as_u64().unwrap();
    let again = desk.run(&["backup", file.to_str().unwrap()]);
    assert_eq!(again.code, LOCAL, "a backup is not replaced: {}", again.complained);
    load.wait_for(20);
    load.end_without_a_refusal();

    // Names can be read in it, and nothing else.
    let bytes = fs::read(&file).unwrap();
    assert_eq!(kept["bytes"], u64::try_from(bytes.len()).unwrap());
    assert!(memchr::memmem::find(&bytes, b"worker-1").is_some(), "what is looked for would be found");
    for clear in [MASTER, "sk-live", "permit", "[[tpm]]", &fleet.enclave.recovery] {
        assert!(memchr::memmem::find(&bytes, clear.as_bytes()).is_none(), "{clear} is in the backup");
    }

    // The store goes on, and does not take itself for a backup at its next start.
    operator.put("later", settings(Kind::Release), MASTER.as_bytes());
    let before = operator.audit();
    assert!(matches!(before[usize::try_from(record).unwrap()].event, Event::BackedUp { .. }));
    drop(operator);
    fleet.enclave.stop();
    fleet.enclave.serve();
    assert!(!restored(&fleet.operator().events()));
    fleet.enclave.stop();

    let backup = for_the_enclave(&fleet, &file);
    let there = contents_of(&fleet.enclave.store());
    let refused = restore(&fleet, &backup, &[]);
    assert_eq!(refused.code, REFUSED, "{}", refused.complained);
    assert!(refused.complained.contains("exists: "), "{}", refused.complained);
    assert_eq!(contents_of(&fleet.enclave.store()), there);
    let done = restore(&fleet, &backup, &["--force", "--yes"]);
    assert_eq!((done.code, &done.said["record"]), (0, &kept["record"]), "{}", done.complained);

    let stood = fleet.host.sessions();
    fleet.enclave.serve();
    let operator = fleet.operator();
    let after = operator.audit();
    let common = usize::try_from(record).unwrap() + 1;
    assert_eq!(after[..common], before[..common], "it is the store of that moment");
    assert!(matches!(after[common].event, Event::Restored { record: of, .. } if of == record), "{:?}", after[common]);
    let warnings = operator.status().warnings;
    assert!(warnings.iter().any(|line| line.as_str().contains("restored from the backup")), "{warnings:?}");
    let Ok(OperatorReply::Credentials(credentials)) = operator.ask(OperatorRequest::List { after: None }) else {
        panic!("no list")
    };
    assert_eq!(credentials.len(), 1, "what came later is not in it");
    fleet.host.wait_for_session_after(stood);
    assert_eq!(released(&fleet, "api"), MASTER);
}

#[test]
fn a_damaged_backup_is_refused_before_anything_is_changed() {
    let Some(mut fleet) = Fleet::start() else { return };
    let file = fleet.directory().join("desk/store.backup");
    Desk::of(&fleet).says(&["backup", file.to_str().unwrap()]);
    fleet.enclave.stop();
    let good = fs::read(&file).unwrap();
    let there = contents_of(&fleet.enclave.store());
    for (what, at) in [("its head", 30), ("its middle", good.len() / 2), ("its end", good.len() - 1)] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        let refused = restore(&fleet, &for_the_enclave(&fleet, &file), &["--force", "--yes"]);
        assert_eq!(refused.code, REFUSED, "{what}: {}", refused.complained);
        assert!(refused.complained.contains("damaged"), "{what}: {}", refused.complained);
        assert_eq!(contents_of(&fleet.enclave.store()), there, "{what}");
    }
    fs::write(&file, good).unwrap();
    assert_eq!(restore(&fleet, &for_the_enclave(&fleet, &file), &["--force", "--yes"]).code, 0);
}

#[test]
fn a_restore_that_is_killed_at_any_moment_leaves_the_old_store_or_the_new_one() {
    let Some(mut fleet) = Fleet::start() else { return };
    let file = fleet.directory().join("desk/store.backup");
    Desk::of(&fleet).says(&["backup", file.to_str().unwrap()]);
    fleet.operator().put("later", settings(Kind::Release), MASTER.as_bytes());
    fleet.enclave.stop();
    let backup = for_the_enclave(&fleet, &file);
    let (store, old_file) = (fleet.enclave.store(), fs::read(fleet.enclave.store()).unwrap());
    let old = contents_of(&store);
    let began = Instant::now();
    assert_eq!(restore(&fleet, &backup, &["--force", "--yes"]).code, 0);
    let (whole, new) = (began.elapsed(), contents_of(&store));
    assert_ne!(old, new);
    let mut kept = 0;
    for moment in 0..MOMENTS {
        fs::write(&store, &old_file).unwrap();
        kill_restore_after(&fleet, &backup, whole * moment / (MOMENTS - 1));
        let found = contents_of(&store);
        assert!(found == old || found == new, "moment {moment}");
        kept += u32::from(found == old);
        assert_eq!(restore(&fleet, &backup, &["--force", "--yes"]).code, 0, "moment {moment}: once more");
        assert_eq!(contents_of(&store), new);
    }
    println!("the old store was left {kept} times of {MOMENTS}");
    assert!(kept > 0, "the moments are not all after the end");
    fleet.enclave.serve();
}

fn kill_restore_after(fleet: &Fleet, backup: &Path, delay: Duration) {
    let directory = fleet.directory().join("enclave");
    let mut command = ENCLAVE.command(&ours("blindferry-enclave"));
    command.args(["restore", "--force", "--config"]).arg(directory.join("enclave.toml"));
    command.stdin(Stdio::from(File::open(backup).unwrap())).stdout(Stdio::null()).env_clear();
    let mut running = Running::start(command, &directory.join("killed.log"));
    sleep(delay);
    running.kill();
}

fn restore(fleet: &Fleet, backup: &Path, options: &[&str]) -> Ended {
    let mut words: Vec<&str> = vec!["restore", backup.to_str().unwrap()];
    words.extend(options);
    enclave_command(fleet, &words, "")
}

/// A copy that the enclave's user may read.
fn for_the_enclave(fleet: &Fleet, backup: &Path) -> PathBuf {
    let copy = fleet.directory().join("enclave/store.backup");
    fs::copy(backup, &copy).unwrap();
    ENCLAVE.give(&copy);
    copy
}

fn restored(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Restored { .. }))
}

/// Exit codes of the command.
const REFUSED: i32 = 1;
const LOCAL: i32 = 5;
/// At how many moments `restore` is killed.
const MOMENTS: u32 = 8;
