//! Looks into a process as root can: every readable mapping.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Whether these bytes are anywhere in the memory of a process. `None` when we may not look.
pub(crate) fn memory_holds(process: u32, secret: &[u8]) -> Option<bool> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let mut found = false;
    let mut looked = 0_u64;
    for line in maps.lines() {
        let range = line.split_whitespace().next()?;
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let mut bytes = vec![0; usize::try_from(end - start).ok()?];
        // Secret memory and the kernel's own pages cannot be read.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            looked += end - start;
            found |= bytes.windows(secret.len()).any(|window| window == secret);
        }
    }
    (looked > 0).then_some(found)
}

/// What execve(2) draws anew: where the kernel put the process's random bytes, and its code.
pub(crate) fn address_space(process: u32) -> Option<(Vec<u8>, String)> {
    let auxv = fs::read(format!("/proc/{process}/auxv")).ok()?;
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    Some((auxv, maps.lines().next()?.to_owned()))
}
