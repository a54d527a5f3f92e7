//! The ledger of spent grants: each buys at most one token, and a lost reply is not a lost token.
//!
//! ```text
//!                    same claim: wait                same claim: same parcel
//!                         ┌──┐                              ┌──┐
//!   (unknown) ──redeem──▶ Minting ──fulfil──▶ Redeemed ─────┘  │──acknowledge──▶ Acknowledged
//!                         │    ▲                               │
//!                  no token    └──same claim redeems           └─ any other claim, anywhere: contested
//!                         ▼
//!                      Claimed
//! ```
//!
//! A claim is a worker's key with its request id. Entries go when the grant's own time is over, since then the grant buys
//! nothing any more; so the ledger is bounded and needs no disk.
//!
//! That it buys nothing is judged here, at the moment in which it is spent.
//! [`GrantKeys::open`](crate::grant::GrantKeys::open) looked at the time too, but between the two the vault waits for its
//! store, which is not trusted: a claim that was opened in time and held up there until the winner's entry was forgotten
//! would otherwise be the first one again.

use crate::grant::OpenedGrant;
use blindferry_proto::identifier::{GrantId, LeaseId, RequestId, WorkerKey};
use blindferry_proto::session::Parcelled;
use std::collections::{BTreeSet, HashMap};

/// Grants that may be remembered as redeemed at once. At [`GRANT_LIFE`](crate::grant::GRANT_LIFE) this allows far more
/// redemptions a second than a vault can mint.
pub const ENTRIES: usize = 200_000;

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
}

impl Default for Ledger {
    fn default() -> Self {
        Self::with_room_for(ENTRIES)
    }
}

#[derive(Debug)]
struct Entry {
    claim: Claim,
    state: State,
}

