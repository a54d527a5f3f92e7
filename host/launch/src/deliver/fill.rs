//! Writing a secret into what a program reads it from: pipes and memfds.

use crate::deliver::DeliverError;
use blindferry_handle::memfd::{Execution, create};
use rustix::fs::{MemfdFlags, Mode, OFlags, fchmod, ftruncate, open};
use rustix::io::{Errno, ioctl_fionbio, pwrite, write};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The read end of a pipe that holds the secret and then ends.
pub(super) fn piped(bytes: &[u8]) -> Result<OwnedFd, DeliverError> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| DeliverError::MakePipe(error.into()))?;
    make_room(&write_end, bytes.len())?;
    // Nobody reads yet: a write that had to wait would wait for ever.
    ioctl_fionbio(&write_end, true).map_err(|error| DeliverError::MakePipe(error.into()))?;
    write_all(bytes, |rest, _| write(&write_end, rest)).map_err(DeliverError::WritePipe)?;
    Ok(read_end)
}

/// A user with many pipes gets new ones of a page or two only (`fs.pipe-user-pages-soft`).
fn make_room(pipe: impl AsFd, length: usize) -> Result<(), DeliverError> {
    let capacity = fcntl_getpipe_size(&pipe).map_err(|error| DeliverError::MakePipe(error.into()))?;
    if capacity >= length {
        return Ok(());
    }
    match fcntl_setpipe_size(&pipe, length) {
        Ok(_) => Ok(()),
        Err(error) => Err(DeliverError::PipeTooSmall { length, capacity, source: error.into() }),
    }
}

/// An empty memfd, which its user alone may open.
pub(super) fn memfd() -> Result<OwnedFd, DeliverError> {
    let make = |error: Errno| DeliverError::MakeMemfd(error.into());
    let memfd = create("token", Execution::Denied, MemfdFlags::empty()).map_err(make)?;
    // Programs such as ssh and psql refuse a key or a password that others may read.
    fchmod(&memfd, Mode::RUSR | Mode::WUSR).map_err(make)?;
    Ok(memfd)
}

/// The same memfd, for reading alone; from here on nobody but root opens it for writing.
pub(super) fn read_only(memfd: &OwnedFd) -> Result<OwnedFd, DeliverError> {
    let make = |error: Errno| DeliverError::MakeMemfd(error.into());
    fchmod(memfd, Mode::RUSR).map_err(make)?;
    let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(make)
}

/// Puts the secret into a memfd in the place of what was there. In place: a reader at this very moment may see the
/// beginning of one and the end of the other.
pub(super) fn replace(memfd: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    // The file offset stays at the beginning, for those who read the descriptor and not the path.
    write_all(bytes, |rest, at| pwrite(&memfd, rest, at))?;
    ftruncate(&memfd, bytes.len() as u64)?;
    Ok(())
}

/// Leaves nothing in a memfd.
pub(super) fn empty(memfd: impl AsFd) -> io::Result<()> {
    ftruncate(&memfd, 0)?;
    Ok(())
}

fn write_all(bytes: &[u8], mut write: impl FnMut(&[u8], u64) -> rustix::io::Result<usize>) -> io::Result<()> {
    let (mut rest, mut at) = (bytes, 0);
    while !rest.is_empty() {
        match write(rest, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pipe_is_made_to_hold_the_longest_token() {
        let (_read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        assert_eq!(fcntl_setpipe_size(&write_end, 4096).unwrap(), 4096);
        make_room(&write_end, 16 * 1024).unwrap();
        assert!(fcntl_getpipe_size(&write_end).unwrap() >= 16 * 1024);
    }

    #[test]
    fn a_shorter_token_leaves_nothing_of_a_longer_one() {
        let memfd = memfd().unwrap();
        let reader = read_only(&memfd).unwrap();
        let read = || {
            let mut bytes = [0; 32];
            let length = rustix::io::pread(&reader, &mut bytes, 0).unwrap();
            bytes[..length].to_vec()
        };
        replace(&memfd, b"a long token").unwrap();
        replace(&memfd, b"short").unwrap();
        assert_eq!(read(), b"short");
        empty(&memfd).unwrap();
        assert_eq!(read(), b"");
        assert!(pwrite(&reader, b"x", 0).is_err(), "it was opened for reading");
    }
}
