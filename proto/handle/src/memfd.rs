//! A handle: a sealed memfd that carries a grant or a parcel, or evidence with its logs.
//!
//! **Only ciphertext may ever go in, or what is public.** Once write-sealed, a memfd can be neither overwritten nor punched, so its bytes
//! cannot be wiped: they live until the last process that holds a descriptor or a mapping lets go, and can be swapped
//! out meanwhile. Every process on its way can read it, the parent above all. Plaintext belongs in [`crate::secret`].
//!
//! The seals are what makes it safe to *receive* one: the size cannot change under the reader (no `SIGBUS`, no second
//! read that differs from the first), and neither can the bytes. All descriptors of one memfd share one file offset, so
//! nothing here uses it: reading is by pread(2) from 0.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, MemfdFlags, SealFlags, fcntl_get_seals, fstat, memfd_create};
use rustix::io::{Errno, pread, write};
use thiserror::Error;

use crate::seals;

/// No grant and no parcel is larger, in bytes; more is an attack or a bug.
pub const MAX_HANDLE: usize = 64 * 1024;

/// A memfd with immutable content of 1 to [`MAX_HANDLE`] bytes, or to another bound that was given. Dropping it closes
/// this descriptor, no other.
#[derive(Debug)]
pub struct Handle {
    memfd: OwnedFd,
    most: usize,
}

/// Why a handle could not be made or was refused.
#[derive(Debug, Error)]
pub enum HandleError {
    /// Nothing to carry.
    #[error("a handle cannot be empty")]
    Empty,
    /// More bytes than its bound.
    #[error("{len} bytes are more than a handle may hold")]
    TooLong {
        /// How many bytes there are.
        len: u64,
    },
    /// Received something else than a memfd.
    #[error("the descriptor is not a memfd")]
    NotMemfd,
    /// Received a memfd whose content can still change.
    #[error("the memfd is not sealed against writing, growing, shrinking and further seals")]
    NotSealed,
    /// memfd_create(2) failed.
    #[error("cannot create a memfd")]
    Create {
        /// What the kernel said.
        source: io::Error,
    },
    /// Writing into the new memfd failed.
    #[error("cannot write into a memfd")]
    Write {
        /// What the kernel said.
        source: io::Error,
    },
    /// Sealing the new memfd failed.
    #[error("cannot seal a memfd")]
    Seal {
        /// What the kernel said.
        source: io::Error,
    },
    /// Asking the descriptor what it is failed.
    #[error("cannot inspect a handle")]
    Inspect {
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading failed.
    #[error("cannot read a handle")]
    Read {
        /// What the kernel said.
        source: io::Error,
    },
}

impl Handle {
    /// Copies `ciphertext` into a new memfd and seals it for ever. `name` is what `/proc/PID/fd` shows: not a secret.
    ///
    /// # Errors
    ///
    /// [`HandleError::Empty`], [`HandleError::TooLong`], or what the kernel said.
    pub fn seal(name: &str, ciphertext: &[u8]) -> Result<Self, HandleError> {
        Self::seal_within(name, ciphertext, MAX_HANDLE)
    }

    /// The same for public bytes, of which there may be `most`.
    ///
    /// # Errors
    ///
    /// As [`Handle::seal`].
    pub fn seal_within(name: &str, ciphertext: &[u8], most: usize) -> Result<Self, HandleError> {
        bounded(ciphertext.len() as u64, most)?;
        let memfd = create(name, Execution::Denied, MemfdFlags::ALLOW_SEALING)
            .map_err(|error| HandleError::Create { source: error.into() })?;
        let mut rest = ciphertext;
        while !rest.is_empty() {
            match write(&memfd, rest) {
                Ok(0) => {
                    return Err(HandleError::Write { source: io::ErrorKind::WriteZero.into() });
                }
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(HandleError::Write { source: error.into() });
                }
            }
        }
        seals::add(&memfd, SEALS).map_err(|error| HandleError::Seal { source: error.into() })?;
        Ok(Self { memfd, most })
    }

    /// Takes a received descriptor, which must be a memfd with all of the seals write, grow, shrink and seal.
    ///
    /// # Errors
    ///
    /// The descriptor is closed and the reason given: [`HandleError::NotMemfd`], [`HandleError::NotSealed`],
    /// [`HandleError::Empty`] or [`HandleError::TooLong`].
    pub fn from_fd(descriptor: OwnedFd) -> Result<Self, HandleError> {
        Self::from_fd_within(descriptor, MAX_HANDLE)
    }

    /// The same, where there may be `most` bytes.
    ///
    /// # Errors
    ///
    /// As [`Handle::from_fd`].
    pub fn from_fd_within(memfd: OwnedFd, most: usize) -> Result<Self, HandleError> {
        let seals = match fcntl_get_seals(&memfd) {
            Ok(seals) => seals,
            Err(Errno::INVAL | Errno::BADF) => return Err(HandleError::NotMemfd),
            Err(error) => {
                return Err(HandleError::Inspect { source: error.into() });
            }
        };
        // The seals before the size: only then is the size that we see the size that stays.
        if !seals.contains(SEALS) {
            return Err(HandleError::NotSealed);
        }
        let status = fstat(&memfd).map_err(|error| HandleError::Inspect { source: error.into() })?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(HandleError::NotMemfd);
        }
        bounded(u64::try_from(status.st_size).unwrap_or(u64::MAX), most)?;
        Ok(Self { memfd, most })
    }

    /// Its bytes, all of them, whatever the shared offset is.
    ///
    /// # Errors
    ///
    /// [`HandleError::Read`]; among others when the descriptor was passed without the right to read (`O_PATH`).
    pub fn read(&self) -> Result<Vec<u8>, HandleError> {
        let mut bytes = vec![0; self.len()?];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match pread(&self.memfd, rest, done as u64) {
                Ok(0) => {
                    return Err(HandleError::Read { source: io::ErrorKind::UnexpectedEof.into() });
                }
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(HandleError::Read { source: error.into() });
                }
            }
        }
        Ok(bytes)
    }

    /// The descriptor alone, still sealed.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.memfd
    }

    fn len(&self) -> Result<usize, HandleError> {
        let status = fstat(&self.memfd).map_err(|error| HandleError::Inspect { source: error.into() })?;
        bounded(u64::try_from(status.st_size).unwrap_or(u64::MAX), self.most)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

fn bounded(len: u64, most: usize) -> Result<usize, HandleError> {
    match usize::try_from(len) {
        Ok(0) => Err(HandleError::Empty),
        Ok(len) if len <= most => Ok(len),
        _ => Err(HandleError::TooLong { len }),
    }
}

/// Whether a memfd may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// It may (`MFD_EXEC`).
    Allowed,
    /// It may not, and cannot be made so (`MFD_NOEXEC_SEAL`, which also allows seals).
    Denied,
}

