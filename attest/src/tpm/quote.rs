//! TPMS_ATTEST of a quote, parsed strictly (Part 2 section 10.12).

use serde::{Deserialize, Serialize};

/// The TPM's clock when it quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockInfo {
    /// Milliseconds that the TPM has been powered, over its life.
    pub clock: u64,
    /// How often it was reset since it was last cleared.
    pub reset_count: u32,
    /// How often it was restarted or resumed since the last reset.
    pub restart_count: u32,
    /// Whether it vouches that no higher `clock` was ever reported.
    pub safe: bool,
}

/// What the verifier keeps of an earlier quote by the same key, to notice that time went backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteClock {
    /// As in [`ClockInfo`].
    pub clock: u64,
    /// As in [`ClockInfo`].
    pub reset_count: u32,
    /// As in [`ClockInfo`].
    pub restart_count: u32,
}

impl From<ClockInfo> for QuoteClock {
    fn from(now: ClockInfo) -> Self {
        Self { clock: now.clock, reset_count: now.reset_count, restart_count: now.restart_count }
    }
}
