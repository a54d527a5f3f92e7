//! The vault: the only process in which a master exists in the clear.
//!
//! ```text
//!  front ──3──▶ ┌──────────────────────────── vault ───────────────────────────┐ ◀──4── device process ── TPM
//!  accepted and │ TLS ends here, both ways. Appraises evidence, evaluates      │  quote, seal, unseal
//!  dialled      │ policy, issues and redeems grants, mints, makes parcels,     │
//!  connections, │ signs audit records.                                         │
//!  the store    │ Holds: the key-encryption key, masters for a use, grant keys │
//!               │ Gave up: files, sockets, processes, threads (see `confine`)  │
//!               └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! The road of a secret through the files, in the order in which a file may import those before it:
//! [`sealed`] → [`store`] → [`audit`] → [`host`] → [`policy`] → [`pending`] → [`grant`] → [`ledger`] → [`lease`] → [`mint`] →
//! [`parcel`] → [`vault`](mod@vault) → `crossing`, `waiting`, `operator`, `hand_over`, `rotate`, `backup`, `standing`, [`report`] →
//! [`session`] → [`serve`](mod@serve).

mod admission;
pub mod approvals;
pub mod audit;
mod backup;
pub mod cache;
pub mod clock;
pub mod confine;
pub mod connection;
mod crossing;
pub mod deposit;
pub mod figures;
pub mod grant;
mod hand_over;
mod handshakes;
pub mod host;
pub mod hpke_keys;
pub mod lease;
pub mod ledger;
pub mod link;
pub mod log;
pub mod mint;
mod operator;
pub mod parcel;
pub mod pending;
pub mod platform;
pub mod policy;
pub mod publish;
pub mod report;
mod rotate;
pub mod sealed;
pub mod serve;
pub mod session;
pub mod setup;
mod standing;
pub mod store;
pub mod succeed;
mod traced;
pub mod unseal;
pub mod upstream;
pub mod vault;
mod waiting;
