//! Is a credential whose policy demands a person's approval released once for each yes, to whom the person was shown, and
//! otherwise never?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_parent::{Ask as ParentAsk, GrantHandle, Parent, ParentError};
use blindferry_proto::audit::{Body, Event};
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::{AskId, Digest, RequestId, WorkerKey};
use blindferry_proto::operator::{Approvee, OperatorReply, OperatorRequest};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Ask, BrokerRequest, Granted, ProcessFacts, Redeem, WorkerConstraint};
use blindferry_proto::waiting::{AskEnd, Decision, WaitingAsk, Words};
use blindferry_tests::account::USER;
use blindferry_tests::command::Desk;
use blindferry_tests::fleet::{Fleet, HOST, OPERATOR, Plan, http_get};
use blindferry_tests::operator::{Operator, settings};
use blindferry_tests::peer::Peer;
use blindferry_tests::process::{eventually, send};
use blindferry_tests::waiting::{Run, hash, wait};
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use blindferry_vault::pending::ASKS_OF_USER;
use rustix::process::Signal;
use serde_json::json;

/// Of `prod` each release has to be approved; everything else is for everybody.
const BY_HAND: &str = "@id(\"everybody\") permit (principal, action, resource);\n\
    @id(\"by-hand\") @approval(\"required\") permit (principal, action, resource == Blindferry::Credential::\"prod\");";
const MASTER: &str = "what a person has to approve";
/// How `blindferry` ends when no person approved.
const NOT_APPROVED: i32 = 8;

#[test]
fn a_person_is_shown_who_asks_for_what_and_one_release_comes_of_a_yes() {
    let Some(fleet) = fleet(BY_HAND, "") else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    assert_eq!(desk.says(&["approve"]), json!({"asks": []}));
    let mut run = Run::start(&fleet, "prod", &["--reason", "rollback of 4711"]);
    let ask = run.waits();
    assert_eq!(desk.says(&["status"])["asks_waiting"], 1);
    eventually("the metric", || {
        let (_, metrics) = http_get(fleet.enclave.public, "/metrics")?;
        metrics.contains("blindferry_asks_waiting 1\n").then_some(())
    });
    let found = desk.says(&["approve", "show", &ask]);
    assert_eq!(desk.says(&["approve", "list"])["asks"], json!([found]));
    assert_eq!(found["credential"], "prod");
    assert_eq!((&found["host"]["name"], &found["parent"]["uid"]), (&json!(HOST), &json!(USER.uid())));
    assert_eq!(found["words"], json!({"program": "sh", "reason": "rollback of 4711"}));
    assert_eq!(found["demanded_by"], json!(["by-hand"]));

    // What was shown is what is approved: to another hash nobody says yes, here or there.
    let other = "00".repeat(32);
    let refused = desk.run(&["approve", &ask, "--yes", "--shown", &other]);
    assert!(refused.code == 1 && refused.complained.contains("nothing was decided"), "{}", refused.complained);
    let swapped = decide(&operator, ask.parse().unwrap(), Digest([0; 32]), Decision::Approve);
    assert_eq!(swapped.unwrap_err().code, RefusalCode::ApprovalMismatch);
    assert_eq!(desk.run(&["approve", &ask]).code, 2, "nobody is there to confirm");
    assert_eq!(desk.says(&["status"])["asks_waiting"], 1);

    let shown = found["shown"].as_str().unwrap();
    assert_eq!(desk.says(&["approve", &ask, "--yes", "--shown", shown])["approved"], true);
    assert_eq!(run.ends(), (0, MASTER.to_owned()));
    let again = desk.run(&["approve", &ask, "--yes"]);
    assert!(again.code == 1 && again.complained.contains("no ask"), "{}", again.complained);

    let audit = operator.audit();
    let [held, decided, granted, redeemed] = [
        place(&audit, |event| {
            matches!(event, Event::AskHeld { ask: held, words, host, .. }
            if held.to_string() == ask && host.as_str() == HOST && words.reason == Some(Text::cut("rollback of 4711")))
        }),
        // Both identities, in one record that the vault signed.
        place(&audit, |event| {
            matches!(event, Event::AskDecided { ask: decided, approved: true, by, host, parent, shown: hash, .. }
            if decided.to_string() == ask && by.as_str() == OPERATOR && host.as_str() == HOST && parent.uid == USER.uid()
                && hash.to_string() == shown)
        }),
        place(
            &audit,
            |event| matches!(event, Event::Granted { approval: Some(spent), .. } if spent.to_string() == ask),
        ),
        place(&audit, |event| matches!(event, Event::Redeemed { .. })),
    ];
    assert!(held < decided && decided < granted && granted < redeemed, "{audit:?}");

    // The next one waits anew.
    let mut next = Run::start(&fleet, "prod", &[]);
    let next_ask = next.waits();
    assert_ne!(next_ask, ask);
    desk.says(&["approve", "deny", &next_ask, "--reason", "once is enough"]);
    let (code, _) = next.ends();
    assert_eq!(code, NOT_APPROVED);
    let complaint = next.complaint();
    assert!(complaint.contains("approval-denied") && complaint.contains("desk said no: once is enough"), "{complaint}");
}

