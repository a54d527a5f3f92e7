//! So many at once, each doing the same over and over: how long each time took, and how much was done.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// What came of a load.
pub(crate) struct Load {
    /// In order of size, in seconds.
    times: Vec<f64>,
    /// From the first start to the last end.
    wall: Duration,
}

impl Load {
    /// Has `workers` threads repeat what `make` makes for each, for about this time and at least once. What one turn
    /// returns is how long the part of it took that counts.
    pub(crate) fn run<F>(workers: usize, time: Duration, make: impl Fn(usize) -> F + Sync) -> Self
    where
        F: FnMut() -> Duration,
    {
        let together = Barrier::new(workers + 1);
        let turns = |number: usize| {
            let mut turn = make(number);
            // What is made at the first use is not what each use costs.
            turn();
            together.wait();
            let (start, mut times) = (Instant::now(), Vec::new());
            loop {
                times.push(turn().as_secs_f64());
                if start.elapsed() >= time {
                    return times;
                }
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|number| scope.spawn(move || turns(number))).collect();
            together.wait();
            let start = Instant::now();
            let mut times: Vec<f64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            let wall = start.elapsed();
            times.sort_by(f64::total_cmp);
            Self { times, wall }
        })
    }

    /// The same for one, in this thread.
    pub(crate) fn alone(time: Duration, mut turn: impl FnMut() -> Duration) -> Self {
        turn();
        let (start, mut times) = (Instant::now(), Vec::new());
        loop {
            times.push(turn().as_secs_f64());
            if start.elapsed() >= time {
                times.sort_by(f64::total_cmp);
                return Self { times, wall: start.elapsed() };
            }
        }
    }

    pub(crate) fn count(&self) -> f64 {
        f64::from(u32::try_from(self.times.len()).unwrap())
    }

    /// How many a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count() / self.wall.as_secs_f64()
    }

    /// The time below which so many of a thousand are, in milliseconds.
    pub(crate) fn of_thousand(&self, rank: usize) -> f64 {
        let last = self.times.len() - 1;
        self.times.get(last * rank / 1000).copied().unwrap() * 1000.0
    }
}
