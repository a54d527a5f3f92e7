//! Runs one target under the fuzzer; see `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    blindferry_fuzz::backups(data);
});
