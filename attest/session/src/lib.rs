//! The attested session: TLS 1.3, and then each side proves itself over that very channel.
//!
//! ```text
//!   peer (broker, operator)                         vault
//!        │ ◀═══ TLS 1.3, raw public keys (RFC 7250) ═══▶ │   no tickets, no resumption, no 0-RTT
//!        │ ─── Open {context A, which logs} ────────────▶ │
//!        │ ◀── evidence over binder(vault, A), which logs │   the peer judges it before it says anything more
//!        │ ─── evidence over binder(peer, B) ───────────▶ │   the vault judges it
//!        │ ◀── Welcome ────────────────────────────────── │
//! ```
//!
//! TLS authenticates nobody here: both keys are made for one process and thrown away with it, and each side accepts
//! any key of the other that signs the handshake. What says who is there is the evidence, whose challenge is the
//! [`Binder`](blindferry_attest::binder::Binder) of role, own key and exporter, so that evidence cannot be carried to
//! another channel, sent back, or used twice.
//!
//! Each stage of either side is a type, and the next stage takes it by value: no step can be left out.

pub mod asked;
pub mod channel;
pub mod client;
pub mod identity;
pub mod platform;
pub mod server;
pub mod spans;
pub mod tls;
mod vouched;

pub use client::{ClientSettings, VaultIdentity, VaultReference};
pub use identity::Identity;
pub use platform::{Attester, Platform, PlatformError};
