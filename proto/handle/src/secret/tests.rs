//! What secret pages promise, tried from inside the process; tests/unreadable.rs tries it from outside.
#![expect(clippy::disallowed_methods, reason = "the secrets here are made up")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::param::page_size;

use super::*;

fn holding(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_and_wipe(&mut bytes.to_vec()).unwrap()
}

/// What another process would see at this address, by the kernel's copy.
fn from_outside(at: *const u8, len: usize) -> io::Result<Vec<u8>> {
    let mut seen = vec![0; len];
    File::open("/proc/self/mem")?.read_exact_at(&mut seen, at.addr() as u64)?;
    Ok(seen)
}

#[test]
fn the_kernel_does_not_read_secret_memory_for_others() {
    if protection() != Protection::SecretMemory {
        println!("SKIPPED: {}", protection().warning().unwrap());
        return;
    }
    let plain = b"in the open".to_vec();
    assert_eq!(from_outside(plain.as_ptr(), plain.len()).unwrap(), plain, "positive control");
    for len in [11, page_size() + 1] {
        let secret = holding(&vec![0xA5; len]);
        let refused = from_outside(secret.expose().as_ptr(), len).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    }
}

#[test]
fn locked_pages_are_readable_which_is_why_their_use_is_loud() {
    let pages = Pages::map(Backing::Locked, 2, 100).unwrap();
    assert!(from_outside(pages.start(1).as_ptr(), 100).is_ok());
    assert!(Protection::LockedPages.warning().is_some() && Protection::SecretMemory.warning().is_none());
}

#[test]
fn a_secret_ends_where_a_page_without_access_begins() {
    for (backing, name) in [(Backing::best(), "best"), (Backing::Locked, "locked")] {
        let pages = Pages::map(backing, 2, 10).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        for index in 0..2 {
            let end = pages.end_minus(index, 0).as_ptr().addr();
            let access = |address: usize| {
                maps.lines()
                    .find_map(|line| {
                        let (range, rest) = line.split_once(' ')?;
                        let (from, to) = range.split_once('-')?;
                        let within = usize::from_str_radix(from, 16).ok()? <= address
                            && address < usize::from_str_radix(to, 16).ok()?;
                        within.then(|| rest[..3].to_owned())
                    })
                    .unwrap()
            };
            assert_eq!(access(end - 1), "rw-", "{name}");
            assert_eq!(access(end), "---", "{name}");
            assert_eq!(access(end - page_size() - 1), "---", "{name}");
        }
    }
    let secret = holding(b"short");
    assert_eq!((secret.expose().as_ptr().addr() + secret.len()) % page_size(), 0);
}

#[test]
fn a_secret_is_wiped_when_dropped_and_its_slot_is_given_to_the_next() {
    let secret = holding(&[0x5C; 64]);
    let at = secret.expose().as_ptr();
    drop(secret);
    // SAFETY: pool pages are never unmapped, and no other test writes this value.
    let left: Vec<u8> = (0..64).map(|index| unsafe { at.add(index).read_volatile() }).collect();
    assert!(!left.contains(&0x5C));
}

#[test]
fn a_failed_or_panicking_filler_leaves_nothing_behind() {
    let mut at = std::ptr::null();
    let failed = SecretBytes::init(64, |place| {
        place.fill(0x5D);
        at = place.as_ptr();
        Err("no key")
    });
    assert!(matches!(failed, Err(InitError::Fill("no key"))));
    // SAFETY: pool pages are never unmapped.
    assert_ne!(unsafe { at.read_volatile() }, 0x5D);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        SecretBytes::init(64, |place| -> Result<usize, Infallible> {
            place.fill(0x5D);
            at = place.as_ptr();
            panic!("as a library might")
        })
    }));
    assert!(panicked.is_err());
    // SAFETY: as above.
    assert_ne!(unsafe { at.read_volatile() }, 0x5D);
}

#[test]
fn a_filler_gets_zeroes_and_what_it_did_not_use_is_wiped() {
    let secret = SecretBytes::init(32, |place| {
        assert!(place.iter().all(|byte| *byte == 0));
        place.fill(0xA5);
        Ok::<_, Infallible>(8)
    })
    .unwrap();
    assert_eq!(secret.expose(), [0xA5; 8]);
    // SAFETY: the slot is 32 bytes long from there, see above.
    let rest: Vec<u8> = (8..32).map(|index| unsafe { secret.start.add(index).read_volatile() }).collect();
    assert!(rest.iter().all(|byte| *byte == 0));
    for used in [0, 33, usize::MAX] {
        let refused = SecretBytes::init(32, |_| Ok::<_, Infallible>(used));
        assert!(matches!(refused, Err(InitError::Secret(SecretError::Filled { .. }))), "{used}");
    }
}

