//! Is each peer that is not what it says, or not where it should be, refused by the running vault, and is it said so?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::Machine;
use blindferry_proto::identifier::{RequestId, WorkerKey};
use blindferry_proto::operator::{Approvee, OperatorReply, OperatorRequest, Standing};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{
    Answer, Ask, BrokerRequest, Granted, LeaseEnd, ProcessFacts, Redeem, Request, WorkerConstraint,
};
use blindferry_session::client::ConnectError;
use blindferry_tests::account::BROKER;
use blindferry_tests::fleet::{Fleet, HOST, Plan};
use blindferry_tests::oauth::{OauthServer, Standing as Token};
use blindferry_tests::operator::{Operator, oauth_client, settings};
use blindferry_tests::peer::Peer;
use blindferry_tests::process::eventually;
use blindferry_tests::tpm::Tpm;
use blindferry_tests::worker::{ScriptedWorker, ask_for};

#[test]
fn an_unknown_machine_waits_until_an_operator_approves_it() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let newcomer = host(&fleet, "newcomer", "host image");
    assert_eq!(refused(fleet.peer(&newcomer, Role::Broker, "worker-2")).code, RefusalCode::HostPending);
    let waiting: Vec<_> = operator.hosts().into_iter().filter(|host| host.standing == Standing::Waiting).collect();
    assert_eq!((waiting.len(), waiting.first().and_then(|host| host.machine)), (1, Some(Machine::Ek(newcomer.ek()))));

    // As an operator it is unknown as well, however well it is known as a broker.
    operator.approve("worker-2", Approvee::Waiting);
    assert!(refused(fleet.peer(&newcomer, Role::Operator, "worker-2")).code != RefusalCode::Unknown);
    let session = fleet.peer(&newcomer, Role::Broker, "worker-2").unwrap();
    assert!(
        matches!(session.ask_as_broker(BrokerRequest::Ask(ask())), Err(refusal) if refusal.code == RefusalCode::Unknown)
    );
    let enrolled = operator.events().into_iter().any(|event| {
        matches!(event, Event::Enrolled { host, machine }
                if host.as_str() == "worker-2" && machine == Machine::Ek(newcomer.ek()))
    });
    assert!(enrolled);
}

#[test]
fn another_tpm_under_a_known_name_is_an_alarm_and_gets_nothing() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    fleet.host.stop();
    let impostor = host(&fleet, "impostor", "host image");
    let refusal = refused(fleet.peer(&impostor, Role::Broker, HOST));
    assert_eq!(refusal, Refusal::from(RefusalCode::NotAttested), "the peer learns no more");
    let alarm = operator.events().into_iter().any(|event| {
        matches!(event, Event::Alarm(Alarm::IdentityChanged { host, claimed: Some(claimed) })
            if host.as_str() == HOST && claimed == Machine::Ek(impostor.ek()))
    });
    assert!(alarm, "{:?}", operator.events().last());
    // The right one still comes in.
    fleet.host.serve();
}

#[test]
fn software_that_is_not_in_the_reference_values_is_refused_and_the_audit_says_which_pcr() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let other = host(&fleet, "other", "an image of somebody else");
    operator.approve("worker-2", Approvee::Ek(other.ek()));
    let refusal = refused(fleet.peer(&other, Role::Broker, "worker-2"));
    assert_eq!(refusal, Refusal::from(RefusalCode::NotAttested), "the peer learns no more");
    let reasons = operator.events().into_iter().filter_map(|event| match event {
        Event::NotAttested { host, code, detail, .. } if host.as_str() == "worker-2" => Some((code, detail)),
        _ => None,
    });
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(
        reasons.iter().all(|(code, detail)| code.as_str().contains("pcr") && detail.as_str().contains("PCR 0")),
        "{reasons:?}"
    );
}

