//! The client of the device process, under tokio.
