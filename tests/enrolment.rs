//! Who comes in by an EK certificate, and who does not?

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::identifier::Machine;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_session::client::ConnectError;
use blindferry_tests::account::BROKER;
use blindferry_tests::command::Desk;
use blindferry_tests::ek_ca::EkCa;
use blindferry_tests::fleet::Fleet;
use blindferry_tests::peer::Peer;
use blindferry_tests::program::missing;
use blindferry_tests::tpm::Tpm;
use rcgen::generate_simple_self_signed;
use std::fs;

#[test]
fn a_tpm_whose_ek_certificate_leads_to_an_applied_root_comes_in_and_the_name_is_its_own() {
    let Some((fleet, [maker])) = with_makers() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    assert_eq!(desk.says(&["roots", "apply", maker.root().to_str().unwrap()])["version"], 1);
    let (first, second) = (made(&fleet, &maker, "first"), made(&fleet, &maker, "second"));
    // A certificate alone lets nobody in: an operator has to expect somebody under that name.
    assert_eq!(refused(fleet.peer(&first, Role::Broker, "worker-2")), RefusalCode::HostPending);
    desk.says(&["host", "approve", "worker-2", "--certified"]);
    assert_eq!(standing(&desk, "worker-2"), ("allowed".to_owned(), None));

    let session = fleet.peer(&first, Role::Broker, "worker-2").unwrap();
    assert_eq!(standing(&desk, "worker-2"), ("connected".to_owned(), Some(first.ek().to_string())));
    let enrolled = |event: &Event| matches!(event, Event::Enrolled { host, machine } if host.as_str() == "worker-2" && *machine == Machine::Ek(first.ek()));
    assert!(operator.events().iter().any(enrolled));
    drop(session);

    // The first one: from now on the name is pinned, and as good a certificate does not help.
    assert_eq!(refused(fleet.peer(&second, Role::Broker, "worker-2")), RefusalCode::NotAttested);
    let alarm = |event: &Event| matches!(event, Event::Alarm(Alarm::IdentityChanged { claimed: Some(claimed), .. }) if *claimed == Machine::Ek(second.ek()));
    assert!(operator.events().iter().any(alarm));
    // And the root is of no more use to who is in: it may go.
    desk.says(&["roots", "apply", &desk.file("none.pem", "\n")]);
    assert!(fleet.peer(&first, Role::Broker, "worker-2").is_ok());
}

#[test]
fn a_certificate_of_another_maker_or_of_another_tpm_or_none_at_all_is_refused_by_its_code() {
    let Some((fleet, [maker, other])) = with_makers() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    let name = "worker-2";
    desk.says(&["host", "approve", name, "--certified"]);
    let certified = made(&fleet, &maker, "certified");
    let mut attempts = 0;
    let mut attempt = |tpm: &Tpm| {
        attempts += 1;
        assert_eq!(refused(fleet.peer(tpm, Role::Broker, name)), RefusalCode::NotAttested, "the peer learns no more");
        operator.not_attested(name, attempts).pop().unwrap()
    };
    assert_eq!(attempt(&certified), "ek-not-allowed", "nobody said which makers are believed");
    let unrelated = generate_simple_self_signed(["unrelated".to_owned()]).unwrap().cert.pem();
    desk.says(&["roots", "apply", &desk.file("unrelated.pem", &unrelated)]);
    assert_eq!(attempt(&certified), "ek-no-root");
    desk.says(&["roots", "apply", maker.root().to_str().unwrap()]);
    // All of these makers' CAs have one name, as an impostor's would.
    assert_eq!(attempt(&made(&fleet, &other, "other")), "ek-certificate-signature");
    let bare = Tpm::boot(&fleet.directory().join("bare"), BROKER, "host image");
    assert_eq!(attempt(&bare), "ek-not-allowed");
    assert_eq!(attempt(&with_certificate_of(&fleet, &certified)), "ek-certificate-key");
    assert_eq!(operator.not_attested(name, 5).len(), 5);
    assert!(fleet.peer(&certified, Role::Broker, name).is_ok(), "the right one comes in after all of them");
}

#[test]
fn an_operators_machine_does_not_enrol_by_certificate() {
    let Some((fleet, [maker])) = with_makers() else { return };
    let desk = Desk::of(&fleet);
    desk.says(&["roots", "apply", maker.root().to_str().unwrap()]);
    let ended = desk.run(&["host", "approve", "desk-2", "--certified", "--role", "operator"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.complained.contains("denied") && ended.complained.contains("only a worker host"),
        "{}",
        ended.complained
    );
}

/// A fleet, and makers of TPMs whose CAs exist. `None`, and a line says why, where the machine cannot make them.
fn with_makers<const N: usize>() -> Option<(Fleet, [EkCa; N])> {
    if missing(&["swtpm_localca", "tpm2_nvdefine"]) {
        return None;
    }
    let fleet = Fleet::start()?;
    let makers = std::array::from_fn(|number| {
        let maker = EkCa::at(&fleet.directory().join(format!("maker-{number}")));
        // The CA comes into being with the first TPM.
        let _first = made(&fleet, &maker, &format!("first-of-{number}"));
        maker
    });
    Some((fleet, makers))
}

fn made(fleet: &Fleet, maker: &EkCa, name: &str) -> Tpm {
    maker.boot(&fleet.directory().join(name), BROKER, "host image")
}

/// A machine whose owner put the certificate of another TPM where his own has none.
fn with_certificate_of(fleet: &Fleet, certified: &Tpm) -> Tpm {
    let der = fleet.directory().join("stolen.der");
    let der = der.to_str().unwrap();
    let stolen =
        ["0x01c00016", "0x01c0000a"].into_iter().find(|index| certified.try_tool("tpm2_nvread", &[index, "-o", der]));
    let size = fs::metadata(der).unwrap().len().to_string();
    let tpm = Tpm::power_on(&fleet.directory().join("thief"), BROKER);
    let attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate";
    tpm.tool("tpm2_nvdefine", &[stolen.unwrap(), "-C", "p", "-s", &size, "-a", attributes]);
    tpm.tool("tpm2_nvwrite", &[stolen.unwrap(), "-C", "p", "-i", der]);
    tpm.booted("host image")
}

fn refused(connected: Result<Peer, ConnectError>) -> RefusalCode {
    match connected {
        Err(ConnectError::Refused { refusal }) => refusal.code,
        other => panic!("not refused by the vault: {other:?}"),
    }
}

/// What `host list` says of a host: its standing, and its endorsement key.
fn standing(desk: &Desk, name: &str) -> (String, Option<String>) {
    let list = desk.says(&["host", "list"]);
    let entry = list["hosts"].as_array().unwrap().iter().find(|host| host["name"] == name).unwrap().clone();
    (entry["standing"].as_str().unwrap().to_owned(), entry["ek"].as_str().map(str::to_owned))
}
