//! The device process of an SEV-SNP guest, as a library: evidence from the firmware, keys sealed by keys of the firmware.
//!
//! ```text
//!                                                       ┌── configfs-tsm or /dev/sev-guest ──▶ report, certificates
//!  vault or broker ── one SEQPACKET socketpair ── this ─┤
//!  (blindferry_device::client)                          └── /dev/sev-guest ──────────────────▶ derived key
//! ```
//!
//! It speaks the protocol of [`blindferry_device`], as the device process of a TPM does, and links no C library. The
//! hardware is behind one trait, [`guest::Guest`], so that tests can bring a guest of their own; what ships has
//! [`guest::Firmware`] alone, and no flag or variable that puts anything else in its place. Nothing here judges: a report
//! is passed on as it came.

pub mod answer;
pub mod guest;
pub mod sealing;
pub mod table;
pub mod tsm;
