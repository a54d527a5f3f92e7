//! Kills a process that commits without pause, at random moments: what it was told is committed is there, whole.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use blindferry_front::store::Store;
use blindferry_front::store::redb::Redb;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::front::{Key, Operation, StoreReply, StoreRequest, Table};

const STORE: &str = "BLINDFERRY_TEST_STORE";
const FROM: &str = "BLINDFERRY_TEST_FROM";
const KILLS: u32 = 20;

/// Each transaction writes its number to both tables; two of them are always under way, so that groups are made.
#[test]
#[ignore = "the process that the other test kills"]
fn commits_until_killed() {
    let store = std::env::var(STORE).unwrap();
    let from: u64 = std::env::var(FROM).unwrap().parse().unwrap();
    let (store, _) = Store::start(Redb::open(Path::new(&store)).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for number in (from..).step_by(2) {
            let (one, other) = (store.ask(commit(number)), store.ask(commit(number + 1)));
            for (number, answer) in [(number, one.await), (number + 1, other.await)] {
                assert_eq!(answer, StoreReply::Committed);
                // One write each, so that a kill cuts no line in two.
                std::io::stdout().write_all(format!("\ncommitted {number}\n").as_bytes()).unwrap();
            }
        }
    });
}

fn commit(number: u64) -> StoreRequest {
    let value = Bytes::new(number.to_be_bytes().repeat(300)).unwrap();
    let operations = [Table::Audit, Table::Masters]
        .map(|table| Operation::Create { table, key: key(number), value: value.clone() })
        .to_vec();
    StoreRequest::Commit { operations }
}

fn key(number: u64) -> Key {
    Bytes::new(number.to_be_bytes().to_vec()).unwrap()
}

#[test]
fn after_kill_9_at_any_moment_every_acknowledged_commit_is_there_and_none_in_part() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let (mut acknowledged, mut next) = (0, 0);
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "commits_until_killed", "--ignored", "--nocapture"])
            .env(STORE, &path)
            .env(FROM, next.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let numbers =
                lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok());
            numbers.max()
        });
        // Spread over start, opening and many commits; 37 and 211 have no common factor.
        sleep(Duration::from_millis(5 + u64::from(kill * 37 % 211)));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(last) = reader.join().unwrap() {
            acknowledged = last + 1;
        }
        next = check(&path, acknowledged);
    }
    assert!(acknowledged > 100, "only {acknowledged} commits were made in all");
}

/// Returns the first number that is not there.
fn check(path: &Path, acknowledged: u64) -> u64 {
    let mut store = Redb::open(path).unwrap();
    let mut number = 0;
    loop {
        let found = [Table::Audit, Table::Masters].map(|table| store.get(table, &key(number)));
        let [StoreReply::Got(audit), StoreReply::Got(masters)] = found else { panic!("{found:?}") };
        assert_eq!(audit, masters, "{number} is there in part");
        let Some(value) = audit else { break };
        assert_eq!(value.as_slice(), number.to_be_bytes().repeat(300));
        number += 1;
    }
    assert!(number >= acknowledged, "{acknowledged} commits were acknowledged, {number} are there");
    let last = store.last(Table::Audit);
    let expected = number.checked_sub(1).map(key);
    assert!(
        matches!(&last, StoreReply::Last(last) if last.as_ref().map(|(key, _)| key) == expected.as_ref()),
        "{last:?}"
    );
    number
}
