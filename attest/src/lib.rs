//! Is this peer what it says? Pure judgement of evidence: no I/O, no clock, no randomness but what the caller hands in.
//!
//! Two roads lead through this crate, and each ends in a value that nothing else can make:
//!
//! - [`endorsement`]: a host's TPM is enrolled once. [`endorsement::endorse`] → [`endorsement::Endorsed::challenge`] →
//!   [`endorsement::Activation::answer`] → [`endorsement::Enrolled`], whose attestation key is pinned from then on.
//! - [`attested`]: in each session, [`attested::appraise`] turns [`evidence::Evidence`] into [`attested::Attested`].
//!
//! Each step takes what the step before it made, by value; so none can be skipped, repeated or reordered.

pub mod attested;
pub mod binder;
pub mod checks;
pub mod endorsement;
pub mod evidence;
pub mod kind;
mod reader;
pub mod reference;
pub mod refusal;
pub mod snp;
pub mod tpm;
