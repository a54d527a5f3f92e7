//! Memory and descriptors of each process, looked at every second.

use blindferry_tests::fleet::{Enclave, Host};
use blindferry_tests::usage::{descriptors, resident};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

/// What was seen.
#[derive(Debug)]
pub(crate) struct Gauge {
    began: Instant,
    processes: Mutex<BTreeMap<&'static str, u32>>,
    seen: Mutex<Vec<Sample>>,
}

/// One process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) who: &'static str,
    /// Seconds from the beginning.
    pub(crate) at: f64,
    /// Resident memory in KiB.
    pub(crate) resident: u64,
    pub(crate) descriptors: usize,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), processes: Mutex::default(), seen: Mutex::default() }
    }

    pub(crate) fn look_at(&self, enclave: &Enclave, host: &Host) {
        let processes = [
            ("front", enclave.front_id()),
            ("vault", enclave.vault()),
            ("device of the vault", enclave.device()),
            ("broker", host.broker_id()),
            ("device of the broker", host.device()),
        ];
        *self.processes.lock().unwrap() = processes.into();
    }

    /// Everybody now; those that are just being killed are left out.
    pub(crate) fn now(&self) -> Vec<Sample> {
        let processes = self.processes.lock().unwrap().clone();
        let at = self.began.elapsed().as_secs_f64();
        let sample = |(who, id)| Some(Sample { who, at, resident: resident(id)?, descriptors: descriptors(id)? });
        processes.into_iter().filter_map(sample).collect()
    }

    pub(crate) fn look(&self) {
        let now = self.now();
        self.seen.lock().unwrap().extend(now);
    }

    /// Those of one process from this second on.
    pub(crate) fn since(&self, who: &str, at: f64) -> Vec<Sample> {
        self.seen.lock().unwrap().iter().filter(|sample| sample.who == who && sample.at >= at).copied().collect()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
