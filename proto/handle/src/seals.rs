//! Sealing a memfd, although the kernel may be holding one of its pages for a moment.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{SealFlags, fcntl_add_seals};
use rustix::io::Errno;

/// Adds seals. The seal against writing is refused as busy while somebody holds a page of the file, and on a loaded
/// machine that is now and then the kernel itself: migration, compaction, reclaim. Nobody else can hold one of ours, so
/// waiting is right; should it last longer than [`PATIENCE`] times [`PAUSE`], it is an error after all.
pub(crate) fn add(memfd: impl AsFd, seals: SealFlags) -> Result<(), Errno> {
    for _ in 0..PATIENCE {
        match fcntl_add_seals(&memfd, seals) {
            Err(Errno::BUSY) => sleep(PAUSE),
            done => return done,
        }
    }
    fcntl_add_seals(memfd, seals)
}

const PATIENCE: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_get_seals, ftruncate, memfd_create};
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_page_that_is_held_for_a_moment_does_not_stop_the_seal() {
        let memfd = memfd_create("held", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memfd, 4096).unwrap();
        let (mapped, ready) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: a new mapping at an address that the kernel chooses, of the one page that the file has; it is
                // unmapped below, in full, and nothing refers to it.
                unsafe {
                    let (write, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
                    let page = mmap(std::ptr::null_mut(), 4096, write, shared, &memfd, 0).unwrap();
                    mapped.send(()).unwrap();
                    sleep(4 * PAUSE);
                    munmap(page, 4096).unwrap();
                }
            });
            ready.recv().unwrap();
            assert_eq!(fcntl_add_seals(&memfd, SealFlags::WRITE), Err(Errno::BUSY), "the page is not held");
            add(&memfd, SealFlags::WRITE).unwrap();
        });
        assert!(fcntl_get_seals(&memfd).unwrap().contains(SealFlags::WRITE));
    }
}
