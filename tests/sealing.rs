//! Does the key-encryption key come out of the TPM only where and when it was meant to, and is the store believed only as
//! it was left?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::setup::SetupReply;
use blindferry_tests::fleet::{Fleet, Plan, SetUp};

#[test]
fn init_on_what_is_initialised_is_refused_and_changes_nothing() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    let refused = fleet.enclave.init(&[], &fleet.init_order(&plan));
    assert!(matches!(code(&refused), RefusalCode::Exists), "{refused:?}");
    fleet.enclave.serve();
    assert!(fleet.operator().status().policy_version > 0);
}

fn code(set_up: &SetUp) -> RefusalCode {
    assert!(!set_up.status.success(), "{set_up:?}");
    match &set_up.reply {
        Some(SetupReply::Refused(refusal)) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}
