//! Leases: what a redeemed grant leaves behind. A lease is renewed while its worker lives, and ends when the worker
//! dies, when nobody keeps it, or when its host is no longer believed.
//!
//! Pure: time is an argument, and who ends a lease gets it back by value, with whatever has to be revoked.

use crate::policy::Approver;
use blindferry_proto::identifier::{GrantId, LeaseId, RequestId, SessionId, WorkerKey};
use blindferry_proto::name::{Audience, CredentialName, HostName, VariableName};
use blindferry_proto::session::{Parcelled, ProcessFacts};
use std::cmp::Reverse;
use std::collections::HashMap;

/// Leases of one host at once.
pub const LEASES_PER_HOST: usize = 10_000;
/// Leases at once.
pub const LEASES: usize = 100_000;

/// One lease. `R` is what it takes to revoke its token upstream.
#[derive(Debug)]
pub struct Lease<R> {
    /// Its identity.
    pub id: LeaseId,
    /// What it was made of; its session is the one through which it was last heard of.
    pub terms: Terms,
    /// What it takes to revoke its tokens, newest last: one, or two while a renewal is on its way to the worker.
    pub revocable: Vec<R>,
    /// When it began, in seconds since the epoch.
    pub since: u64,
    ends: u64,
    renewal: Option<Renewal>,
}

#[derive(Debug)]
enum Renewal {
    UnderWay,
    Done(RequestId, Box<Parcelled>),
}

impl<R> Lease<R> {
    /// When it ends unless it is kept, in seconds since the epoch.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends
    }
}

/// What to do about a renewal.
#[derive(Debug, PartialEq, Eq)]
pub enum RenewalTurn {
    /// Mint a token.
    Mint,
    /// It was minted before: this is its parcel.
    Again(Box<Parcelled>),
}

/// All leases of this running vault.
#[derive(Debug)]
pub struct Leases<R> {
    leases: HashMap<LeaseId, Lease<R>>,
    per_host: HashMap<HostName, usize>,
}

impl<R> Default for Leases<R> {
    fn default() -> Self {
        Self { leases: HashMap::new(), per_host: HashMap::new() }
    }
}

/// What a lease is made of.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The grant that it came from.
    pub grant: GrantId,
    /// Of which credential.
    pub credential: CredentialName,
    /// On which host.
    pub host: HostName,
    /// Through which session.
    pub session: SessionId,
    /// The key that its parcels are encrypted to.
    pub worker_key: WorkerKey,
    /// The worker as its broker saw it when it redeemed.
    pub worker: ProcessFacts,
    /// Credentials of its parent that it got as well, as its launcher said.
    pub inherited: Vec<VariableName>,
    /// Who had asked for the grant.
    pub parent: ProcessFacts,
    /// Whom its tokens are for.
    pub audience: Option<Audience>,
    /// It ends when nobody keeps it for so many seconds.
    pub idle: u32,
    /// Who approved the grant that it came from, where a person had to.
    pub approval: Option<Approver>,
}

impl<R> Leases<R> {
    /// Whether one more lease may begin on this host: asked before a token is minted for it.
    ///
    /// # Errors
    /// [`LeaseError::Full`].
    pub fn room(&self, host: &HostName) -> Result<(), LeaseError> {
        let of_host = self.per_host.get(host).copied().unwrap_or_default();
        if of_host >= LEASES_PER_HOST || self.leases.len() >= LEASES { Err(LeaseError::Full) } else { Ok(()) }
    }

    /// Begins a lease.
    pub fn begin(&mut self, id: LeaseId, terms: Terms, revocable: Option<R>, now: u64) {
        *self.per_host.entry(terms.host.clone()).or_default() += 1;
        let ends = now + u64::from(terms.idle);
        let lease = Lease { id, terms, revocable: revocable.into_iter().collect(), since: now, ends, renewal: None };
        self.leases.insert(id, lease);
    }

    /// The lease of that name, if this host has it.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], also when it is another host's.
    pub fn of_host(&self, id: LeaseId, host: &HostName) -> Result<&Lease<R>, LeaseError> {
        self.leases.get(&id).filter(|lease| lease.terms.host == *host).ok_or(LeaseError::Unknown)
    }

