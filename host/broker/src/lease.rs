//! Which leases live, behind which process, and which ends the vault has not heard of yet: pure state.
//!
//! A lease belongs to a process, not to a connection: the program that the launcher executes keeps the process and
//! closes the connection.
//!
//! ```text
//!            bind                    end (the process ended, or gave it back)            heard
//!  (unknown) ────▶ living ──────────────────────────────────────────────────▶ ending ──────────▶ (unknown)
//!                    └────────────── forget (the vault ended it) ───────────────┴──────────────▶ (unknown)
//! ```

use blindferry_proto::identifier::LeaseId;
use blindferry_proto::limits::MAX_PAGE;
use blindferry_proto::session::LeaseEnd;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

/// What a lease belongs to: a process, held in a way that no other process can come to equal.
pub trait Identity {
    /// Equal for one and the same process, and for no other.
    type Key: Copy + Ord;

    /// What tells it from every other process.
    fn key(&self) -> Self::Key;
}

/// The leases of this host. `T` is what the shell keeps with each, dropped when nothing is left to do for it.
#[derive(Debug)]
pub struct Leases<P: Identity, T> {
    living: BTreeMap<LeaseId, Living<P::Key, T>>,
    ending: BTreeMap<LeaseId, Ending<T>>,
    /// How many living leases each process has; none is here without one.
    holders: Counts<P::Key>,
    /// How many living leases have each idle time, in seconds.
    idles: Counts<u32>,
}

/// What became of binding a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It now belongs to this process.
    New,
    /// It belonged to this process already: an answer that was asked for again.
    Already,
    /// It belongs to another process, and stays there: no process can keep another's lease alive.
    Foreign,
    /// Its process has ended, or gave it back: nothing revives it.
    Ended,
}

impl<P: Identity, T> Leases<P, T> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { living: BTreeMap::new(), ending: BTreeMap::new(), holders: Counts::new(), idles: Counts::new() }
    }

    /// A lease came from the vault for this process; it idles out after `idle` seconds without a keep. `attached` is
    /// dropped unless the lease is new.
    pub fn bind(&mut self, lease: LeaseId, process: &P, idle: u32, attached: T) -> Bound {
        let holder = process.key();
        if self.ending.contains_key(&lease) {
            return Bound::Ended;
        }
        match self.living.get_mut(&lease) {
            Some(living) if living.holder == holder => {
                self.idles.remove(std::mem::replace(&mut living.idle, idle));
                self.idles.add(idle);
                Bound::Already
            }
            Some(_) => Bound::Foreign,
            None => {
                self.living.insert(lease, Living { holder, idle, attached });
                self.holders.add(holder);
                self.idles.add(idle);
                Bound::New
            }
        }
    }

    /// The lease is over on this host; the vault has to be told. False when there is no such living lease.
    pub fn end(&mut self, lease: LeaseId, why: LeaseEnd) -> bool {
        let Some(attached) = self.no_longer_lives(lease) else { return false };
        self.ending.insert(lease, Ending { why, telling: false, attached });
        true
    }

    /// Ends that the vault has to be told of, at most `most`: each is being told from now on.
    #[must_use]
    pub fn tell(&mut self, most: usize) -> Vec<(LeaseId, LeaseEnd)> {
        let untold = self.ending.iter_mut().filter(|(_, ending)| !ending.telling).take(most);
        let told = untold.map(|(lease, ending)| {
            ending.telling = true;
            (*lease, ending.why)
        });
        told.collect()
    }

    /// The vault did not hear of the end of this lease: it has to be told again.
    pub fn unheard(&mut self, lease: LeaseId) {
        if let Some(ending) = self.ending.get_mut(&lease) {
            ending.telling = false;
        }
    }

    /// The vault heard of the end of this lease, or never knew it.
    pub fn heard(&mut self, lease: LeaseId) -> Option<T> {
        self.ending.remove(&lease).map(|ending| ending.attached)
    }

    /// The vault ended it: there is nothing to tell the vault, only the worker, if it still lives.
    pub fn forget(&mut self, lease: LeaseId) -> Option<T> {
        self.no_longer_lives(lease).or_else(|| self.heard(lease))
    }

    /// Whose lease it is, as far as this host knows.
    #[must_use]
    pub fn whose(&self, lease: LeaseId, process: &P) -> Option<Bound> {
        match self.living.get(&lease) {
            Some(living) if living.holder == process.key() => Some(Bound::Already),
            Some(_) => Some(Bound::Foreign),
            None => self.ending.contains_key(&lease).then_some(Bound::Ended),
        }
    }

    /// Whether any living lease belongs to this process.
    #[must_use]
    pub fn holds_any(&self, process: &P) -> bool {
        self.holders.0.contains_key(&process.key())
    }

    /// The living leases, in batches that one message to the vault may hold.
    #[must_use]
    pub fn keeps(&self) -> Vec<Vec<LeaseId>> {
        let all: Vec<LeaseId> = self.living.keys().copied().collect();
        all.chunks(MAX_PAGE).map(<[LeaseId]>::to_vec).collect()
    }

    /// How often to keep them: two keeps may be lost before the most impatient lease idles out. `None` without leases.
    #[must_use]
    pub fn keep_every(&self) -> Option<Duration> {
        let (&smallest, _) = self.idles.0.first_key_value()?;
        Some((Duration::from_secs(u64::from(smallest)) / 3).max(SHORTEST_KEEP))
    }

    /// Whether the vault has heard of every end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ending.is_empty()
    }

    fn no_longer_lives(&mut self, lease: LeaseId) -> Option<T> {
        let Living { holder, idle, attached } = self.living.remove(&lease)?;
        self.holders.remove(holder);
        self.idles.remove(idle);
        Some(attached)
    }
}

