//! Every order in which the steps of several redemptions and renewals can fall, on the real grant keys, ledger and leases.
//!
//! One thread serves all calls, so two steps never run at once; what can happen is that others come in between wherever a
//! call waits. A step here is what `crossing.rs` does from one wait to the next: a grant is opened, then policy is waited
//! for; it is spent, then the upstream is waited for; the ticket ends. Between any two of them: other claims, the same claim
//! again, acknowledgements, renewals, the end of leases, time, tidying, a restart of the vault.
//!
//! A state is the road to it, walked again from the start on fresh real objects, and compared by all that these hold.

mod world;

use self::world::{Snapshot, Step, World};
use super::Failure;
use stateright::{Checker, Model, Property};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// A worker and its request, another worker, another request of the first.
const CLAIMS: [(u8, u8); 3] = [(1, 1), (2, 1), (1, 2)];
/// When all grants end, and leases that nobody keeps; time goes from 0 to here.
const END: u64 = 1;
const CALLS: usize = 3;
/// Requests for renewal: one, its repetition, and the next.
const RENEWALS: u8 = 2;

/// What is explored, and where the exploration is told what came of its steps.
#[derive(Clone)]
struct Exploration {
    grants: usize,
    claims: usize,
    entries: usize,
    renewals: bool,
    flaw: Option<Flaw>,
    outcomes: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// Ledgers that somebody might have written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    /// That the grant was opened in time is enough.
    JudgedWhenOpened,
    /// Another request of the same worker passes for the first.
    KeyAlone,
    /// Another worker that says the same number passes for the first.
    RequestAlone,
    AcknowledgedIsForgotten,
    /// What is left of spent grants is given back before their time.
    ChunksGoEarly,
    /// Another claim on a spent grant passes for the one that spent it.
    TagOfTheGrantAlone,
    UnknownIsTriedAgain,
    NeverForgets,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Ask,
    Redeem { grant: usize, claim: usize },
    PolicyAllows { call: usize },
    MintSucceeds { call: usize },
    MintFails { call: usize, failure: Failure },
    Acknowledge { lease: u8, request: u8 },
    Renew { lease: u8, request: u8 },
    Renewed { call: usize },
    NotRenewed { call: usize },
    EndLease { lease: u8 },
    Tidy,
    Tick,
    Restart,
}

/// A state: how it came about, and what it is.
#[derive(Clone, Debug)]
struct Reached {
    road: Vec<Action>,
    is: Snapshot,
}

impl PartialEq for Reached {
    fn eq(&self, other: &Self) -> bool {
        self.is == other.is
    }
}

impl std::hash::Hash for Reached {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.is.hash(hasher);
    }
}

impl Model for Exploration {
    type State = Reached;
    type Action = Action;

    fn init_states(&self) -> Vec<Reached> {
        vec![self.walk(Vec::new())]
    }

    fn actions(&self, state: &Reached, actions: &mut Vec<Action>) {
        let Snapshot { now, starts, asked, calls, facts, .. } = &state.is;
        if !facts.wrong.is_empty() {
            return;
        }
        if *asked < self.grants && *starts == 0 {
            actions.push(Action::Ask);
        }
        if calls.len() < CALLS {
            let pairs = (0..*asked).flat_map(|grant| (0..self.claims).map(move |claim| (grant, claim)));
            actions.extend(pairs.map(|(grant, claim)| Action::Redeem { grant, claim }));
        }
        for (call, step) in calls.iter().enumerate() {
            match step {
                Step::Policy { .. } => actions.push(Action::PolicyAllows { call }),
                Step::Upstream { .. } => {
                    actions.push(Action::MintSucceeds { call });
                    let failures = [Failure::NoToken, Failure::Unknown];
                    actions.extend(failures.map(|failure| Action::MintFails { call, failure }));
                }
                Step::Renewal { .. } => actions.extend([Action::Renewed { call }, Action::NotRenewed { call }]),
            }
        }
        for &lease in facts.parcels.values() {
            actions.extend([1, 2].map(|request| Action::Acknowledge { lease, request }));
            actions.push(Action::EndLease { lease });
            if self.renewals && calls.len() < CALLS {
                actions.extend((1..=RENEWALS).map(|renewal| Action::Renew { lease, request: 10 + renewal }));
                actions.extend((1..=RENEWALS).map(|renewal| Action::Acknowledge { lease, request: 10 + renewal }));
            }
        }
        actions.push(Action::Tidy);
        if *now < END {
            actions.push(Action::Tick);
        }
        if *starts == 0 {
            actions.push(Action::Restart);
        }
    }

