//! What a process has used: time on the processor, of all its threads, and memory.

use std::fs;
use std::time::Duration;

/// Time on the processor of all threads of these processes, as the scheduler counts it, to the nanosecond.
///
/// Threads that have ended are not in it: nobody measured here ends threads under load.
pub(crate) fn time_of(processes: &[u32]) -> Duration {
    let threads = processes.iter().flat_map(|id| fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten());
    let times = threads.filter_map(|thread| {
        // One that ended since it was listed.
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// Time on the processor of all children of this process that were waited for, to 10 ms.
pub(crate) fn time_of_children() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    // Fields 16 and 17 of proc(5), cutime and cstime, in ticks; the state is the third.
    let ticks: u64 = fields.split(' ').skip(13).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Resident memory, in MB.
pub(crate) fn resident(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024.0 / 1e6
}

/// Of every Linux that runs here: USER_HZ is part of the kernel's interface.
const TICKS: u64 = 100;
