//! Is what is sealed of use on this machine in this state alone, and is there a way through an update and a loss?

use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::Digest;
use blindferry_proto::operator::{Approvee, OperatorReply, OperatorRequest};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_proto::setup::{InitOrder, RecoverOrder, SetupReply, VERSION};
use blindferry_tests::account::ENCLAVE;
use blindferry_tests::fleet::{Fleet, HOST, Plan, SetUp};
use blindferry_tests::operator::settings;
use blindferry_tests::tpm::{PCRS, Tpm};
use std::fs;

#[test]
fn an_update_is_refused_by_pcr_until_it_was_approved_and_what_it_replaced_can_be_withdrawn() {
    let Some(mut fleet) = enclave_of(&Plan::default()) else { return };
    fleet.enclave.serve();
    // What PCR 4 will be under the next image: as after a boot that measures both.
    let digest = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec();
    let values = fleet.enclave.tpm.values();
    let after = values.iter().map(|(pcr, value)| {
        let extended = digest(&[&value[..], &digest(b"update")].concat());
        (pcr, Digest(if pcr == 4 { extended.try_into().unwrap() } else { *value }))
    });
    let after: Vec<(u8, Digest)> = after.collect();

    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"carried over");
    let approve = OperatorRequest::ApproveEnclave { pcrs: after.clone() };
    assert_eq!(operator.ask(approve), Ok(OperatorReply::Done));
    drop(operator);
    fleet.enclave.stop();
    fleet.enclave.tpm.extend(4, "update");
    fleet.enclave.serve();

    // Its evidence has changed with it: whoever knows the old values alone does not talk to it.
    let refused = fleet.peer(&fleet.operator_tpm, Role::Operator, "desk").unwrap_err();
    assert!(refused.to_string().contains("the vault's evidence is refused"), "{refused}");
    fleet.enclave.reference = fleet
        .enclave
        .reference
        .replace(&hex::encode(values.iter().find(|(pcr, _)| *pcr == 4).unwrap().1), &hex::encode(after[1].1.0));
    let operator = fleet.operator();
    assert!(
        matches!(operator.ask(OperatorRequest::List { after: None }), Ok(OperatorReply::Credentials(list)) if list.len() == 1)
    );
    assert_eq!(operator.ask(OperatorRequest::RevokeOldApprovals), Ok(OperatorReply::Done));
    drop(operator);
    fleet.enclave.stop();

    // Back on the old image: approved once, and withdrawn. And on a third one: never approved.
    fleet.enclave.tpm.reboot();
    fleet.enclave.tpm.measure("enclave image");
    fleet.enclave.configure(&Plan::default());
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("PCR 4"), "{log}");
    fleet.enclave.tpm.extend(7, "something else");
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("PCR") && log.contains('7') && log.contains('4'), "{log}");
}

#[test]
fn a_vault_that_exists_is_not_made_again_without_force() {
    let Some(mut fleet) = enclave_of(&Plan::default()) else { return };
    let order = fleet.init_order(&Plan::default());
    let before = fs::read(fleet.enclave.store()).unwrap();
    let again = fleet.enclave.init(&[], &order);
    assert!(!again.status.success());
    let (code, detail) = refusal(&again);
    assert_eq!(code, RefusalCode::Exists);
    assert!(detail.contains("--force") && detail.contains("loses"), "{detail}");
    assert!(again.rest.trim().is_empty(), "no recovery key is shown");
    fleet.enclave.serve();
    fleet.operator().put("api", settings(Kind::Release), b"still there");
    fleet.enclave.stop();
    assert_ne!(before, fs::read(fleet.enclave.store()).unwrap());

    let recovery = fleet.enclave.recovery.clone();
    let forced = fleet.enclave.init(&["--force"], &order);
    assert!(forced.status.success());
    assert_ne!(forced.rest.trim(), recovery);
    fleet.enclave.serve();
    let Some(SetupReply::Done { vault_reference }) = forced.reply else { return assert!(forced.reply.is_some()) };
    vault_reference.as_str().clone_into(&mut fleet.enclave.reference);
    let reply = fleet.operator().ask(OperatorRequest::List { after: None });
    assert_eq!(reply, Ok(OperatorReply::Credentials(Vec::new())));
}

#[test]
fn pcrs_that_nothing_extended_are_not_sealed_to_unless_somebody_insists() {
    let Some(fleet) = Fleet::set_up(&Plan::default()) else { return };
    let order = InitOrder { pcrs: vec![0, 4, 9], ..fleet.init_order(&Plan::default()) };
    let refused = fleet.enclave.init(&[], &order);
    let (code, detail) = refusal(&refused);
    assert_eq!(code, RefusalCode::Malformed);
    assert!(!refused.status.success() && detail.contains("[9]") && detail.contains("--insist-unextended"), "{detail}");
    let insisted = fleet.enclave.init(&[], &InitOrder { insist_unextended: true, ..order });
    assert!(insisted.status.success(), "{}", fleet.enclave.log());
}

