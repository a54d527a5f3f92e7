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
use std::time::Duration;

/// What a lease belongs to: a process, held in a way that no other process can come to equal.
pub trait Identity {
    /// Whether both are one and the same process.
    fn same_as(&self, other: &Self) -> bool;
}

/// The leases of this host. `T` is what the shell keeps with each, dropped when nothing is left to do for it.
#[derive(Debug)]
pub struct Leases<P, T> {
    living: BTreeMap<LeaseId, Living<P, T>>,
    ending: BTreeMap<LeaseId, Ending<T>>,
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
        Self { living: BTreeMap::new(), ending: BTreeMap::new() }
    }

    /// A lease came from the vault for this process; it idles out after `idle` seconds without a keep. `attached` is
    /// dropped unless the lease is new.
    pub fn bind(&mut self, lease: LeaseId, process: P, idle: u32, attached: T) -> Bound {
        if self.ending.contains_key(&lease) {
            return Bound::Ended;
        }
        match self.living.get_mut(&lease) {
            Some(living) if living.process.same_as(&process) => {
                living.idle = idle;
                Bound::Already
            }
            Some(_) => Bound::Foreign,
            None => {
                self.living.insert(lease, Living { process, idle, attached });
                Bound::New
            }
        }
    }

    /// The lease is over on this host; the vault has to be told. False when there is no such living lease.
    pub fn end(&mut self, lease: LeaseId, why: LeaseEnd) -> bool {
        let Some(living) = self.living.remove(&lease) else { return false };
        self.ending.insert(lease, Ending { why, attached: living.attached });
        true
    }

    /// The vault heard of the end of this lease, or never knew it.
    pub fn heard(&mut self, lease: LeaseId) -> Option<T> {
        self.ending.remove(&lease).map(|ending| ending.attached)
    }

    /// The vault ended it: there is nothing to tell the vault, only the worker, if it still lives.
    pub fn forget(&mut self, lease: LeaseId) -> Option<T> {
        let living = self.living.remove(&lease).map(|living| living.attached);
        living.or_else(|| self.heard(lease))
    }

    /// Whose lease it is, as far as this host knows.
    #[must_use]
    pub fn whose(&self, lease: LeaseId, process: &P) -> Option<Bound> {
        match self.living.get(&lease) {
            Some(living) if living.process.same_as(process) => Some(Bound::Already),
            Some(_) => Some(Bound::Foreign),
            None => self.ending.contains_key(&lease).then_some(Bound::Ended),
        }
    }

    /// Whether any living lease belongs to this process.
    #[must_use]
    pub fn holds_any(&self, process: &P) -> bool {
        self.living.values().any(|living| living.process.same_as(process))
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
        let smallest = self.living.values().map(|living| living.idle).min()?;
        Some((Duration::from_secs(u64::from(smallest)) / 3).max(SHORTEST_KEEP))
    }

    /// At most `most` ends that the vault has not heard of.
    #[must_use]
    pub fn ends(&self, most: usize) -> Vec<(LeaseId, LeaseEnd)> {
        self.ending.iter().take(most).map(|(lease, ending)| (*lease, ending.why)).collect()
    }
}

impl<P: Identity, T> Default for Leases<P, T> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Living<P, T> {
    process: P,
    idle: u32,
    attached: T,
}

