//! What of the launcher needs no process: files that embed tokens. A library for its tests and for the fuzzer.

pub mod template;
