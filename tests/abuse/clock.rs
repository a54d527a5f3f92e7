//! A clock that jumps, forwards and backwards.
//!
//! The clock of the machine cannot be moved under a test without moving it for all others. So this looks at what the vault
//! reads; what it does with a time that it is given is tested beside the code.

use blindferry_tests::sources::rust;

/// What asks for the time of day.
const WALL_CLOCK: [&str; 3] = ["SystemTime::now", "::now_utc(", "ClockId::Realtime"];

/// A grant's entry in the ledger is forgotten when the grant is over: a vault whose time ran backwards after that would
/// sell it a second time.
#[test]
fn the_vault_reads_the_time_of_day_once_at_its_start_and_for_its_log() {
    let reads = |text: &str| WALL_CLOCK.iter().map(|call| text.matches(call).count()).sum::<usize>();
    let vault = rust().into_iter().filter(|source| source.path.starts_with("enclave/vault/src/"));
    let found = vault.map(|source| (reads(source.production()), source.path)).filter(|(times, _)| *times > 0);
    let expected = ["enclave/vault/src/clock.rs", "enclave/vault/src/log.rs"].map(|path| (1, path.to_owned()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(reads("let now = SystemTime::now();"), 1, "the search finds what there is");
}
