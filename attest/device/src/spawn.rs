//! Starts a device process of one's own.
