//! What the executable does as a whole, where no vault is needed for it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod attest;
mod attest_tpm;
mod bench;
mod check_config;
mod doctor;
mod environment;
mod hardened;
mod hostile;
// What to measure is built in one place.
#[path = "../../../../attest/tests/measured/firmware.rs"]
mod firmware;
#[path = "../../../../attest/tests/measured/image.rs"]
mod image;
mod references;
mod set_up;
mod shells;
mod usage;
mod vault_away;
