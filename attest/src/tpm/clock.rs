//! Time at a TPM goes forward: the order of its quotes.

use super::{ClockInfo, QuoteClock};
use crate::refusal::AppraisalError;

/// The clock, when the TPM vouches for it and it is not behind an earlier quote.
pub(crate) fn in_order(now: ClockInfo, earlier: Option<&QuoteClock>) -> Result<ClockInfo, AppraisalError> {
    let went_back = |counter, found, earlier| AppraisalError::ClockReset { counter, found, earlier };
    if let Some(earlier) = earlier {
        if now.reset_count < earlier.reset_count {
            return Err(went_back("resetCount", now.reset_count.into(), earlier.reset_count.into()));
        }
        // A reset sets restartCount to zero.
        if now.reset_count == earlier.reset_count && now.restart_count < earlier.restart_count {
            return Err(went_back("restartCount", now.restart_count.into(), earlier.restart_count.into()));
        }
    }
    // Before the clock itself: after a loss of power it may honestly be a little behind, and then it is not safe.
    if !now.safe {
        return Err(AppraisalError::ClockUnsafe);
    }
    match earlier {
        Some(earlier) if now.clock < earlier.clock => Err(went_back("clock", now.clock, earlier.clock)),
        _ => Ok(now),
    }
}
