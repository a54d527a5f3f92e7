//! Does the vault's key go to its next guest when an operator wants it to, and to nobody else?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::{ChipId, DepositKey};
use blindferry_proto::operator::{Approvee, OperatorReply, OperatorRequest, Standing};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Request};
use blindferry_proto::succession::SuccessorRequest;
use blindferry_tests::guest_fleet::{CHIPS, DESK_IMAGE, GuestFleet};
use blindferry_tests::next_guest::{NEXT_CHIP, NEXT_IMAGE};
use blindferry_tests::operator::settings;
use blindferry_tests::process::eventually;
use blindferry_tests::silicon::{Silicon, reference};

const MASTER: &str = "the master that outlives an image";
/// A name for the next guest.
const NEXT: &str = "next";

#[test]
fn the_next_image_takes_the_key_over_and_serves_the_store_of_the_one_before() {
    let mut fleet = GuestFleet::start();
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    operator.apply_reference(&reference("successor", NEXT_IMAGE));
    operator.approve_as(Role::Successor, NEXT, Approvee::Chip(ChipId([NEXT_CHIP; 64])));
    let mut next = fleet.next_guest();
    let succeeded = fleet.succeed(&next, NEXT, &fleet.enclave.reference);
    assert_eq!((succeeded.code, &succeeded.said["succeeded"]), (0, &true.into()), "{}", succeeded.complained);

    // It is in the audit, the approval is spent, and the vault says that two guests open its store.
    let events = operator.events();
    let at = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let handed = at(|event| matches!(event, Event::HandedOver { host, .. } if host.as_str() == NEXT));
    assert!(handed < at(|event| matches!(event, Event::SuccessorKept { host, .. } if host.as_str() == NEXT)));
    assert!(operator.hosts().iter().all(|host| host.name.as_str() != NEXT || host.standing == Standing::Waiting));
    let overlaps = |operator: &blindferry_tests::operator::Operator| {
        operator.status().warnings.iter().any(|warning| warning.as_str().contains("another guest opens the store"))
    };
    assert!(overlaps(&operator));
    let again = fleet.succeed(&next, NEXT, &fleet.enclave.reference);
    assert!(again.complained.contains("host-pending"), "one approval is one hand-over: {}", again.complained);
    drop(operator);

    // The new guest serves what the old one stored, under the same audit key.
    fleet.enclave.stop();
    next.bring_store_of(&fleet.enclave);
    next.serve();
    next.reference = next.succeeded_reference();
    let mut old = std::mem::replace(&mut fleet.enclave, next);
    assert!(fleet.enclave.reference.contains(&format!("{NEXT_CHIP:02x}").repeat(64)));
    let sessions = fleet.sessions();
    fleet.stop_broker();
    fleet.trust(&fleet.enclave.reference);
    fleet.start_broker();
    fleet.wait_for_session_after(sessions);
    assert_eq!(fleet.released("api"), MASTER);

    // Until it is withdrawn, the old guest opens the store too, and afterwards never again.
    assert!(overlaps(&fleet.operator()));
    fleet.enclave.stop();
    old.bring_store_of(&fleet.enclave);
    old.serve();
    old.stop();
    fleet.enclave.serve();
    assert_eq!(fleet.operator().ask(OperatorRequest::RevokeOldApprovals), Ok(OperatorReply::Done));
    assert!(!overlaps(&fleet.operator()));
    fleet.enclave.stop();
    old.bring_store_of(&fleet.enclave);
    let (status, log) = old.fail_to_serve();
    assert!(!status.success() && log.contains("the measurement is"), "{log}");
    fleet.enclave.serve();
    assert!(!overlaps(&fleet.operator()));
}

#[test]
fn no_guest_gets_the_key_but_the_approved_image_on_the_approved_chip() {
    let fleet = GuestFleet::start();
    let (operator, next) = (fleet.operator(), fleet.next_guest());
    let refused = |code: &str| {
        let ended = fleet.succeed(&next, NEXT, &fleet.enclave.reference);
        assert!(ended.code != 0 && ended.complained.contains(code), "{code}: {}", ended.complained);
    };
    refused("host-pending");
    // Approved, and there is nothing to judge it by.
    operator.approve_as(Role::Successor, NEXT, Approvee::Chip(ChipId([NEXT_CHIP; 64])));
    refused("not-attested");
    // Its image is another than the approved one.
    operator.apply_reference(&reference("successor", "some other image"));
    refused("not-attested");
    assert_eq!(operator.not_attested(NEXT, 2), ["no-reference-values", "snp-measurement"]);
    // Its chip is.
    operator.apply_reference(&reference("successor", NEXT_IMAGE));
    let path = next.silicon();
    let good = Silicon::read(&path);
    Silicon { chip: 0x66, ..good.clone() }.write(&path);
    refused("not-attested");
    eventually("the alarm", || {
        let alarm =
            |event: &Event| matches!(event, Event::Alarm(Alarm::IdentityChanged { host, .. }) if host.as_str() == NEXT);
        operator.events().iter().any(alarm).then_some(())
    });
    // A vault that is not that of the reference is not asked for its key.
    good.write(&path);
    let ended = fleet.succeed(&next, NEXT, &wrong_audit_key(&fleet.enclave.reference));
    assert!(ended.code != 0 && ended.complained.contains("lacks the key of its audit"), "{}", ended.complained);
    assert!(!operator.events().iter().any(|event| matches!(event, Event::HandedOver { .. })));
    // Nothing of all that has spent the approval.
    let ended = fleet.succeed(&next, NEXT, &fleet.enclave.reference);
    assert_eq!(ended.code, 0, "{}", ended.complained);
}

