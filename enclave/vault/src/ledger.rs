//! The ledger of spent grants: each buys at most one token, and a lost reply is not a lost token.
//!
//! ```text
//!                    same claim: wait                same claim: same parcel
//!                         ┌──┐                              ┌──┐
//!   (unknown) ──redeem──▶ Minting ──fulfil──▶ Redeemed ─────┘  │──acknowledge──▶ (spent)
//!                         │    ▲                               │                    ▲
//!                  no token    └──same claim redeems           │     token unknown, of Minting
//!                         ▼                                    │
//!                      Claimed                                 └─ any other claim, anywhere: contested
//! ```
//!
//! A claim is a worker's key with its request id. A grant that is under way, or whose parcel may be asked for again, has an
//! entry. Of one that is spent for good eight bytes are left (see `ledger/spent.rs`), which tell the winner's claim from
//! others. Both go when the grant's own time is over, since then it buys nothing any more; so the ledger is bounded and
//! needs no disk.
//!
//! That it buys nothing is judged here, at the moment in which it is spent.
//! [`GrantKeys::open`](crate::grant::GrantKeys::open) looked at the time too, but between the two the vault waits for its
//! store, which is not trusted: a claim that was opened in time and held up there until the winner's entry was forgotten
//! would otherwise be the first one again.

mod spent;

use self::spent::{Place, Spent, Who};
use crate::grant::{GrantError, OpenedGrant};
use blindferry_proto::identifier::{GrantId, LeaseId, RequestId, WorkerKey};
use blindferry_proto::session::Parcelled;
use ring::hmac;
use ring::rand::SecureRandom;
use std::collections::{BTreeSet, HashMap};

/// Grants that may be under way, or wait for their parcel's acknowledgement, at once.
pub const ENTRIES: usize = 200_000;
/// Chunks of 256 grants of which some were redeemed and their time is not over: 4 MiB at most. At
/// [`GRANT_LIFE`](crate::grant::GRANT_LIFE) these are 4369 grants a second, several times what a vault can mint.
pub const CHUNKS: usize = 2048;

/// Whose redemption it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The key that parcels are encrypted to.
    pub worker_key: WorkerKey,
    /// The worker's number for its request.
    pub request: RequestId,
}

/// Remembers which grants were redeemed, by whom, and what they got.
#[derive(Debug)]
pub struct Ledger {
    entries: HashMap<GrantId, Entry>,
    ends: BTreeSet<(u64, GrantId)>,
    most: usize,
    spent: Spent,
}

#[derive(Debug)]
struct Entry {
    claim: Claim,
    state: State,
    expires: u64,
    place: Place,
}

#[derive(Debug)]
enum State {
    Minting,
    Claimed,
    Redeemed(Box<Parcelled>),
}

/// Whose turn it is after a redemption was looked up.
#[derive(Debug)]
pub enum Turn {
    /// The winner's: mint, then say how it went.
    Mint(Box<Ticket>),
    /// The winner asks again: this is what it got.
    Again(Box<Parcelled>),
}

/// The right to mint the one token of a grant. There is never more than one for a grant, and it cannot be copied; it
/// ends in [`Ledger::fulfil`] or [`Ledger::fail`].
#[derive(Debug)]
#[must_use = "a ticket that is dropped leaves its grant blocked"]
pub struct Ticket {
    grant: OpenedGrant,
    claim: Claim,
}

impl Ticket {
    /// The grant that it came from.
    pub fn grant(&self) -> &OpenedGrant {
        &self.grant
    }

    /// Whose it is.
    #[must_use]
    pub fn claim(&self) -> Claim {
        self.claim
    }
}

/// What minting came to when it gave no parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No token exists: the same claim may try again.
    NoToken,
    /// A token may exist that nobody received: the grant is spent.
    Unknown,
}