/// An empty memfd. Before Linux 6.3 every memfd may be executed: then so may one that was asked for without.
///
/// # Errors
/// What the kernel said: `EACCES` where `vm.memfd_noexec` forbids what may be executed.
pub fn create(name: &str, execution: Execution, flags: MemfdFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | MemfdFlags::CLOEXEC;
    let said = match execution {
        Execution::Allowed => MemfdFlags::EXEC,
        Execution::Denied => MemfdFlags::NOEXEC_SEAL,
    };
    match memfd_create(name, flags | said) {
        // This kernel does not know the flag.
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    }
}

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::fcntl_add_seals;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn what_was_sealed_is_read_wherever_the_shared_offset_stands() {
        let handle = Handle::seal("test", b"opaque").unwrap();
        let mut file = std::fs::File::from(handle.memfd.try_clone().unwrap());
        file.seek(SeekFrom::Start(4)).unwrap();
        let received = Handle::from_fd(handle.into_fd()).unwrap();
        assert_eq!(received.read().unwrap(), b"opaque");
        assert_eq!(received.read().unwrap(), b"opaque");
    }

    #[test]
    fn a_sealed_handle_cannot_be_written_or_resized() {
        let handle = Handle::seal("test", b"opaque").unwrap();
        assert_eq!(rustix::io::pwrite(&handle, b"X", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&handle, 1), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&handle, 100), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&handle, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
    }

    #[test]
    fn a_memfd_that_can_still_change_is_refused_whichever_seal_is_missing() {
        for missing in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
            let memfd = create("test", Execution::Denied, MemfdFlags::ALLOW_SEALING).unwrap();
            write(&memfd, b"opaque").unwrap();
            fcntl_add_seals(&memfd, SEALS.difference(missing)).unwrap();
            assert!(matches!(Handle::from_fd(memfd), Err(HandleError::NotSealed)), "{missing:?}");
        }
    }

    #[test]
    fn a_seal_on_future_writes_only_is_refused() {
        let memfd = create("test", Execution::Denied, MemfdFlags::ALLOW_SEALING).unwrap();
        write(&memfd, b"opaque").unwrap();
        fcntl_add_seals(&memfd, SEALS.difference(SealFlags::WRITE) | SealFlags::FUTURE_WRITE).unwrap();
        assert!(matches!(Handle::from_fd(memfd), Err(HandleError::NotSealed)));
    }

    #[test]
    fn pipes_sockets_and_files_are_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(matches!(Handle::from_fd(reader.into()), Err(HandleError::NotMemfd)));
        let (one, _other) = crate::packet::PacketSocket::pair().unwrap();
        assert!(matches!(Handle::from_fd(one.into_fd()), Err(HandleError::NotMemfd)));
        // On tmpfs a plain file has seals too, of which F_SEAL_SEAL alone is set: then it is "not sealed".
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(matches!(Handle::from_fd(file.into()), Err(HandleError::NotMemfd | HandleError::NotSealed)));
    }

    #[test]
    fn empty_and_oversized_handles_are_refused_at_both_ends() {
        assert!(matches!(Handle::seal("test", b""), Err(HandleError::Empty)));
        assert!(matches!(Handle::seal("test", &vec![0; MAX_HANDLE + 1]), Err(HandleError::TooLong { .. })));
        assert_eq!(Handle::seal("test", &vec![7; MAX_HANDLE]).unwrap().read().unwrap().len(), MAX_HANDLE);
        let more = Handle::seal_within("test", &vec![7; MAX_HANDLE + 1], MAX_HANDLE + 1).unwrap().into_fd();
        let cloned = more.try_clone().unwrap();
        assert!(matches!(Handle::from_fd(cloned), Err(HandleError::TooLong { .. })), "the receiver's own bound holds");
        assert_eq!(Handle::from_fd_within(more, MAX_HANDLE + 1).unwrap().read().unwrap().len(), MAX_HANDLE + 1);
        for (len, empty) in [(0, true), (MAX_HANDLE as u64 + 1, false), (1 << 40, false)] {
            let memfd = create("test", Execution::Denied, MemfdFlags::ALLOW_SEALING).unwrap();
            rustix::fs::ftruncate(&memfd, len).unwrap();
            fcntl_add_seals(&memfd, SEALS).unwrap();
            match Handle::from_fd(memfd) {
                Err(HandleError::Empty) => assert!(empty),
                Err(HandleError::TooLong { len: said }) => assert_eq!(said, len),
                other => panic!("{len} bytes were not refused: {other:?}"),
            }
        }
    }
}
