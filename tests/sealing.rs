//! Does the key-encryption key come out of the TPM only where and when it was meant to, and is the store believed only as
//! it was left?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_attest::reference::{Firmware, ReferenceValues};
use blindferry_attest::tpm::PcrValues;
use blindferry_front::store::redb::{Redb, Transaction};
use blindferry_proto::credential::Kind;
use blindferry_proto::front::{Key, Operation, StoreReply, Table, Value};
use blindferry_proto::identifier::Digest;
use blindferry_proto::key_mix::KeyMix;
use blindferry_proto::operator::{Approvee, OperatorReply, OperatorRequest};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_proto::setup::{InitOrder, RecoverOrder, SetupReply, VERSION};
use blindferry_tests::account::ENCLAVE;
use blindferry_tests::fleet::{ALLOW_ALL, Fleet, HOST, Plan, SetUp, http_get};
use blindferry_tests::operator::settings;
use blindferry_tests::process::{Running, eventually};
use blindferry_tests::program::ours;
use blindferry_tests::taken_front::contents_of;
use blindferry_tests::tpm::{PCRS, Tpm};
use blindferry_tests::worker::released;
use ring::digest::{SHA256, digest};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

const MASTER: &str = "sk-live-of-the-sealing-tests-55d0";

#[test]
fn init_on_what_is_initialised_changes_nothing_and_force_starts_over() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    fleet.enclave.serve();
    fleet.operator().put("api", settings(Kind::Release), MASTER.as_bytes());
    fleet.enclave.stop();

    let before = contents_of(&fleet.enclave.store());
    let refused = fleet.enclave.init(&[], &fleet.init_order(&plan));
    assert_eq!(code(&refused), RefusalCode::Exists);
    assert_eq!((refused.rest.as_str(), contents_of(&fleet.enclave.store())), ("", before));
    let old_key = fleet.enclave.recovery.clone();

    let made = fleet.enclave.init(&["--force"], &fleet.init_order(&plan));
    assert!(made.status.success(), "{}", fleet.enclave.log());
    let Some(SetupReply::Done { vault_reference }) = made.reply else { panic!("{made:?}") };
    fleet.enclave.reference = vault_reference.as_str().to_owned();
    let refused = fleet.enclave.recover(&old_key, &recover_order());
    assert_eq!(code(&refused), RefusalCode::Denied, "the recovery key of the vault that was");
    fleet.enclave.serve();
    let credentials = fleet.operator().ask(OperatorRequest::List { after: None });
    assert_eq!(credentials, Ok(OperatorReply::Credentials(Vec::new())));
}

#[test]
fn pcrs_that_nothing_extended_are_not_sealed_to_unless_insisted() {
    let plan = Plan::default();
    let Some(fleet) = Fleet::set_up(&plan) else { return };
    let order = InitOrder { pcrs: vec![0, 11], ..fleet.init_order(&plan) };
    let refused = fleet.enclave.init(&[], &order);
    assert_eq!(code(&refused), RefusalCode::Malformed);
    assert!(format!("{:?}", refused.reply).contains("[11]"), "{refused:?}");
    assert!(contents_of(&fleet.enclave.store()).is_empty());
    let made = fleet.enclave.init(&[], &InitOrder { insist_unextended: true, ..order });
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn other_software_starts_only_once_approved_and_old_software_no_longer_once_revoked() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    let updated = after_extending(&fleet.enclave.tpm.values(), 4, "an update");

    fleet.enclave.tpm.extend(4, "an update");
    assert_refuses_pcr_4(&mut fleet);

    boot_as_before(&mut fleet);
    fleet.enclave.serve();
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let pcrs = updated.iter().map(|(pcr, value)| (pcr, Digest(*value))).collect();
    assert_eq!(operator.ask(OperatorRequest::ApproveEnclave { pcrs }), Ok(OperatorReply::Done));
    drop(operator);
    fleet.enclave.stop();
    let old_approvals = contents_of(&fleet.enclave.store()).remove(&(Table::Sealed, b"approvals".to_vec())).unwrap();

    fleet.enclave.tpm.extend(4, "an update");
    assert_eq!(fleet.enclave.tpm.values(), updated);
    fleet.enclave.serve();
    // Whoever talks to it must have been told of the new values too.
    assert!(fleet.peer(&fleet.operator_tpm, Role::Operator, "desk").is_err());
    fleet.enclave.reference = knowing(&fleet.enclave.reference, &updated);
    let operator = fleet.operator();
    let Ok(OperatorReply::Credentials(credentials)) = operator.ask(OperatorRequest::List { after: None }) else {
        panic!()
    };
    assert_eq!(credentials.len(), 1);
    assert_eq!(operator.ask(OperatorRequest::RevokeOldApprovals), Ok(OperatorReply::Done));
    drop(operator);
    fleet.enclave.stop();
    fleet.enclave.serve();
    fleet.enclave.stop();

    // The old software, with the approvals as they are and as they were.
    boot_as_before(&mut fleet);
    assert_refuses_pcr_4(&mut fleet);
    let key = Key::new(b"approvals".to_vec()).unwrap();
    change(&fleet.enclave.store(), vec![Operation::Put { table: Table::Sealed, key, value: value(old_approvals) }]);
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("stays sealed"), "{log}");
}

