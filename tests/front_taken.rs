//! What does an attacker get who has taken the front over: who hands the vault its packets, its connections and its store?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_tests::program::ours;

#[test]
fn the_vault_is_a_program_of_its_own() {
    assert!(ours("blindferry-vault").is_file());
}
