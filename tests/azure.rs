//! Is a confidential machine of Azure let in by the report that vouches for its vTPM, and by nothing less?

use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::identifier::Machine;
use blindferry_proto::operator::{Approvee, OperatorRequest, Standing};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_session::client::ConnectError;
use blindferry_tests::Fleet;
use blindferry_tests::account::CALLER;
use blindferry_tests::azure_machine::AzureMachine;
use blindferry_tests::fleet::Plan;
use blindferry_tests::process::eventually;

const NAME: &str = "azure-1";
const IMAGE: &str = "azure image";

#[test]
fn a_machine_of_azure_enrols_by_its_report_and_is_held_to_its_key_and_its_measurements() {
    let Some(fleet) = Fleet::start_with(&Plan { reattest_every: Some(1), ..Plan::default() }) else { return };
    let operator = fleet.operator();
    let directory = fleet.directory().join("azure");
    let machine = AzureMachine::boot(&directory, CALLER, IMAGE, 0xa2);
    operator.apply_reference(&machine.reference(Role::Broker));
    let refused = fleet.peer(&machine.tpm, Role::Broker, NAME).unwrap_err();
    assert!(
        matches!(&refused, ConnectError::Refused { refusal } if refusal.code == RefusalCode::HostPending),
        "{refused:?}"
    );

    operator.approve(NAME, Approvee::Vtpm(machine.key()));
    let peer = fleet.peer(&machine.tpm, Role::Broker, NAME);
    let peer = peer.unwrap_or_else(|error| panic!("{error}: {:?}", operator.events().last()));
    let enrolled = |event: &Event| matches!(event, Event::Enrolled { host, machine: Machine::Vtpm(key) } if host.as_str() == NAME && *key == machine.key());
    assert!(operator.events().iter().any(enrolled));
    assert!(operator.hosts().iter().any(|host| host.name.as_str() == NAME && host.standing == Standing::Connected));
    // Asked again within the session, and let in again by what was pinned.
    eventually("re-attestation", || {
        let again = |event: &Event| matches!(event, Event::Reattested { host, .. } if host.as_str() == NAME);
        operator.events().iter().any(again).then_some(())
    });
    drop(peer);
    let peer = fleet.peer(&machine.tpm, Role::Broker, NAME).unwrap();
    // Other software, with the same report.
    machine.tpm.extend(7, "something else");
    eventually("the end of the session", || peer.over());
    assert_eq!(operator.not_attested(NAME, 1), ["tpm-pcr-value"]);
}

#[test]
fn neither_a_blob_of_another_machine_nor_another_machine_passes_for_the_approved_one() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let good = AzureMachine::boot(&fleet.directory().join("good"), CALLER, IMAGE, 0xa2);
    let bad = AzureMachine::boot(&fleet.directory().join("bad"), CALLER, IMAGE, 0xa2);
    operator.apply_reference(&good.reference(Role::Broker));
    operator.approve(NAME, Approvee::Vtpm(good.key()));
    assert!(fleet.peer(&good.tpm, Role::Broker, NAME).is_ok());
    // Another vTPM under the name.
    assert!(fleet.peer(&bad.tpm, Role::Broker, NAME).is_err());
    eventually("the alarm", || {
        let alarm =
            |event: &Event| matches!(event, Event::Alarm(Alarm::IdentityChanged { host, .. }) if host.as_str() == NAME);
        operator.events().iter().any(alarm).then_some(())
    });
    // Approved by its key, and vouched for by somebody else's report.
    operator.approve("azure-2", Approvee::Vtpm(bad.key()));
    bad.show_blob_of(&good, &fleet.directory().join("bad"));
    assert!(fleet.peer(&bad.tpm, Role::Broker, "azure-2").is_err());
    let codes = operator.not_attested("azure-2", 1);
    assert!(codes[0].starts_with("azure-"), "{codes:?}");
    // Nor does a plain TPM pass by that key's name, nor an operator approve a successor so.
    let successor = OperatorRequest::HostApprove {
        host: "next".parse().unwrap(),
        whom: Approvee::Vtpm(good.key()),
        role: Role::Successor,
    };
    assert_eq!(operator.ask(successor).unwrap_err().code, RefusalCode::Malformed);
}
