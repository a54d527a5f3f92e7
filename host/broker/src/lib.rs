//! The broker, `blindferryd`: one per host, under its own user. It ferries grants and parcels and can read neither.
//!
//! ```text
//!                    ┌───────────────────────── blindferryd ─────────────────────────┐
//!  parents.sock ────▶│ parents   ask: grant in a handle                              │
//!                    │                            ╲                                  │    TCP, attested
//!                    │                             uplink ── dial ───────────────────┼──▶ session ── vault
//!                    │                            ╱   │ leases that the vault ended  │
//!  workers.sock ────▶│ workers   grant in: parcel out │                              │
//!                    │       ╲                        ▼                              │
//!                    │        └─ lease ──────────▶ registry ◀── pidfd of each worker │
//!                    └───────────────────────────────┬───────────────────────────────┘
//!                                        socketpair  │  quote this binder
//!                                                    ▼
//!                                            blindferry-device ── TPM
//! ```
//!
//! **Holds:** the socket of one session; grants and parcels, ciphertext to it, for as long as one reply takes; a pidfd
//! for each process with a lease. No plaintext, and no key but that of the session's TLS.
//!
//! **Believes** the kernel about who connected: a pidfd and the user of `connect`, never a process id and never a
//! program's digest. What a launcher says that it measured is passed on as the launcher's word.
//!
//! **Gave up** before the first connection ([`confine`]): executing programs, looking into other processes, io_uring,
//! key rings, namespaces, every file but its sockets' directories, listening on and dialling any TCP port but the
//! vault's and, where one is configured, a collector's.
//!
//! **Dies** without harm: leases live at the vault, and what is not kept idles out. Workers outlive a restart of the
//! broker; the next one learns of a lease when its worker renews it.

pub mod admission;
pub mod backoff;
pub mod configuration;
pub mod confine;
mod connection;
pub mod dial;
pub mod figures;
pub mod lease;
pub mod listen;
pub mod notify;
pub mod parents;
pub mod peer;
pub mod public;
pub mod registry;
mod reports;
pub mod serve;
pub mod traced;
pub mod uplink;
mod waiting;
pub mod workers;
