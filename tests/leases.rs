//! Does every right end in its time, whoever still lives: a grant that nobody redeems, a lease that nobody keeps?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::LeaseEnd;
use blindferry_tests::fleet::{Fleet, Plan};
use blindferry_tests::oauth::OauthServer;
use blindferry_tests::operator::{oauth_client, settings};
use blindferry_tests::process::{eventually, lives, send};
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::Duration;

/// Seconds that a grant is good for.
const GRANT_LIFE: u32 = 3;
/// Seconds after which a lease that nobody keeps ends.
const IDLE: u32 = 5;

#[test]
fn a_grant_whose_time_is_over_buys_nothing_by_a_code_of_its_own_and_the_audit_says_so() {
    let plan = Plan { grant_life: Some(GRANT_LIFE), ..Plan::default() };
    let Some(fleet) = Fleet::start_with(&plan) else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"for who comes in time");
    let [spent, late] = [(); 2].map(|()| ask_for(&fleet, "api").unwrap());
    let again = spent.try_clone().unwrap();
    let mut in_time = ScriptedWorker::start(&fleet, spent, fleet.enclave.public);
    assert!(in_time.says()["lease"].is_string());

    sleep(past(GRANT_LIFE));
    // One that was never redeemed, and one whose entry in the ledger of spent grants has gone with its time.
    for grant in [late, again] {
        let answer = ScriptedWorker::start(&fleet, grant, fleet.enclave.public).says();
        assert_eq!(answer["code"], RefusalCode::GrantExpired.as_str(), "{answer}");
    }
    let events = operator.events();
    let redeemed = events.iter().filter(|event| matches!(event, Event::Redeemed { .. })).count();
    let issued: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Granted { grant, .. } => Some(grant.to_string()),
            _ => None,
        })
        .collect();
    let denied: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Denied { credential, code: RefusalCode::GrantExpired, detail, .. } => {
                assert_eq!(credential.as_str(), "api");
                Some(detail.as_str().to_owned())
            }
            _ => None,
        })
        .collect();
    assert_eq!((redeemed, issued.len(), denied.len()), (1, 2, 2), "{events:?}");
    for grant in issued {
        assert!(denied.iter().any(|detail| detail.contains(&grant)), "{grant} is not named in {denied:?}");
    }
    // The lease that came of a grant has a time of its own.
    assert_eq!(operator.status().leases, 1);
    assert!(in_time.tell("renew")["lease"].is_string());
}

#[test]
fn a_lease_that_nobody_keeps_ends_although_its_worker_lives_and_its_token_is_revoked() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let secret = "client-secret-of-the-leases";
    let server = OauthServer::start(secret);
    let short = CredentialSettings { lease_idle: IDLE, ..settings(oauth_client(server.address)) };
    operator.put("minted", short, secret.as_bytes());
    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "minted").unwrap(), fleet.enclave.public);
    let lease = worker.says()["lease"].as_str().unwrap().to_owned();
    sleep(past(IDLE));
    assert_eq!((operator.status().leases, server.good()), (1, 1), "while its broker keeps it, it lives");

    // A broker that is held keeps nothing.
    send(fleet.host.broker().id(), Signal::STOP);
    eventually("the end of the lease", || (operator.status().leases == 0).then_some(()));
    eventually("the end of its token", || (server.good() == 0).then_some(()));
    assert!(lives(worker.running.id()));
    let ends: Vec<_> = operator
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::LeaseEnded { lease, why, revoked } => Some((lease.to_string(), why, revoked)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(lease, LeaseEnd::Idle, Some(true))]);

    // Nothing revives it when the broker is back, and the worker is told.
    send(fleet.host.broker().id(), Signal::CONT);
    let told = worker.tell("wait");
    assert_eq!(told["lease_end"], "idle", "{told}");
    let refused = worker.tell("renew");
    assert!(refused["lease"].is_null(), "{refused}");
    assert_eq!((operator.status().leases, server.good(), server.tokens().len()), (0, 0, 1));
}

/// Past so many seconds, whatever part of one the clock stood at.
fn past(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds) + 1)
}
