//! What a process has used: memory, descriptors, time on the processor.

use std::fs;
use std::time::Duration;

/// Resident memory in KiB; `None` once it has ended.
#[must_use]
pub fn resident(process: u32) -> Option<u64> {
    status(process, "VmRSS:")
}

/// The most that was ever resident, in KiB.
#[must_use]
pub fn peak(process: u32) -> Option<u64> {
    status(process, "VmHWM:")
}

/// Open descriptors; `None` once it has ended, or where only root may look.
#[must_use]
pub fn descriptors(process: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{process}/fd")).ok()?.count())
}

/// Time on the processor of all its threads that still are, as the scheduler counts it, to the nanosecond.
#[must_use]
pub fn processor(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        // One that ended since it was listed.
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

fn status(process: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