    /// At most `most` leases, the one that ends soonest first.
    #[must_use]
    pub fn ending(&self, most: usize) -> Vec<&Lease<R>> {
        let mut all: Vec<&Lease<R>> = self.leases.values().collect();
        if all.len() > most && most > 0 {
            let _pivot = all.select_nth_unstable_by_key(most - 1, |lease| (lease.ends, lease.id.0));
        }
        all.truncate(most);
        all.sort_unstable_by_key(|lease| (lease.ends, lease.id.0));
        all
    }

    /// Its worker lives, says its host's broker. Whether there is such a lease.
    pub fn keep(&mut self, id: LeaseId, host: &HostName, session: SessionId, now: u64) -> bool {
        match self.leases.get_mut(&id).filter(|lease| lease.terms.host == *host) {
            Some(lease) => {
                lease.ends = now + u64::from(lease.terms.idle);
                lease.terms.session = session;
                true
            }
            None => false,
        }
    }

    /// Its worker wants the next token.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], or [`LeaseError::UnderWay`] while an earlier renewal is.
    pub fn renew(&mut self, id: LeaseId, host: &HostName, request: RequestId) -> Result<RenewalTurn, LeaseError> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.terms.host == *host).ok_or(LeaseError::Unknown)?;
        match &lease.renewal {
            Some(Renewal::UnderWay) => Err(LeaseError::UnderWay),
            Some(Renewal::Done(earlier, parcelled)) if *earlier == request => Ok(RenewalTurn::Again(parcelled.clone())),
            Some(Renewal::Done(..)) | None => {
                lease.renewal = Some(Renewal::UnderWay);
                Ok(RenewalTurn::Mint)
            }
        }
    }

    /// The renewal's token is in this parcel. The token before it serves the worker until the new one has arrived; one
    /// before that was left behind by a renewal that nobody acknowledged, and is given back to be revoked.
    ///
    /// # Errors
    /// The new token, to be revoked: the lease ended meanwhile.
    pub fn renewed(
        &mut self,
        id: LeaseId,
        request: RequestId,
        parcelled: Parcelled,
        revocable: Option<R>,
        now: u64,
    ) -> Result<Vec<R>, Option<R>> {
        let Some(lease) = self.leases.get_mut(&id) else { return Err(revocable) };
        lease.renewal = Some(Renewal::Done(request, Box::new(parcelled)));
        lease.ends = now + u64::from(lease.terms.idle);
        let left_behind = lease.all_but_newest();
        lease.revocable.extend(revocable);
        Ok(left_behind)
    }

    /// The renewal gave no token; it may be asked for again.
    pub fn not_renewed(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.renewal = None;
        }
    }

    /// The worker has the renewal's token: its parcel is forgotten, and the tokens before it are given back to be
    /// revoked. `None` when no such renewal waits.
    pub fn acknowledge(&mut self, id: LeaseId, request: RequestId) -> Option<Vec<R>> {
        let lease = self.leases.get_mut(&id)?;
        if !matches!(&lease.renewal, Some(Renewal::Done(done, _)) if *done == request) {
            return None;
        }
        lease.renewal = None;
        Some(lease.all_but_newest())
    }

    /// Ends one lease of this host.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`].
    pub fn end(&mut self, id: LeaseId, host: &HostName) -> Result<Lease<R>, LeaseError> {
        self.of_host(id, host)?;
        self.take(id).ok_or(LeaseError::Unknown)
    }

    /// Ends the leases that nobody kept in time.
    pub fn end_idle(&mut self, now: u64) -> Vec<Lease<R>> {
        self.end_where(|lease| lease.ends <= now)
    }

    /// Ends all leases that `over` says are over.
    pub fn end_where(&mut self, over: impl Fn(&Lease<R>) -> bool) -> Vec<Lease<R>> {
        let ids: Vec<LeaseId> = self.leases.values().filter(|lease| over(lease)).map(|lease| lease.id).collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }

    /// Those that began last, newest first, at most `most`.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<&Lease<R>> {
        let mut leases: Vec<_> = self.leases.values().collect();
        let order = |lease: &&Lease<R>| (Reverse(lease.since), lease.id);
        if leases.len() > most {
            leases.select_nth_unstable_by_key(most, order);
            leases.truncate(most);
        }
        leases.sort_unstable_by_key(order);
        leases
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    fn take(&mut self, id: LeaseId) -> Option<Lease<R>> {
        let lease = self.leases.remove(&id)?;
        if let Some(count) = self.per_host.get_mut(&lease.terms.host) {
            *count -= 1;
            if *count == 0 {
                self.per_host.remove(&lease.terms.host);
            }
        }
        Some(lease)
    }
}

