//! Whatever brokers and operators do in whatever order: is each ask decided once, spent once, and are they bounded?

use super::*;
use blindferry_attest::snp::ChipId;
use blindferry_proto::bounded::Text;
use blindferry_proto::session::{ProcessFacts, WorkerConstraint};
use blindferry_proto::waiting::{AskingHost, Words};
use proptest::prelude::*;
use std::collections::HashMap;

const SESSION: SessionId = SessionId([1; 16]);
const OTHER_SESSION: SessionId = SessionId([2; 16]);
const WAIT: u64 = 300;

fn machine(number: u8) -> Pin {
    Pin::Chip(ChipId::new([number; 64]))
}

fn id(number: u16) -> AskId {
    let mut id = [0; 8];
    id[..2].copy_from_slice(&number.to_be_bytes());
    AskId(id)
}

fn digest(number: u16) -> Digest {
    let mut digest = [7; 32];
    digest[..2].copy_from_slice(&number.to_be_bytes());
    Digest(digest)
}

fn held(number: u16, host: &str, uid: u32, now: u64) -> Held {
    let shown = WaitingAsk {
        ask: id(number),
        credential: "api".parse().unwrap(),
        kind: Text::cut("release"),
        version: 1,
        audience: None,
        host: AskingHost {
            name: host.parse().unwrap(),
            hardware: Text::cut("chip"),
            platform: Text::cut("snp"),
            reference: Text::cut("production"),
            attested: now,
        },
        parent: ProcessFacts { uid, gid: 1, pid: 1, executable: None, protection: None },
        worker: WorkerConstraint::default(),
        words: Words::default(),
        demanded_by: Vec::new(),
        policy_version: 1,
        other_machine: false,
        asked: now,
        until: now + WAIT,
    };
    Held { shown, digest: digest(number), session: SESSION, asker: machine(1) }
}

/// One ask, which waits.
fn waiting() -> Pending {
    let mut pending = Pending::default();
    pending.reserve(held(0, "h", 0, 0)).unwrap();
    assert!(pending.open(id(0)));
    pending
}

fn no() -> Said {
    Said::No { by: "desk".parse().unwrap(), reason: Some(Text::cut("not today")) }
}

fn begin(pending: &mut Pending, said: &Said, now: u64) -> Result<Deciding, NotDecided> {
    pending.begin(id(0), digest(0), &machine(2), said, now)
}

fn say(pending: &mut Pending, said: Said, now: u64) {
    let deciding = begin(pending, &said, now).unwrap();
    assert!(pending.settle(deciding, said, now));
}

#[test]
fn an_approval_buys_once_what_was_shown() {
    let mut pending = waiting();
    assert!(matches!(pending.collect(id(0), SESSION, 1), Collected::Waiting(299)));
    say(&mut pending, Said::Yes, 1);
    let Collected::Approved(approved) = pending.collect(id(0), SESSION, 2) else { panic!("not approved") };
    let (shown, by) = approved.spend();
    assert_eq!((shown, by), (held(0, "h", 0, 0).shown, Approver::OtherMachine));
    assert!(matches!(pending.collect(id(0), SESSION, 2), Collected::Unknown));
}

#[test]
fn a_denial_is_told_once_with_its_reason() {
    let mut pending = waiting();
    say(&mut pending, no(), 1);
    let Collected::Denied { by, reason } = pending.collect(id(0), SESSION, 2) else { panic!("not denied") };
    assert_eq!((by.as_str(), reason), ("desk", Some(Text::cut("not today"))));
    assert!(matches!(pending.collect(id(0), SESSION, 2), Collected::Unknown));
}

#[test]
fn what_is_not_recorded_is_not_shown_and_cannot_be_decided() {
    let mut pending = Pending::default();
    pending.reserve(held(0, "h", 0, 0)).unwrap();
    assert!(pending.page(None).is_empty());
    assert_eq!(begin(&mut pending, &Said::Yes, 0).unwrap_err(), NotDecided::Unknown);
    assert!(pending.open(id(0)));
    assert_eq!(pending.page(None).len(), 1);
    assert!(!pending.open(id(0)), "opened twice");
}

#[test]
fn a_decision_about_something_else_than_was_shown_is_none() {
    let mut pending = waiting();
    let other = pending.begin(id(0), digest(1), &machine(2), &Said::Yes, 1);
    assert_eq!(other.unwrap_err(), NotDecided::OtherShown);
    let other = pending.begin(id(1), digest(0), &machine(2), &Said::Yes, 1);
    assert_eq!(other.unwrap_err(), NotDecided::Unknown);
    assert!(matches!(pending.collect(id(0), SESSION, 1), Collected::Waiting(_)));
}