#[test]
fn the_recovery_key_opens_the_store_on_another_tpm_and_nothing_else_does() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    fleet.enclave.serve();
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    operator.approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    drop(operator);
    fleet.enclave.stop();

    // The machine is gone, its disk is not. The same image boots on another.
    fleet.enclave.tpm = Tpm::boot(&fleet.directory().join("another"), ENCLAVE, "enclave image");
    fleet.enclave.configure(&plan);
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("stays sealed"), "{log}");
    let before = contents_of(&fleet.enclave.store());
    let mut mistyped = fleet.enclave.recovery.clone().into_bytes();
    let last = mistyped.last_mut().unwrap();
    *last = if *last == b'2' { b'3' } else { b'2' };
    let refused = fleet.enclave.recover(std::str::from_utf8(&mistyped).unwrap(), &recover_order());
    assert_eq!(code(&refused), RefusalCode::Malformed);
    assert_eq!(contents_of(&fleet.enclave.store()), before);

    let recovered = fleet.enclave.recover(&fleet.enclave.recovery.clone(), &recover_order());
    let Some(SetupReply::Done { vault_reference }) = recovered.reply else { panic!("{}", fleet.enclave.log()) };
    fleet.enclave.reference = vault_reference.as_str().to_owned();
    fleet.host.trust(vault_reference.as_str());
    fleet.enclave.serve();
    fleet.host.serve();
    assert_eq!(released(&fleet, "api"), MASTER);
}

#[test]
fn a_store_that_was_changed_behind_the_vault_is_refused_aloud() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    let store = fleet.enclave.store();
    fleet.enclave.serve();
    let operator = fleet.operator();
    operator.put("a", settings(Kind::Release), MASTER.as_bytes());
    operator.put("b", settings(Kind::Release), MASTER.as_bytes());
    drop(operator);
    fleet.enclave.stop();
    let older = contents_of(&store);
    fleet.enclave.serve();
    fleet.operator().apply_policy(&format!("{ALLOW_ALL}\n@id(\"no\") forbid (principal, action, resource);"));
    fleet.enclave.stop();
    let newer = contents_of(&store);
    let pristine = fs::read(&store).unwrap();

    let of = |table: Table| newer.iter().filter(move |((of, _), _)| *of == table).collect::<Vec<_>>();
    let put = |((table, key), bytes): (&(Table, Vec<u8>), &Vec<u8>)| Operation::Put {
        table: *table,
        key: Key::new(key.clone()).unwrap(),
        value: value(bytes.clone()),
    };
    let delete =
        |(table, key): &(Table, Vec<u8>)| Operation::Delete { table: *table, key: Key::new(key.clone()).unwrap() };
    let masters = of(Table::Masters);
    let (one, other) = (masters[0], masters[1]);
    let mut flipped = one.1.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let replayed = older.iter().filter(|(key, was)| key.0 == Table::Documents && newer[*key] != **was);
    let replayed: Vec<Operation> = replayed.map(put).collect();
    assert!(!replayed.is_empty());
    let cases = [
        ("swapped", vec![put((one.0, other.1)), put((other.0, one.1))]),
        ("changed", vec![put((one.0, &flipped))]),
        ("removed", vec![delete(one.0)]),
        ("added", vec![put((&(Table::Masters, b"another".to_vec()), one.1))]),
        ("put back", replayed),
        ("cut from the audit", vec![delete(of(Table::Audit).last().unwrap().0)]),
        ("taken from the manifest", vec![delete(of(Table::Manifest).last().unwrap().0)]),
    ];
    for (what, operations) in cases {
        fs::write(&store, &pristine).unwrap();
        change(&store, operations);
        let (status, log) = fleet.enclave.fail_to_serve();
        assert!(!status.success() && log.contains("ALARM") && log.contains("tampered"), "{what}: {log}");
        assert!(http_get(fleet.enclave.public, "/readyz").is_none(), "{what}");
    }
    fs::write(&store, &pristine).unwrap();
    fleet.enclave.serve();
}

