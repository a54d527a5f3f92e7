//! Of many that redeem one grant at the same time, is there exactly one winner, every time?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::{GrantId, RequestId, WorkerKey};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Ask, BrokerRequest, ProcessFacts, Redeem, WorkerConstraint};
use blindferry_tests::fleet::{Fleet, HOST};
use blindferry_tests::operator::settings;
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use ring::rand::{SystemRandom, generate};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Keys that race for one grant.
const RACERS: usize = 4;
/// Rounds, unless the time is over before, and the fewest that mean anything.
const ROUNDS: usize = 3000;
const FEWEST: usize = 2000;
const TIME: Duration = Duration::from_secs(80);
/// Rounds under way at once.
const AT_ONCE: usize = 16;

#[test]
fn every_contested_grant_has_one_winner_and_each_loser_is_an_alarm() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"what they race for");
    // The broker's place is taken by the test, so that nothing but the vault decides.
    fleet.host.stop();
    let broker = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    let begun = Instant::now();
    let (mut rounds, mut losers) = (0, BTreeMap::<GrantId, usize>::new());
    while rounds < ROUNDS && begun.elapsed() < TIME {
        let asks = (0..AT_ONCE).map(|_| BrokerRequest::Ask(ask())).collect();
        let grants = broker.ask_all(asks).into_iter().map(|granted| match granted {
            Ok(Answer::Granted(granted)) => granted,
            other => panic!("no grant: {other:?}"),
        });
        let grants: Vec<_> = grants.collect();
        let racing = grants.iter().flat_map(|granted| {
            (0..RACERS).map(|_| {
                BrokerRequest::Redeem(Redeem {
                    grant: granted.grant.clone(),
                    request: RequestId(random()),
                    worker_key: key(),
                    worker: process(),
                    inherited: Vec::new(),
                })
            })
        });
        let answers = broker.ask_all(racing.collect());
        let mut leases = Vec::new();
        for (granted, answers) in grants.iter().zip(answers.chunks(RACERS)) {
            let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
            let [Answer::Parcelled(parcelled)] = winners.as_slice() else { panic!("{answers:?}") };
            leases.push(parcelled.lease);
            for loser in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                assert_eq!(loser, &Refusal::from(RefusalCode::GrantSpent));
            }
            losers.insert(granted.id, RACERS - 1);
            rounds += 1;
        }
        let ends = leases
            .into_iter()
            .map(|lease| BrokerRequest::End { lease, why: blindferry_proto::session::LeaseEnd::Returned });
        assert!(broker.ask_all(ends.collect()).iter().all(Result::is_ok));
    }
    println!("{rounds} rounds of {RACERS} in {:?}", begun.elapsed());
    assert!(rounds >= FEWEST, "{rounds} rounds are too few to mean anything");

    let mut alarms = BTreeMap::<GrantId, usize>::new();
    let mut winners = BTreeSet::<GrantId>::new();
    for event in operator.events() {
        match event {
            Event::Alarm(Alarm::GrantContested { grant, winner, loser, .. }) => {
                assert_ne!(winner, Some(loser));
                *alarms.entry(grant).or_default() += 1;
            }
            Event::Redeemed { grant, .. } => assert!(winners.insert(grant), "a grant bought two tokens"),
            _ => {}
        }
    }
    assert!(alarms == losers, "every loser is an alarm");
    assert!(winners.iter().eq(losers.keys()), "every grant has its winner in the audit, and nothing else was redeemed");
}

#[test]
fn of_many_workers_with_one_grant_one_gets_the_token() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"what they race for");
    for _ in 0..5 {
        let grant = ask_for(&fleet, "api").unwrap();
        let mut workers: Vec<ScriptedWorker> = (0..RACERS)
            .map(|_| ScriptedWorker::start(&fleet, grant.try_clone().unwrap(), fleet.enclave.public))
            .collect();
        let answers: Vec<_> = workers.iter_mut().map(ScriptedWorker::says).collect();
        assert_eq!(answers.iter().filter(|answer| answer["lease"].is_string()).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer["code"] == "grant-spent").count(), RACERS - 1, "{answers:?}");
    }
}

fn ask() -> Ask {
    let worker = WorkerConstraint::default();
    Ask { credential: "api".parse().unwrap(), audience: None, worker, parent: process(), wait: None }
}

fn process() -> ProcessFacts {
    ProcessFacts { uid: 1000, gid: 1000, pid: 1, executable: None, protection: None }
}

/// A point of Curve25519, whose private half nobody needs here: every 32 bytes are one, and few are of small order.
fn key() -> WorkerKey {
    WorkerKey(random())
}

fn random<const N: usize>() -> [u8; N]
where
    [u8; N]: ring::rand::RandomlyConstructable,
{
    generate(&SystemRandom::new()).unwrap().expose()
}
