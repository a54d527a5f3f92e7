//! Are the keys of an enclave replaced while it serves, so that nobody notices and the old ones open nothing any more?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_front::store::redb::{Redb, Transaction};
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::credential::{CredentialSettings, Kind, SigningAlgorithm};
use blindferry_proto::front::{Key, Operation, StoreReply, Table};
use blindferry_proto::identifier::Digest;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_tests::account::ENCLAVE;
use blindferry_tests::command::{Desk, Ended, enclave_command};
use blindferry_tests::fleet::{Fleet, http_get};
use blindferry_tests::load::Load;
use blindferry_tests::operator::{Operator, jwt_signer, settings};
use blindferry_tests::process::eventually;
use blindferry_tests::taken_front::contents_of;
use blindferry_tests::worker::released;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const MASTER: &str = "sk-live-of-the-rotations-0b9e";
/// How often a master is exchanged under load.
const EXCHANGES: usize = 8;

#[test]
fn a_new_key_comes_into_force_while_tokens_are_redeemed_and_the_old_recovery_key_opens_old_backups_alone() {
    let Some(mut fleet) = Fleet::start() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let old_recovery = fleet.enclave.recovery.clone();
    let old_key = operator.status().audit_key;
    let load = Load::of_grants(&fleet, "api");
    load.wait_for(100);
    let backup = fleet.directory().join("desk/before.backup");
    desk.says(&["backup", backup.to_str().unwrap()]);

    let kept = fleet.directory().join("desk/recovery.key");
    desk.says(&["rotate", "key-encryption-key", "--recovery-out", kept.to_str().unwrap()]);
    assert_eq!(released(&fleet, "api"), MASTER, "while it is encrypted anew, or just after");
    renewed(&operator);
    load.wait_for(20);
    println!("{} grants, none refused", load.end_without_a_refusal());
    assert_eq!(released(&fleet, "api"), MASTER);
    let new_recovery = fs::read_to_string(&kept).unwrap().trim().to_owned();
    assert_ne!(new_recovery, old_recovery);
    let events = operator.events();
    assert_eq!(operator.status().audit_key, old_key, "hosts and operators know the vault by it");
    drop(operator);
    fleet.enclave.stop();
    assert!(!contents_of(&fleet.enclave.store()).contains_key(&retired()));

    let stood = fleet.host.sessions();
    fleet.enclave.serve();
    fleet.host.wait_for_session_after(stood);
    assert_eq!(released(&fleet, "api"), MASTER);
    assert_eq!(fleet.operator().events()[..events.len()], events);
    fleet.enclave.stop();
    let refused = recover(&fleet, &old_recovery);
    assert_eq!(refused.code, REFUSED, "{}", refused.complained);
    let done = recover(&fleet, &new_recovery);
    assert_eq!(done.code, 0, "{}", done.complained);

    // A backup from before is of the key from before.
    let copy = fleet.directory().join("enclave/before.backup");
    fs::copy(&backup, &copy).unwrap();
    ENCLAVE.give(&copy);
    let back = enclave_command(&fleet, &["restore", copy.to_str().unwrap(), "--force", "--yes"], "");
    assert_eq!(back.code, 0, "{}", back.complained);
    assert_eq!(recover(&fleet, &new_recovery).code, REFUSED);
    assert_eq!(recover(&fleet, &old_recovery).code, 0);
    fleet.enclave.serve();
}

