//! What is explored: real grant keys, ledger and leases, the steps of their callers, and what the world outside has seen.

use super::{Action, CLAIMS, END, Exploration, Flaw, RENEWALS};
use crate::grant::{GrantBody, GrantError, GrantKeys, OpenedGrant};
use crate::lease::{LeaseError, Leases, RenewalTurn, Terms};
use crate::ledger::{Claim, Entry, Failure, Ledger, LedgerError, State, Ticket, Turn};
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::identifier::{GrantId, LeaseId, ReplicaId, RequestId, SessionId, WorkerKey};
use blindferry_proto::name::HostName;
use blindferry_proto::session::{Parcelled, ProcessFacts, WorkerConstraint};
use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::{BTreeMap, BTreeSet};

/// All that a world holds, and what is remembered beside it to judge it by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Snapshot {
    pub(super) now: u64,
    pub(super) starts: u8,
    pub(super) asked: usize,
    entries: Vec<(GrantId, u8, u8, u8)>,
    ends: Vec<(u64, GrantId)>,
    spent: Vec<(u64, Vec<(u64, u64)>)>,
    leases: Vec<String>,
    pub(super) calls: Vec<Step>,
    pub(super) facts: Facts,
}

/// Where a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Policy { grant: usize, claim: usize },
    Upstream { grant: usize, claim: usize },
    Renewal { lease: u8, request: u8 },
}

enum Held {
    Opened(OpenedGrant),
    Ticket(Ticket),
    Nothing,
}

/// What the world outside has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    /// Who was first, by grant.
    winners: BTreeMap<usize, usize>,
    /// Tokens that a redemption made, by grant.
    bought: BTreeMap<usize, u8>,
    /// The parcel of each grant.
    pub(super) parcels: BTreeMap<usize, u8>,
    acknowledged: BTreeSet<usize>,
    /// Tokens that live, and that somebody has to revoke in the end.
    live: BTreeSet<u8>,
    tokens: u8,
    renewals: u8,
    pub(super) wrong: BTreeSet<&'static str>,
}

/// The real things, and where their callers stand.
pub(super) struct World<'e> {
    exploration: &'e Exploration,
    now: u64,
    starts: u8,
    keys: GrantKeys,
    ledger: Ledger,
    leases: Leases<u8>,
    grants: Vec<Vec<u8>>,
    calls: Vec<(Step, Held)>,
    facts: Facts,
}

impl<'e> World<'e> {
    pub(super) fn new(exploration: &'e Exploration) -> Self {
        Self {
            exploration,
            now: 0,
            starts: 0,
            keys: fresh_keys(0),
            ledger: empty_ledger(exploration),
            leases: Leases::default(),
            grants: Vec::new(),
            calls: Vec::new(),
            facts: Facts::default(),
        }
    }

    pub(super) fn step(&mut self, action: Action) {
        match action {
            Action::Ask => self.ask(),
            Action::Redeem { grant, claim } => self.redeem(grant, claim),
            Action::PolicyAllows { call } => self.spend(call),
            Action::MintSucceeds { call } => self.minted(call),
            Action::MintFails { call, failure } => self.mint_fails(call, failure),
            Action::Acknowledge { lease, request } => self.acknowledge(lease, request),
            Action::Renew { lease, request } => self.renew(lease, request),
            Action::Renewed { call } => self.renewed(call),
            Action::NotRenewed { call } => {
                if let (Step::Renewal { lease, .. }, _) = self.calls.remove(call) {
                    self.leases.not_renewed(id_of(lease));
                }
            }
            Action::EndLease { lease } => {
                if let Ok(ended) = self.leases.end(id_of(lease), &host()) {
                    self.revoke(ended.revocable);
                }
            }
            Action::Tidy => {
                for idle in self.leases.end_idle(self.now) {
                    self.revoke(idle.revocable);
                }
                if self.exploration.flaw != Some(Flaw::NeverForgets) {
                    self.ledger.forget(self.now);
                }
                let chunks = self.ledger.spent.remembered();
                let mut ends = self.ledger.ends.iter().map(|(end, _)| *end).chain(chunks.iter().map(|(end, _)| *end));
                let clean = ends.all(|end| end > self.now);
                self.judge("tidying leaves what is over", clean);
            }
            Action::Tick => self.now += 1,
            Action::Restart => {
                self.starts += 1;
                self.keys = fresh_keys(self.starts);
                self.ledger = empty_ledger(self.exploration);
                self.leases = Leases::default();
                self.calls.clear();
                // What only the memory knew is gone; such tokens end by their own time.
                self.facts.live.clear();
            }
        }
        self.calls.sort_by_key(|(step, _)| *step);
        self.judge("more is remembered than there is room for", self.ledger.entries.len() <= self.exploration.entries);
        self.judge("an entry has no end", self.ledger.entries.len() == self.ledger.ends.len());
        let held = self.facts.parcels.values().filter_map(|&lease| self.leases.of_host(id_of(lease), &host()).ok());
        let held: BTreeSet<u8> = held.flat_map(|lease| lease.revocable.iter().copied()).collect();
        self.judge("a token was lost that lives", held == self.facts.live);
    }

