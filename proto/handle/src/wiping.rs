//! An allocator that wipes what it frees, so that no copy of a secret outlives its owner on the heap.
//!
//! It is the second wall: secrets belong in [`crate::secret`]. But TLS, JSON and HTTP code keeps its own buffers, and
//! those end up here.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, except that memory is zeroed before it is given back. Growing and shrinking go through a new
/// block, so that no remnant stays behind in the old one; what is dropped without being freed is not wiped.
///
/// ```
/// #[global_allocator]
/// static HEAP: blindferry_handle::wiping::WipingAllocator = blindferry_handle::wiping::WipingAllocator;
/// # fn main() { drop(vec![1_u8; 100]); }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WipingAllocator;

// SAFETY: every block comes from System with the caller's layout and goes back to System with the same layout, so its
// guarantees are ours. The wipe writes to a block only after its owner gave it up and before System may reuse it.
// `realloc` is the provided one, which is alloc, copy and dealloc of ours.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above. System knows which pages are fresh from the kernel and need no zeroing.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller owns `layout.size()` bytes at `block` and gives them up. explicit_bzero is memset at full
        // speed that the compiler may not remove.
        unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        // SAFETY: `block` came from System with this layout.
        unsafe { System.dealloc(block, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a freed block through System's bookkeeping: the allocator keeps small blocks, and wipes only its links.
    fn freed_and_allocated_again(free: impl Fn(*mut u8, Layout)) -> Vec<u8> {
        let layout = Layout::from_size_align(512, 16).unwrap();
        // SAFETY: the layout is not empty; the block is written within its size and freed once.
        let first = unsafe { System.alloc(layout) };
        // SAFETY: as above.
        unsafe { first.write_bytes(0xA5, layout.size()) };
        free(first, layout);
        // SAFETY: as above; read only within its size, and only if it is the same block again.
        unsafe {
            let again = System.alloc(layout);
            assert_eq!(first, again, "the system's allocator gave another block: this test shows nothing");
            // What is read may be uninitialised in the eyes of the language; the volatile read of memory that we
            // wrote a moment ago is the point of the test.
            let seen = (0..layout.size()).map(|index| again.add(index).read_volatile()).collect();
            System.dealloc(again, layout);
            seen
        }
    }

    #[test]
    fn a_freed_block_holds_nothing_while_the_plain_allocator_leaves_it_all() {
        // SAFETY: the block is System's, with this layout.
        let left = freed_and_allocated_again(|block, layout| unsafe { System.dealloc(block, layout) });
        assert!(left.iter().filter(|byte| **byte == 0xA5).count() > 400, "positive control");
        // SAFETY: as above.
        let left = freed_and_allocated_again(|block, layout| unsafe { WipingAllocator.dealloc(block, layout) });
        assert!(!left.contains(&0xA5));
    }
}
