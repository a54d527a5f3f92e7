//! Secrets in pages that no other process can read, root included as far as the kernel goes.
//!
//! The pages come from memfd_secret(2): they are taken out of the kernel's own address space, so `/proc/PID/mem`,
//! process_vm_readv(2), ptrace's peeking and core files find nothing, they are never swapped, and the descriptor is
//! closed once they are mapped, so that nobody can take it. What is left is code made to run inside this process.
//! Between them lie pages without access, and a secret ends where such a page begins: reading one byte too far is a
//! fault, not a leak. Where the kernel has no secret memory ([`protection`] tells, and tells why to shout), the pages
//! are locked and kept out of core files, and no more than that.
//!
//! Small secrets live in a pool, because a page of secret memory costs some 15 microseconds to make. The pool never
//! shrinks, is bounded by [`MAX_POOL`], and wipes what comes back.
//!
//! One that is kept between its uses can lie in pages that not even this process can read meanwhile: [`RestingSecret`].
//!
//! A child made by fork(2) does not have these pages, and a fault is what it gets for touching them.
//!
//! System calls: `memfd_secret`, `ftruncate`, `mmap`, `madvise`, `munmap`, `close`, `mprotect` for what rests, and for
//! the fall-back `mprotect` and `mlock`; a process that means to forbid them calls [`reserve`] first and then stays within what it reserved.

use std::convert::Infallible;
use std::fmt;
use std::hint::black_box;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;

use thiserror::Error;
use zeroize::Zeroize;

use self::pages::{Backing, Pages};
use self::pool::Slot;

pub use self::pages::{Protection, protection};
pub use self::pool::MAX_POOL;
pub(crate) use self::pool::begin_anew;
pub use self::resting::{Awake, RestingSecret};
pub use self::shared::SharedSecret;

mod pages;
mod pool;
mod resting;
mod shared;

/// The longest secret, in bytes.
pub const MAX_SECRET: usize = 1024 * 1024;

/// A secret of fixed length. Cannot be printed, copied, compared in the open or serialised; wiped when dropped.
///
/// ```compile_fail
/// fn copies<T: Clone>() {}
/// copies::<blindferry_handle::secret::SecretBytes>();
/// ```
///
/// ```compile_fail
/// fn compares<T: PartialEq>() {}
/// compares::<blindferry_handle::secret::SecretBytes>();
/// ```
pub struct SecretBytes {
    start: NonNull<u8>,
    len: usize,
    /// Owns the memory that `start` points into, and is held for nothing else.
    _region: Region,
}

enum Region {
    Pooled { _slot: Slot },
    Own { _pages: Pages },
}

/// Why a secret could not be kept or taken over.
#[derive(Debug, Error)]
pub enum SecretError {
    /// No secret has no bytes.
    #[error("a secret cannot be empty")]
    Empty,
    /// More than [`MAX_SECRET`].
    #[error("{len} bytes are more than a secret may have")]
    TooLong {
        /// How many were asked for.
        len: usize,
    },
    /// More than [`MAX_POOL`] bytes of small secrets at one time.
    #[error("the pool of secret pages is exhausted")]
    PoolExhausted,
    /// The limit of locked memory is reached.
    #[error("the limit of locked memory is reached, raise RLIMIT_MEMLOCK (LimitMEMLOCK= in a systemd unit)")]
    LockLimit {
        /// What the kernel said.
        source: io::Error,
    },
    /// A system call on the way to a secret page failed.
    #[error("cannot map secret pages")]
    Map {
        /// What the kernel said.
        source: io::Error,
    },
    /// The filler says that it wrote more than there was room for, or nothing.
    #[error("a secret of {capacity} bytes was filled with {used}")]
    Filled {
        /// How many bytes it says it wrote.
        used: usize,
        /// How many there was room for.
        capacity: usize,
    },
    /// A received descriptor is neither secret memory nor the fall-back that this kernel makes necessary.
    #[error("the descriptor is not secret memory")]
    NotSecretMemory,
    /// A received descriptor has another size than was said.
    #[error("secret memory of {actual} bytes was announced as {announced}")]
    WrongSize {
        /// The size that was announced.
        announced: usize,
        /// The size that it has.
        actual: u64,
    },
    /// All bytes of a received secret are zero: its sender has wiped it already.
    #[error("the received secret has been wiped by its sender")]
    Wiped,
}