#[test]
fn the_source_of_a_copied_secret_is_wiped_also_when_there_is_no_room() {
    let mut source = [0xA5; 16];
    let secret = SecretBytes::copy_and_wipe(&mut source).unwrap();
    assert_eq!(source, [0; 16]);
    assert!(secret.ct_eq(&[0xA5; 16]) && !secret.ct_eq(&[0xA5; 15]) && !secret.ct_eq(&[0xA6; 16]));
    let mut long = vec![0xA5; MAX_SECRET + 1];
    assert!(matches!(SecretBytes::copy_and_wipe(&mut long), Err(SecretError::TooLong { .. })));
    assert!(long.iter().all(|byte| *byte == 0));
    assert!(matches!(SecretBytes::copy_and_wipe(&mut []), Err(SecretError::Empty)));
}

#[test]
fn secrets_print_as_redacted() {
    assert_eq!(format!("{:?}", holding(b"hunter2")), "[REDACTED]");
}

#[test]
fn secrets_of_many_threads_do_not_meet() {
    let threads: Vec<_> = (1..=8_u8)
        .map(|mark| {
            std::thread::spawn(move || {
                for round in 0..200 {
                    let secret = holding(&vec![mark; 1 + round]);
                    std::thread::yield_now();
                    assert!(secret.expose().iter().all(|byte| *byte == mark));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn small_secrets_are_bounded_and_room_for_them_can_be_reserved() {
    // In a pool of its own, for that of the process belongs to the tests beside this one.
    let mut pool = pool::Pool::empty();
    let most = MAX_POOL / page_size();
    assert!(matches!(pool.reserve(most + 1), Err(SecretError::PoolExhausted)));
    pool.reserve(3).unwrap();
    pool.reserve(2).unwrap();
    assert_eq!(pool.free(), 3);
    pool.reserve(20).unwrap();
    assert_eq!(pool.free(), 20);
}

/// Whether the process itself could read this byte, by a system call, which answers where a read would be a fault.
fn readable(at: *const u8) -> bool {
    let (_reader, writer) = std::io::pipe().unwrap();
    // SAFETY: the kernel copies one byte from there, or says EFAULT; nothing is written to it.
    let written = unsafe { libc::write(std::os::fd::AsRawFd::as_raw_fd(&writer), at.cast(), 1) };
    if written < 0 {
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));
    }
    written == 1
}

#[test]
fn a_resting_secret_can_be_read_while_it_is_used_and_at_no_other_time() {
    for len in [32, 3 * page_size() + 1] {
        let secret = holding(&vec![0x3C; len]);
        let (first, last) = (secret.expose().as_ptr(), secret.expose().last().unwrap() as *const u8);
        let seen = || (readable(first), readable(last));
        assert_eq!(seen(), (true, true), "positive control");
        let resting = RestingSecret::lay_down(secret).unwrap();
        assert_eq!(seen(), (false, false));
        let one = resting.wake().unwrap();
        assert!(one.ct_eq(&vec![0x3C; len]));
        let other = resting.wake().unwrap();
        drop(one);
        assert_eq!(seen(), (true, true), "somebody still uses it");
        drop(other);
        assert_eq!(seen(), (false, false));
        assert!(resting.wake().unwrap().ct_eq(&vec![0x3C; len]), "and it is what it was");
    }
}

#[test]
fn a_resting_secret_that_is_dropped_is_wiped_and_its_page_serves_again() {
    let secret = holding(&[0x3D; 32]);
    let at = secret.expose().as_ptr();
    drop(RestingSecret::lay_down(secret).unwrap());
    // SAFETY: pool pages are never unmapped, and what was at rest is readable again when it is free.
    assert_ne!(unsafe { at.read_volatile() }, 0x3D);
    let next: Vec<SecretBytes> = (0..32_u8).map(|value| holding(&[value; 32])).collect();
    assert!(next.iter().zip(0..).all(|(secret, value)| secret.ct_eq(&[value; 32])));
}

/// Not of a property: what it costs stands in docs/decisions. Run by hand with `--run-ignored only`.
#[test]
#[ignore = "a measurement"]
fn waking_and_resting_costs_this_much() {
    let resting = RestingSecret::lay_down(holding(&[1; 32])).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..100_000 {
        drop(resting.wake().unwrap());
    }
    println!("{:?} for a use", start.elapsed() / 100_000);
}
