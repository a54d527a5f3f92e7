//! The vault: the only process in which a master exists in the clear.

pub mod audit;
pub mod confine;
pub mod deposit;
pub mod grant;
pub mod hpke_keys;
pub mod lease;
pub mod ledger;
pub mod mint;
pub mod parcel;
pub mod policy;
pub mod sealed;
pub mod store;
pub mod upstream;