#[test]
fn a_master_is_exchanged_while_tokens_of_it_are_redeemed() {
    let Some(fleet) = Fleet::start() else { return };
    let (operator, master) = (fleet.operator(), |number: usize| format!("{MASTER}-{number}"));
    operator.put("api", settings(Kind::Release), master(0).as_bytes());
    let (begun, stored, redeemed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let redeem = || {
        while stored.load(Ordering::SeqCst) < EXCHANGES {
            let oldest = stored.load(Ordering::SeqCst);
            let token = released(&fleet, "api");
            let newest = begun.load(Ordering::SeqCst);
            let of = (0..=EXCHANGES).find(|number| token == master(*number));
            assert!(of.is_some_and(|of| (oldest..=newest).contains(&of)), "{token:?} between {oldest} and {newest}");
            redeemed.fetch_add(1, Ordering::SeqCst);
        }
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(redeem), scope.spawn(redeem)];
        for number in 1..=EXCHANGES {
            let before = redeemed.load(Ordering::SeqCst);
            eventually("tokens between two exchanges", || {
                let goes_on = workers.iter().all(|worker| !worker.is_finished());
                (!goes_on || redeemed.load(Ordering::SeqCst) > before + 1).then_some(())
            });
            begun.store(number, Ordering::SeqCst);
            operator.replace("api", settings(Kind::Release), master(number).as_bytes());
            stored.store(number, Ordering::SeqCst);
        }
    });
    println!("{EXCHANGES} exchanges, {} tokens, none refused and none too old", redeemed.into_inner());
    assert_eq!(released(&fleet, "api"), master(EXCHANGES));
}

#[test]
fn an_enclave_that_is_killed_while_its_store_is_encrypted_anew_goes_on_at_its_next_start() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    for number in 0..100 {
        operator.put(&format!("filler-{number}"), settings(Kind::Release), MASTER.as_bytes());
    }
    drop(operator);
    let mut interrupted = 0;
    for round in 1..=3 {
        let operator = fleet.operator();
        assert_eq!(operator.ask(OperatorRequest::ChangeKey { prepared: prepared(&operator) }), Ok(OperatorReply::Done));
        // It has been answered, so the new key is in force, and most of the store is under the one before.
        fleet.enclave.kill_front();
        drop(operator);
        eventually("the end of the front's lock", || Redb::open(&fleet.enclave.store()).ok().map(drop));
        interrupted += u32::from(contents_of(&fleet.enclave.store()).contains_key(&retired()));
        let stood = fleet.host.sessions();
        fleet.enclave.serve();
        let operator = fleet.operator();
        eventually("a whole store", || (of_renewal(&operator.events()) >= round).then_some(()));
        fleet.host.wait_for_session_after(stood);
        assert_eq!(released(&fleet, "api"), MASTER);
    }
    fleet.enclave.stop();
    assert!(!contents_of(&fleet.enclave.store()).contains_key(&retired()));
    println!("{interrupted} of 3 were interrupted before they were done");
    assert!(interrupted > 0, "none was interrupted");
}

#[test]
fn a_key_is_put_in_force_once_by_who_prepared_it() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let (first, second) = (prepared(&operator), prepared(&operator));
    let change = |prepared| operator.ask(OperatorRequest::ChangeKey { prepared });
    assert!(change(first).is_err(), "another took its place");
    assert!(change(second).is_err(), "and is spent by the attempt");
    let third = prepared(&operator);
    assert_eq!(change(third), Ok(OperatorReply::Done));
    assert!(change(third).is_err());
}

#[test]
fn after_another_policy_authority_what_was_approved_opens_and_what_the_old_one_signed_does_not() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let load = Load::of_grants(&fleet, "api");
    load.wait_for(10);
    Desk::of(&fleet).says(&["rotate", "policy-authority"]);
    load.wait_for(10);
    load.end_without_a_refusal();
    // It goes on approving, under the new one.
    let values = fleet.enclave.tpm.values();
    let pcrs = values.iter().map(|(pcr, value)| (pcr, Digest(*value))).collect();
    assert_eq!(operator.ask(OperatorRequest::ApproveEnclave { pcrs }), Ok(OperatorReply::Done));
    drop(operator);
    fleet.enclave.stop();
    let approvals = (Table::Sealed, b"approvals".to_vec());
    let new = contents_of(&fleet.enclave.store())[&approvals].clone();
    fleet.enclave.serve();
    Desk::of(&fleet).says(&["rotate", "policy-authority"]);
    fleet.enclave.stop();
    let newest = contents_of(&fleet.enclave.store())[&approvals].clone();
    assert_ne!(new, newest);

    put_back(&fleet, &approvals, new);
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("platform"), "{log}");
    put_back(&fleet, &approvals, newest);
    fleet.enclave.serve();
}