#[derive(Debug)]
enum State {
    Minting,
    Claimed,
    Redeemed(Box<Parcelled>),
    Acknowledged,
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
    /// One that remembers so many grants and no more.
    #[must_use]
    pub fn with_room_for(most: usize) -> Self {
        Self { entries: HashMap::new(), ends: BTreeSet::new(), most }
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
        let id = grant.body().id;
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.claim != claim {
                return Err(LedgerError::Contested { winner: entry.claim.worker_key });
            }
            return match &entry.state {
                State::Minting => Err(LedgerError::UnderWay),
                State::Claimed => {
                    entry.state = State::Minting;
                    Ok(Turn::Mint(Box::new(Ticket { grant, claim })))
                }
                State::Redeemed(parcelled) => Ok(Turn::Again(parcelled.clone())),
                State::Acknowledged => Err(LedgerError::Acknowledged),
            };
        }
        if self.entries.len() >= self.most {
            return Err(LedgerError::Full);
        }
        self.entries.insert(id, Entry { claim, state: State::Minting });
        self.ends.insert((grant.body().expires, id));
        Ok(Turn::Mint(Box::new(Ticket { grant, claim })))
    }

    /// The ticket's token is in this parcel: kept for the same claim until it is acknowledged or the grant is over.
    pub fn fulfil(&mut self, ticket: Ticket, parcelled: Parcelled) {
        self.settle(&ticket, State::Redeemed(Box::new(parcelled)));
    }

    /// The ticket gave no parcel.
    pub fn fail(&mut self, ticket: Ticket, failure: Failure) {
        let state = match failure {
            Failure::NoToken => State::Claimed,
            Failure::Unknown => State::Acknowledged,
        };
        self.settle(&ticket, state);
    }

    /// The worker has what it asked for: the parcel is forgotten. Whether there was one to forget.
    pub fn acknowledge(&mut self, grant: GrantId, request: RequestId, lease: LeaseId) -> bool {
        match self.entries.get_mut(&grant) {
            Some(entry)
                if entry.claim.request == request
                    && matches!(&entry.state, State::Redeemed(parcelled) if parcelled.lease == lease) =>
            {
                entry.state = State::Acknowledged;
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
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
        /// Who was first.
        winner: WorkerKey,
    },
    /// The same claim is being minted for right now.
    #[error("the same redemption is under way")]
    UnderWay,
    /// The same claim acknowledged its parcel, or lost it for good.
    #[error("the grant is spent and its parcel is gone")]
    Acknowledged,
    /// As many are remembered as there is room for: [`ENTRIES`].
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

    struct Issuer(GrantKeys);

    impl Issuer {
        fn new() -> Self {
            Self(GrantKeys::new(ReplicaId([0; 8]), 0, &SystemRandom::new()).unwrap())
        }

        fn grant(&mut self, id: u8) -> OpenedGrant {
            let body = GrantBody {
                id: GrantId([id; 16]),
                credential: "c".parse().unwrap(),
                host: "h".parse().unwrap(),
                audience: None,
                worker: WorkerConstraint::default(),
                parent: ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None },
                expires: 100,
                approval: None,
            };
            let bytes = self.0.seal(&body, 0, &SystemRandom::new()).unwrap();
            self.0.open(&bytes, &"h".parse().unwrap(), 0).unwrap()
        }
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
        let contested = LedgerError::Contested { winner: winner.worker_key };
        let mut ledger = Ledger::default();

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

        assert!(!ledger.acknowledge(GrantId([1; 16]), loser.request, LeaseId([8; 16])));
        assert!(ledger.acknowledge(GrantId([1; 16]), winner.request, LeaseId([9; 16])));
        assert_eq!(ledger.redeem(issuer.grant(1), winner, 0).unwrap_err(), LedgerError::Acknowledged);
        assert_eq!(ledger.redeem(issuer.grant(1), loser, 0).unwrap_err(), contested);
    }

    #[test]
    fn a_token_that_may_exist_spends_the_grant() {
        let mut issuer = Issuer::new();
        let mut ledger = Ledger::default();
        let Turn::Mint(ticket) = ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap() else { panic!("not minting") };
        ledger.fail(*ticket, Failure::Unknown);
        assert_eq!(ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap_err(), LedgerError::Acknowledged);
    }

    #[test]
    fn another_request_of_the_same_worker_is_another_claim() {
        let mut issuer = Issuer::new();
        let mut ledger = Ledger::default();
        let _ticket = ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap();
        let error = ledger.redeem(issuer.grant(1), claim(1, 2), 0).unwrap_err();
        assert_eq!(error, LedgerError::Contested { winner: WorkerKey([1; 32]) });
    }

    #[test]
    fn entries_go_when_their_grant_is_over_and_not_before() {
        let mut issuer = Issuer::new();
        let mut ledger = Ledger::default();
        let _ticket = ledger.redeem(issuer.grant(1), claim(1, 1), 0).unwrap();
        ledger.forget(99);
        assert_eq!(ledger.len(), 1);
        ledger.forget(100);
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_claim_that_was_opened_in_time_and_comes_after_it_finds_the_grant_over() {
        let mut issuer = Issuer::new();
        let mut ledger = Ledger::default();
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
        fn a_grant_buys_at_most_one_token(steps in proptest::collection::vec((0u8..3, 0u8..4, 0u8..3, 0u8..5), 1..200)) {
            let mut issuer = Issuer::new();
            let mut ledger = Ledger::default();
            let mut tickets: Vec<Ticket> = Vec::new();
            let mut bought: HashMap<u8, (u8, u8, u8)> = HashMap::new();
            let mut lease = 0;
            for (grant, worker, request, step) in steps {
                match step {
                    0 | 1 => match ledger.redeem(issuer.grant(grant), claim(worker, request), 0) {
                        Ok(Turn::Mint(ticket)) => {
                            prop_assert!(tickets.iter().all(|t| t.grant.body().id != ticket.grant.body().id));
                            prop_assert!(!bought.contains_key(&grant), "a second ticket after a token");
                            tickets.push(*ticket);
                        }
                        Ok(Turn::Again(parcelled)) => {
                            let (w, r, l) = bought[&grant];
                            prop_assert_eq!((w, r, l), (worker, request, parcelled.lease.0[0]));
                        }
                        Err(_) => {}
                    },
                    2 => if let Some(ticket) = tickets.pop() {
                        lease = lease % 250 + 1;
                        let claim = ticket.claim();
                        let id = ticket.grant.body().id.0[0];
                        prop_assert!(bought.insert(id, (claim.worker_key.0[0], claim.request.0[0], lease)).is_none());
                        ledger.fulfil(ticket, parcelled(lease));
                    },
                    3 => if let Some(ticket) = tickets.pop() {
                        ledger.fail(ticket, Failure::NoToken);
                    },
                    _ => if let Some((w, r, l)) = bought.get(&grant) {
                        let _ = w;
                        ledger.acknowledge(GrantId([grant; 16]), RequestId([*r; 16]), LeaseId([*l; 16]));
                    },
                }
            }
        }
    }
}