    fn next_state(&self, last: &Reached, action: Action) -> Option<Reached> {
        let mut road = last.road.clone();
        road.push(action);
        Some(self.walk(road))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("the promises hold", |_, state: &Reached| state.is.facts.wrong.is_empty())]
    }
}

impl Exploration {
    fn of_one_grant(flaw: Option<Flaw>) -> Self {
        Self { grants: 1, claims: CLAIMS.len(), entries: 9, renewals: false, flaw, outcomes: Arc::default() }
    }

    fn of_one_grant_and_renewals() -> Self {
        Self { claims: 2, renewals: true, ..Self::of_one_grant(None) }
    }

    fn of_two_grants_with_room_for_one() -> Self {
        Self { grants: 2, claims: 2, entries: 1, renewals: false, flaw: None, outcomes: Arc::default() }
    }

    fn walk(&self, road: Vec<Action>) -> Reached {
        let mut world = World::new(self);
        for action in &road {
            world.step(*action);
        }
        Reached { is: world.snapshot(), road }
    }
}

/// What came of an exploration.
struct Explored {
    states: usize,
    outcomes: BTreeSet<&'static str>,
    /// The shortest road to something wrong, if there is any.
    found: Option<(Vec<Action>, BTreeSet<&'static str>)>,
}

fn explore(exploration: Exploration) -> Explored {
    let outcomes = Arc::clone(&exploration.outcomes);
    let checker = exploration.checker().spawn_bfs().join();
    let found = checker.discovery("the promises hold").map(|path| {
        let last = path.last_state();
        (last.road.clone(), last.is.facts.wrong.clone())
    });
    assert!(found.is_some() || checker.is_done(), "not everything was explored");
    let outcomes = outcomes.lock().unwrap().clone();
    Explored { states: checker.unique_state_count(), outcomes, found }
}

#[test]
fn in_no_order_of_steps_does_a_grant_buy_two_tokens_or_is_a_token_lost() {
    // Everything that the ledger and the leases can say was said: nothing was kept from the search.
    let said = ["acknowledged", "again", "contested", "expired", "mint", "not ours", "over", "under way"];
    let of_renewals = ["no lease", "renewal acknowledged", "renewal under way", "renewed again", "renewed for nobody"];
    let explorations = [
        (Exploration::of_one_grant(None), said.into_iter().collect::<BTreeSet<_>>()),
        (Exploration::of_one_grant_and_renewals(), said.into_iter().chain(of_renewals).collect()),
    ];
    for (exploration, said) in explorations {
        let Explored { states, outcomes, found } = explore(exploration);
        println!("{states} states");
        assert_eq!(found, None);
        assert_eq!(outcomes, said);
    }
}

#[test]
fn in_no_order_of_steps_does_a_full_ledger_forget_what_was_spent() {
    let Explored { states, outcomes, found } = explore(Exploration::of_two_grants_with_room_for_one());
    println!("{states} states");
    assert_eq!(found, None);
    assert!(outcomes.contains("full"), "{outcomes:?}");
}

#[test]
fn each_flaw_that_is_planted_in_the_ledger_is_found() {
    let flaws = [
        (Flaw::JudgedWhenOpened, "a grant buys something after its time"),
        (Flaw::KeyAlone, "a contest is no alarm"),
        (Flaw::RequestAlone, "a contest is no alarm"),
        (Flaw::AcknowledgedIsForgotten, "a contest is no alarm"),
        (Flaw::ChunksGoEarly, "a contest is no alarm"),
        (Flaw::TagOfTheGrantAlone, "a contest is no alarm"),
        (Flaw::UnknownIsTriedAgain, "two tokens of one grant"),
        (Flaw::NeverForgets, "tidying leaves what is over"),
    ];
    for (flaw, promise) in flaws {
        let explored = explore(Exploration::of_one_grant(Some(flaw)));
        let (road, wrong) = explored.found.unwrap_or_else(|| panic!("{flaw:?} was not found"));
        println!("{flaw:?}: {wrong:?} by {road:?}");
        assert!(wrong.contains(promise), "{flaw:?}: {wrong:?} by {road:?}");
    }
}
