//! The token that a worker works with: in secret pages, mute, wiped when it is dropped.

use blindferry_handle::secret::SecretBytes;

use std::time::Duration;

/// A token. It can be neither printed, cloned nor serialised; [`Token::expose`] is the one way to its bytes.
#[expect(missing_debug_implementations, reason = "a token is mute")]
pub struct Token {
    bytes: SecretBytes,
    token_type: String,
    expires: u64,
    /// When this process got it, in seconds since the epoch.
    received: u64,
}

impl Token {
    pub(crate) fn new(bytes: SecretBytes, token_type: String, expires: u64, received: u64) -> Self {
        Self { bytes, token_type, expires, received }
    }

    /// Lends its bytes, 1 to [`blindferry_proto::limits::MAX_TOKEN`], for one use. Whatever `used` copies out is the
    /// caller's to wipe. On our own list of disallowed methods: each use within Blindferry says why it must see them.
    pub fn expose<R>(&self, used: impl FnOnce(&[u8]) -> R) -> R {
        #[expect(clippy::disallowed_methods, reason = "the worker is where the token is meant to be used")]
        used(self.bytes.expose())
    }

    /// How many bytes it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a token is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// When it is over, in seconds since the epoch. The broker says so, nothing proves it: a wrong value costs a refused
    /// call upstream or an early renewal.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Its form, such as `Bearer`, for programs that build a header from it. Also only the broker's word.
    #[must_use]
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    /// When this process got it, or the one that handed it on, in seconds since the epoch.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn secret(&self) -> &SecretBytes {
        &self.bytes
    }

    /// How long, from when it was received, until it is time for the next one: four fifths of its life.
    #[must_use]
    pub fn renew_after(&self) -> Duration {
        Duration::from_secs(self.expires.saturating_sub(self.received) / 5).saturating_mul(4)
    }

    /// Whether at `now`, in seconds since the epoch, it is time for the next one.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.received.saturating_add(self.renew_after().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_due_when_four_fifths_of_its_life_are_over_and_when_it_never_had_one() {
        let token = |expires| {
            let bytes = SecretBytes::copy_and_wipe(&mut [1]).unwrap();
            Token::new(bytes, "Bearer".into(), expires, 1000)
        };
        assert!(!token(1100).is_due(1079));
        assert!(token(1100).is_due(1080));
        assert!(token(900).is_due(1000));
        assert!(!token(u64::MAX).is_due(2000));
    }
}
