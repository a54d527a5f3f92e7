//! One direction of a relay: a bounded buffer between two descriptors that do not wait.

use rustix::io::{Errno, read, write};
use std::os::fd::AsFd;

/// Bytes on their way. Nothing is read while any of them wait, so a slow reader slows the writer down.
#[derive(Debug)]
pub(crate) struct Flow {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Open,
    Ended,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; ROOM].into_boxed_slice(), start: 0, end: 0, source: Source::Open }
    }

    /// Whether there is room, and the source may have more.
    pub(crate) fn wants_bytes(&self) -> bool {
        self.start == self.end && self.source == Source::Open
    }

    /// Whether bytes wait to be written.
    pub(crate) fn has_bytes(&self) -> bool {
        self.start < self.end
    }

    /// Whether nothing more will come, and nothing waits.
    pub(crate) fn is_over(&self) -> bool {
        self.source == Source::Ended && !self.has_bytes()
    }

    /// Reads once. The source's end, or what comes to the same, such as EIO of a terminal that nobody holds open.
    pub(crate) fn fill(&mut self, source: impl AsFd) {
        match read(source, &mut *self.bytes) {
            Ok(0) => self.source = Source::Ended,
            Ok(count) => (self.start, self.end) = (0, count),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.source = Source::Ended,
        }
    }

    /// Writes once. Where nobody can take the bytes any more they are dropped, and the source with them.
    pub(crate) fn drain(&mut self, sink: impl AsFd) {
        let waiting = self.bytes.get(self.start..self.end).unwrap_or_default();
        match write(sink, waiting.get(..waiting.len().min(AT_ONCE)).unwrap_or_default()) {
            Ok(count) => self.start += count,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                self.start = self.end;
                self.source = Source::Ended;
            }
        }
    }
}

/// Of bytes in one direction.
const ROOM: usize = 16 * 1024;

/// `PIPE_BUF` of Linux: what a descriptor that is ready takes without waiting, where it cannot be told not to wait.
const AT_ONCE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::ioctl_fionbio;
    use std::io::pipe;

    #[test]
    fn what_is_not_taken_is_kept_and_nothing_more_is_read_meanwhile() {
        let (source, mut into) = pipe().unwrap();
        let (mut out, sink) = pipe().unwrap();
        ioctl_fionbio(&sink, true).unwrap();
        let mut flow = Flow::new();
        std::io::Write::write_all(&mut into, b"one").unwrap();
        flow.fill(&source);
        assert!(flow.has_bytes() && !flow.wants_bytes());
        while write(&sink, &[0; 4096]).is_ok() {}
        flow.drain(&sink);
        assert!(flow.has_bytes(), "a full pipe takes nothing");
        let mut full = vec![0; 1 << 20];
        let _taken = std::io::Read::read(&mut out, &mut full).unwrap();
        flow.drain(&sink);
        assert!(!flow.has_bytes() && flow.wants_bytes());
        drop(into);
        flow.fill(&source);
        assert!(flow.is_over());
    }
}
