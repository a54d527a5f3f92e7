//! The one place in the vault that reads the clock; everything else takes time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time that never runs backwards while the vault runs.
///
/// It is the time at start plus what the monotonic clock has counted since: a clock that somebody sets does not revive
/// grants or end leases.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    epoch_millis: u64,
}

impl Clock {
    /// Starts from the system's clock.
    ///
    /// # Errors
    /// [`ClockError`] when the system's clock stands before 1970.
    pub fn start() -> Result<Self, ClockError> {
        #[expect(clippy::disallowed_methods, reason = "the shell reads the clock once, at start")]
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).map_err(|_| ClockError)?;
        let epoch_millis = u64::try_from(since.as_millis()).map_err(|_| ClockError)?;
        Ok(Self { started: Instant::now(), epoch_millis })
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn millis(&self) -> u64 {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.epoch_millis.saturating_add(passed)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.millis() / 1000
    }

    /// Seconds since the vault started.
    #[must_use]
    pub fn uptime(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

/// The system's clock cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's clock stands before 1970: set it, since grants and audit records carry times")]
pub struct ClockError;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_the_systems_clock_says_after_the_start_does_not_matter() {
        // As if it had been 1970 when the vault started, and somebody had set the clock right a minute and a half ago.
        let started = Instant::now().checked_sub(Duration::from_secs(90)).unwrap();
        let clock = Clock { started, epoch_millis: 1000 };
        assert!((91..100).contains(&clock.now()), "{}", clock.now());
        assert!((90..99).contains(&clock.uptime()));
        let ahead = Clock { started, epoch_millis: u64::MAX - 10 };
        assert_eq!(ahead.millis(), u64::MAX, "nothing wraps to the past");
    }
}