impl<R> Lease<R> {
    fn all_but_newest(&mut self) -> Vec<R> {
        let older = self.revocable.len().saturating_sub(1);
        self.revocable.drain(..older).collect()
    }
}

/// Why a lease does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// No such lease on this host.
    #[error("no such lease on this host")]
    Unknown,
    /// An earlier renewal is under way.
    #[error("a renewal of this lease is under way")]
    UnderWay,
    /// The host, or the vault, is at its bound.
    #[error("too many leases")]
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::{Bytes, Text};
    use proptest::prelude::*;

    const ID: LeaseId = LeaseId([1; 16]);

    fn terms(host: &str) -> Terms {
        let process = ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None };
        Terms {
            grant: GrantId([0; 16]),
            credential: "c".parse().unwrap(),
            host: host.parse().unwrap(),
            session: SessionId([0; 16]),
            worker_key: WorkerKey([0; 32]),
            worker: process,
            inherited: Vec::new(),
            parent: process,
            audience: None,
            idle: 60,
            approval: None,
        }
    }

    fn parcelled(tag: u8) -> Parcelled {
        let parcel = Bytes::new(vec![tag]).unwrap();
        Parcelled { lease: ID, parcel, expires: 0, lease_idle: 60, token_type: Text::cut("Bearer") }
    }

    fn host() -> HostName {
        "h".parse().unwrap()
    }

    fn begun() -> Leases<u8> {
        let mut leases = Leases::default();
        leases.begin(ID, terms("h"), Some(1), 1000);
        leases
    }

    #[test]
    fn a_lease_that_is_kept_lives_and_one_that_is_not_ends() {
        let mut leases = begun();
        assert!(leases.end_idle(1059).is_empty());
        assert!(leases.keep(ID, &host(), SessionId([2; 16]), 1059));
        assert!(leases.end_idle(1118).is_empty());
        let ended = leases.end_idle(1119);
        assert_eq!((ended.len(), ended[0].revocable.as_slice()), (1, [1].as_slice()));
        assert!(!leases.keep(ID, &host(), SessionId([2; 16]), 1119), "an ended lease came back");
    }

    #[test]
    fn those_that_end_soonest_are_told_of_and_no_more_than_asked_for() {
        let mut leases: Leases<u8> = Leases::default();
        for (at, number) in [(5, 1), (3, 2), (9, 3), (3, 4)] {
            leases.begin(LeaseId([number; 16]), terms("h"), None, at);
        }
        let told = |most| leases.ending(most).iter().map(|lease| lease.id.0[0]).collect::<Vec<_>>();
        assert_eq!(told(3), [2, 4, 1]);
        assert_eq!(told(9), [2, 4, 1, 3]);
        assert_eq!(told(0), [0; 0]);
    }

    #[test]
    fn the_newest_leases_are_those_that_began_last() {
        let mut leases: Leases<u8> = Leases::default();
        for number in 0..20 {
            leases.begin(LeaseId([number; 16]), terms("h"), None, 1000 + u64::from(number % 10));
        }
        let newest: Vec<_> = leases.newest(3).iter().map(|lease| (lease.since, lease.id.0[0])).collect();
        assert_eq!(newest, [(1009, 9), (1009, 19), (1008, 8)]);
        assert_eq!(leases.newest(100).len(), 20);
    }

    #[test]
    fn another_host_can_neither_keep_nor_renew_nor_end_a_lease() {
        let mut leases = begun();
        let other = "i".parse().unwrap();
        assert!(!leases.keep(ID, &other, SessionId([2; 16]), 1000));
        assert_eq!(leases.renew(ID, &other, RequestId([1; 16])).unwrap_err(), LeaseError::Unknown);
        assert_eq!(leases.end(ID, &other).unwrap_err(), LeaseError::Unknown);
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn a_renewal_is_minted_once_for_its_request() {
        let mut leases = begun();
        let (first, second) = (RequestId([1; 16]), RequestId([2; 16]));
        assert_eq!(leases.renew(ID, &host(), first).unwrap(), RenewalTurn::Mint);
        assert_eq!(leases.renew(ID, &host(), first).unwrap_err(), LeaseError::UnderWay);
        assert!(leases.renewed(ID, first, parcelled(7), Some(2), 1000).unwrap().is_empty());
        assert_eq!(leases.renew(ID, &host(), first).unwrap(), RenewalTurn::Again(Box::new(parcelled(7))));
        assert_eq!(leases.acknowledge(ID, first), Some(vec![1]), "the token before it was not revoked");
        assert_eq!(leases.acknowledge(ID, first), None);
        assert_eq!(leases.renew(ID, &host(), second).unwrap(), RenewalTurn::Mint);
        leases.not_renewed(ID);
        assert_eq!(leases.renew(ID, &host(), second).unwrap(), RenewalTurn::Mint);
    }

    #[test]
    fn a_token_of_a_lease_that_ended_meanwhile_comes_back_to_be_revoked() {
        let mut leases = begun();
        let request = RequestId([1; 16]);
        assert_eq!(leases.renew(ID, &host(), request).unwrap(), RenewalTurn::Mint);
        assert_eq!(leases.end(ID, &host()).unwrap().revocable, [1]);
        assert_eq!(leases.renewed(ID, request, parcelled(7), Some(2), 1000).unwrap_err(), Some(2));
    }

    #[test]
    fn no_token_of_a_lease_is_forgotten_before_it_is_revoked() {
        let mut leases = begun();
        let (first, second) = (RequestId([1; 16]), RequestId([2; 16]));
        assert_eq!(leases.renew(ID, &host(), first).unwrap(), RenewalTurn::Mint);
        assert!(leases.renewed(ID, first, parcelled(7), Some(2), 1000).unwrap().is_empty());
        assert_eq!(leases.renew(ID, &host(), second).unwrap(), RenewalTurn::Mint);
        assert_eq!(leases.renewed(ID, second, parcelled(8), Some(3), 1000).unwrap(), [1], "left behind");
        assert_eq!(leases.end(ID, &host()).unwrap().revocable, [2, 3]);
    }

    proptest! {
        /// Whatever begins and ends: counts agree, and no lease outlives the last time it was kept by its idle time.
        #[test]
        fn no_lease_outlives_its_keeping(steps in proptest::collection::vec((0u8..8, 0u8..4, 0u64..50), 1..200)) {
            let mut leases: Leases<u8> = Leases::default();
            let mut kept: HashMap<u8, u64> = HashMap::new();
            let mut now = 0;
            for (which, step, passed) in steps {
                now += passed;
                for lease in leases.end_idle(now) {
                    let last = kept.remove(&lease.id.0[0]).unwrap();
                    prop_assert!(now >= last + 60);
                }
                let id = LeaseId([which; 16]);
                match step {
                    0 if !kept.contains_key(&which) => {
                        leases.begin(id, terms("h"), None, now);
                        kept.insert(which, now);
                    }
                    1 => {
                        let there = leases.keep(id, &host(), SessionId([0; 16]), now);
                        prop_assert_eq!(there, kept.contains_key(&which));
                        if there { kept.insert(which, now); }
                    }
                    2 => {
                        prop_assert_eq!(leases.end(id, &host()).is_ok(), kept.remove(&which).is_some());
                    }
                    _ => {}
                }
                prop_assert_eq!(leases.len(), kept.len());
                prop_assert_eq!(leases.per_host.values().sum::<usize>(), kept.len());
                prop_assert!(kept.values().all(|last| now < last + 60));
            }
        }
    }
}
