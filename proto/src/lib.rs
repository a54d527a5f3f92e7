//! What crosses a boundary between Blindferry's processes: bytes only. No I/O, no cryptography, no async.

pub mod role;