#[test]
fn a_host_that_changes_loses_its_session_and_its_leases_at_the_next_look() {
    let plan = Plan { reattest_every: Some(2), ..Plan::default() };
    let Some(fleet) = Fleet::start_with(&plan) else { return };
    let operator = fleet.operator();
    let secret = "a-client-secret-for-the-image-that-was-approved";
    let server = OauthServer::start(secret);
    operator.put("api", settings(oauth_client(server.address)), secret.as_bytes());
    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "api").unwrap(), fleet.enclave.public);
    assert!(worker.says()["lease"].is_string());
    eventually("a second look", || {
        operator.events().iter().any(|event| matches!(event, Event::Reattested { .. })).then_some(())
    });
    assert_eq!(operator.status().leases, 1);

    fleet.host.tpm.extend(4, "something that nobody approved");
    let ended = |event: &Event| matches!(event, Event::LeaseEnded { why: LeaseEnd::HostRefused, .. });
    eventually("the end of its lease", || operator.events().iter().any(ended).then_some(()));
    let events = operator.events();
    let refused = |event: &Event| matches!(event, Event::NotAttested { host, .. } if host.as_str() == HOST);
    assert!(events.iter().any(refused));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::SessionEnded { why, .. } if why.as_str() == "evidence-refused"))
    );
    assert_eq!(operator.status().leases, 0);
    eventually("revocation", || server.tokens().values().all(|token| *token == Token::Revoked).then_some(()));
    assert_eq!(server.tokens().len(), 1);
    // And there is no way back in.
    eventually("the broker's refusal", || fleet.host.log().contains("does not accept this host").then_some(()));
    assert_eq!(ask_for(&fleet, "api").unwrap_err().code, RefusalCode::NotReady);
}

#[test]
fn a_grant_that_is_carried_to_another_host_buys_nothing_there_and_is_an_alarm() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"for one host");
    fleet.host.stop();
    let second = host(&fleet, "second", "host image");
    operator.approve("worker-2", Approvee::Ek(second.ek()));
    let here = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    let there = fleet.peer(&second, Role::Broker, "worker-2").unwrap();
    let granted = grant(&here);
    assert_eq!(there.ask_as_broker(redeem(&granted, 1)), Err(Refusal::from(RefusalCode::GrantForeign)));
    let astray = |event: &Event| matches!(event, Event::Alarm(Alarm::GrantAstray { grant, host }) if *grant == granted.id && host.as_str() == "worker-2");
    assert!(operator.events().iter().any(astray));
    assert!(matches!(here.ask_as_broker(redeem(&granted, 2)), Ok(Answer::Parcelled(_))), "where it belongs it is good");

    // What is no grant, or was changed, is foreign too.
    let mut changed = grant(&here);
    let mut bytes = changed.grant.clone().into_vec();
    *bytes.last_mut().unwrap() ^= 1;
    changed.grant = Bytes::new(bytes).unwrap();
    assert_eq!(here.ask_as_broker(redeem(&changed, 3)), Err(Refusal::from(RefusalCode::GrantForeign)));
}

#[test]
fn a_grant_of_before_a_restart_of_the_vault_is_worthless() {
    let Some(mut fleet) = Fleet::start() else { return };
    fleet.operator().put("api", settings(Kind::Release), b"of the running vault");
    fleet.host.stop();
    let before = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    let granted = grant(&before);
    let replica = before.welcome.replica;
    fleet.enclave.stop();
    drop(before);
    fleet.enclave.serve();
    let after = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    assert_ne!(after.welcome.replica, replica);
    assert_eq!(after.ask_as_broker(redeem(&granted, 1)), Err(Refusal::from(RefusalCode::GrantForeign)));
}

