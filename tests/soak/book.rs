//! What clients were told: each operation that was accepted, and how many were refused for what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

/// Written by all actors.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<Pages>);

/// What is in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    /// Grants that a parent holds.
    pub(crate) granted: BTreeSet<String>,
    /// Leases that a worker knows, and so has a token of.
    pub(crate) redeemed: BTreeSet<String>,
    /// How often each lease was renewed.
    pub(crate) renewed: BTreeMap<String, u64>,
    /// Leases that their workers gave back, and when they were told so, in milliseconds since the epoch.
    pub(crate) given_back: BTreeMap<String, u64>,
    /// Asks that were decided, and whether it was a yes.
    pub(crate) decided: BTreeMap<String, bool>,
    /// What the operator did to what, and how often.
    pub(crate) operated: BTreeMap<(String, String), u64>,
    /// Programs that `blindferry run` and `blindferry read` started, and that got their token.
    pub(crate) programs: u64,
    /// Sessions and connections that were opened for nothing.
    pub(crate) dropped: u64,
    /// What was not accepted, by its reason.
    pub(crate) refused: BTreeMap<String, u64>,
}

impl Book {
    pub(crate) fn write(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap()
    }

    pub(crate) fn refused(&self, why: &str) {
        *self.write().refused.entry(why.to_owned()).or_default() += 1;
    }

    pub(crate) fn operated(&self, action: &str, subject: &str) {
        *self.write().operated.entry((action.to_owned(), subject.to_owned())).or_default() += 1;
    }
}

impl Pages {
    pub(crate) fn accepted(&self) -> u64 {
        let sets = [self.granted.len(), self.redeemed.len(), self.given_back.len(), self.decided.len()];
        let sets = sets.into_iter().map(|count| count as u64).sum::<u64>();
        sets + self.renewed.values().sum::<u64>() + self.operated.values().sum::<u64>()
    }

    pub(crate) fn say(&self) {
        println!(
            "accepted: {} grants, {} redemptions, {} renewals, {} leases given back, {} decisions, {} things an operator \
             did; {} programs had their token; {} sessions and connections dropped",
            self.granted.len(),
            self.redeemed.len(),
            self.renewed.values().sum::<u64>(),
            self.given_back.len(),
            self.decided.len(),
            self.operated.values().sum::<u64>(),
            self.programs,
            self.dropped,
        );
        println!("not accepted: {:?}", self.refused);
    }
}