impl<P: Identity, T> Default for Leases<P, T> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Living<K, T> {
    holder: K,
    idle: u32,
    attached: T,
}

#[derive(Debug)]
struct Ending<T> {
    why: LeaseEnd,
    /// Whether the vault is being told.
    telling: bool,
    attached: T,
}

/// How many of each there are: so that nothing that happens to one lease has to look at all of them.
#[derive(Debug)]
struct Counts<K>(BTreeMap<K, usize>);

impl<K: Ord> Counts<K> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn add(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    fn remove(&mut self, key: K) {
        if let Entry::Occupied(mut counted) = self.0.entry(key) {
            match counted.get() {
                0 | 1 => drop(counted.remove()),
                more => *counted.get_mut() = more - 1,
            }
        }
    }
}

/// A vault that says "idle after no time" is not asked more often than this.
const SHORTEST_KEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Fake(u8);
    impl Identity for Fake {
        type Key = u8;
        fn key(&self) -> u8 {
            self.0
        }
    }

    fn lease(n: u8) -> LeaseId {
        LeaseId([n; 16])
    }

    #[test]
    fn a_retry_by_the_same_process_binds_nothing_new() {
        let mut leases = Leases::new();
        assert_eq!(leases.bind(lease(1), &Fake(1), 60, ()), Bound::New);
        assert_eq!(leases.bind(lease(1), &Fake(1), 60, ()), Bound::Already);
        assert_eq!(leases.keeps(), [[lease(1)]]);
    }

    #[test]
    fn another_process_cannot_take_a_lease_over_nor_keep_it_alive() {
        let mut leases = Leases::new();
        leases.bind(lease(1), &Fake(1), 60, ());
        assert_eq!(leases.bind(lease(1), &Fake(2), 60, ()), Bound::Foreign);
        assert_eq!(leases.whose(lease(1), &Fake(2)), Some(Bound::Foreign));
        assert!(leases.end(lease(1), LeaseEnd::WorkerGone));
        assert_eq!(leases.bind(lease(1), &Fake(2), 60, ()), Bound::Ended, "an ended lease is not revived");
        assert!(leases.keeps().is_empty());
    }

    #[test]
    fn an_end_stays_until_it_is_heard() {
        let mut leases = Leases::new();
        leases.bind(lease(1), &Fake(1), 60, "attached");
        leases.end(lease(1), LeaseEnd::WorkerGone);
        assert!(!leases.end(lease(1), LeaseEnd::Returned), "the first reason stands");
        assert_eq!(leases.tell(9), [(lease(1), LeaseEnd::WorkerGone)]);
        assert!(leases.tell(9).is_empty(), "it is told twice at once");
        leases.unheard(lease(1));
        assert_eq!(leases.tell(9), [(lease(1), LeaseEnd::WorkerGone)]);
        assert!(!leases.is_settled());
        assert_eq!(leases.heard(lease(1)), Some("attached"));
        leases.unheard(lease(1));
        assert!(leases.tell(9).is_empty() && leases.is_settled());
    }

    #[test]
    fn what_the_vault_ended_is_neither_kept_nor_reported() {
        let mut leases = Leases::new();
        leases.bind(lease(1), &Fake(1), 60, 1);
        leases.bind(lease(2), &Fake(1), 60, 2);
        leases.end(lease(2), LeaseEnd::WorkerGone);
        assert_eq!(leases.forget(lease(1)), Some(1));
        assert_eq!(leases.forget(lease(2)), Some(2));
        assert_eq!(leases.forget(lease(3)), None);
        assert!(leases.keeps().is_empty() && leases.tell(9).is_empty());
    }

    #[test]
    fn keeps_come_at_a_third_of_the_smallest_idle_time_in_bounded_batches() {
        let mut leases = Leases::new();
        assert_eq!(leases.keep_every(), None);
        for n in 0..=200 {
            leases.bind(lease(n), &Fake(n), 90 + u32::from(n), ());
        }
        assert_eq!(leases.keep_every(), Some(Duration::from_secs(30)));
        let keeps = leases.keeps();
        assert!(keeps.iter().all(|batch| batch.len() <= MAX_PAGE));
        assert_eq!(keeps.concat().len(), 201);
        leases.bind(lease(250), &Fake(250), 0, ());
        assert_eq!(leases.keep_every(), Some(SHORTEST_KEEP));
    }

    #[test]
    fn the_most_impatient_lease_sets_the_pace_for_as_long_as_it_lives() {
        let mut leases = Leases::new();
        for (n, idle) in [(1, 90), (2, 30), (3, 30)] {
            leases.bind(lease(n), &Fake(1), idle, ());
        }
        leases.end(lease(2), LeaseEnd::Returned);
        assert_eq!(leases.keep_every(), Some(Duration::from_secs(10)));
        leases.bind(lease(3), &Fake(1), 60, ());
        assert_eq!(leases.keep_every(), Some(Duration::from_secs(20)));
        leases.forget(lease(3));
        assert_eq!(leases.keep_every(), Some(Duration::from_secs(30)));
        leases.end(lease(1), LeaseEnd::Returned);
        assert_eq!(leases.keep_every(), None);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Bind(u8, u8),
        End(u8),
        Heard(u8),
        Unheard(u8),
        Forget(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6_u8, 0..3_u8).prop_map(|(lease, process)| Step::Bind(lease, process)),
            (0..6_u8).prop_map(Step::End),
            (0..6_u8).prop_map(Step::Heard),
            (0..6_u8).prop_map(Step::Unheard),
            (0..6_u8).prop_map(Step::Forget),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: a lease is never living and ending at once, an end once begun is only
        /// ever followed by the vault's word, and a living lease never changes its process.
        #[test]
        fn no_order_of_events_loses_an_end_or_moves_a_lease(steps in prop::collection::vec(step(), 0..60)) {
            let mut leases = Leases::new();
            let mut owed = std::collections::BTreeSet::new();
            let mut owners = std::collections::BTreeMap::new();
            for step in steps {
                match step {
                    Step::Bind(n, process) => if leases.bind(lease(n), &Fake(process), 60, ()) == Bound::New {
                        prop_assert!(!owed.contains(&n));
                        prop_assert_eq!(owners.insert(n, process), None);
                    },
                    Step::End(n) => if leases.end(lease(n), LeaseEnd::WorkerGone) {
                        prop_assert!(owners.remove(&n).is_some());
                        owed.insert(n);
                    },
                    Step::Heard(n) => prop_assert_eq!(leases.heard(lease(n)).is_some(), owed.remove(&n)),
                    Step::Unheard(n) => leases.unheard(lease(n)),
                    Step::Forget(n) => {
                        let known = owners.remove(&n).is_some() | owed.remove(&n);
                        prop_assert_eq!(leases.forget(lease(n)).is_some(), known);
                    }
                }
                for n in &owed {
                    leases.unheard(lease(*n));
                }
                let ends: Vec<u8> = leases.tell(99).iter().map(|(lease, _)| lease.0[0]).collect();
                prop_assert!(ends.into_iter().eq(owed.iter().copied()));
                let kept: Vec<u8> = leases.keeps().concat().iter().map(|lease| lease.0[0]).collect();
                prop_assert!(kept.into_iter().eq(owners.keys().copied()));
                for (n, process) in &owners {
                    prop_assert_eq!(leases.whose(lease(*n), &Fake(*process)), Some(Bound::Already));
                }
                for process in 0..3 {
                    let holds = owners.values().any(|owner| *owner == process);
                    prop_assert_eq!(leases.holds_any(&Fake(process)), holds);
                }
                prop_assert_eq!(leases.keep_every().is_some(), !owners.is_empty());
            }
        }
    }
}
