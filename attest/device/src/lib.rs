//! The protocol to the device process, and its client.
//!
//! ```text
//!  vault or broker ── one SEQPACKET socketpair ──▶ blindferry-device ── TPM command bus ──▶ TPM 2.0
//!  (this library)      postcard, one descriptor      libtss2, libcrypto
//! ```
//!
//! `blindferry-device` is the only process that links libtss2 and libcrypto, whose copies of secrets nobody can wipe.
//! Its client asks for a quote, a sealing, an unsealing; a key crosses as a descriptor of secret memory, never as bytes
//! of a message. After each request that touched a key the process executes itself anew, so that no address space
//! that held the key outlives the answer.
//!
//! This library links neither of the two C libraries: [`protocol`] is bytes, [`approval`] and [`authority`] are the
//! operator's side of a signed PCR policy, [`client`] and [`spawn`] are how a process has a device process of its own.

pub mod approval;
pub mod authority;
pub mod certificates;
pub mod client;
pub mod pcr;
pub mod protocol;
mod refusal;
pub mod serve;
pub mod spawn;