#[test]
fn who_does_not_wait_is_refused_who_leaves_withdraws_and_nobody_else_is_held_up() {
    let Some(fleet) = fleet(BY_HAND, "") else { return };
    let operator = fleet.operator();
    operator.put("other", settings(Kind::Release), b"for everybody");
    let mut refused = Run::start(&fleet, "prod", &["--no-wait"]);
    assert_eq!(refused.ends().0, NOT_APPROVED);
    assert!(refused.complaint().contains("approval-required"), "{}", refused.complaint());
    assert_eq!(ask_for(&fleet, "prod").unwrap_err().code, RefusalCode::ApprovalRequired);

    let mut left = Run::start(&fleet, "prod", &[]);
    let ask: AskId = left.waits().parse().unwrap();
    assert!(ask_for(&fleet, "other").is_ok(), "an ask that waits holds up the others");
    send(left.child.id(), Signal::INT);
    left.child.wait().unwrap();
    let withdrawn =
        |event: &Event| matches!(event, Event::AskEnded { ask: ended, why: AskEnd::Withdrawn, .. } if *ended == ask);
    eventually("the withdrawal", || operator.events().iter().any(withdrawn).then_some(()));
    assert!(waiting(&operator).is_empty());

    let waiters: Vec<_> = (0..ASKS_OF_USER).map(|_| wait(&fleet, "prod")).collect();
    let full = Parent::connect(&fleet.host.parents()).unwrap().ask_and_wait(&prod(), &Words::default(), |_| ());
    assert_eq!(code(full), RefusalCode::ApprovalQueueFull);
    // Of many that wait, one yes is for one.
    let [first, ..] = waiters.as_slice() else { panic!() };
    let approved = first.0.ask;
    approve(&operator, approved).unwrap();
    for (waits, waiter) in waiters {
        if waits.ask != approved {
            let shown = shown(&operator, waits.ask);
            decide(&operator, waits.ask, hash(&shown), Decision::Deny { reason: None }).unwrap();
            assert_eq!(code(waiter.join().unwrap()), RefusalCode::ApprovalDenied);
        } else {
            let grant = waiter.join().unwrap().unwrap().into_descriptor();
            let mut worker = ScriptedWorker::start(&fleet, grant, fleet.enclave.public);
            assert!(worker.says()["lease"].is_string());
        }
    }
    let redeemed = operator.events().into_iter().filter(|event| matches!(event, Event::Redeemed { .. })).count();
    assert_eq!(redeemed, 1);
}

#[test]
fn nobody_says_anything_and_the_ask_ends_by_itself() {
    let Some(fleet) = fleet(BY_HAND, "approval_wait = 2\n") else { return };
    let operator = fleet.operator();
    let (waits, waiter) = wait(&fleet, "prod");
    assert!((1..=2).contains(&waits.seconds));
    let before = shown(&operator, waits.ask);
    assert_eq!(code(waiter.join().unwrap()), RefusalCode::ApprovalTimedOut);
    let late = decide(&operator, waits.ask, hash(&before), Decision::Approve);
    assert!(late.is_err(), "approved after its time");
    let timed_out =
        |event: &Event| matches!(event, Event::AskEnded { ask, why: AskEnd::TimedOut, .. } if *ask == waits.ask);
    assert_eq!(operator.events().into_iter().filter(timed_out).count(), 1);
    assert_eq!(operator.status().asks_waiting, 0);
}

