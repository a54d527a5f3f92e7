//! `release`: the master itself is the token.
//!
//! Byte for byte: nothing is trimmed, a line's end at the end of the master is part of the token. Whoever stores a master
//! (`blindferry put`) decides whether one belongs to it.

use super::{MintError, Order, Token};
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Text;
use blindferry_proto::limits::MAX_TOKEN;

/// A master that can be a token.
///
/// # Errors
/// [`MintError::MasterTooLong`].
pub(super) fn prepare(master: &SecretBytes) -> Result<&SecretBytes, MintError> {
    if master.len() > MAX_TOKEN { Err(MintError::MasterTooLong) } else { Ok(master) }
}

/// A copy of the master, in secret memory of its own. `latest` is when the worker has to come again, in Unix seconds.
///
/// # Errors
/// [`MintError::Audience`] when one is asked for: it could not be kept. [`MintError::Memory`].
pub(super) fn mint(master: &SecretBytes, order: &Order<'_>, latest: u64) -> Result<Token, MintError> {
    if let Some(audience) = order.audience {
        return Err(MintError::Audience { audience: audience.clone() });
    }
    let secret = SecretBytes::init(master.len(), |place| -> Result<usize, MintError> {
        #[expect(clippy::disallowed_methods, reason = "copied from secret memory to secret memory")]
        place.copy_from_slice(master.expose());
        Ok(place.len())
    })?;
    let token_type = Text::cut("opaque");
    Ok(Token { secret, expires: latest, token_type, revocation: None })
}
