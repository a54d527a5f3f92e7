//! The process's pool of one-page slots for small secrets.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::param::page_size;

use super::SecretError;
use super::pages::{Backing, Pages};

/// The most secret memory that small secrets may take together, in bytes: half of the usual RLIMIT_MEMLOCK (8 MiB).
pub const MAX_POOL: usize = 4 * 1024 * 1024;

/// One page of the pool, all zero while nobody holds it. Goes back when dropped; its holder wipes it first.
#[derive(Debug)]
pub(super) struct Slot {
    start: NonNull<u8>,
}

// SAFETY: the page belongs to the process and, while this value lives, to it alone.
unsafe impl Send for Slot {}

impl Slot {
    /// A slot for a secret of `len` bytes; `None` when it is too long for one.
    pub(super) fn for_len(len: usize) -> Result<Option<Self>, SecretError> {
        if len > page_size() {
            return Ok(None);
        }
        let mut pool = pool();
        if pool.free.is_empty() {
            let count = CHUNK.min(pool.room());
            if count == 0 {
                return Err(SecretError::PoolExhausted);
            }
            pool.grow(count)?;
        }
        pool.free.pop().map(Some).ok_or(SecretError::PoolExhausted)
    }

    /// The address `len` bytes before the guard page that follows the slot.
    pub(super) fn end_minus(&self, len: usize) -> NonNull<u8> {
        assert!(len <= page_size(), "more than a slot holds");
        // SAFETY: a slot is one page, and by the assertion the result lies in it.
        unsafe { self.start.add(page_size() - len) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The same page in a new owner: this one is gone with the end of this function.
        pool().free.push(Self { start: self.start });
    }
}

pub(super) fn reserve(slots: usize) -> Result<(), SecretError> {
    pool().reserve(slots)
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) free: Vec<Slot>,
    /// Never unmapped: slots point into them.
    chunks: Vec<Pages>,
    /// All slots there are, free or not.
    slots: usize,
}

impl Pool {
    pub(super) const fn empty() -> Self {
        Self {
            free: Vec::new(),
            chunks: Vec::new(),
            slots: 0,
        }
    }

    pub(super) fn reserve(&mut self, slots: usize) -> Result<(), SecretError> {
        match slots.saturating_sub(self.free.len()) {
            0 => Ok(()),
            missing if missing > self.room() => Err(SecretError::PoolExhausted),
            missing => self.grow(missing),
        }
    }

    /// How many slots may still be added.
    fn room(&self) -> usize {
        (MAX_POOL / page_size()).saturating_sub(self.slots)
    }

    /// Adds `count` slots; the caller has seen that there is room.
    fn grow(&mut self, count: usize) -> Result<(), SecretError> {
        let pages = Pages::map(Backing::best(), count, page_size())?;
        self.slots += count;
        // For all of them, so that giving one back never allocates.
        self.free.reserve(self.slots - self.free.len());
        self.free.extend((0..count).map(|index| Slot {
            start: pages.start(index),
        }));
        self.chunks.push(pages);
        Ok(())
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    // A panic inside leaves at worst slots that are never used again.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

static POOL: Mutex<Pool> = Mutex::new(Pool::empty());

/// Slots that are made at a time: locked memory for a process with a handful of secrets stays small.
const CHUNK: usize = 16;
