//! What tests of the whole need: software TPMs, a running fleet, an operator, workers, an upstream, an attacker.
//!
//! Everything runs on loopback, in a temporary directory, and is ended by its id when its value is dropped. Where the
//! machine lacks what a test needs, [`missing`] says so and the test shows nothing.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "support of tests: what cannot go on ends the test"
)]

pub mod account;
pub mod attack;
pub mod attack_launch;
pub mod attackers_server;
pub mod azure_machine;
pub mod boot;
pub mod booted;
pub mod browser;
pub mod bus;
pub mod collector;
pub mod command;
pub mod core_handler;
pub mod ek_ca;
pub mod fleet;
pub mod guest_fleet;
pub mod hand;
pub mod load;
pub mod measured;
pub mod moves;
pub mod next_guest;
pub mod oauth;
pub mod operator;
pub mod operators_page;
pub mod overhearing;
pub mod page;
pub mod peer;
pub mod process;
pub mod program;
pub mod relay;
pub mod scene;
pub mod secrets;
pub mod services;
pub mod sight;
pub mod silicon;
pub mod sources;
pub mod starter;
pub mod taken_front;
pub mod terminal;
pub mod tpm;
pub mod tsm_tree;
pub mod upstream;
pub mod usage;
pub mod waiting;
pub mod way;
pub mod worker;

pub use fleet::Fleet;
pub use program::missing;