    /// `crossing.rs`, `grant`.
    fn ask(&mut self) {
        let body = GrantBody {
            id: GrantId([u8::try_from(self.grants.len()).unwrap(); 16]),
            credential: "c".parse().unwrap(),
            host: host(),
            audience: None,
            worker: WorkerConstraint::default(),
            parent: ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None },
            expires: END,
            approval: None,
        };
        // A parent may have it after its time is over, too; then it is worth nothing from the start.
        self.grants.push(self.keys.seal(&body, self.now, &SystemRandom::new()).unwrap());
    }

    /// `crossing.rs`, `redeem`, up to the question to policy.
    fn redeem(&mut self, grant: usize, claim: usize) {
        match self.keys.open(&self.grants[grant], &host(), self.now) {
            Ok(opened) => {
                self.judge("a grant outlives its vault", self.starts == 0);
                self.judge("a grant opens after its time", self.now < END);
                self.calls.push((Step::Policy { grant, claim }, Held::Opened(opened)));
            }
            Err(GrantError::NotOurs) => self.outcome("not ours"),
            Err(GrantError::Expired { .. }) => self.outcome("expired"),
            Err(other) => panic!("{other}"),
        }
    }

    /// `crossing.rs`, `redeem`, from policy's answer on.
    fn spend(&mut self, call: usize) {
        let (Step::Policy { grant, claim }, Held::Opened(opened)) = self.calls.remove(call) else { panic!("{call}") };
        let turn = self.turn(opened, claim_of(claim));
        let first = *self.facts.winners.get(&grant).unwrap_or(&claim);
        if claim == first {
            self.judge("an alarm about the winner", !matches!(turn, Err(LedgerError::Contested { .. })));
        }
        if self.now >= END {
            self.judge("a grant buys something after its time", matches!(turn, Err(LedgerError::Over)));
        } else if claim != first {
            self.judge("a contest is no alarm", matches!(turn, Err(LedgerError::Contested { .. })));
        }
        match turn {
            Ok(Turn::Mint(ticket)) => {
                self.judge("the winner changes", claim == first);
                let minting = |step: &Step| matches!(step, Step::Upstream { grant: other, .. } if *other == grant);
                self.judge("two tickets of one grant", !self.calls.iter().any(|(step, _)| minting(step)));
                self.facts.winners.insert(grant, claim);
                self.calls.push((Step::Upstream { grant, claim }, Held::Ticket(*ticket)));
                self.outcome("mint");
            }
            Ok(Turn::Again(parcelled)) => {
                self.judge("a parcel goes to another claim", claim == first);
                self.judge(
                    "another parcel comes the second time",
                    self.facts.parcels.get(&grant) == parcelled.lease.0.first(),
                );
                self.judge("a parcel outlives its acknowledgement", !self.facts.acknowledged.contains(&grant));
                self.outcome("again");
            }
            Err(LedgerError::Over) => self.outcome("over"),
            Err(LedgerError::Contested { .. }) => self.outcome("contested"),
            Err(LedgerError::UnderWay) => self.outcome("under way"),
            Err(LedgerError::Acknowledged) => self.outcome("acknowledged"),
            Err(LedgerError::Full) => self.outcome("full"),
        }
    }

    /// The ledger's answer, or that of a flawed one.
    fn turn(&mut self, opened: OpenedGrant, claim: Claim) -> Result<Turn, LedgerError> {
        let Claim { worker_key, request } = claim;
        match self.exploration.flaw {
            Some(Flaw::JudgedWhenOpened) => {
                self.ledger.forget(self.now);
                self.ledger.redeem(opened, claim, 0)
            }
            Some(Flaw::KeyAlone) => {
                self.ledger.redeem(opened, Claim { worker_key, request: RequestId([0; 16]) }, self.now)
            }
            Some(Flaw::RequestAlone) => {
                self.ledger.redeem(opened, Claim { worker_key: WorkerKey([0; 32]), request }, self.now)
            }
            Some(Flaw::TagOfTheGrantAlone) => {
                self.ledger.redeem(opened, claim, self.now).map_err(|error| match error {
                    LedgerError::Contested { winner: None } => LedgerError::Acknowledged,
                    other => other,
                })
            }
            _ => self.ledger.redeem(opened, claim, self.now),
        }
    }

    /// `crossing.rs`, `fulfil`, from the upstream's answer on.
    fn minted(&mut self, call: usize) {
        let (Step::Upstream { grant, claim }, Held::Ticket(ticket)) = self.calls.remove(call) else { panic!("{call}") };
        let token = self.token();
        self.buys(grant);
        self.facts.parcels.insert(grant, token);
        let terms = Terms {
            grant: ticket.grant().body().id,
            credential: "c".parse().unwrap(),
            host: host(),
            session: SessionId([0; 16]),
            worker_key: claim_of(claim).worker_key,
            worker: ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None },
            parent: ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None },
            audience: None,
            idle: u32::try_from(END).unwrap(),
            inherited: Vec::new(),
            approval: None,
        };
        self.leases.begin(id_of(token), terms, Some(token), self.now);
        self.ledger.fulfil(ticket, parcelled(token, token));
    }

    fn mint_fails(&mut self, call: usize, failure: Failure) {
        let (Step::Upstream { grant, .. }, Held::Ticket(ticket)) = self.calls.remove(call) else { panic!("{call}") };
        if failure == Failure::Unknown {
            // At worst there is one, and it is the upstream's.
            self.buys(grant);
        }
        let flawed = self.exploration.flaw == Some(Flaw::UnknownIsTriedAgain);
        self.ledger.fail(ticket, if flawed { Failure::NoToken } else { failure });
    }

    /// `vault/leases.rs`, `acknowledge`.
    fn acknowledge(&mut self, lease: u8, request: u8) {
        let Ok(found) = self.leases.of_host(id_of(lease), &host()) else { return };
        let grant = found.terms.grant;
        if self.ledger.acknowledge(grant, RequestId([request; 16]), id_of(lease)) {
            self.facts.acknowledged.insert(grant.0[0].into());
            match self.exploration.flaw {
                Some(Flaw::AcknowledgedIsForgotten) => self.ledger.forget(u64::MAX),
                Some(Flaw::ChunksGoEarly) => self.ledger.spent.forget(END),
                _ => {}
            }
        }
        if let Some(replaced) = self.leases.acknowledge(id_of(lease), RequestId([request; 16])) {
            self.outcome("renewal acknowledged");
            self.revoke(replaced);
        }
    }

    /// `crossing.rs`, `renew`.
    fn renew(&mut self, lease: u8, request: u8) {
        match self.leases.renew(id_of(lease), &host(), RequestId([request; 16])) {
            // The exploration ends somewhere: so many renewals, however many requests.
            Ok(RenewalTurn::Mint) if self.facts.renewals == RENEWALS => self.leases.not_renewed(id_of(lease)),
            Ok(RenewalTurn::Mint) => {
                let renewing = |step: &Step| matches!(step, Step::Renewal { lease: other, .. } if *other == lease);
                self.judge("two renewals of one lease", !self.calls.iter().any(|(step, _)| renewing(step)));
                self.facts.renewals += 1;
                self.calls.push((Step::Renewal { lease, request }, Held::Nothing));
            }
            Ok(RenewalTurn::Again(parcelled)) => {
                self.judge("a renewal answers another request", parcelled.parcel.as_slice().get(1) == Some(&request));
                self.outcome("renewed again");
            }
            Err(LeaseError::UnderWay) => self.outcome("renewal under way"),
            Err(LeaseError::Unknown | LeaseError::Full) => self.outcome("no lease"),
        }
    }

    /// `crossing.rs`, `mint_renewal`, from the upstream's answer on.
    fn renewed(&mut self, call: usize) {
        let (Step::Renewal { lease, request }, _) = self.calls.remove(call) else { panic!("{call}") };
        let token = self.token();
        let parcel = parcelled(lease, request);
        match self.leases.renewed(id_of(lease), RequestId([request; 16]), parcel, Some(token), self.now) {
            Ok(left_behind) => self.revoke(left_behind),
            Err(orphan) => {
                self.outcome("renewed for nobody");
                self.revoke(orphan.into_iter().collect());
            }
        }
    }

    fn token(&mut self) -> u8 {
        self.facts.tokens += 1;
        self.facts.live.insert(self.facts.tokens);
        self.facts.tokens
    }

    fn buys(&mut self, grant: usize) {
        let bought = self.facts.bought.entry(grant).or_default();
        *bought += 1;
        let bought = *bought;
        self.judge("two tokens of one grant", bought == 1);
    }

    fn revoke(&mut self, tokens: Vec<u8>) {
        for token in tokens {
            let lived = self.facts.live.remove(&token);
            self.judge("a token is revoked twice", lived);
        }
    }

    fn judge(&mut self, wrong: &'static str, right: bool) {
        if !right {
            self.facts.wrong.insert(wrong);
        }
    }

    /// Also of steps that change nothing and so lead to no new state.
    fn outcome(&self, outcome: &'static str) {
        self.exploration.outcomes.lock().unwrap().insert(outcome);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let entry = |(id, entry): (&GrantId, &Entry)| {
            let Claim { worker_key, request } = entry.claim;
            let state = match &entry.state {
                State::Minting => 0,
                State::Claimed => 1,
                State::Redeemed(parcelled) => 10 + parcelled.lease.0[0],
            };
            (*id, worker_key.0[0], request.0[0], state)
        };
        let mut entries: Vec<_> = self.ledger.entries.iter().map(entry).collect();
        entries.sort();
        let leases = self.facts.parcels.values().filter_map(|&lease| self.leases.of_host(id_of(lease), &host()).ok());
        Snapshot {
            now: self.now,
            starts: self.starts,
            asked: self.grants.len(),
            entries,
            ends: self.ledger.ends.iter().copied().collect(),
            spent: self.ledger.spent.remembered(),
            leases: leases.map(|lease| format!("{lease:?}")).collect(),
            calls: self.calls.iter().map(|(step, _)| *step).collect(),
            facts: self.facts.clone(),
        }
    }
}

fn host() -> HostName {
    "h".parse().unwrap()
}

fn fresh_keys(start: u8) -> GrantKeys {
    GrantKeys::new(ReplicaId([start; 8]), 0, &SystemRandom::new()).unwrap()
}

/// The key is always the same, so that states can be compared.
fn empty_ledger(exploration: &Exploration) -> Ledger {
    Ledger::with_room_for(exploration.entries, 1, hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]))
}

fn claim_of(claim: usize) -> Claim {
    let (worker, request) = CLAIMS[claim];
    Claim { worker_key: WorkerKey([worker; 32]), request: RequestId([request; 16]) }
}

fn id_of(lease: u8) -> LeaseId {
    LeaseId([lease; 16])
}

fn parcelled(lease: u8, mark: u8) -> Parcelled {
    let parcel = Bytes::new(vec![lease, mark]).unwrap();
    Parcelled { lease: id_of(lease), parcel, expires: 9, lease_idle: 1, token_type: Text::cut("Bearer") }
}