/// Why a secret was not made: for want of a place, or because whatever fills it failed.
#[derive(Debug, Error)]
pub enum InitError<E> {
    /// There is no place for it.
    #[error("cannot hold a secret")]
    Secret(#[source] SecretError),
    /// The filler failed with this; what it had written is wiped.
    #[error("cannot fill a secret")]
    Fill(#[source] E),
}

impl SecretBytes {
    /// Makes a secret in place: `fill` gets `capacity` zero bytes of secret memory and says how many of them, from the
    /// start, are the secret. The rest is wiped, and so is everything when it fails or panics.
    ///
    /// # Errors
    ///
    /// [`InitError::Secret`] when there is no room, or when `fill` used nothing or more than there was;
    /// [`InitError::Fill`] with what `fill` returned.
    pub fn init<E>(capacity: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Self, InitError<E>> {
        // Wipes `capacity` bytes when dropped, whichever way this function is left.
        let mut secret = Self::zeroed(capacity).map_err(InitError::Secret)?;
        let used = fill(secret.bytes_mut()).map_err(InitError::Fill)?;
        let Some(rest) = secret.bytes_mut().get_mut(used..).filter(|_| used != 0) else {
            return Err(InitError::Secret(SecretError::Filled { used, capacity }));
        };
        rest.zeroize();
        secret.len = used;
        Ok(secret)
    }

    /// Takes bytes that arrived elsewhere, and wipes them there, also when it fails.
    ///
    /// # Errors
    ///
    /// Those of [`Self::init`] that concern the place.
    pub fn copy_and_wipe(source: &mut [u8]) -> Result<Self, SecretError> {
        let made = Self::init(source.len(), |place| {
            place.copy_from_slice(source);
            Ok::<_, Infallible>(place.len())
        });
        source.zeroize();
        made.map_err(|error| match error {
            InitError::Secret(error) => error,
            InitError::Fill(never) => match never {},
        })
    }

    /// Takes a secret of `len` bytes out of a received descriptor: copies it to pages of our own, which its sender
    /// cannot reach, wipes the shared ones and closes the descriptor.
    ///
    /// # Errors
    ///
    /// [`SecretError::NotSecretMemory`], [`SecretError::WrongSize`], [`SecretError::Wiped`], or those that concern the
    /// place. The locked fall-back is taken only where this kernel gives *us* no secret memory either.
    pub fn adopt(descriptor: OwnedFd, len: usize) -> Result<Self, SecretError> {
        shared::adopt(descriptor.as_fd(), len)
    }

    /// The secret. On clippy's list of disallowed methods: each use says why it must see the bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` initialised bytes, which `_region` owns and keeps mapped as long as `self`
        // lives; nobody writes to them while `self` is borrowed, for all writing is through `&mut self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Its length in bytes, which is no secret.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no secret is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is these bytes, in a time that depends on the lengths alone.
    #[must_use]
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        if self.len != other.len() {
            return false;
        }
        #[expect(clippy::disallowed_methods, reason = "compared in constant time; only the verdict leaves")]
        let own = self.expose();
        let differs = own.iter().zip(other).fold(0, |differs, (one, two)| black_box(differs | (one ^ two)));
        black_box(differs) == 0
    }

    /// Zero bytes of secret memory that end where the guard page begins.
    fn zeroed(capacity: usize) -> Result<Self, SecretError> {
        if capacity == 0 {
            return Err(SecretError::Empty);
        }
        if capacity > MAX_SECRET {
            return Err(SecretError::TooLong { len: capacity });
        }
        if let Some(slot) = Slot::for_len(capacity)? {
            return Ok(Self {
                start: slot.end_minus(capacity),
                len: capacity,
                _region: Region::Pooled { _slot: slot },
            });
        }
        let pages = Pages::map(Backing::best(), 1, capacity)?;
        Ok(Self { start: pages.end_minus(0, capacity), len: capacity, _region: Region::Own { _pages: pages } })
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`, and `&mut self` makes this the only reference to those bytes.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// Makes room for `slots` small secrets ahead of need, before the system calls for it are forbidden. A small secret is
/// one of at most a page, and takes one slot.
///
/// # Errors
///
/// [`SecretError::PoolExhausted`] beyond [`MAX_POOL`], or as for a secret.
pub fn reserve(slots: usize) -> Result<(), SecretError> {
    pool::reserve(slots)
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        // Volatile and fenced. Before `_region`, which is dropped after this and may then hand the page to another.
        self.bytes_mut().zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("[REDACTED]")
    }
}

// SAFETY: the value owns its memory alone, which is not tied to the thread that mapped it.
unsafe impl Send for SecretBytes {}
// SAFETY: through a shared reference the bytes can only be read.
unsafe impl Sync for SecretBytes {}

#[cfg(test)]
mod tests;