#[test]
fn an_ask_ends_with_its_broker_and_with_its_vault() {
    let Some(mut fleet) = fleet(BY_HAND, "") else { return };
    let operator = fleet.operator();
    for approved in [true, false] {
        let (waits, waiter) = wait(&fleet, "prod");
        if approved {
            // It is approved, and its broker never comes for the grant.
            fleet.host.broker().signal(Signal::STOP);
            approve(&operator, waits.ask).unwrap();
        }
        fleet.host.kill();
        assert!(matches!(waiter.join().unwrap(), Err(ParentError::Lost { .. })));
        let over =
            |event: &Event| matches!(event, Event::AskEnded { ask, why: AskEnd::SessionOver, .. } if *ask == waits.ask);
        eventually("the end of its ask", || operator.events().iter().any(over).then_some(()));
        assert!(waiting(&operator).is_empty());
        fleet.host.serve();
    }
    assert!(!operator.events().iter().any(|event| matches!(event, Event::Granted { .. })), "nobody came for it");

    let (_, waiter) = wait(&fleet, "prod");
    drop(operator);
    fleet.enclave.stop();
    assert_eq!(code(waiter.join().unwrap()), RefusalCode::NotReady);
    let sessions = fleet.host.sessions();
    fleet.enclave.serve();
    fleet.host.wait_for_session_after(sessions);
    assert!(waiting(&fleet.operator()).is_empty(), "a vault that was started again knows of no ask");
}

#[test]
fn an_approval_is_spent_by_the_first_that_comes_and_opens_nothing_that_policy_has_shut_since() {
    let Some(mut fleet) = fleet(BY_HAND, "") else { return };
    let operator = fleet.operator();
    operator.put("other", settings(Kind::Release), b"for everybody");
    // The broker's place is taken by the test, so that it can say what no broker of ours says.
    fleet.host.stop();
    let broker = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();

    let id = held(&broker);
    assert!(matches!(collect(&broker, id), Ok(Answer::Waiting(_))), "it waits until somebody decides");
    approve(&operator, id).unwrap();
    assert_eq!(approve(&operator, id).unwrap_err().code, RefusalCode::Unknown, "shown no more once it is decided");
    let Ok(Answer::Granted(granted)) = collect(&broker, id) else { panic!("no grant") };
    for _ in 0..3 {
        assert_eq!(collect(&broker, id).unwrap_err().code, RefusalCode::Unknown, "one approval, one grant");
    }
    assert!(matches!(redeem(&broker, &granted), Ok(Answer::Parcelled(_))));
    assert_eq!(redeem(&broker, &granted).unwrap_err().code, RefusalCode::GrantSpent);

    // Forbidden while it waits: a yes does not help.
    let id = held(&broker);
    operator.apply_policy(&format!("{BY_HAND}\n@id(\"freeze\") forbid (principal, action, resource);"));
    approve(&operator, id).unwrap();
    let refused = collect(&broker, id).unwrap_err();
    assert!(refused.code == RefusalCode::Denied && refused.detail.as_str().contains("freeze"), "{refused}");
    operator.apply_policy(BY_HAND);
    assert_eq!(collect(&broker, id).unwrap_err().code, RefusalCode::Unknown, "and is spent");

    // Another master under the name, while it waits: that is not what was shown.
    let id = held(&broker);
    assert_eq!(operator.ask(OperatorRequest::Remove { name: "prod".parse().unwrap() }), Ok(OperatorReply::Done));
    operator.put("prod", settings(Kind::Release), b"another master");
    approve(&operator, id).unwrap();
    let refused = collect(&broker, id).unwrap_err().code;
    assert!(matches!(refused, RefusalCode::ApprovalMismatch), "{refused}");

    // Demanded only after the grant was made: it lacks the approval, and buys nothing.
    let Ok(Answer::Granted(granted)) = broker.ask_as_broker(BrokerRequest::Ask(asked("other"))) else { panic!() };
    operator.apply_policy("@approval(\"required\") permit (principal, action, resource);");
    assert_eq!(redeem(&broker, &granted).unwrap_err().code, RefusalCode::ApprovalRequired);

    // Another session of the same host is another asker.
    let id = held(&broker);
    approve(&operator, id).unwrap();
    let next = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    assert_eq!(collect(&next, id).unwrap_err().code, RefusalCode::Unknown);
}

