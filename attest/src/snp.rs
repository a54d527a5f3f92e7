//! AMD SEV-SNP as a verifier sees it: reports and certificates parsed strictly, judged in steps that cannot be skipped.
//!
//! [`Report::parse`] → [`EndorsedVek::endorse`] (chain to AMD's roots) → [`EndorsedVek::authenticate`] (the signature) →
//! an [`Authentic`] report, and only then the questions about what it says ([`Question`]).
//!
//! "ABI" is the SEV Secure Nested Paging Firmware ABI Specification, AMD document 56860; "VCEK" is the Versioned Chip
//! Endorsement Key Certificate and KDS Interface Specification, document 57230.

mod advice;
pub mod anchor;
pub(crate) mod ask;
pub mod authentic;
mod certificate;
pub mod chain;
pub mod claims;
pub mod crl;
mod der;
pub mod evidence;
pub mod examine;
mod fields;
pub mod identifier;
pub mod product;
pub mod question;
pub mod refusal;
pub mod report;
pub(crate) mod rules;
pub mod table;
pub mod tcb;
pub mod vek;

pub use anchor::Anchors;
pub use authentic::Authentic;
pub use chain::EndorsedVek;
pub use claims::SnpClaims;
pub use evidence::SnpEvidence;
pub use examine::{Examination, Request, Verdict, examine};
pub use identifier::{ChipId, HostData, KeyDigest, Measurement, ReportData, ReportId};
pub use product::Product;
pub use question::Question;
pub use refusal::SnpRefusal;
pub use report::Report;
pub use tcb::Tcb;
pub use vek::KeyKind;
