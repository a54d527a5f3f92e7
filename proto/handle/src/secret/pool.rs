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
            pool.grow(CHUNK)?;
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
    let mut pool = pool();
    let missing = slots.saturating_sub(pool.free.len());
    if missing == 0 {
        Ok(())
    } else {
        pool.grow(missing)
    }
}

#[derive(Debug)]
struct Pool {
    free: Vec<Slot>,
    /// Never unmapped: slots point into them.
    chunks: Vec<Pages>,
    /// All slots there are, free or not.
    slots: usize,
}

impl Pool {
    /// Adds at least one slot, at most `wanted`, as far as the bound allows.
    fn grow(&mut self, wanted: usize) -> Result<(), SecretError> {
        let room = (MAX_POOL / page_size()).saturating_sub(self.slots);
        let count = wanted.min(room);
        if count == 0 || (wanted > CHUNK && count < wanted) {
            return Err(SecretError::PoolExhausted);
        }
        let pages = Pages::map(Backing::best(), count, page_size())?;
        self.free.reserve(count);
        self.free.extend((0..count).map(|index| Slot {
            start: pages.start(index),
        }));
        self.slots += count;
        self.chunks.push(pages);
        Ok(())
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    // A panic inside leaves at worst slots that are never used again.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    chunks: Vec::new(),
    slots: 0,
});

/// Slots that are made at a time: locked memory for a process with a handful of secrets stays small.
const CHUNK: usize = 16;
