//! The broker's two sockets as processes of this host see them: real sockets, real processes, a vault that is played.

mod bounds;
mod grants;
mod host;
mod leases;
mod malformed;
mod parcels;
mod vault;
