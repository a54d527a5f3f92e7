//! The broker's two sockets as processes of this host see them: real sockets, real processes, a vault that is played.
//!
//! `cfg(test)`, which always holds here, tells clippy that the functions beside the tests are tests as well.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod host;
#[cfg(test)]
mod impostor;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod parcels;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod vault;
#[cfg(test)]
mod waiting;
