//! The device process against real software TPMs: one swtpm for each TPM, on loopback, in a directory of its own.
//!
//! Without swtpm and tpm2-tools each test says so and shows nothing.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod attestation;
mod bus;
mod confined;
mod counter;
mod fresh;
mod logs;
mod machine;
mod provisioning;
mod recorder;
mod scan;
mod sealing;
mod swtpm;
