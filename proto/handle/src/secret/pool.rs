//! The process's pool of one-page slots for small secrets.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::param::page_size;

use super::SecretError;
use super::pages::{Backing, Pages};

/// The most secret memory that small secrets may take together, in bytes: half of the usual RLIMIT_MEMLOCK (8 MiB).
pub const MAX_POOL: usize = 4 * 1024 * 1024;

/// One page of the process's pool, all zero when it is handed out. Goes back when dropped; its holder wipes it first.
#[derive(Debug)]
pub(super) struct Slot(Page);

/// The address of a page of a pool. Says nothing about who may use it: a [`Slot`], or nobody while it is free.
#[derive(Clone, Copy, Debug)]
struct Page(NonNull<u8>);

// SAFETY: an address, of a page that belongs to the process and not to a thread. Using it takes a `Slot`, of which
// there is one for a page that is not free.
unsafe impl Send for Page {}

impl Slot {
    /// A slot for a secret of `len` bytes; `None` when it is too long for one.
    pub(super) fn for_len(len: usize) -> Result<Option<Self>, SecretError> {
        if len > page_size() {
            return Ok(None);
        }
        let mut pool = pool();
        if pool.free.is_empty() {
            let count = pool.next_chunk().min(pool.room());
            if count == 0 {
                return Err(SecretError::PoolExhausted);
            }
            pool.grow(count)?;
        }
        pool.free.pop().map(|page| Some(Self(page))).ok_or(SecretError::PoolExhausted)
    }

    /// The address `len` bytes before the guard page that follows the slot.
    pub(super) fn end_minus(&self, len: usize) -> NonNull<u8> {
        assert!(len <= page_size(), "more than a slot holds");
        // SAFETY: a slot is one page, and by the assertion the result lies in it.
        unsafe { self.0.0.add(page_size() - len) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // There is room: see `Pool::grow`.
        pool().free.push(self.0);
    }
}

pub(super) fn reserve(slots: usize) -> Result<(), SecretError> {
    pool().reserve(slots)
}

/// In a copy of the process that fork(2) made, before anything else: its pool begins anew, without the pages that did not
/// come along. What they were is left alone, since slots of the original may lie about in the copy.
pub(crate) fn begin_anew() {
    let of_the_original = std::mem::replace(&mut *pool(), Pool::empty());
    let _never_unmapped = ManuallyDrop::new(of_the_original);
}

#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<Page>,
    /// Slots point into them. Those of the process's own pool, the only one that hands out slots, are never unmapped.
    chunks: Vec<Pages>,
    /// All slots there are, free or not.
    slots: usize,
}

impl Pool {
    pub(super) const fn empty() -> Self {
        Self { free: Vec::new(), chunks: Vec::new(), slots: 0 }
    }

    pub(super) fn reserve(&mut self, slots: usize) -> Result<(), SecretError> {
        match slots.saturating_sub(self.free.len()) {
            0 => Ok(()),
            missing if missing > self.room() => Err(SecretError::PoolExhausted),
            missing => self.grow(missing),
        }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// How many slots may still be added.
    fn room(&self) -> usize {
        (MAX_POOL / page_size()).saturating_sub(self.slots)
    }

    /// How many slots to add when none is free: few at first, since most processes hold a key and a token, and each slot is
    /// a mapping to be made before the first is used.
    fn next_chunk(&self) -> usize {
        if self.slots == 0 { FIRST_CHUNK } else { CHUNK }
    }

    /// Adds `count` slots; the caller has seen that there is room.
    fn grow(&mut self, count: usize) -> Result<(), SecretError> {
        let pages = Pages::map(Backing::best(), count, page_size())?;
        self.slots += count;
        // For all of them, so that giving one back never allocates.
        self.free.reserve(self.slots - self.free.len());
        self.free.extend((0..count).map(|index| Page(pages.start(index))));
        self.chunks.push(pages);
        Ok(())
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    // A panic inside leaves at worst slots that are never used again.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

static POOL: Mutex<Pool> = Mutex::new(Pool::empty());

/// Slots that a process's first secret makes.
const FIRST_CHUNK: usize = 4;

/// Slots that are made at a time after that: locked memory for a process with a handful of secrets stays small.
const CHUNK: usize = 16;