#[derive(Debug)]
struct Ending<T> {
    why: LeaseEnd,
    attached: T,
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
        fn same_as(&self, other: &Self) -> bool {
            self == other
        }
    }

    fn lease(n: u8) -> LeaseId {
        LeaseId([n; 16])
    }

    #[test]
    fn a_retry_by_the_same_process_binds_nothing_new() {
        let mut leases = Leases::new();
        assert_eq!(leases.bind(lease(1), Fake(1), 60, ()), Bound::New);
        assert_eq!(leases.bind(lease(1), Fake(1), 60, ()), Bound::Already);
        assert_eq!(leases.keeps(), [[lease(1)]]);
    }

    #[test]
    fn another_process_cannot_take_a_lease_over_nor_keep_it_alive() {
        let mut leases = Leases::new();
        leases.bind(lease(1), Fake(1), 60, ());
        assert_eq!(leases.bind(lease(1), Fake(2), 60, ()), Bound::Foreign);
        assert_eq!(leases.whose(lease(1), &Fake(2)), Some(Bound::Foreign));
        assert!(leases.end(lease(1), LeaseEnd::WorkerGone));
        assert_eq!(leases.bind(lease(1), Fake(2), 60, ()), Bound::Ended, "an ended lease is not revived");
        assert!(leases.keeps().is_empty());
    }

    #[test]
    fn an_end_stays_until_it_is_heard() {
        let mut leases = Leases::new();
        leases.bind(lease(1), Fake(1), 60, "attached");
        leases.end(lease(1), LeaseEnd::WorkerGone);
        assert!(!leases.end(lease(1), LeaseEnd::Returned), "the first reason stands");
        assert_eq!(leases.ends(9), [(lease(1), LeaseEnd::WorkerGone)]);
        assert_eq!(leases.ends(9), [(lease(1), LeaseEnd::WorkerGone)]);
        assert_eq!(leases.heard(lease(1)), Some("attached"));
        assert!(leases.ends(9).is_empty());
    }

    #[test]
    fn what_the_vault_ended_is_neither_kept_nor_reported() {
        let mut leases = Leases::new();
        leases.bind(lease(1), Fake(1), 60, 1);
        leases.bind(lease(2), Fake(1), 60, 2);
        leases.end(lease(2), LeaseEnd::WorkerGone);
        assert_eq!(leases.forget(lease(1)), Some(1));
        assert_eq!(leases.forget(lease(2)), Some(2));
        assert_eq!(leases.forget(lease(3)), None);
        assert!(leases.keeps().is_empty() && leases.ends(9).is_empty());
    }

    #[test]
    fn keeps_come_at_a_third_of_the_smallest_idle_time_in_bounded_batches() {
        let mut leases = Leases::new();
        assert_eq!(leases.keep_every(), None);
        for n in 0..=200 {
            leases.bind(lease(n), Fake(n), 90 + u32::from(n), ());
        }
        assert_eq!(leases.keep_every(), Some(Duration::from_secs(30)));
        let keeps = leases.keeps();
        assert!(keeps.iter().all(|batch| batch.len() <= MAX_PAGE));
        assert_eq!(keeps.concat().len(), 201);
        leases.bind(lease(250), Fake(250), 0, ());
        assert_eq!(leases.keep_every(), Some(SHORTEST_KEEP));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Bind(u8, u8),
        End(u8),
        Heard(u8),
        Forget(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6_u8, 0..3_u8).prop_map(|(lease, process)| Step::Bind(lease, process)),
            (0..6_u8).prop_map(Step::End),
            (0..6_u8).prop_map(Step::Heard),
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
                    Step::Bind(n, process) => if leases.bind(lease(n), Fake(process), 60, ()) == Bound::New {
                        prop_assert!(!owed.contains(&n));
                        prop_assert_eq!(owners.insert(n, process), None);
                    },
                    Step::End(n) => if leases.end(lease(n), LeaseEnd::WorkerGone) {
                        prop_assert!(owners.remove(&n).is_some());
                        owed.insert(n);
                    },
                    Step::Heard(n) => prop_assert_eq!(leases.heard(lease(n)).is_some(), owed.remove(&n)),
                    Step::Forget(n) => {
                        let known = owners.remove(&n).is_some() | owed.remove(&n);
                        prop_assert_eq!(leases.forget(lease(n)).is_some(), known);
                    }
                }
                let ends: Vec<u8> = leases.ends(99).iter().map(|(lease, _)| lease.0[0]).collect();
                prop_assert!(ends.into_iter().eq(owed.iter().copied()));
                let kept: Vec<u8> = leases.keeps().concat().iter().map(|lease| lease.0[0]).collect();
                prop_assert!(kept.into_iter().eq(owners.keys().copied()));
                for (n, process) in &owners {
                    prop_assert_eq!(leases.whose(lease(*n), &Fake(*process)), Some(Bound::Already));
                }
            }
        }
    }
}
