//! What a credential's settings may say, whatever its kind.

use crate::upstream::{Address, BadAddress, BadTrust};
use blindferry_proto::credential::CredentialSettings;
use std::ops::RangeInclusive;

/// Seconds that a token may live.
pub const TOKEN_LIFETIME: RangeInclusive<u32> = 1..=86_400;
/// Seconds that a lease may idle.
pub const LEASE_IDLE: RangeInclusive<u32> = 5..=3_600;
/// Seconds that an opened master may idle in secret memory, where a cache is asked for.
pub const CACHE_IDLE: RangeInclusive<u32> = 1..=3_600;

/// Refuses times outside their bounds.
///
/// # Errors
/// [`BadSettings::Time`].
pub(super) fn check_times(settings: &CredentialSettings) -> Result<(), BadSettings> {
    let times = [
        ("token_lifetime", Some(settings.token_lifetime), TOKEN_LIFETIME),
        ("lease_idle", Some(settings.lease_idle), LEASE_IDLE),
        ("cache_idle", settings.cache_idle, CACHE_IDLE),
    ];
    for (what, seconds, allowed) in times {
        if let Some(seconds) = seconds.filter(|seconds| !allowed.contains(seconds)) {
            return Err(BadSettings::Time { what, seconds, least: *allowed.start(), most: *allowed.end() });
        }
    }
    Ok(())
}

/// The address in the setting `what`.
///
/// # Errors
/// [`BadSettings::Address`].
pub(super) fn address(what: &'static str, url: &str) -> Result<Address, BadSettings> {
    url.parse().map_err(|source| BadSettings::Address { what, source })
}

/// Settings that no credential can have.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// A time out of bounds.
    #[error("{what} is {seconds} s, want {least} to {most} s")]
    Time {
        /// The setting.
        what: &'static str,
        /// Its value.
        seconds: u32,
        /// The least allowed.
        least: u32,
        /// The most allowed.
        most: u32,
    },
    /// A URL that is not an upstream's address.
    #[error("{what} is not an address")]
    Address {
        /// The setting.
        what: &'static str,
        /// Why not.
        source: BadAddress,
    },
    /// A text that its standard does not allow.
    #[error("{what} is not legal: {rule}")]
    Text {
        /// The setting.
        what: &'static str,
        /// What it should be.
        rule: &'static str,
    },
    /// Certificates that cannot be trusted.
    #[error("trust does not say whom to trust")]
    Trust(#[source] BadTrust),
    /// A subject with braces around something else than `host` or `uid`.
    #[error("subject has braces that are not {{host}} or {{uid}}")]
    Subject,
    /// No audience, or too many.
    #[error("{count} audiences, want 1 to {most}")]
    Audiences {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

impl BadSettings {
    /// The stable word.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Time { .. } => "settings-time",
            Self::Address { .. } => "settings-url",
            Self::Text { .. } => "settings-text",
            Self::Trust(_) => "settings-trust",
            Self::Subject => "settings-subject",
            Self::Audiences { .. } => "settings-audiences",
        }
    }
}
