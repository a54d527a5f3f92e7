//! A worker's own key pair: X25519 (RFC 7748), fresh for each worker, its private half in secret pages.
//!
//! The private half has to leave those pages for the moment of an opening, because the HPKE library takes it as a value
//! of its own type. That value wipes itself when it is dropped, but the compiler may have moved it, and a move leaves the
//! old place as it was. So the key is loaded anew for each use, every use runs in a frame of its own, and the stack
//! below is overwritten when that frame is gone.

use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::identifier::WorkerKey;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, HpkeError, Kem, Serializable};
use rustix::rand::{GetRandomFlags, getrandom};
use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use zeroize::Zeroize;

/// The key pair.
#[doc(hidden)] // no part of the interface: open to the fuzzer
#[expect(missing_debug_implementations, reason = "a private key is mute")]
pub struct KeyPair {
    private: SecretBytes,
    public: WorkerKey,
}

/// Why there is no key pair.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There are no pages for the private half.
    #[error("cannot get secret pages for the private key")]
    Pages(#[source] SecretError),
    /// The kernel gave no random bytes.
    #[error("cannot get random bytes")]
    Random(#[source] io::Error),
    /// The library refused the random bytes as a key.
    #[error("cannot make an X25519 key")]
    Make(#[source] HpkeError),
}

impl KeyPair {
    /// Draws a key pair from the kernel's random numbers, straight into the secret pages.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn generate() -> Result<Self, KeyError> {
        let private = SecretBytes::init(PRIVATE, |slot| fill_random(slot).map(|()| PRIVATE));
        let private = private.map_err(|error| match error {
            InitError::Secret(source) => KeyError::Pages(source),
            InitError::Fill(source) => KeyError::Random(source),
        })?;
        let public = with_private(&private, public_of).map_err(KeyError::Make)?;
        Ok(Self { private, public })
    }

    /// The pair again, from its private half in shared secret memory.
    pub(crate) fn adopt(private: OwnedFd, public: WorkerKey) -> Result<Self, SecretError> {
        Ok(Self { private: SecretBytes::adopt(private, PRIVATE)?, public })
    }

    /// The private half, to be handed over.
    pub(crate) fn private(&self) -> &SecretBytes {
        &self.private
    }

    /// The half that others may see.
    #[must_use]
    pub fn public(&self) -> WorkerKey {
        self.public
    }

    /// Lends the private half in the library's form; nothing of it stays on the stack.
    pub(crate) fn with_private<R>(&self, used: impl FnOnce(&PrivateKey) -> R) -> Result<R, HpkeError> {
        with_private(&self.private, used)
    }
}

/// The library's private key.
pub(crate) type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;

/// Fills a slot with the kernel's random numbers.
pub(crate) fn fill_random(slot: &mut [u8]) -> io::Result<()> {
    let mut rest = slot;
    while !rest.is_empty() {
        let drawn = getrandom(&mut *rest, GetRandomFlags::empty())?;
        rest = rest.get_mut(drawn..).unwrap_or_default();
    }
    Ok(())
}

fn public_of(private: &PrivateKey) -> WorkerKey {
    let mut public = WorkerKey([0; WorkerKey::LEN]);
    X25519HkdfSha256::sk_to_pk(private).write_exact(&mut public.0);
    public
}

fn with_private<R>(private: &SecretBytes, used: impl FnOnce(&PrivateKey) -> R) -> Result<R, HpkeError> {
    let result = in_own_frame(private, used);
    wipe_dead_frames();
    result
}

#[inline(never)]
fn in_own_frame<R>(private: &SecretBytes, used: impl FnOnce(&PrivateKey) -> R) -> Result<R, HpkeError> {
    #[expect(clippy::disallowed_methods, reason = "the library takes the key as its own type, which wipes itself")]
    let key = PrivateKey::from_bytes(private.expose())?;
    Ok(used(&key))
}

/// Overwrites the stack that the frames before it used. By words: each is a store that the compiler may not leave out.
#[inline(never)]
fn wipe_dead_frames() {
    let mut dead = [0_u64; DEEPEST / size_of::<u64>()];
    dead.zeroize();
    black_box(&dead);
}

/// Bytes of an X25519 private key.
const PRIVATE: usize = 32;

/// An opening goes no deeper than this many bytes of stack, in a build without optimisation.
const DEEPEST: usize = 64 * 1024;

#[cfg(test)]
#[path = "../tests/worker/memory.rs"]
mod memory;

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_handle::secret::{Protection, protection};
    use std::hint::spin_loop;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn a_used_private_key_is_left_in_no_readable_memory() {
        if protection() == Protection::LockedPages {
            return;
        }
        let pair = KeyPair::generate().unwrap();
        let masked = masked(&pair);
        let used = AtomicBool::new(false);
        let (found, readable) = thread::scope(|scope| {
            let searching = scope.spawn(|| {
                while !used.load(Ordering::SeqCst) {
                    spin_loop();
                }
                memory::search(std::process::id(), &masked)
            });
            assert!(pair.with_private(public_of).is_ok());
            used.store(true, Ordering::SeqCst);
            // Calls nothing until then that could overwrite what a use left on this stack.
            while !searching.is_finished() {
                spin_loop();
            }
            searching.join().unwrap()
        });
        assert!(readable > 100_000, "only {readable} bytes could be read");
        assert_eq!(found, 0);
    }

    #[test]
    fn the_search_finds_a_private_key_that_was_copied() {
        let pair = KeyPair::generate().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the copy that the search shall find")]
        let copy = pair.private.expose().to_vec();
        assert!(memory::search(std::process::id(), &masked(&pair)).0 >= 1);
        black_box(copy);
    }

    /// All but the first and the last byte, which the library clamps.
    fn masked(pair: &KeyPair) -> Vec<u8> {
        #[expect(clippy::disallowed_methods, reason = "masked on the way")]
        let inner = pair.private.expose().iter().skip(1).take(PRIVATE - 2);
        inner.map(|byte| byte ^ memory::MASK).collect()
    }
}
