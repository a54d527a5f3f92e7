//! How long things take: histograms with fixed, log-spaced buckets, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets, in microseconds: from a digest to a TPM that makes an RSA key. What takes longer is in
/// one more bucket.
pub const BOUNDS: [u64; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 60_000_000,
];
/// Of a histogram.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations. Two atomic additions each.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    microseconds: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many fell into each bucket alone; the last has no bound.
    pub buckets: [u64; BUCKETS],
    /// All of them together, in microseconds.
    pub microseconds: u64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|bound| microseconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// What it has counted.
    #[must_use]
    pub fn counted(&self) -> Counted {
        Counted {
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed)),
            microseconds: self.microseconds.load(Ordering::Relaxed),
        }
    }
}

/// The kinds of step that one process takes.
pub trait Step: Copy + PartialEq + 'static {
    /// All of them: so many time series there are, and never more.
    const ALL: &'static [Self];

    /// Its name, as the metrics have it.
    fn name(self) -> &'static str;
}

/// A histogram for each kind of step.
#[derive(Debug)]
pub struct Steps<S>(Vec<(S, Histogram)>);

impl<S: Step> Steps<S> {
    /// Counts one.
    pub fn observe(&self, step: S, took: Duration) {
        if let Some((_, histogram)) = self.0.iter().find(|(kind, _)| *kind == step) {
            histogram.observe(took);
        }
    }

    /// What was counted, by name.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, Counted)> {
        self.0.iter().map(|(step, histogram)| (step.name(), histogram.counted()))
    }
}

impl<S: Step> Default for Steps<S> {
    fn default() -> Self {
        Self(S::ALL.iter().map(|step| (*step, Histogram::default())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Each duration is counted once, in the first bucket that holds it, and in the sum.
        #[test]
        fn what_is_observed_is_in_its_bucket_and_in_the_sum(took in prop::collection::vec(0..100_000_000_u64, 0..50)) {
            let histogram = Histogram::default();
            took.iter().for_each(|took| histogram.observe(Duration::from_micros(*took)));
            let counted = histogram.counted();
            prop_assert_eq!(counted.microseconds, took.iter().sum::<u64>());
            for (place, count) in counted.buckets.iter().enumerate() {
                let low = place.checked_sub(1).map_or(0, |below| BOUNDS[below] + 1);
                let high = BOUNDS.get(place).copied().unwrap_or(u64::MAX);
                let held = took.iter().filter(|took| (low..=high).contains(*took)).count();
                prop_assert_eq!(*count, u64::try_from(held).unwrap());
            }
        }
    }

    #[test]
    fn bounds_grow_at_most_sixfold_and_at_least_twofold() {
        assert!(BOUNDS.windows(2).all(|pair| pair[1] >= 2 * pair[0] && pair[1] <= 6 * pair[0]));
    }
}