/// A key that is prepared, whose recovery key nobody reads.
fn prepared(operator: &Operator) -> Digest {
    match operator.ask(OperatorRequest::PrepareKey { key: operator.0.welcome.deposit_key }) {
        Ok(OperatorReply::KeyPrepared { prepared, .. }) => prepared,
        other => panic!("{other:?}"),
    }
}

/// Where the keys before are while the store is encrypted anew.
fn retired() -> (Table, Vec<u8>) {
    (Table::Sealed, b"retired-keys".to_vec())
}

#[test]
fn the_public_key_of_a_signer_that_was_replaced_is_there_until_its_last_token_is_over() {
    let Some(mut fleet) = Fleet::start() else { return };
    let signer = |lifetime| CredentialSettings {
        token_lifetime: lifetime,
        ..settings(jwt_signer(SigningAlgorithm::Es256, "https://tokens.example.org", "https://api.example.org"))
    };
    let put = |fleet: &Fleet, lifetime| fleet.operator().replace("id", signer(lifetime), &key_pem());
    put(&fleet, 5);
    let first = published(&fleet);
    assert_eq!(first.len(), 1);
    put(&fleet, 600);
    let both = published(&fleet);
    assert!(both.len() == 2 && both.is_superset(&first), "{both:?}");
    fleet.enclave.stop();
    fleet.enclave.serve();
    eventually("the end of the old key", || (published(&fleet).len() == 1).then_some(()));
    assert!(published(&fleet).is_disjoint(&first), "the one that signs stays");

    put(&fleet, 600);
    assert_eq!(published(&fleet).len(), 2);
    let remove = OperatorRequest::Remove { name: "id".parse().unwrap() };
    assert_eq!(fleet.operator().ask(remove), Ok(OperatorReply::Done));
    put(&fleet, 600);
    assert_eq!(published(&fleet).len(), 1, "whoever removes a credential withdraws its keys");
}

fn key_pem() -> Vec<u8> {
    rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes()
}

/// The identifiers of the keys that the front publishes.
fn published(fleet: &Fleet) -> BTreeSet<String> {
    let (_, body) = http_get(fleet.enclave.public, "/jwks/tokens.example.org").unwrap();
    let keys: Value = serde_json::from_str(&body).unwrap();
    let keys = keys.get("keys").and_then(Value::as_array).unwrap();
    keys.iter().filter_map(|key| key.get("kid")?.as_str().map(str::to_owned)).collect()
}

fn put_back(fleet: &Fleet, (table, key): &(Table, Vec<u8>), value: Vec<u8>) {
    let put = Operation::Put { table: *table, key: Key::new(key.clone()).unwrap(), value: Bytes::new(value).unwrap() };
    let answers = Redb::open(&fleet.enclave.store()).unwrap().commit_group(&[Transaction::new(vec![put]).unwrap()]);
    assert_eq!(answers, [StoreReply::Committed]);
}

fn recover(fleet: &Fleet, key: &str) -> Ended {
    let out = fleet.directory().join("enclave/recovered.toml");
    enclave_command(fleet, &["recover", "--pcrs", "0,4,7", "--reference-out", out.to_str().unwrap()], key)
}

fn renewed(operator: &Operator) {
    eventually("a store that is encrypted anew", || (of_renewal(&operator.events()) > 0).then_some(()));
}

fn of_renewal(events: &[Event]) -> u32 {
    events.iter().map(|event| u32::from(matches!(event, Event::StoreRenewed { .. }))).sum()
}

/// The command's exit code for a refusal.
const REFUSED: i32 = 1;
