//! A TPM that stalls, and one that is reset under a running system.

use crate::ground::Ground;
use blindferry_proto::role::Role;
use blindferry_tests::fleet::{OPERATOR, Plan};
use blindferry_tests::process::eventually;
use blindferry_tests::worker::ask_for;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Seconds between two looks at a host's evidence.
const REATTEST: u32 = 5;

#[test]
fn while_the_vaults_tpm_stalls_who_has_a_session_is_served_and_who_wants_one_waits() {
    let Some(ground) = Ground::start() else { return };
    let (fleet, others) = (&ground.fleet, ground.others());
    fleet.enclave.tpm.hold();
    scope(|scope| {
        let wants = scope.spawn(|| fleet.peer(&fleet.operator_tpm, Role::Operator, OPERATOR));
        let before = others.done();
        eventually("crossings", || (others.done() > before + 20).then_some(()));
        assert!(!wants.is_finished(), "nobody has a session without evidence");
        fleet.enclave.tpm.go_on();
        assert!(wants.join().unwrap().is_ok(), "who has waited gets his session");
    });
    others.end_without_a_refusal();
    ground.settles_within(16);
}

#[test]
fn a_host_whose_tpm_stalls_for_less_than_it_may_keeps_its_session() {
    let Some(ground) = look_often() else { return };
    let (fleet, others) = (&ground.fleet, ground.others());
    let sessions = fleet.host.sessions();
    fleet.host.tpm.hold();
    let began = Instant::now();
    // Most likely looked at once, and for less than it has to answer.
    eventually("crossings meanwhile", || {
        others.wait_for(1);
        (began.elapsed() > LOOK - Duration::from_millis(1500)).then_some(())
    });
    fleet.host.tpm.go_on();
    let done = others.done();
    eventually("crossings", || (others.done() > done + 20).then_some(()));
    others.end_without_a_refusal();
    assert_eq!(fleet.host.sessions(), sessions, "the same session");
}

#[test]
fn a_host_whose_tpm_is_reset_has_nothing_more_until_it_is_measured_again() {
    let Some(ground) = look_often() else { return };
    let fleet = &ground.fleet;
    assert!(ask_for(fleet, "api").is_ok());
    let sessions = fleet.host.sessions();
    fleet.host.tpm.reset();
    fleet.host.tpm.tool("tpm2_startup", &["-c"]);
    let refused = eventually("the end of its session", || ask_for(fleet, "api").err());
    println!("refused: {refused:?}");
    // It asks again and again, and what it shows now is not what the operator approved.
    sleep(LOOK);
    assert!(ask_for(fleet, "api").is_err());
    assert_eq!(fleet.host.sessions(), sessions);
    fleet.host.tpm.measure("host image");
    fleet.host.wait_for_session_after(sessions);
    eventually("a grant", || ask_for(fleet, "api").ok());
}

#[test]
fn a_vault_whose_tpm_is_reset_serves_whom_it_has_and_is_believed_by_nobody_else_until_it_is_measured_again() {
    let Some(ground) = Ground::start() else { return };
    let (fleet, others) = (&ground.fleet, ground.others());
    fleet.enclave.tpm.reset();
    fleet.enclave.tpm.tool("tpm2_startup", &["-c"]);
    let refused = fleet.peer(&fleet.operator_tpm, Role::Operator, OPERATOR).err();
    println!("an operator: {refused:?}");
    assert!(refused.is_some(), "its PCRs are not those of the reference");
    others.wait_for(3);
    fleet.enclave.tpm.measure("enclave image");
    eventually("a session", || fleet.peer(&fleet.operator_tpm, Role::Operator, OPERATOR).ok());
    others.end_without_a_refusal();
}

const LOOK: Duration = Duration::from_secs(5);

fn look_often() -> Option<Ground> {
    Ground::start_with(&Plan { reattest_every: Some(REATTEST), ..Plan::default() })
}
