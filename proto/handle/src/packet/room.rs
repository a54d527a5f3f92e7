//! Where packets arrive: pages of a thread's own, which are given back to the kernel as they are.
//!
//! From the heap they would be wiped when the thread ends, all of them, by an allocator that wipes
//! ([`crate::wiping`]), and a process that received two short packets would touch 128 KiB for it at its end. What arrives is
//! cleared when it is taken out, and the kernel hands pages to nobody with what was in them.

use std::io;
use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::MAX_PACKET;

/// Room for one packet of [`MAX_PACKET`] bytes.
#[derive(Debug)]
pub(super) struct Room(NonNull<u8>);

impl Room {
    /// Fresh, and zero.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn new() -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), MAX_PACKET, access, MapFlags::PRIVATE) }?;
        NonNull::new(start.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// All of it.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped by `new` with this length, readable, writable and zero or written to since, until `self` is dropped;
        // and lent out once at a time, by the exclusive borrow.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), MAX_PACKET) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, and no borrow of it outlives `self`.
        let _unmapped = unsafe { munmap(self.0.as_ptr().cast(), MAX_PACKET) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_holds_the_longest_packet_and_begins_empty() {
        let mut room = Room::new().unwrap();
        assert!(room.bytes().len() == MAX_PACKET && room.bytes().iter().all(|byte| *byte == 0));
        room.bytes().fill(0xA5);
        assert!(Room::new().unwrap().bytes().iter().all(|byte| *byte == 0));
    }
}