#[test]
fn of_two_operators_one_decides_and_a_decision_that_was_not_recorded_is_none() {
    let mut pending = waiting();
    let first = begin(&mut pending, &no(), 1).unwrap();
    assert_eq!(begin(&mut pending, &Said::Yes, 1).unwrap_err(), NotDecided::Decided);
    assert!(matches!(pending.collect(id(0), SESSION, 1), Collected::Waiting(_)), "not before it is recorded");
    pending.reopen(first);
    say(&mut pending, Said::Yes, 1);
    assert_eq!(begin(&mut pending, &no(), 1).unwrap_err(), NotDecided::Decided);
    assert!(matches!(pending.collect(id(0), SESSION, 1), Collected::Approved(_)));
}

#[test]
fn where_another_machine_has_to_approve_the_same_cannot_and_may_still_deny() {
    let mut pending = Pending::default();
    let mut strict = held(0, "h", 0, 0);
    strict.shown.other_machine = true;
    pending.reserve(strict).unwrap();
    assert!(pending.open(id(0)));
    let same = pending.begin(id(0), digest(0), &machine(1), &Said::Yes, 1);
    assert_eq!(same.unwrap_err(), NotDecided::SameMachine);
    let deciding = pending.begin(id(0), digest(0), &machine(1), &no(), 1).unwrap();
    pending.reopen(deciding);
    say(&mut pending, Said::Yes, 1);
    assert!(matches!(pending.collect(id(0), SESSION, 1), Collected::Approved(_)));
}

#[test]
fn the_same_machine_approves_with_the_lesser_rank() {
    let mut pending = waiting();
    let deciding = pending.begin(id(0), digest(0), &machine(1), &Said::Yes, 1).unwrap();
    assert!(pending.settle(deciding, Said::Yes, 1));
    let Collected::Approved(approved) = pending.collect(id(0), SESSION, 1) else { panic!("not approved") };
    assert_eq!(approved.spend().1, Approver::AnyMachine);
}

#[test]
fn time_refuses_what_waits_and_spoils_what_nobody_collects() {
    let mut pending = waiting();
    assert!(pending.lapse(WAIT - 1).is_empty());
    assert_eq!(begin(&mut pending, &Said::Yes, WAIT).unwrap_err(), NotDecided::Decided, "late");
    let lapsed: Vec<_> = pending.lapse(WAIT).into_iter().map(|(_, why)| why).collect();
    assert_eq!(lapsed, [AskEnd::TimedOut]);
    assert!(pending.page(None).is_empty() && pending.lapse(WAIT).is_empty());
    assert!(matches!(pending.collect(id(0), SESSION, WAIT), Collected::TimedOut));

    let mut pending = waiting();
    say(&mut pending, Said::Yes, 10);
    let spoilt = 10 + COLLECT_TIME;
    assert!(matches!(pending.collect(id(0), SESSION, spoilt), Collected::TimedOut));
    let lapsed: Vec<_> = pending.lapse(spoilt).into_iter().map(|(_, why)| why).collect();
    assert_eq!(lapsed, [AskEnd::NotCollected]);
    assert!(pending.0.is_empty());
}

#[test]
fn another_session_neither_collects_nor_withdraws() {
    let mut pending = waiting();
    say(&mut pending, Said::Yes, 1);
    assert!(matches!(pending.collect(id(0), OTHER_SESSION, 1), Collected::Unknown));
    assert!(pending.withdraw(id(0), OTHER_SESSION).is_none());
    assert!(pending.end_session(OTHER_SESSION).is_empty());
    assert_eq!(pending.end_session(SESSION).len(), 1);
    assert!(matches!(pending.collect(id(0), SESSION, 1), Collected::Unknown));
}

#[test]
fn an_asker_that_leaves_takes_the_ask_out_of_an_operators_hands() {
    let mut pending = waiting();
    let deciding = begin(&mut pending, &Said::Yes, 1).unwrap();
    assert!(pending.withdraw(id(0), SESSION).is_some());
    assert!(!pending.settle(deciding, Said::Yes, 1));
    assert!(pending.0.is_empty());
}

