//! Do the operator's commands do to a real vault what they say, and is what cannot be done refused in a way that a script
//! can tell?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::LeaseEnd;
use blindferry_session::client::ConnectError;
use blindferry_tests::account::ENCLAVE;
use blindferry_tests::command::{Desk, Ended};
use blindferry_tests::fleet::{ALLOW_ALL, Fleet, HOST, Plan};
use blindferry_tests::operator::{Operator, settings};
use blindferry_tests::process::eventually;
use blindferry_tests::tpm::Tpm;
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use rcgen::{KeyPair, generate_simple_self_signed};
use serde_json::{Value, json};

#[test]
fn reference_values_are_versioned_shown_as_applied_and_not_taken_for_the_vault() {
    let Some(fleet) = Fleet::start() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    assert_eq!(desk.says(&["reference", "show"])["version"], 1);
    let text = fleet.host.tpm.reference(Role::Broker, "the same, written again");
    let applied = desk.says(&["reference", "apply", &desk.file("host.ref", &text)]);
    assert_eq!(applied, json!({"applied": true, "version": 2, "dangers": []}));
    assert_eq!(desk.says(&["reference", "show"]), json!({"version": 2, "text": text}));
    assert_eq!(desk.says(&["reference", "show", "--role", "operator"])["version"], 1, "each role has its own");

    let of_the_vault = fleet.enclave.tpm.reference(Role::Vault, "the vault");
    let refused = desk.run(&["reference", "apply", &desk.file("vault.ref", &of_the_vault)]);
    assert_refused(&refused, "malformed", "to let it start on new values, approve them");
    let no_values = desk.run(&["reference", "apply", &desk.file("none.ref", "version = 1\nrole = \"broker\"\n")]);
    assert_eq!(no_values.code, LOCAL, "{}", no_values.complained);
    assert_eq!(desk.says(&["reference", "show"])["version"], 2);
    assert_eq!(done(&operator, "reference apply").len(), 1);
}

#[test]
fn a_danger_is_said_when_it_is_applied_and_wherever_somebody_looks_afterwards() {
    let Some(fleet) = Fleet::start() else { return };
    let desk = Desk::of(&fleet);
    assert_eq!(desk.says(&["status"])["dangers"], json!([]));
    let text = "version = 1\nrole = \"broker\"\n\n[[tpm]]\nname = \"bench\"\nfirmware = \"any\"\n\
                dangerously_accept_any_pcrs = \"a bench without secrets\"\n";
    let applied = desk.run(&["reference", "apply", &desk.file("bench.ref", text)]);
    let line = "dangerously_accept_any_pcrs: bench";
    assert_eq!(applied.said["dangers"], json!([format!("{line} (a bench without secrets)")]));
    assert!(applied.complained.contains(&format!("warning: {line}")), "{}", applied.complained);
    let status = desk.says(&["status"]);
    assert_eq!(status["dangers"], json!([line]));
    assert!(status["warnings"].as_array().unwrap().contains(&json!(line)));
    let audit = desk.says(&["audit"]);
    let last = audit["records"].as_array().unwrap().last().unwrap();
    assert_eq!(last["dangers"], json!([line]), "the operator's own session is no exception");

    let back = fleet.host.tpm.reference(Role::Broker, "no danger any more");
    desk.says(&["reference", "apply", &desk.file("host.ref", &back)]);
    assert_eq!(desk.says(&["status"])["dangers"], json!([]));
}

#[test]
fn reference_values_that_know_a_host_no_more_end_its_session_and_its_leases_at_once() {
    let Some(fleet) = Fleet::start() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    operator.put("api", settings(Kind::Release), b"for what runs there now");
    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "api").unwrap(), fleet.enclave.public);
    assert!(worker.says()["lease"].is_string());
    let text = fleet.enclave.tpm.reference(Role::Broker, "the next image");
    desk.says(&["reference", "apply", &desk.file("next.ref", &text)]);
    let ended = |event: &Event| matches!(event, Event::LeaseEnded { why: LeaseEnd::HostRefused, .. });
    // The next look by the clock would be in 300 s.
    eventually("the end of its lease", || operator.events().iter().any(ended).then_some(()));
    assert_eq!(operator.not_attested(HOST, 1), ["tpm-pcr-value"]);
    assert_eq!(operator.status().leases, 0);
}

