//! How long to wait before the vault is dialled again.

use std::time::Duration;

/// Why the last attempt ended, as far as patience is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The network, a restart, a vault that is still sealed: it passes by itself.
    Passing,
    /// An operator has to do something first. What is asked again too eagerly only fills the vault's audit.
    Standing,
}

/// Doubling waits with jitter, capped.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure. `jitter` is any random number: it spreads the brokers of a fleet over the upper
    /// half of the wait, so that they do not all come back at once to a vault that has just restarted.
    pub fn after(&mut self, setback: Setback, jitter: u32) -> Duration {
        let (first, cap) = match setback {
            Setback::Passing => (FIRST_PASSING, CAP_PASSING),
            Setback::Standing => (FIRST_STANDING, CAP_STANDING),
        };
        let wait = first.saturating_mul(2_u32.saturating_pow(self.failures)).min(cap);
        self.failures = self.failures.saturating_add(1);
        let half = wait / 2;
        half + half.mul_f64(f64::from(jitter) / f64::from(u32::MAX))
    }

    /// A session stood: the next failure is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

const FIRST_PASSING: Duration = Duration::from_millis(250);
const CAP_PASSING: Duration = Duration::from_secs(30);
const FIRST_STANDING: Duration = Duration::from_secs(5);
/// Long enough that a fleet of unapproved hosts does not flood the audit, short enough that approving one is noticed.
const CAP_STANDING: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stay_below_the_cap_for_ever() {
        for (setback, first, cap) in
            [(Setback::Passing, FIRST_PASSING, CAP_PASSING), (Setback::Standing, FIRST_STANDING, CAP_STANDING)]
        {
            let mut backoff = Backoff::default();
            assert_eq!(backoff.after(setback, u32::MAX), first);
            assert_eq!(backoff.after(setback, u32::MAX), first * 2);
            for _ in 0..100 {
                assert!(backoff.after(setback, u32::MAX) <= cap);
            }
            assert_eq!(backoff.after(setback, u32::MAX), cap);
            backoff.reset();
            assert_eq!(backoff.after(setback, u32::MAX), first);
        }
    }

    #[test]
    fn jitter_spreads_over_the_upper_half() {
        assert_eq!(Backoff::default().after(Setback::Passing, 0), FIRST_PASSING / 2);
        assert_eq!(Backoff::default().after(Setback::Passing, u32::MAX), FIRST_PASSING);
    }
}