#[test]
fn where_policy_wants_another_machine_the_one_that_asks_cannot_approve() {
    let strict = BY_HAND.replace("required", "other-machine");
    let Some(mut fleet) = fleet(&strict, "") else { return };
    let operator = fleet.operator();
    // The hardware of the worker host is an operator's machine as well, under another name.
    let own = fleet.operator_tpm.reference(Role::Operator, "desk");
    let host = fleet.host.tpm.reference(Role::Operator, "a desk on the worker host");
    let sets = &host[host.find("[[tpm]]").unwrap()..];
    operator.apply_reference(&format!("{own}\n{sets}"));
    operator.approve_as(Role::Operator, "desk-2", Approvee::Ek(fleet.host.tpm.ek()));
    fleet.host.stop();
    let broker = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    let same = Operator(fleet.peer(&fleet.host.tpm, Role::Operator, "desk-2").unwrap());

    let id = held(&broker);
    let refused = approve(&same, id).unwrap_err();
    assert!(refused.code == RefusalCode::Denied && refused.detail.as_str().contains("another machine"), "{refused}");
    assert!(matches!(collect(&broker, id), Ok(Answer::Waiting(_))));
    approve(&operator, id).unwrap();
    let Ok(Answer::Granted(granted)) = collect(&broker, id) else { panic!("no grant") };
    assert!(matches!(redeem(&broker, &granted), Ok(Answer::Parcelled(_))));
    // Where policy does not mind, the same machine may.
    operator.apply_policy(BY_HAND);
    let id = held(&broker);
    approve(&same, id).unwrap();
    assert!(matches!(collect(&broker, id), Ok(Answer::Granted(_))));
}

/// A fleet with `prod`, this policy, and more lines in its enclave's configuration.
fn fleet(policy: &str, more: &str) -> Option<Fleet> {
    let plan = Plan { policy, ..Plan::default() };
    let mut fleet = Fleet::set_up(&plan)?;
    fleet.enclave.configure_with(&plan, more);
    fleet.init(&plan);
    fleet.enclave.serve();
    let operator = fleet.operator();
    operator.approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    operator.put("prod", settings(Kind::Release), MASTER.as_bytes());
    fleet.host.serve();
    Some(fleet)
}

fn prod() -> ParentAsk {
    ParentAsk::for_credential("prod".parse().unwrap())
}

fn code(refused: Result<GrantHandle, ParentError>) -> RefusalCode {
    match refused {
        Err(ParentError::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// What waits.
fn waiting(operator: &Operator) -> Vec<WaitingAsk> {
    match operator.ask(OperatorRequest::Asks { after: None }) {
        Ok(OperatorReply::Asks(asks)) => asks,
        other => panic!("no asks: {other:?}"),
    }
}

fn shown(operator: &Operator, ask: AskId) -> WaitingAsk {
    waiting(operator).into_iter().find(|shown| shown.ask == ask).unwrap()
}

fn decide(operator: &Operator, ask: AskId, shown: Digest, decision: Decision) -> Result<OperatorReply, Refusal> {
    operator.ask(OperatorRequest::Decide { ask, shown, decision })
}

/// Approves what waits under this name.
fn approve(operator: &Operator, ask: AskId) -> Result<OperatorReply, Refusal> {
    let Some(shown) = waiting(operator).into_iter().find(|shown| shown.ask == ask) else {
        return Err(RefusalCode::Unknown.into());
    };
    decide(operator, ask, hash(&shown), Decision::Approve)
}

fn asked(credential: &str) -> Ask {
    let (worker, wait) = (WorkerConstraint::default(), Some(Words::default()));
    Ask { credential: credential.parse().unwrap(), audience: None, worker, parent: process(), wait }
}

fn process() -> ProcessFacts {
    ProcessFacts { uid: 1000, gid: 1000, pid: 1, executable: None, protection: None }
}

/// An ask of `prod` that waits.
fn held(broker: &Peer) -> AskId {
    match broker.ask_as_broker(BrokerRequest::Ask(asked("prod"))) {
        Ok(Answer::Waiting(waiting)) => waiting.ask,
        other => panic!("does not wait: {other:?}"),
    }
}

fn collect(broker: &Peer, ask: AskId) -> Result<Answer, Refusal> {
    broker.ask_as_broker(BrokerRequest::Collect { ask })
}

/// Redeems a grant with a key of its own.
fn redeem(broker: &Peer, granted: &Granted) -> Result<Answer, Refusal> {
    let random = || ring::rand::generate::<[u8; 32]>(&ring::rand::SystemRandom::new()).unwrap().expose();
    let request = RequestId(random()[..16].try_into().unwrap());
    let worker_key = WorkerKey(random());
    broker.ask_as_broker(BrokerRequest::Redeem(Redeem {
        grant: granted.grant.clone(),
        request,
        worker_key,
        worker: process(),
        inherited: Vec::new(),
    }))
}

/// Where in the audit this is, which is there once.
fn place(audit: &[Body], is: impl Fn(&Event) -> bool) -> u64 {
    let found: Vec<u64> = audit.iter().filter(|body| is(&body.event)).map(|body| body.number).collect();
    let [one] = found.as_slice() else { panic!("{found:?} in {audit:#?}") };
    *one
}
