//! How much memory a process has in use, read through a descriptor that was opened before powers were given up.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The status of one process. It stays that process's: a later one of the same number is another.
#[derive(Debug)]
pub struct Resident(File);

impl Resident {
    /// Of a process.
    ///
    /// # Errors
    /// What the kernel says: it is gone, or `/proc` hides it (`hidepid`).
    pub fn of(process: u32) -> io::Result<Self> {
        File::open(format!("/proc/{process}/status")).map(Self)
    }

    /// Bytes that are resident now; `None` once it has ended.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let mut text = [0; LONGEST];
        let length = self.0.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    }
}

/// The kernel writes some 1.5 KiB, more with many groups; the line is in its first half.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_again_each_time() {
        let own = Resident::of(std::process::id()).unwrap();
        let before = own.bytes().unwrap();
        let used = vec![1_u8; 32 << 20];
        let after = own.bytes().unwrap();
        assert!(after > before + (16 << 20), "{before} {after}");
        assert_eq!(used.iter().filter(|byte| **byte == 1).count(), 32 << 20);
    }

    #[test]
    fn a_process_that_ended_uses_nothing_and_its_number_is_not_looked_up_again() {
        let mut child = std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let of = Resident::of(child.id()).unwrap();
        assert!(of.bytes().is_some());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(of.bytes(), None);
    }
}
