//! Does judging a guest whose chain is kept allocate more than what it gives back?

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use blindferry_attest::evidence::Evidence;
use blindferry_bench::allocations;

use crate::{
    evidence::{OfGuest, OfMachine},
    guest::Guest,
};

#[expect(dead_code, reason = "attest's tests need more of it")]
#[path = "../../attest/tests/judgement/boot.rs"]
mod boot;
#[expect(dead_code, reason = "the benchmark needs more of it")]
mod evidence;
#[expect(dead_code, reason = "attest's tests need more of it")]
#[path = "../../attest/tests/judgement/guest.rs"]
mod guest;
#[path = "../../attest/tests/judgement/synthetic.rs"]
mod synthetic;

// One test, since allocations of others in this process would count.
#[test]
fn a_judgement_allocates_what_it_returns_and_little_else() {
    for guest in [Guest::good(), Guest::good().loaded()].map(OfGuest::new) {
        let attested = guest.judge(true);
        let decoding = allocations(|| Evidence::decode(&guest.evidence).unwrap());
        let returned = allocations(|| attested.claims());
        let judging = allocations(|| guest.judge(true)) - decoding;
        // The identity of a provider, and the words of the TCB, whose text grows as it is put together.
        assert!(judging <= returned + 3, "{judging} to judge, {returned} to return");
    }
    // Not one for each event.
    let [short, long] = [100, 200].map(|events| OfMachine::p256(Some(events)));
    let [fewer, more] = [&short, &long].map(|machine| allocations(|| machine.judge()));
    assert!(more - fewer < 20, "{fewer} for 100 events, {more} for 200");
}
