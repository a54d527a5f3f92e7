//! Waiting for one descriptor, until a time and however often a signal interrupts.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Whether `descriptor` had something to be read, or was closed at its other end, by `until`. It is looked at once even if
/// that has passed; without `until` there is no end to the waiting.
///
/// # Errors
/// What poll(2) said.
pub fn readable(descriptor: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], left.as_ref()) {
            Err(Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_there_is_seen_after_the_time_too_and_what_is_not_there_is_not_waited_for_longer() {
        let (here, there) = UnixStream::pair().unwrap();
        let passed = Some(Instant::now());
        assert!(!readable(here.as_fd(), passed).unwrap());
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(!readable(here.as_fd(), Some(soon)).unwrap());
        assert!(Instant::now() >= soon);
        drop(there);
        assert!(readable(here.as_fd(), passed).unwrap(), "an end is something to read");
        assert!(readable(here.as_fd(), None).unwrap());
    }
}