impl Ledger {
    /// An empty one, with room for [`ENTRIES`] and [`CHUNKS`].
    ///
    /// # Errors
    /// [`GrantError::Random`].
    pub fn new(random: &dyn SecureRandom) -> Result<Self, GrantError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, random).map_err(|_| GrantError::Random)?;
        Ok(Self::with_room_for(ENTRIES, CHUNKS, key))
    }

    fn with_room_for(entries: usize, chunks: usize, key: hmac::Key) -> Self {
        let spent = Spent::with_room_for(chunks, key);
        Self { entries: HashMap::new(), ends: BTreeSet::new(), most: entries, spent }
    }

    /// Looks up whose turn it is at `now`, in seconds since the epoch, and spends the grant if it is new.
    ///
    /// # Errors
    /// [`LedgerError`]: over, contested, under way, acknowledged, or the ledger is full.
    pub fn redeem(&mut self, grant: OpenedGrant, claim: Claim, now: u64) -> Result<Turn, LedgerError> {
        if grant.body().expires <= now {
            return Err(LedgerError::Over);
        }
        self.forget(now);
        let (id, expires) = (grant.body().id, grant.body().expires);
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.claim != claim {
                return Err(LedgerError::Contested { winner: Some(entry.claim.worker_key) });
            }
            return match &entry.state {
                State::Minting => Err(LedgerError::UnderWay),
                State::Claimed => {
                    entry.state = State::Minting;
                    Ok(Turn::Mint(Box::new(Ticket { grant, claim })))
                }
                State::Redeemed(parcelled) => Ok(Turn::Again(parcelled.clone())),
            };
        }
        match self.spent.who(grant.serial(), &claim) {
            Some(Who::Winner) => return Err(LedgerError::Acknowledged),
            Some(Who::Other) => return Err(LedgerError::Contested { winner: None }),
            None => {}
        }
        if self.entries.len() >= self.most {
            return Err(LedgerError::Full);
        }
        let place = self.spent.reserve(grant.serial(), expires).ok_or(LedgerError::Full)?;
        self.entries.insert(id, Entry { claim, state: State::Minting, expires, place });
        self.ends.insert((expires, id));
        Ok(Turn::Mint(Box::new(Ticket { grant, claim })))
    }

    /// The ticket's token is in this parcel: kept for the same claim until it is acknowledged or the grant is over.
    pub fn fulfil(&mut self, ticket: Ticket, parcelled: Parcelled) {
        self.settle(&ticket, State::Redeemed(Box::new(parcelled)));
    }

    /// The ticket gave no parcel.
    pub fn fail(&mut self, ticket: Ticket, failure: Failure) {
        match failure {
            Failure::NoToken => self.settle(&ticket, State::Claimed),
            Failure::Unknown => self.spend(ticket.grant.body().id),
        }
    }

    /// The worker has what it asked for: the parcel is forgotten. Whether there was one to forget.
    pub fn acknowledge(&mut self, grant: GrantId, request: RequestId, lease: LeaseId) -> bool {
        match self.entries.get(&grant) {
            Some(entry)
                if entry.claim.request == request
                    && matches!(&entry.state, State::Redeemed(parcelled) if parcelled.lease == lease) =>
            {
                self.spend(grant);
                true
            }
            _ => false,
        }
    }

    /// Forgets grants whose time is over.
    pub fn forget(&mut self, now: u64) {
        while let Some(&(end, id)) = self.ends.first() {
            if end > now {
                break;
            }
            self.ends.remove(&(end, id));
            self.entries.remove(&id);
        }
        self.spent.forget(now);
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() + self.spent.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing more will come of the grant: a tag takes the place of its entry.
    fn spend(&mut self, id: GrantId) {
        if let Some(Entry { claim, place, expires, .. }) = self.entries.remove(&id) {
            self.ends.remove(&(expires, id));
            self.spent.put(place, &claim);
        }
    }

    fn settle(&mut self, ticket: &Ticket, state: State) {
        // The entry may be gone: the grant's time was over while the upstream took its own.
        if let Some(entry) = self.entries.get_mut(&ticket.grant.body().id) {
            entry.state = state;
        }
    }
}

/// Why a redemption goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The grant's time ended since it was opened.
    #[error("the grant's time is over")]
    Over,
    /// Another claim was first: an alarm.
    #[error("the grant was redeemed by another key or request")]
    Contested {
        /// Who was first, while the grant has an entry.
        winner: Option<WorkerKey>,
    },
    /// The same claim is being minted for right now.
    #[error("the same redemption is under way")]
    UnderWay,
    /// The same claim acknowledged its parcel, or lost it for good.
    #[error("the grant is spent and its parcel is gone")]
    Acknowledged,
    /// As many are remembered as there is room for: [`ENTRIES`], [`CHUNKS`].
    #[error("too many grants were redeemed at once")]
    Full,
}

