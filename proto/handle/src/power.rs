//! Capabilities of this thread: put aside for a while, or given up for good.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Powers of this thread, out of effect while this lives.
#[derive(Debug)]
pub struct PutAside(Option<CapabilitySets>);

impl PutAside {
    /// These, as far as they are in effect.
    #[must_use]
    pub fn of(powers: CapabilitySet) -> Self {
        let Ok(held) = capabilities(None) else {
            return Self(None);
        };
        let mut without = held;
        // Out of the effective set alone: a permitted set that shrank would make execve believe, under no_new_privs,
        // that giving it back is a gain.
        without.effective -= powers;
        Self((without.effective != held.effective && set_capabilities(None, without).is_ok()).then_some(held))
    }
}

impl Drop for PutAside {
    fn drop(&mut self) {
        if let Some(held) = self.0 {
            // Taking back what is still permitted cannot be refused; if it were, we would merely hold less.
            let _restored = set_capabilities(None, held);
        }
    }
}

/// Takes every capability that this kernel knows out of what a program could get by its file. Needs `CAP_SETPCAP`, so it
/// comes before [`give_up_all`].
///
/// # Errors
/// What the kernel said.
pub fn forgo_bounding_set() -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) if number > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives up every capability that this thread holds, could take up, or would pass on.
///
/// # Errors
/// What the kernel said.
pub fn give_up_all() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}
