//! A secret that is kept between its uses, in pages that not even this process can read until it is used.
//!
//! The secret has a page to itself, or several. At rest they are without access (mprotect(2)): a read that goes astray, a
//! library that copies too much, or code that was talked into reading an address of an attacker's choice meets a fault.
//! It is no wall against code that runs here and may call mprotect(2) itself.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{MprotectFlags, mprotect};
use rustix::param::page_size;

use super::pages::refused;
use super::{SecretBytes, SecretError};

/// A [`SecretBytes`] at rest. [`Self::wake`] makes it readable for as long as somebody uses it.
#[derive(Debug)]
pub struct RestingSecret {
    /// Dropped by hand: it is wiped when it is dropped, and for that it has to be writable.
    secret: ManuallyDrop<SecretBytes>,
    /// How many use it now; access changes between none and one, under this lock.
    users: Mutex<usize>,
}

/// A secret in use: can be read, not written. At rest again when the last of its users drops this.
#[derive(Debug)]
#[must_use = "dropped, it lies down again"]
pub struct Awake<'a>(&'a RestingSecret);

impl RestingSecret {
    /// Lays a secret down.
    ///
    /// # Errors
    /// [`SecretError::Map`] when the kernel does not change the access to its pages; it is wiped then.
    pub fn lay_down(secret: SecretBytes) -> Result<Self, SecretError> {
        change_access(&secret, MprotectFlags::empty())?;
        Ok(Self { secret: ManuallyDrop::new(secret), users: Mutex::new(0) })
    }

    /// Makes it readable, for all who use it at the same time.
    ///
    /// # Errors
    /// [`SecretError::Map`] when the kernel does not change the access to its pages.
    pub fn wake(&self) -> Result<Awake<'_>, SecretError> {
        let mut users = self.users();
        if *users == 0 {
            change_access(&self.secret, MprotectFlags::READ)?;
        }
        *users += 1;
        Ok(Awake(self))
    }

    /// Its length in bytes, which is no secret.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no secret is empty")]
    pub fn len(&self) -> usize {
        self.secret.len()
    }

    fn users(&self) -> MutexGuard<'_, usize> {
        // Nothing between locking and unlocking panics.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Awake<'_> {
    type Target = SecretBytes;

    fn deref(&self) -> &SecretBytes {
        &self.0.secret
    }
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        let mut users = self.0.users();
        *users -= 1;
        if *users == 0 {
            // Splits and joins no mapping that waking did not, so it has no reason to fail; if it does, the secret stays
            // readable until it is wiped, as every other secret is.
            let _resting = change_access(&self.0.secret, MprotectFlags::empty());
        }
    }
}

impl Drop for RestingSecret {
    fn drop(&mut self) {
        // No `Awake` is left: they borrow this.
        if change_access(&self.secret, MprotectFlags::READ | MprotectFlags::WRITE).is_ok() {
            // SAFETY: dropped here and nowhere else, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.secret) }
        }
        // Otherwise its pages stay as they are, without access and never given to another secret.
    }
}

/// Changes the access to all pages of a secret. They hold nothing else: a small secret has a slot of one page, and a
/// large one has pages of its own.
fn change_access(secret: &SecretBytes, access: MprotectFlags) -> Result<(), SecretError> {
    let page = page_size();
    let before = secret.start.as_ptr().addr() % page;
    let len = (before + secret.len).next_multiple_of(page);
    // SAFETY: `start` minus `before` is the beginning of a page that the secret's region owns.
    let first = unsafe { secret.start.as_ptr().sub(before) };
    // SAFETY: whole pages of the secret's own region, which hold nothing but it. While access is taken away nobody has a
    // reference to its bytes: `lay_down` owns it, and else only an `Awake` gives one, whose lifetime ends before.
    unsafe { mprotect(first.cast(), len, access) }.map_err(refused)
}
