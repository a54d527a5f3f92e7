//! Does whoever floods, stalls, fills or lies stop anybody but himself, is memory bounded meanwhile, and does all go on by
//! itself afterwards?
//!
//! Seconds each by default; `BLINDFERRY_ABUSE=50` does fifty times as much where something is counted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "abuse/clock.rs"]
mod clock;
#[path = "abuse/connections.rs"]
mod connections;
#[path = "abuse/descriptors.rs"]
mod descriptors;
#[path = "abuse/disk.rs"]
mod disk;
#[path = "abuse/evidence.rs"]
mod evidence;
#[path = "abuse/ground.rs"]
mod ground;
#[path = "abuse/tpm.rs"]
mod tpm;
#[path = "abuse/upstreams.rs"]
mod upstreams;