#[test]
fn the_recovery_key_and_no_other_brings_the_vault_to_another_tpm() {
    let Some(mut fleet) = enclave_of(&Plan::default()) else { return };
    fleet.enclave.serve();
    fleet.operator().put("api", settings(Kind::Release), b"outlives its TPM");
    fleet.enclave.stop();

    let directory = fleet.directory().join("enclave-2");
    let other = Tpm::boot(&directory, ENCLAVE, "image of another machine");
    fleet.enclave.tpm = other;
    fleet.enclave.configure(&Plan::default());
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success(), "{log}");

    let order = RecoverOrder { version: VERSION, pcrs: PCRS.to_vec(), insist_unextended: false };
    let mut wrong = fleet.enclave.recovery.clone();
    let last = wrong.pop().unwrap();
    wrong.push(if last == 'a' || last == 'A' { 'c' } else { 'a' });
    let refused = fleet.enclave.recover(&wrong, &order);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(matches!(refused.reply, Some(SetupReply::Refused(_))), "{refused:?}");

    let recovered = fleet.enclave.recover(&fleet.enclave.recovery, &order);
    let Some(SetupReply::Done { vault_reference }) = recovered.reply else {
        return assert!(recovered.status.success(), "{recovered:?} {}", fleet.enclave.log());
    };
    vault_reference.as_str().clone_into(&mut fleet.enclave.reference);
    fleet.enclave.serve();
    let operator = fleet.operator();
    assert!(
        matches!(operator.ask(OperatorRequest::List { after: None }), Ok(OperatorReply::Credentials(list)) if list.len() == 1)
    );
    assert!(!operator.audit().is_empty(), "the audit goes on under the same key");
}

#[test]
fn a_store_that_was_tampered_with_is_found_out() {
    let Some(mut fleet) = enclave_of(&Plan::default()) else { return };
    let earlier = fs::read(fleet.enclave.store()).unwrap();
    fleet.enclave.serve();
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"the newer store");
    operator.approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    drop(operator);
    fleet.enclave.stop();
    let good = fs::read(fleet.enclave.store()).unwrap();

    // Every stretch of the file in turn: nothing that was changed is ever taken for what was written.
    let mut refused = 0;
    for stretch in 0..STRETCHES {
        let mut bytes = good.clone();
        let length = bytes.len() / STRETCHES;
        bytes[stretch * length..(stretch + 1) * length].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(fleet.enclave.store(), bytes).unwrap();
        fleet.enclave.start();
        let up = blindferry_tests::process::eventually("either", || {
            let ended = fleet.enclave.front().ended();
            let ready = blindferry_tests::fleet::http_get(fleet.enclave.public, "/readyz");
            ended.map(|_| false).or(ready.is_some_and(|(status, _)| status == 200).then_some(true))
        });
        if up {
            // Then it was a stretch that nothing is kept in.
            let list = fleet.operator().ask(OperatorRequest::List { after: None });
            assert!(matches!(list, Ok(OperatorReply::Credentials(list)) if list.len() == 1));
            fleet.enclave.stop();
        } else {
            fleet.enclave.wait();
            refused += 1;
        }
    }
    println!("{refused} of {STRETCHES} stretches are missed");
    assert!(refused > 0);

    fs::write(fleet.enclave.store(), &good).unwrap();
    fleet.enclave.serve();
    fleet.enclave.stop();
    // A rollback of everything at once, to a state that was good, is what no vault without a counter for it can see at its
    // start; it opens as what it was, and the operators' memory of the audit's head tells.
    fs::write(fleet.enclave.store(), earlier).unwrap();
    fleet.enclave.serve();
    let operator = fleet.operator();
    assert_eq!(operator.ask(OperatorRequest::List { after: None }), Ok(OperatorReply::Credentials(Vec::new())));
}

/// The enclave's side alone, made and not started.
fn enclave_of(plan: &Plan<'_>) -> Option<Fleet> {
    let mut fleet = Fleet::set_up(plan)?;
    fleet.init(plan);
    Some(fleet)
}

fn refusal(set_up: &SetUp) -> (RefusalCode, String) {
    match &set_up.reply {
        Some(SetupReply::Refused(refusal)) => (refusal.code, refusal.detail.as_str().to_owned()),
        other => (RefusalCode::Internal, format!("{other:?}")),
    }
}

const STRETCHES: usize = 12;
