//! Secret pages, each run of them between pages without access.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use rustix::fs::ftruncate;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;

use super::SecretError;

/// What protects secrets in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// memfd_secret(2): out of reach of other processes, of root's reading, of core files and of swap.
    SecretMemory,
    /// Locked pages: kept out of swap and of core files. Whoever may read this process's memory reads them.
    LockedPages,
}

/// What protects secrets in this process, found out once by really making a secret page.
#[must_use]
pub fn protection() -> Protection {
    static FOUND: OnceLock<Protection> = OnceLock::new();
    *FOUND.get_or_init(|| {
        match Pages::map(Backing::SecretMemory, 1, 1) {
            // Out of locked memory is no reason to do with less: there is secret memory, and the next use says so.
            Ok(_) | Err(SecretError::LockLimit { .. }) => Protection::SecretMemory,
            Err(_) => Protection::LockedPages,
        }
    })
}

impl Protection {
    /// What should be said loudly, if anything.
    #[must_use]
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::SecretMemory => None,
            Self::LockedPages => Some(
                "this kernel gives us no secret memory (memfd_secret): secrets are in locked pages, which root and \
                 whoever may trace this process can read; enable CONFIG_SECRETMEM, or secretmem.enable=1 before Linux \
                 6.5, and allow the system call",
            ),
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(match self {
            Self::SecretMemory => "secret memory",
            Self::LockedPages => "locked pages",
        })
    }
}

/// Where the pages come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backing<'fd> {
    /// A memfd_secret of our own, closed once it is mapped.
    SecretMemory,
    /// Private anonymous memory, locked.
    Locked,
    /// What a descriptor is open on, shared with whoever else holds it; of the right size already.
    Shared(BorrowedFd<'fd>),
}

impl Backing<'_> {
    pub(super) fn best() -> Self {
        match protection() {
            Protection::SecretMemory => Self::SecretMemory,
            Protection::LockedPages => Self::Locked,
        }
    }
}

/// `runs` equally long runs of readable and writable pages, with a page without access before, between and after them.
/// Unmapped on drop, **not wiped**.
#[derive(Debug)]
pub(super) struct Pages {
    /// The first guard page.
    base: NonNull<u8>,
    /// Length of the whole reservation, guards included, in bytes.
    reserved: usize,
    /// Length of one run, a multiple of the page size, in bytes.
    run: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; `Pages` only hands out addresses, and unmaps when dropped
// by its one owner.
unsafe impl Send for Pages {}

impl Pages {
    /// Maps `runs` runs with room for at least `len` bytes each. Fresh pages are zero.
    pub(super) fn map(backing: Backing<'_>, runs: usize, len: usize) -> Result<Self, SecretError> {
        let guard = page_size();
        let run = len.next_multiple_of(guard);
        let reserved = (run + guard)
            .checked_mul(runs)
            .and_then(|all| all.checked_add(guard))
            .ok_or(SecretError::TooLong { len })?;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::empty(), MapFlags::PRIVATE) }
            .map_err(refused)?;
        let base = NonNull::new(base.cast()).ok_or(SecretError::Map { source: io::ErrorKind::OutOfMemory.into() })?;
        // From here on dropped, and so unmapped, when a step fails.
        let pages = Self { base, reserved, run };
        match backing {
            Backing::SecretMemory => {
                let memory = secret_memory(run * runs)?;
                pages.fill_from(memory.as_fd(), runs)?;
            }
            Backing::Shared(memory) => pages.fill_from(memory, runs)?,
            Backing::Locked => pages.open_and_lock(runs)?,
        }
        Ok(pages)
    }

    /// The address `len` bytes before the end of run `index`, which is where its guard page begins.
    pub(super) fn end_minus(&self, index: usize, len: usize) -> NonNull<u8> {
        assert!(len <= self.run, "more than a run holds");
        // SAFETY: inside run `index`, by the assertion here and the one in `start`.
        unsafe { self.start(index).add(self.run - len) }
    }

    /// The address of run `index`.
    pub(super) fn start(&self, index: usize) -> NonNull<u8> {
        let guard = page_size();
        let offset = guard + index * (self.run + guard);
        assert!(offset + self.run + guard <= self.reserved, "no such run");
        // SAFETY: within the reservation, by the assertion.
        unsafe { self.base.add(offset) }
    }

    /// Lays consecutive pieces of `memory` over the runs.
    fn fill_from(&self, memory: BorrowedFd<'_>, runs: usize) -> Result<(), SecretError> {
        for index in 0..runs {
            let at = self.start(index).as_ptr().cast();
            let offset = (index * self.run) as u64;
            let access = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: replaces one run of our own reservation, which nobody refers to yet.
            unsafe { mmap(at, self.run, access, MapFlags::SHARED | MapFlags::FIXED, memory, offset) }
                .map_err(refused)?;
        }
        self.keep_apart()
    }

    /// Out of children and of core files, guard pages and all.
    fn keep_apart(&self) -> Result<(), SecretError> {
        let base = self.base.as_ptr().cast();
        // SAFETY: advice about our own reservation; a child that forks simply lacks it.
        unsafe { madvise(base, self.reserved, Advice::LinuxDontFork) }.map_err(refused)?;
        // SAFETY: as above. Secret memory has it from birth, shared locked pages have not.
        unsafe { madvise(base, self.reserved, Advice::LinuxDontDump) }.map_err(refused)
    }

    /// Makes the runs of the anonymous reservation usable, and locks them.
    fn open_and_lock(&self, runs: usize) -> Result<(), SecretError> {
        for index in 0..runs {
            let at = self.start(index).as_ptr().cast();
            // SAFETY: changes one run of our own reservation, which nobody refers to yet.
            unsafe { mprotect(at, self.run, MprotectFlags::READ | MprotectFlags::WRITE) }.map_err(refused)?;
            self.lock(index)?;
        }
        self.keep_apart()
    }

    /// Keeps a run out of swap; secret memory is from birth.
    pub(super) fn lock(&self, index: usize) -> Result<(), SecretError> {
        // SAFETY: a run of our own, and locking changes nothing about its content.
        unsafe { mlock(self.start(index).as_ptr().cast(), self.run) }.map_err(|error| match error {
            // mlock says ENOMEM, and EPERM for a limit of 0, where mmap says EAGAIN.
            Errno::NOMEM | Errno::PERM | Errno::AGAIN => SecretError::LockLimit { source: error.into() },
            error => refused(error),
        })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the reservation is ours from `map`, and whoever got an address from us is gone with us. It fails only
        // for arguments that `map` would have failed on.
        let _unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.reserved) };
    }
}

/// A new memfd_secret(2) of `len` bytes, close-on-exec. Its size cannot change again.
pub(super) fn secret_memory(len: usize) -> Result<OwnedFd, SecretError> {
    let flags = libc::c_ulong::from(libc::O_CLOEXEC.unsigned_abs());
    // SAFETY: takes flags and returns a descriptor; no memory is involved.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, flags) };
    let number = match libc::c_int::try_from(number) {
        Ok(number) if number >= 0 => number,
        _ => {
            return Err(SecretError::Map { source: io::Error::last_os_error() });
        }
    };
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    let memory = unsafe { OwnedFd::from_raw_fd(number) };
    ftruncate(&memory, len as u64).map_err(refused)?;
    Ok(memory)
}

pub(super) fn refused(error: Errno) -> SecretError {
    match error {
        // mmap of secret memory beyond RLIMIT_MEMLOCK.
        Errno::AGAIN => SecretError::LockLimit { source: error.into() },
        error => SecretError::Map { source: error.into() },
    }
}
