//! Whether tokens can be minted from a master under its settings: asked once, before both are stored.

use super::{MintError, Prepared};
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::credential::CredentialSettings;

/// A master with settings that fit it. Holding one tells you that [`check`] accepted these two together: the settings
/// are consistent and within bounds, addresses and certificates parse, and the master is a secret or key of the kind
/// they name. Not that an upstream will accept it.
///
/// ```compile_fail,E0451
/// fn forged(master: &blindferry_handle::secret::SecretBytes, settings: &blindferry_proto::credential::CredentialSettings) {
///     let _ = blindferry_vault::mint::Usable { master, settings };
/// }
/// ```
#[derive(Debug)]
pub struct Usable<'a> {
    master: &'a SecretBytes,
    settings: &'a CredentialSettings,
}

impl<'a> Usable<'a> {
    /// The master, to be sealed.
    #[must_use]
    pub fn master(&self) -> &'a SecretBytes {
        self.master
    }

    /// The settings, to be stored with it.
    #[must_use]
    pub fn settings(&self) -> &'a CredentialSettings {
        self.settings
    }
}

/// Prepares to mint, and says whether that worked. Speaks to no upstream.
///
/// # Errors
/// [`MintError`] says what to change.
pub fn check<'a>(master: &'a SecretBytes, settings: &'a CredentialSettings) -> Result<Usable<'a>, MintError> {
    Prepared::new(master, settings).map(|_| Usable { master, settings })
}
