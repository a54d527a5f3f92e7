//! TPM 2.0 as a verifier sees it: structures that a TPM writes, parsed strictly, and the digests that it computes.
//!
//! "Part N" is the TPM 2.0 Library specification, Family 2.0, by the Trusted Computing Group.

mod advice;
pub mod algorithm;
pub(crate) mod attestation_key;
pub mod certify;
pub(crate) mod clock;
mod der;
pub mod event_log;
pub mod events;
pub mod examine;
pub mod ima;
pub mod key;
pub mod name;
pub mod pcr;
pub mod policy;
pub mod public;
pub mod quote;
pub mod quoted;
pub mod signature;

pub use crate::reader::Malformed;
pub use name::AkName;
pub use pcr::{PcrSelection, PcrValues};
pub use quote::{ClockInfo, QuoteClock};
