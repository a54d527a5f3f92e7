//! A secret that is handed to another process, in secret memory whose descriptor is passed.
//!
//! While its descriptor is open, or in flight, whoever may take descriptors from one of the two processes can read it:
//! so both are to be non-dumpable, and it exists for the length of one message. The receiver moves it into pages of its
//! own and wipes it ([`SecretBytes::adopt`]); should it never arrive, its maker wipes it by dropping it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create};
use zeroize::Zeroize;

use super::pages::{Backing, Pages, Protection, protection, refused, secret_memory};
use super::{InitError, MAX_SECRET, SecretBytes, SecretError};

/// A secret about to be handed over. Wiped when dropped, unless [`SharedSecret::handed_over`] says that it is another's.
pub struct SharedSecret {
    pages: Pages,
    len: usize,
    descriptor: OwnedFd,
    ours: bool,
}

impl SharedSecret {
    /// Makes a secret of exactly `len` bytes in place.
    ///
    /// # Errors
    ///
    /// As [`SecretBytes::init`]; what `fill` wrote is wiped when it fails or panics.
    pub fn create<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, InitError<E>> {
        let mut secret = Self::zeroed(len, protection()).map_err(InitError::Secret)?;
        fill(secret.bytes_mut()).map_err(InitError::Fill)?;
        Ok(secret)
    }

    /// Says that the descriptor has been sent: the secret is the receiver's from now on, and the receiver wipes it.
    /// Without this, dropping wipes it under the receiver's hands.
    pub fn handed_over(mut self) {
        self.ours = false;
    }

    /// Its length in bytes, which the receiver must be told.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no secret is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    fn zeroed(len: usize, protection: Protection) -> Result<Self, SecretError> {
        if len == 0 {
            return Err(SecretError::Empty);
        }
        if len > MAX_SECRET {
            return Err(SecretError::TooLong { len });
        }
        let descriptor = match protection {
            Protection::SecretMemory => secret_memory(len)?,
            Protection::LockedPages => locked_memory(len)?,
        };
        let pages = Pages::map(Backing::Shared(descriptor.as_fd()), 1, len)?;
        if protection == Protection::LockedPages {
            pages.lock(0)?;
        }
        Ok(Self { pages, len, descriptor, ours: true })
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` bytes at the start of the one run, which `pages` keeps mapped, of a file whose size is `len` and
        // cannot shrink. `&mut self` is the only reference in this process, and no other process has the descriptor
        // while this value is being filled or wiped, but for a receiver that we were not told of.
        unsafe { slice::from_raw_parts_mut(self.pages.start(0).as_ptr(), self.len) }
    }
}

impl AsFd for SharedSecret {
    /// The descriptor to pass.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for SharedSecret {
    fn drop(&mut self) {
        if self.ours {
            self.bytes_mut().zeroize();
        }
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("[REDACTED]")
    }
}

/// The receiver's side, see [`SecretBytes::adopt`].
pub(super) fn adopt(descriptor: BorrowedFd<'_>, len: usize) -> Result<SecretBytes, SecretError> {
    adopt_under(protection(), descriptor, len)
}

fn adopt_under(protection: Protection, descriptor: BorrowedFd<'_>, len: usize) -> Result<SecretBytes, SecretError> {
    if len == 0 {
        return Err(SecretError::Empty);
    }
    if len > MAX_SECRET {
        return Err(SecretError::TooLong { len });
    }
    let genuine = fstatfs(descriptor).is_ok_and(|status| u64::try_from(status.f_type) == Ok(SECRETMEM_MAGIC));
    let fall_back = protection == Protection::LockedPages && fcntl_get_seals(descriptor).is_ok_and(is_fall_back);
    if !genuine && !fall_back {
        return Err(SecretError::NotSecretMemory);
    }
    // Final: secret memory takes a size only once, and the fall-back is sealed against another. But none yet is a size
    // that could still be given, which `len` > 0 rules out.
    let actual = fstat(descriptor).map_err(refused)?.st_size;
    if u64::try_from(actual) != Ok(len as u64) {
        return Err(SecretError::WrongSize { announced: len, actual: u64::try_from(actual).unwrap_or(u64::MAX) });
    }
    let pages = Pages::map(Backing::Shared(descriptor), 1, len)?;
    let there = pages.start(0);
    let made = SecretBytes::init(len, |here| {
        copy_volatile(there, here);
        if here.iter().all(|byte| *byte == 0) { Err(SecretError::Wiped) } else { Ok(len) }
    });
    wipe_volatile(there, len);
    made.map_err(|error| match error {
        InitError::Secret(error) | InitError::Fill(error) => error,
    })
}

/// Copies out of memory that another process may be writing to, so never through a reference to it.
fn copy_volatile(from: NonNull<u8>, to: &mut [u8]) {
    for (index, byte) in to.iter_mut().enumerate() {
        // SAFETY: the caller maps at least `to.len()` bytes at `from`, readable, of a file that cannot shrink.
        *byte = unsafe { from.add(index).read_volatile() };
    }
}

fn wipe_volatile(at: NonNull<u8>, len: usize) {
    for index in 0..len {
        // SAFETY: the caller maps at least `len` bytes at `at`, writable, of a file that cannot shrink.
        unsafe { at.add(index).write_volatile(0) };
    }
}

/// The fall-back: a memfd whose size is sealed and whose content is not, for it must be wiped in the end.
fn locked_memory(len: usize) -> Result<OwnedFd, SecretError> {
    let memfd = memfd_create("blindferry-locked", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(refused)?;
    ftruncate(&memfd, len as u64).map_err(refused)?;
    fcntl_add_seals(&memfd, FALL_BACK).map_err(refused)?;
    Ok(memfd)
}

/// The label of the fall-back. `F_SEAL_EXEC` may come with it, where memfds are made non-executable.
fn is_fall_back(seals: SealFlags) -> bool {
    seals.difference(SealFlags::EXEC) == FALL_BACK
}

const FALL_BACK: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// `include/uapi/linux/magic.h`: "SECM".
const SECRETMEM_MAGIC: u64 = 0x5345_434d;

#[cfg(test)]
mod tests;
