//! The library of a program that is a worker knowingly: it redeems a grant, and gets a token that nobody else can read.
//!
//! ```text
//!   parent ── handle (grant) ──▶ worker ── grant, public key ──▶ broker ──▶ vault
//!                                worker ◀── handle (parcel) ──── broker ◀── vault
//!                                   └─ opens it into secret pages, uses the token, wipes it
//! ```
//!
//! Small and blocking: it starts no thread and brings no runtime, so that any program can link it.
//!
//! # A complete worker
//!
//! Its parent started it with the grant on descriptor 3 (`blindferry_parent` does that), and the broker listens at its
//! usual place, or where `BLINDFERRY_WORKERS` says.
//!
//! ```no_run
//! use blindferry_worker::{Worker, WorkerError, receive, workers_socket};
//!
//! # fn call_upstream(_: &[u8]) {}
//! fn main() -> Result<(), WorkerError> {
//!     let grant = receive::from_inherited(3)?;
//!     let worker = Worker::connect(&workers_socket())?;
//!     let mut leased = worker.redeem(grant)?;
//!
//!     for _ in 0..1_000 {
//!         // The same token while it lasts, the next one when four fifths of its life are over.
//!         let token = leased.fresh()?;
//!         token.expose(call_upstream);
//!         if let Some(why) = leased.lease_end()? {
//!             eprintln!("the lease is over: {why:?}");
//!             return Ok(());
//!         }
//!     }
//!     leased.end() // wipes the token here, and has it revoked upstream where that is possible
//! }
//! ```
//!
//! # What it protects, and what it leaves to the program
//!
//! Token and private key lie in secret pages, which other processes cannot read, root included, and which no core file
//! holds. That does not stop a debugger that runs code *inside* the worker: against one of the same user, let the
//! process be non-dumpable from its first instruction (`blindferry_handle::entry`, or start it with
//! `blindferry-launch`). Secrets that it was started with itself, as arguments or variables, are shown to others until
//! [`wipe_start`] overwrites them: the first line of `main`. Copies that the program itself makes of a token are the program's to wipe.

pub mod connect;
pub mod delivered;
mod exchange;
pub mod hand_on;
#[doc(hidden)]
pub mod key;
pub mod open;
pub mod receive;
pub mod token;
pub mod worker;

pub use blindferry_handle::start::{Start, StartError, wipe_start};
pub use connect::workers_socket;
pub use open::OpenError;
pub use token::Token;
pub use worker::{Leased, Worker, WorkerError};