#[test]
fn damage_to_any_stretch_of_the_stores_file_is_never_taken_for_what_was_written() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    let store = fleet.enclave.store();
    let earlier = fs::read(&store).unwrap();
    fleet.enclave.serve();
    fleet.operator().put("api", settings(Kind::Release), MASTER.as_bytes());
    fleet.enclave.stop();
    let good = fs::read(&store).unwrap();
    let credentials = |fleet: &Fleet| match fleet.operator().ask(OperatorRequest::List { after: None }) {
        Ok(OperatorReply::Credentials(list)) => list.len(),
        other => panic!("{other:?}"),
    };

    let mut refused = 0;
    let length = good.len() / STRETCHES;
    for stretch in 0..STRETCHES {
        let mut bytes = good.clone();
        bytes[stretch * length..(stretch + 1) * length].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&store, bytes).unwrap();
        fleet.enclave.start();
        let is_up = eventually("readiness or an end", || {
            let ended = fleet.enclave.front().ended().map(|_| false);
            ended.or_else(|| {
                http_get(fleet.enclave.public, "/readyz").filter(|(status, _)| *status == 200).map(|_| true)
            })
        });
        if is_up {
            // Then nothing is kept there.
            assert_eq!(credentials(&fleet), 1);
            fleet.enclave.stop();
        } else {
            fleet.enclave.wait();
            refused += 1;
        }
    }
    assert!(refused > 0, "{refused} of {STRETCHES} stretches are missed");

    // What no vault can see at its start, without a counter for it: a whole store of earlier. See docs/threats.md.
    fs::write(&store, earlier).unwrap();
    fleet.enclave.serve();
    assert_eq!(credentials(&fleet), 0);
}

#[test]
fn init_killed_at_any_moment_can_be_begun_again_or_is_done() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    let began = Instant::now();
    fleet.init(&plan);
    let whole = began.elapsed();
    let order = serde_json::to_vec(&fleet.init_order(&plan)).unwrap();
    let (mut again, mut done) = (0, 0);
    for moment in 1..=MOMENTS {
        fs::remove_file(fleet.enclave.store()).unwrap();
        kill_init_after(&fleet, &order, whole * moment / (MOMENTS - 1));
        let second = fleet.enclave.init(&[], &fleet.init_order(&plan));
        if second.status.success() {
            again += 1;
        } else {
            assert_eq!(code(&second), RefusalCode::Exists, "{}", fleet.enclave.log());
            done += 1;
        }
        // Whichever it was, there is a vault now, and it is whole.
        fleet.enclave.serve();
        fleet.enclave.stop();
    }
    println!("{again} were begun again, {done} were done");
    assert!(again > 0, "the moments are not all after the end");
}

/// Starts `init` and kills the front, and so the vault, a while later.
fn kill_init_after(fleet: &Fleet, order: &[u8], delay: Duration) {
    let directory = fleet.enclave.store().parent().unwrap().to_owned();
    let mut command = ENCLAVE.command(&ours("blindferry-enclave"));
    command.args(["init", "--config"]).arg(directory.join("enclave.toml"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).env_clear();
    let mut running = Running::start(command, &directory.join("killed.log"));
    std::io::Write::write_all(&mut running.child().stdin.take().unwrap(), order).unwrap();
    sleep(delay);
    running.kill();
}

fn assert_refuses_pcr_4(fleet: &mut Fleet) {
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("stays sealed"), "{log}");
    assert!(log.contains("PCR 4"), "{log}");
}

/// Power off and on, and the first image again.
fn boot_as_before(fleet: &mut Fleet) {
    fleet.enclave.tpm.reboot();
    fleet.enclave.tpm.measure("enclave image");
    fleet.enclave.configure(&Plan::default());
}

/// What TPM2_PCR_Extend makes of these values.
fn after_extending(values: &PcrValues, pcr: u8, what: &str) -> PcrValues {
    let extended = |old: &[u8; 32]| {
        let measured = digest(&SHA256, what.as_bytes());
        <[u8; 32]>::try_from(digest(&SHA256, &[old, measured.as_ref()].concat()).as_ref()).unwrap()
    };
    let list: Vec<(u8, [u8; 32])> =
        values.iter().map(|(index, value)| (index, if index == pcr { extended(value) } else { *value })).collect();
    PcrValues::new(values.selection(), &list).unwrap()
}

/// A vault's reference with other PCR values.
fn knowing(reference: &str, values: &PcrValues) -> String {
    let keys: Vec<&str> =
        reference.lines().filter(|line| line.starts_with("ak = ") || line.starts_with("audit_key = ")).collect();
    let values = ReferenceValues::capture(Role::Vault, "updated", Firmware::Any, values).unwrap().to_toml();
    format!("{}\n{values}", keys.join("\n"))
}

fn recover_order() -> RecoverOrder {
    RecoverOrder {
        version: VERSION,
        pcrs: PCRS.to_vec(),
        insist_unextended: false,
        mix: KeyMix::default(),
        vault_reference: None,
    }
}

fn code(set_up: &SetUp) -> RefusalCode {
    assert!(!set_up.status.success(), "{set_up:?}");
    match &set_up.reply {
        Some(SetupReply::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// Changes the store as its owner could.
fn change(store: &Path, operations: Vec<Operation>) {
    let answers = Redb::open(store).unwrap().commit_group(&[Transaction::new(operations).unwrap()]);
    assert_eq!(answers, [StoreReply::Committed]);
}

fn value(bytes: Vec<u8>) -> Value {
    Value::new(bytes).unwrap()
}

/// Into how many parts the file is cut.
const STRETCHES: usize = 12;
/// At how many moments `init` is killed.
const MOMENTS: u32 = 8;