#[test]
fn a_capture_accepts_the_firmware_that_the_quotes_name_and_no_other_unless_told_so() {
    let Some(mut fleet) = Fleet::start() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    fleet.host.stop();
    let exact = capture(&desk, &fleet.host.tpm, "broker", &[]);
    let version = exact["firmware"].as_str().unwrap().to_owned();
    let text = exact["text"].as_str().unwrap();
    assert!(version.len() == 16 && text.contains(&format!("firmware = [\n    \"{version}\",\n]")), "{text}");
    desk.says(&["reference", "apply", &desk.file("exact.ref", text)]);
    assert!(fleet.peer(&fleet.host.tpm, Role::Broker, HOST).is_ok());

    let older = text.replace(&version, "0000000000000001");
    desk.says(&["reference", "apply", &desk.file("older.ref", &older)]);
    let refused = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap_err();
    let not_attested = Refusal::from(RefusalCode::NotAttested);
    assert!(matches!(&refused, ConnectError::Refused { refusal } if *refusal == not_attested), "{refused:?}");
    assert_eq!(operator.not_attested(HOST, 1), ["tpm-firmware"]);

    let any = capture(&desk, &fleet.host.tpm, "broker", &["--firmware", "any"]);
    assert_eq!(any["firmware"], Value::Null);
    assert!(any["text"].as_str().unwrap().contains("firmware = \"any\""));
    desk.says(&["reference", "apply", &desk.file("any.ref", any["text"].as_str().unwrap())]);
    assert!(fleet.peer(&fleet.host.tpm, Role::Broker, HOST).is_ok());
}

#[test]
fn roots_are_versioned_and_shown_and_what_holds_no_certificate_is_refused() {
    let Some(fleet) = Fleet::start() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    assert_refused(&desk.run(&["roots", "show"]), "unknown", "there is none yet");
    let pem = generate_simple_self_signed(["maker".to_owned()]).unwrap().cert.pem();
    let applied = desk.says(&["roots", "apply", &desk.file("maker.pem", &pem)]);
    assert_eq!(applied, json!({"applied": true, "version": 1}));
    assert_eq!(desk.says(&["roots", "show"]), json!({"version": 1, "text": pem}));

    let key = KeyPair::generate().unwrap().serialize_pem();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (what, text) in [("a key", key.as_str()), ("a sentence", "trust them\n"), ("no certificate", broken)] {
        let refused = desk.run(&["roots", "apply", &desk.file("bad.pem", text)]);
        assert_refused(&refused, "malformed", "certificate");
        assert_eq!(desk.says(&["roots", "show"])["version"], 1, "{what}");
    }
    assert_eq!(desk.says(&["roots", "apply", &desk.file("none.pem", "\n")])["version"], 2);
    assert_eq!(done(&operator, "roots apply").len(), 2);
}

#[test]
fn a_policy_with_problems_is_shown_with_their_places_and_never_comes_into_force() {
    let Some(fleet) = Fleet::start() else { return };
    let (operator, desk) = (fleet.operator(), Desk::of(&fleet));
    let unknown = "@id(\"typo\")\npermit (principal, action, resource)\nwhen { context.hots == \"a\" };\n";
    for text in ["permit (principal, action, resource)", unknown] {
        let file = desk.file("bad.cedar", text);
        let checked = desk.run(&["policy", "check", &file]);
        assert_eq!((checked.code, &checked.said["ok"]), (POLICY, &Value::from(false)), "{}", checked.complained);
        let problem = checked.said["problems"][0].as_str().unwrap();
        assert!(problem.starts_with(|first: char| first.is_ascii_digit()), "line and column: {problem}");
        let applied = desk.run(&["policy", "apply", &file]);
        assert_eq!(applied.code, POLICY);
        assert!(applied.complained.contains(&format!("{file}:{}", &problem[..3])), "{}", applied.complained);
    }
    assert_eq!(desk.says(&["policy", "show"]), json!({"version": 1, "text": ALLOW_ALL}));

    let stricter =
        desk.file("good.cedar", &format!("{ALLOW_ALL}\n@id(\"stop\") forbid (principal, action, resource);"));
    assert_eq!(desk.says(&["policy", "check", &stricter]), json!({"ok": true, "problems": []}));
    assert_eq!(desk.says(&["policy", "show"])["version"], 1, "a check applies nothing");
    assert_eq!(desk.says(&["policy", "apply", &stricter])["version"], 2);
    assert_eq!(done(&operator, "policy apply").len(), 1);
    operator.put("api", settings(Kind::Release), b"of no use");
    assert_eq!(ask_for(&fleet, "api").unwrap_err().code, RefusalCode::Denied);
}

