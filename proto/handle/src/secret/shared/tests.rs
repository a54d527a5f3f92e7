//! What is accepted as a handed-over secret, and who wipes it.
#![expect(clippy::disallowed_methods, reason = "the secrets here are made up")]

use std::convert::Infallible;

use super::*;
use crate::packet::PacketSocket;

fn shared(protection: Protection) -> SharedSecret {
    let mut secret = SharedSecret::zeroed(32, protection).unwrap();
    secret.bytes_mut().fill(0xA5);
    secret
}

fn genuine() -> Option<SharedSecret> {
    if let Some(reason) = protection().warning() {
        println!("SKIPPED: {reason}");
        return None;
    }
    Some(shared(Protection::SecretMemory))
}

#[test]
fn a_secret_crosses_in_a_packet_and_the_shared_pages_are_wiped_by_its_receiver() {
    let made = SharedSecret::create(32, |place| {
        place.fill(0xA5);
        Ok::<_, Infallible>(())
    })
    .unwrap();
    let (one, other) = PacketSocket::pair().unwrap();
    one.send(b"secret", &[made.as_fd()]).unwrap();
    let observer = Pages::map(Backing::Shared(made.as_fd()), 1, 32).unwrap();
    made.handed_over();
    let descriptor = other.receive().unwrap().descriptors.pop().unwrap();
    let adopted = SecretBytes::adopt(descriptor, 32).unwrap();
    assert_eq!(adopted.expose(), [0xA5; 32]);
    let mut left = [1; 32];
    copy_volatile(observer.start(0), &mut left);
    assert_eq!(left, [0; 32]);
}

#[test]
fn a_secret_that_was_never_handed_over_is_wiped_by_its_maker_and_not_adopted() {
    let Some(made) = genuine() else { return };
    let stray = made.as_fd().try_clone_to_owned().unwrap();
    drop(made);
    assert!(matches!(SecretBytes::adopt(stray, 32), Err(SecretError::Wiped)));
}

#[test]
fn plain_memfds_pipes_and_files_are_not_adopted() {
    let memfd = memfd_create("plain", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&memfd, &[0xA5; 32]).unwrap();
    for protection in [Protection::SecretMemory, Protection::LockedPages] {
        let refused = adopt_under(protection, memfd.as_fd(), 32);
        assert!(matches!(refused, Err(SecretError::NotSecretMemory)), "{protection}");
    }
    assert!(matches!(SecretBytes::adopt(memfd, 32), Err(SecretError::NotSecretMemory)));
    let (pipe, _writer) = std::io::pipe().unwrap();
    assert!(matches!(SecretBytes::adopt(pipe.into(), 32), Err(SecretError::NotSecretMemory)));
    let handle = crate::memfd::Handle::seal("test", &[0xA5; 32]).unwrap();
    assert!(matches!(SecretBytes::adopt(handle.into_fd(), 32), Err(SecretError::NotSecretMemory)));
}

#[test]
fn secret_memory_of_another_size_is_not_adopted() {
    let Some(made) = genuine() else { return };
    for len in [31, 33, 4096] {
        let copy = made.as_fd().try_clone_to_owned().unwrap();
        assert!(matches!(SecretBytes::adopt(copy, len), Err(SecretError::WrongSize { actual: 32, .. })), "{len}");
    }
}

#[test]
fn the_fall_back_is_adopted_only_where_there_is_no_secret_memory() {
    let made = shared(Protection::LockedPages);
    let refused = adopt_under(Protection::SecretMemory, made.as_fd(), 32);
    assert!(matches!(refused, Err(SecretError::NotSecretMemory)));
    assert_eq!(adopt_under(Protection::LockedPages, made.as_fd(), 32).unwrap().expose(), [0xA5; 32]);
}