#[cfg(test)]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{GrantBody, GrantKeys};
    use blindferry_proto::bounded::{Bytes, Text};
    use blindferry_proto::identifier::ReplicaId;
    use blindferry_proto::session::{ProcessFacts, WorkerConstraint};
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    /// Issues each grant once, and opens it as often as it is brought.
    struct Issuer(GrantKeys, HashMap<GrantId, Vec<u8>>);

    impl Issuer {
        fn new() -> Self {
            Self(GrantKeys::new(ReplicaId([0; 8]), 0, &SystemRandom::new()).unwrap(), HashMap::new())
        }

        fn grant(&mut self, id: u8) -> OpenedGrant {
            self.until(id.into(), 100)
        }

        fn until(&mut self, id: u128, expires: u64) -> OpenedGrant {
            let id = GrantId(id.to_be_bytes());
            let body = GrantBody {
                id,
                credential: "c".parse().unwrap(),
                host: "h".parse().unwrap(),
                audience: None,
                worker: WorkerConstraint::default(),
                parent: ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None },
                expires,
                approval: None,
            };
            let bytes = self.1.entry(id).or_insert_with(|| self.0.seal(&body, 0, &SystemRandom::new()).unwrap());
            self.0.open(bytes, &"h".parse().unwrap(), 0).unwrap()
        }
    }

    fn ledger() -> Ledger {
        Ledger::new(&SystemRandom::new()).unwrap()
    }

    fn id(id: u8) -> GrantId {
        GrantId(u128::from(id).to_be_bytes())
    }

    /// Redeems, and spends for good.
    fn spend(ledger: &mut Ledger, grant: OpenedGrant) {
        let Turn::Mint(ticket) = ledger.redeem(grant, claim(1, 1), 0).unwrap() else { panic!("not minting") };
        ledger.fail(*ticket, Failure::Unknown);
    }

    fn claim(worker: u8, request: u8) -> Claim {
        Claim { worker_key: WorkerKey([worker; 32]), request: RequestId([request; 16]) }
    }

    fn parcelled(lease: u8) -> Parcelled {
        Parcelled {
            lease: LeaseId([lease; 16]),
            parcel: Bytes::new(vec![lease]).unwrap(),
            expires: 0,
            lease_idle: 60,
            token_type: Text::cut("Bearer"),
        }
    }

    /// Every state against every event: what comes of it.
    #[test]
    fn each_state_answers_each_event_as_drawn() {
        let mut issuer = Issuer::new();
        let (winner, loser) = (claim(1, 1), claim(2, 1));
        let contested = LedgerError::Contested { winner: Some(winner.worker_key) };
        let mut ledger = ledger();

        let Turn::Mint(ticket) = ledger.redeem(issuer.grant(1), winner, 0).unwrap() else { panic!("not minting") };
        assert_eq!(ledger.redeem(issuer.grant(1), winner, 0).unwrap_err(), LedgerError::UnderWay);
        assert_eq!(ledger.redeem(issuer.grant(1), loser, 0).unwrap_err(), contested);

        ledger.fail(*ticket, Failure::NoToken);
        assert_eq!(ledger.redeem(issuer.grant(1), loser, 0).unwrap_err(), contested);
        let Turn::Mint(ticket) = ledger.redeem(issuer.grant(1), winner, 0).unwrap() else { panic!("not minting") };

        ledger.fulfil(*ticket, parcelled(9));
        let Turn::Again(again) = ledger.redeem(issuer.grant(1), winner, 0).unwrap() else { panic!("minted twice") };
        assert_eq!(*again, parcelled(9));
        assert_eq!(ledger.redeem(issuer.grant(1), loser, 0).unwrap_err(), contested);

        assert!(!ledger.acknowledge(id(1), loser.request, LeaseId([8; 16])));
        assert!(ledger.acknowledge(id(1), winner.request, LeaseId([9; 16])));
        assert!(!ledger.acknowledge(id(1), winner.request, LeaseId([9; 16])), "twice");
        assert_eq!(ledger.redeem(issuer.grant(1), winner, 0).unwrap_err(), LedgerError::Acknowledged);
        let contested = LedgerError::Contested { winner: None };
        for other in [loser, claim(1, 2), claim(2, 2)] {
            assert_eq!(ledger.redeem(issuer.grant(1), other, 0).unwrap_err(), contested);
        }
    }

    #[test]
    fn a_token_that_may_exist_spends_the_grant() {
        let mut issuer = Issuer::new();
        let mut ledger = ledger();
        let Turn::Mint(ticket) = ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap() else { panic!("not minting") };
        ledger.fail(*ticket, Failure::Unknown);
        assert_eq!(ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap_err(), LedgerError::Acknowledged);
    }

    /// What a spent grant costs in memory is counted by tests/bench/allocations.rs.
    #[test]
    fn of_a_spent_grant_nothing_is_left_but_its_tag() {
        let (mut issuer, mut ledger) = (Issuer::new(), ledger());
        (0..600).for_each(|n| spend(&mut ledger, issuer.until(n, 100)));
        assert_eq!((ledger.len(), ledger.entries.len(), ledger.ends.len()), (600, 0, 0));
        let chunks: Vec<_> = ledger.spent.remembered().into_iter().map(|(until, tags)| (until, tags.len())).collect();
        assert_eq!(chunks, [(100, 256), (100, 256), (100, 88)]);
        let tags: BTreeSet<u64> =
            ledger.spent.remembered().into_iter().flat_map(|(_, tags)| tags).map(|(_, tag)| tag).collect();
        assert_eq!(tags.len(), 600, "the same claim has another tag for each grant");
    }

    #[test]
    fn each_of_many_spent_grants_is_told_from_the_others() {
        let (mut issuer, mut ledger) = (Issuer::new(), ledger());
        let last = 2 * u128::from(spent::CHUNK) + 1;
        (0..=last).filter(|n| n % 2 == 1).for_each(|n| spend(&mut ledger, issuer.until(n, 100)));
        for n in 0..=last {
            let turn = ledger.redeem(issuer.until(n, 100), claim(2, 1), 0);
            let was_spent = n % 2 == 1;
            assert_eq!(matches!(turn, Err(LedgerError::Contested { winner: None })), was_spent, "{n}");
            assert_eq!(matches!(turn, Ok(Turn::Mint(_))), !was_spent, "{n}");
        }
    }

    /// Who asks for very many grants and redeems one here and there makes each chunk hold one tag.
    #[test]
    fn grants_that_nobody_redeems_make_no_chunk_and_there_are_only_so_many() {
        let mut issuer = Issuer::new();
        let mut ledger = Ledger::with_room_for(9, 2, hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));
        let chunk = u128::from(spent::CHUNK);
        let mut grants: Vec<OpenedGrant> = (0..4 * chunk).map(|n| issuer.until(n, 100)).collect();
        let mut take =
            |n: u128| grants.swap_remove(grants.iter().position(|grant| grant.body().id.0 == n.to_be_bytes()).unwrap());
        assert_eq!(ledger.spent.remembered().len(), 0);
        spend(&mut ledger, take(0));
        spend(&mut ledger, take(2 * chunk));
        let refused = ledger.redeem(take(3 * chunk), claim(1, 1), 0).unwrap_err();
        assert_eq!(refused, LedgerError::Full);
        spend(&mut ledger, take(1));
        assert_eq!(
            ledger.redeem(issuer.until(0, 100), claim(2, 1), 0).unwrap_err(),
            LedgerError::Contested { winner: None }
        );
        assert_eq!(ledger.spent.remembered().len(), 2, "nothing was forgotten to make room");
    }

    #[test]
    fn a_chunk_stays_for_as_long_as_one_of_its_redeemed_grants_buys_something() {
        let (mut issuer, mut ledger) = (Issuer::new(), ledger());
        spend(&mut ledger, issuer.until(1, 50));
        let Turn::Mint(late) = ledger.redeem(issuer.until(2, 100), claim(1, 1), 0).unwrap() else {
            panic!("not minting")
        };
        ledger.forget(99);
        ledger.fail(*late, Failure::Unknown);
        assert_eq!(
            ledger.redeem(issuer.until(2, 100), claim(2, 1), 99).unwrap_err(),
            LedgerError::Contested { winner: None }
        );
        ledger.forget(100);
        assert!(ledger.is_empty() && ledger.spent.remembered().is_empty());
    }

    #[test]
    fn a_ticket_that_ends_after_its_grant_leaves_nothing() {
        for failure in [Failure::NoToken, Failure::Unknown] {
            let (mut issuer, mut ledger) = (Issuer::new(), ledger());
            let Turn::Mint(ticket) = ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap() else {
                panic!("not minting")
            };
            ledger.forget(100);
            ledger.fail(*ticket, failure);
            assert!(ledger.is_empty());
        }
    }

    #[test]
    fn another_request_of_the_same_worker_is_another_claim() {
        let mut issuer = Issuer::new();
        let mut ledger = ledger();
        let _ticket = ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap();
        let error = ledger.redeem(issuer.grant(1), claim(1, 2), 0).unwrap_err();
        assert_eq!(error, LedgerError::Contested { winner: Some(WorkerKey([1; 32])) });
    }

    #[test]
    fn entries_go_when_their_grant_is_over_and_not_before() {
        let mut issuer = Issuer::new();
        let mut ledger = ledger();
        let _ticket = ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap();
        ledger.forget(99);
        assert_eq!(ledger.len(), 1);
        ledger.forget(100);
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_claim_that_was_opened_in_time_and_comes_after_it_finds_the_grant_over() {
        let mut issuer = Issuer::new();
        let mut ledger = ledger();
        let held_up = issuer.grant(1);
        let Turn::Mint(ticket) = ledger.redeem(issuer.grant(1), claim(1, 1), 99).unwrap() else {
            panic!("not minting")
        };
        ledger.fulfil(*ticket, parcelled(9));
        assert_eq!(ledger.redeem(held_up, claim(2, 1), 100).unwrap_err(), LedgerError::Over);
    }

    proptest! {
        /// Whatever workers, brokers and upstreams do, in any order: at most one parcel comes of a grant, and it goes
        /// to one claim.
        #[test]
        fn a_grant_buys_at_most_one_token(steps in proptest::collection::vec((0u8..3, 0u8..4, 0u8..3, 0u8..6), 1..200)) {
            let mut issuer = Issuer::new();
            let mut ledger = ledger();
            let mut tickets: Vec<Ticket> = Vec::new();
            let mut bought: HashMap<u8, (u8, u8, u8)> = HashMap::new();
            let mut lost: HashMap<u8, Claim> = HashMap::new();
            let mut lease = 0;
            for (grant, worker, request, step) in steps {
                match step {
                    0 | 1 => match ledger.redeem(issuer.grant(grant), claim(worker, request), 0) {
                        Ok(Turn::Mint(ticket)) => {
                            prop_assert!(tickets.iter().all(|t| t.grant.body().id != ticket.grant.body().id));
                            prop_assert!(!bought.contains_key(&grant), "a second ticket after a token");
                            prop_assert!(!lost.contains_key(&grant), "a second ticket after a token that may exist");
                            tickets.push(*ticket);
                        }
                        Ok(Turn::Again(parcelled)) => {
                            let (w, r, l) = bought[&grant];
                            prop_assert_eq!((w, r, l), (worker, request, parcelled.lease.0[0]));
                        }
                        Err(LedgerError::Acknowledged) => {
                            let lost = lost.get(&grant).copied();
                            let winner = bought.get(&grant).map(|(w, r, _)| claim(*w, *r)).or(lost);
                            prop_assert_eq!(winner, Some(claim(worker, request)), "no alarm");
                        }
                        Err(LedgerError::Contested { .. }) => {
                            let lost = lost.get(&grant).copied();
                            let winner = bought.get(&grant).map(|(w, r, _)| claim(*w, *r)).or(lost);
                            prop_assert_ne!(winner, Some(claim(worker, request)), "an alarm about the winner");
                        }
                        Err(_) => {}
                    },
                    2 => if let Some(ticket) = tickets.pop() {
                        lease = lease % 250 + 1;
                        let claim = ticket.claim();
                        let id = ticket.grant.body().id.0[15];
                        prop_assert!(bought.insert(id, (claim.worker_key.0[0], claim.request.0[0], lease)).is_none());
                        ledger.fulfil(ticket, parcelled(lease));
                    },
                    3 => if let Some(ticket) = tickets.pop() {
                        ledger.fail(ticket, Failure::NoToken);
                    },
                    4 => if let Some((w, r, l)) = bought.get(&grant) {
                        let _ = w;
                        ledger.acknowledge(id(grant), RequestId([*r; 16]), LeaseId([*l; 16]));
                    },
                    _ => if let Some(ticket) = tickets.pop() {
                        lost.insert(ticket.grant.body().id.0[15], ticket.claim());
                        ledger.fail(ticket, Failure::Unknown);
                    },
                }
            }
        }
    }
}