#[test]
fn a_user_a_host_and_all_have_bounds_and_leave_room_for_others() {
    let mut pending = Pending::default();
    let mut number = 0..;
    let mut reserve = |host: &str, uid: usize| {
        let uid = u32::try_from(uid).unwrap();
        pending.reserve(held(number.next().unwrap(), host, uid, 0))
    };
    for _ in 0..ASKS_OF_USER {
        reserve("h0", 7).unwrap();
    }
    assert_eq!(reserve("h0", 7), Err(Full::User { uid: 7 }));
    for other in 0..ASKS_OF_HOST - ASKS_OF_USER {
        reserve("h0", 100 + other).unwrap();
    }
    assert_eq!(reserve("h0", 8), Err(Full::Host));
    for other in 0..ASKS - ASKS_OF_HOST {
        reserve(&format!("h{}", 1 + other / ASKS_OF_HOST), 100 + other).unwrap();
    }
    assert_eq!(reserve("elsewhere", 8), Err(Full::All));
}

#[test]
fn pages_show_every_ask_once() {
    let mut pending = Pending::default();
    for number in 0..30 {
        pending.reserve(held(number, "h", number.into(), 0)).unwrap();
        assert!(pending.open(id(number)));
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = pending.page(after);
        assert!(page.len() <= ASKS_A_PAGE);
        let Some(last) = page.last() else { break };
        after = Some(last.ask);
        seen.extend(page.into_iter().map(|shown| shown.ask));
    }
    assert_eq!(seen, (0..30).map(id).collect::<Vec<_>>());
    assert_eq!(pending.waiting(), 30);
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Ask(u16),
    Open(u16),
    Begin { ask: u16, right: bool, yes: bool },
    Settle(usize),
    Reopen(usize),
    Collect { ask: u16, own: bool },
    Withdraw(u16),
    EndSession,
    Pass(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let ask = 0..6u16;
    let one = prop_oneof![
        ask.clone().prop_map(Move::Ask),
        ask.clone().prop_map(Move::Open),
        (ask.clone(), prop::bool::weighted(0.9), any::<bool>()).prop_map(|(ask, right, yes)| Move::Begin {
            ask,
            right,
            yes
        }),
        (0..3usize).prop_map(Move::Settle),
        (0..3usize).prop_map(Move::Reopen),
        (ask.clone(), prop::bool::weighted(0.9)).prop_map(|(ask, own)| Move::Collect { ask, own }),
        ask.prop_map(Move::Withdraw),
        Just(Move::EndSession),
        (0..200u64).prop_map(Move::Pass),
    ];
    prop::collection::vec(one, 0..120)
}

proptest! {
    /// However the moves are ordered: there is never more than one grant for one recorded yes, nor one without it.
    #[test]
    fn every_grant_has_its_own_recorded_approval(moves in moves()) {
        let mut pending = Pending::default();
        let mut under_way: Vec<(u16, bool, Deciding)> = Vec::new();
        // Yeses that were settled and not spent, by ask.
        let mut yeses = HashMap::<AskId, usize>::new();
        let mut now = 0;
        for one in moves {
            match one {
                Move::Ask(number) => drop(pending.reserve(held(number, "h", number.into(), now))),
                Move::Open(number) => drop(pending.open(id(number))),
                Move::Begin { ask, right, yes } => {
                    let said = if yes { Said::Yes } else { no() };
                    let shown = if right { digest(ask) } else { Digest([0; 32]) };
                    let begun = pending.begin(id(ask), shown, &machine(2), &said, now);
                    prop_assert!(right || begun.is_err());
                    under_way.extend(begun.ok().map(|deciding| (ask, yes, deciding)));
                }
                Move::Settle(at) if at < under_way.len() => {
                    let (ask, yes, deciding) = under_way.swap_remove(at);
                    let counts = pending.settle(deciding, if yes { Said::Yes } else { no() }, now);
                    *yeses.entry(id(ask)).or_default() += usize::from(counts && yes);
                }
                Move::Reopen(at) if at < under_way.len() => pending.reopen(under_way.swap_remove(at).2),
                Move::Collect { ask, own } => {
                    let collected = pending.collect(id(ask), if own { SESSION } else { OTHER_SESSION }, now);
                    if let Collected::Approved(approved) = collected {
                        prop_assert!(own);
                        let left = yeses.entry(approved.spend().0.ask).or_default();
                        prop_assert!(*left > 0, "a grant without an approval");
                        *left -= 1;
                    }
                }
                Move::Withdraw(number) => drop(pending.withdraw(id(number), SESSION)),
                Move::EndSession => {
                    let _ended = pending.end_session(SESSION);
                    prop_assert!(pending.0.is_empty());
                }
                Move::Pass(seconds) => {
                    now += seconds;
                    let _ended = pending.lapse(now);
                }
                Move::Settle(_) | Move::Reopen(_) => {}
            }
            prop_assert!(pending.0.len() <= 6 && pending.waiting() <= pending.0.len());
        }
    }
}