#[test]
fn only_a_successor_is_answered_as_one_and_it_is_answered_nothing_else() {
    let fleet = GuestFleet::start();
    let operator = fleet.operator();
    let [.., desk_chip] = CHIPS;
    let take = || Request::Successor(SuccessorRequest::Take { key: DepositKey([9; 32]) });
    let keep = || Request::Successor(SuccessorRequest::Keep { sealed: Bytes::new(vec![1]).unwrap() });
    for request in [take(), keep()] {
        assert_eq!(operator.0.ask(request).unwrap_err().code, RefusalCode::Malformed);
    }
    operator.apply_reference(&reference("successor", DESK_IMAGE));
    operator.approve_as(Role::Successor, NEXT, Approvee::Chip(ChipId([desk_chip; 64])));
    let successor = fleet.peer(Role::Successor, NEXT, &fleet.enclave.reference).unwrap();
    let status = Request::Operator(Box::new(OperatorRequest::Status));
    assert_eq!(successor.ask(status).unwrap_err().code, RefusalCode::Malformed);
    // It cannot have the store keep something before it had the key, nor take the key twice.
    assert_eq!(successor.ask(keep()).unwrap_err().code, RefusalCode::Malformed);
    assert!(matches!(successor.ask(take()), Ok(Answer::HandedOver(_))));
    assert_eq!(successor.ask(take()).unwrap_err().code, RefusalCode::Denied);
    assert_eq!(successor.ask(keep()), Ok(Answer::Done));
    let handed = |event: &&Event| matches!(event, Event::HandedOver { .. });
    assert_eq!(operator.events().iter().filter(handed).count(), 1);
}

#[test]
fn a_successor_that_took_a_key_which_is_no_longer_in_force_leaves_nothing_of_it_in_the_store() {
    let fleet = GuestFleet::start();
    let operator = fleet.operator();
    let [.., desk_chip] = CHIPS;
    operator.apply_reference(&reference("successor", DESK_IMAGE));
    let rotated = || {
        let prepare = OperatorRequest::PrepareKey { key: operator.0.welcome.deposit_key };
        let Ok(OperatorReply::KeyPrepared { prepared, .. }) = operator.ask(prepare) else { panic!("none prepared") };
        assert_eq!(operator.ask(OperatorRequest::ChangeKey { prepared }), Ok(OperatorReply::Done));
    };
    let withdrawn = || assert_eq!(operator.ask(OperatorRequest::RevokeOldApprovals), Ok(OperatorReply::Done));
    let outdated: [&dyn Fn(); 2] = [&rotated, &withdrawn];
    for outdates in outdated {
        operator.approve_as(Role::Successor, NEXT, Approvee::Chip(ChipId([desk_chip; 64])));
        let successor = fleet.peer(Role::Successor, NEXT, &fleet.enclave.reference).unwrap();
        let take = Request::Successor(SuccessorRequest::Take { key: DepositKey([9; 32]) });
        assert!(matches!(successor.ask(take), Ok(Answer::HandedOver(_))));
        outdates();
        let keep = Request::Successor(SuccessorRequest::Keep { sealed: Bytes::new(vec![1]).unwrap() });
        assert_eq!(successor.ask(keep).unwrap_err().code, RefusalCode::Denied);
    }
    assert!(!operator.events().iter().any(|event| matches!(event, Event::SuccessorKept { .. })));
    assert!(operator.status().warnings.iter().all(|warning| !warning.as_str().contains("another guest")));
}

/// The reference with one digit of the audit key changed.
fn wrong_audit_key(reference: &str) -> String {
    let (before, after) = reference.split_once("audit_key = \"").unwrap();
    let digit = if after.starts_with('0') { '1' } else { '0' };
    format!("{before}audit_key = \"{digit}{}", &after[1..])
}