/// An update as the manual tells it: capture where it runs already, approve, update, revoke the old.
#[test]
fn an_update_of_the_enclave_by_its_commands_leaves_the_old_software_behind() {
    let Some(mut fleet) = Fleet::start() else { return };
    let desk = Desk::of(&fleet);
    fleet.host.stop();
    let updated = Tpm::power_on(&fleet.directory().join("updated"), ENCLAVE);
    let updated = updated.booted("enclave image");
    updated.extend(4, "an update");
    let captured = capture(&desk, &updated, "vault", &[]);
    let file = desk.file("new.ref", captured["text"].as_str().unwrap());
    let approved = desk.says(&["enclave", "approve", "--from", &file]);
    assert_eq!(approved["approved"].as_object().unwrap().len(), 3);
    let of_a_host = desk.file("host.ref", &fleet.host.tpm.reference(Role::Broker, "a host"));
    let refused = desk.run(&["enclave", "approve", "--from", &of_a_host]);
    assert_eq!(refused.code, LOCAL, "{}", refused.complained);

    fleet.enclave.stop();
    fleet.enclave.tpm.extend(4, "an update");
    fleet.enclave.serve();
    let pinned: Vec<&str> = fleet.enclave.reference.lines().filter(|line| line.starts_with("a")).collect();
    fleet.enclave.reference = format!("{}\n{}", pinned.join("\n"), captured["text"].as_str().unwrap());
    let desk = Desk::of(&fleet);
    assert_eq!(desk.says(&["enclave", "revoke-old", "--yes"]), json!({"revoked_old": true}));
    let operator = fleet.operator();
    assert_eq!(done(&operator, "enclave approve").len(), 1);
    assert_eq!(done(&operator, "enclave revoke-old").len(), 1);
    drop(operator);
    fleet.enclave.stop();

    fleet.enclave.tpm.reboot();
    fleet.enclave.tpm.measure("enclave image");
    fleet.enclave.configure(&Plan::default());
    let (status, log) = fleet.enclave.fail_to_serve();
    assert!(!status.success() && log.contains("stays sealed") && log.contains("PCR 4"), "{log}");
}

/// What `reference capture` makes of this machine.
fn capture(desk: &Desk, tpm: &Tpm, role: &str, options: &[&str]) -> Value {
    let (tcti, pins) = (tpm.tcti(), tpm.pins());
    let words = ["reference", "capture", "--role", role, "--name", "captured", "--pcrs", "0,4,7"];
    let place = ["--tcti", &tcti, "--pins", pins.to_str().unwrap()];
    desk.says(&[&words[..], &place, options].concat())
}

/// The vault said no, by this code and in these words.
fn assert_refused(ended: &Ended, code: &str, words: &str) {
    assert_eq!(ended.code, REFUSED, "{}", ended.complained);
    assert!(ended.complained.contains(code) && ended.complained.contains(words), "{}", ended.complained);
}

/// The audit's records of this action of an operator.
fn done(operator: &Operator, what: &str) -> Vec<Event> {
    let is = |event: &Event| matches!(event, Event::Operator { action, .. } if action.as_str() == what);
    operator.events().into_iter().filter(is).collect()
}

/// How `blindferry` ends when the vault refused.
const REFUSED: i32 = 1;
/// When something on its own machine is wrong.
const LOCAL: i32 = 5;
/// When a policy has problems.
const POLICY: i32 = 7;
