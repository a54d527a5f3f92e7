//! Whether the vault is there: the front asks it once a second, and the answer comes from the loop that does everything else.
//!
//! That a process runs says little: one that is stopped, or spins, or waits for a disk for ever, runs too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blindferry_watch::figures::Histogram;
use tokio::time::{MissedTickBehavior, interval};

use crate::link::Outbox;

/// The vault's answers.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: Mutex<Beats>,
    stopping: AtomicBool,
    /// From question to answer: what anybody waits in the vault besides the work itself.
    pub answers: Histogram,
}

#[derive(Debug, Default)]
struct Beats {
    last: u64,
    /// The question that has no answer yet, and since when.
    asked: Option<(u64, Instant)>,
    answered: Option<Instant>,
}

/// What the pulse says of the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vital {
    /// It has answered within [`BOUND`].
    Answers,
    /// It has not answered once.
    NotYet,
    /// Its last answer is older.
    Silent {
        /// How old.
        since: Duration,
    },
}

impl Pulse {
    /// How the vault is.
    #[must_use]
    pub fn vital(&self) -> Vital {
        match self.beats().answered.map(|answered| answered.elapsed()) {
            None => Vital::NotYet,
            Some(since) if since <= BOUND => Vital::Answers,
            Some(since) => Vital::Silent { since },
        }
    }

    /// The front was told to stop: nobody should send anything here any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it was.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The vault has answered. What was not asked is no answer.
    pub fn answered(&self, id: u64) {
        let mut beats = self.beats();
        if let Some((_, since)) = beats.asked.take_if(|(asked, _)| *asked == id) {
            beats.answered = Some(Instant::now());
            self.answers.observe(since.elapsed());
        }
    }

    /// The number of the next question, unless one is still open.
    fn ask(&self) -> Option<u64> {
        let mut beats = self.beats();
        if beats.asked.is_some() {
            return None;
        }
        beats.last += 1;
        beats.asked = Some((beats.last, Instant::now()));
        Some(beats.last)
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for ever, one question at a time.
pub async fn beat(pulse: Arc<Pulse>, outbox: Outbox) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(id) = pulse.ask() {
            outbox.look(id).await;
        }
    }
}

/// Between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// A vault that is silent for longer is not well: no step of it keeps the others waiting for a tenth of that.
pub const BOUND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_open_question_counts() {
        let pulse = Pulse::default();
        pulse.answered(1);
        assert_eq!(pulse.vital(), Vital::NotYet);
        assert_eq!(pulse.ask(), Some(1));
        assert_eq!(pulse.ask(), None, "one at a time");
        pulse.answered(2);
        assert_eq!(pulse.vital(), Vital::NotYet);
        pulse.answered(1);
        assert_eq!(pulse.vital(), Vital::Answers);
        assert_eq!(pulse.answers.counted().buckets.iter().sum::<u64>(), 1);
        assert_eq!(pulse.ask(), Some(2));
    }

    #[test]
    fn an_old_answer_is_no_pulse() {
        let pulse = Pulse::default();
        pulse.ask();
        pulse.answered(1);
        let old = Instant::now().checked_sub(BOUND + Duration::from_secs(1)).unwrap();
        pulse.beats().answered = Some(old);
        assert!(matches!(pulse.vital(), Vital::Silent { since } if since > BOUND));
    }
}