#[test]
fn each_role_may_ask_what_is_its_own_and_no_more() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"for brokers");
    fleet.host.stop();
    let broker = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    let status = Request::Operator(Box::new(OperatorRequest::Status));
    let codes = [
        broker.ask(status).unwrap_err().code,
        operator.0.ask_as_broker(BrokerRequest::Ask(ask())).unwrap_err().code,
        // A broker reports what it sees; that a host is refused is not for it to say.
        broker
            .ask_as_broker(BrokerRequest::End {
                lease: blindferry_proto::identifier::LeaseId([1; 16]),
                why: LeaseEnd::HostRefused,
            })
            .unwrap_err()
            .code,
    ];
    assert_eq!(codes, [RefusalCode::Malformed; 3]);
    // An enrolled broker is no operator, whatever it calls itself.
    assert!(fleet.peer(&fleet.host.tpm, Role::Operator, HOST).is_err());
    assert!(fleet.peer(&fleet.host.tpm, Role::Operator, "desk").is_err());
    let itself = OperatorRequest::HostRemove { host: "desk".parse().unwrap() };
    assert_eq!(operator.ask(itself).unwrap_err().code, RefusalCode::Denied);
}

#[test]
fn a_host_that_was_removed_loses_its_session_and_its_leases_at_once() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"while it is wanted");
    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "api").unwrap(), fleet.enclave.public);
    assert!(worker.says()["lease"].is_string());
    let remove = OperatorRequest::HostRemove { host: HOST.parse().unwrap() };
    assert_eq!(operator.ask(remove), Ok(OperatorReply::Done));
    assert_eq!(operator.status().leases, 0);
    assert!(operator.events().iter().any(|event| matches!(event, Event::LeaseEnded { why: LeaseEnd::Removed, .. })));
    eventually("the broker to wait for approval", || fleet.host.log().contains("waits for approval").then_some(()));
    wait_until_waiting(&operator);
}

#[test]
fn a_vault_that_is_not_the_one_of_the_reference_is_told_nothing() {
    let Some(fleet) = Fleet::start() else { return };
    let lines = fleet.enclave.reference.lines();
    // Each value of a PCR is a line of its own.
    let other = format!("    \"{}\",", "11".repeat(32));
    let changed: Vec<&str> = lines.map(|line| if line.starts_with("    \"") { &other } else { line }).collect();
    let wrong_software = changed.join("\n");
    assert!(wrong_software.contains(&other));
    let refused =
        Peer::connect(&fleet.host.tpm, Role::Broker, HOST, &wrong_software, fleet.enclave.listen).unwrap_err();
    assert!(matches!(refused, ConnectError::VaultRefused { .. }), "{refused:?}");
    let events = fleet.operator().events();
    assert!(!events.iter().any(|event| matches!(event, Event::NotAttested { .. })), "it did not prove itself to it");
}

fn wait_until_waiting(operator: &Operator) {
    eventually("the host among those that wait", || {
        operator
            .hosts()
            .iter()
            .any(|host| host.name.as_str() == HOST && host.standing == Standing::Waiting)
            .then_some(())
    });
}

/// Another worker host's machine.
fn host(fleet: &Fleet, directory: &str, image: &str) -> Tpm {
    Tpm::boot(&fleet.directory().join(directory), BROKER, image)
}

fn refused(connected: Result<Peer, ConnectError>) -> Refusal {
    match connected {
        Err(ConnectError::Refused { refusal }) => refusal,
        other => panic!("not refused by the vault: {other:?}"),
    }
}

fn ask() -> Ask {
    let worker = WorkerConstraint::default();
    Ask { credential: "api".parse().unwrap(), audience: None, worker, parent: process(), wait: None }
}

fn grant(broker: &Peer) -> Granted {
    match broker.ask_as_broker(BrokerRequest::Ask(ask())) {
        Ok(Answer::Granted(granted)) => granted,
        other => panic!("no grant: {other:?}"),
    }
}

fn redeem(granted: &Granted, number: u8) -> BrokerRequest {
    let grant = granted.grant.clone();
    let (request, worker_key) = (RequestId([number; 16]), WorkerKey([number.wrapping_add(8); 32]));
    BrokerRequest::Redeem(Redeem { grant, request, worker_key, worker: process(), inherited: Vec::new() })
}

fn process() -> ProcessFacts {
    ProcessFacts { uid: 1000, gid: 1000, pid: 1, executable: None, protection: None }
}
