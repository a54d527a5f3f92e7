//! Does a fleet that is judged by its events survive an update of its firmware, and nothing else?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::bounded::Text;
use blindferry_proto::limits::{MAX_DOCUMENT, MAX_FRAME, MAX_FRAME_UNATTESTED};
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::operator::Approvee;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::ProofReply;
use blindferry_proto::setup::{InitOrder, SetupReply};
use blindferry_session::client::ConnectError;
use blindferry_tests::account::BROKER;
use blindferry_tests::boot::{Boot, Measured, measured, sha256_hex, template};
use blindferry_tests::command::{Desk, Ended};
use blindferry_tests::fleet::{Fleet, HOST, Plan};
use blindferry_tests::hand::Hand;
use blindferry_tests::measured::{EVENT_PCRS, FILE_PCRS, of_events, of_values};
use blindferry_tests::operator::Operator;
use blindferry_tests::peer::Peer;
use blindferry_tests::process::eventually;
use blindferry_tests::tpm::Tpm;
use blindferry_vault::session::LARGE_FRAME_TIME;
use blindferry_vault::vault::{HANDSHAKES, LARGE_FRAMES};

/// The same boot after an update of the firmware: another digest in PCR 0, the same events.
fn updated(boot: &Boot) -> Boot {
    let mut boot = boot.clone();
    let firmware = boot.events.iter_mut().find(|event| event.pcr == 0 && event.kind == 8).unwrap();
    *firmware = measured(0, 8, b"firmware 2.0");
    boot
}

/// The same boot with another command line.
fn edited(boot: &Boot) -> Boot {
    let mut boot = boot.clone();
    let line: Vec<u8> = "root=/dev/vda ro init=/bin/sh\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let event = boot.events.iter_mut().find(|event| event.pcr == 9).unwrap();
    *event = Measured { data: event.data.clone(), ..measured(9, 6, &line) };
    boot
}

/// The host of this fleet starts anew as `boot` says, and its broker with it.
fn reboot(fleet: &mut Fleet, boot: &Boot) {
    fleet.host.tpm.play(boot);
    let logs = fleet.host.tpm.logs();
    let more = format!("[logs]\nevents = \"{}\"\nima = \"{}\"\n", logs.events.display(), logs.ima.display());
    fleet.host.configure_with(HOST, &EVENT_PCRS, &more);
}

/// Code and text of each refusal of evidence of this host.
fn refusals(operator: &Operator, name: &str) -> Vec<(String, String)> {
    let of_host = |event| match event {
        Event::NotAttested { host, code, detail, .. } if host.as_str() == name => {
            Some((code.as_str().to_owned(), detail.as_str().to_owned()))
        }
        _ => None,
    };
    operator.events().into_iter().filter_map(of_host).collect()
}

#[test]
fn a_firmware_update_does_not_lock_out_a_fleet_that_is_judged_by_its_events() {
    let plan = Plan { reattest_every: Some(2), ..Plan::default() };
    let Some(mut fleet) = Fleet::start_with(&plan) else { return };
    let operator = fleet.operator();
    fleet.host.stop();
    let boot = Boot::good();
    reboot(&mut fleet, &boot);
    operator.apply_reference(&of_events(Role::Broker, &boot));
    fleet.host.serve();
    let looks = |operator: &Operator| {
        operator.events().iter().filter(|event| matches!(event, Event::Reattested { .. })).count()
    };
    let before = looks(&operator);
    eventually("two more looks, with logs", || (looks(&operator) > before + 1).then_some(()));

    fleet.host.stop();
    reboot(&mut fleet, &updated(&boot));
    fleet.host.serve();
    let before = looks(&operator);
    eventually("a look at the updated host", || (looks(&operator) > before).then_some(()));
    assert_eq!(refusals(&operator, HOST), []);

    // The control: by PCR values the same update is refused, and what came before it is not.
    operator.apply_reference(&of_values(Role::Broker, &boot, &EVENT_PCRS));
    eventually("the refusal by PCR values", || (!refusals(&operator, HOST).is_empty()).then_some(()));
    assert!(refusals(&operator, HOST).iter().all(|(code, text)| code == "tpm-pcr-value" && text.contains("PCR 0")));
    fleet.host.stop();
    reboot(&mut fleet, &boot);
    fleet.host.serve();
}

/// A fleet whose brokers are judged by the events of this boot, and a machine that may be one of them.
fn newcomer(boot: &Boot) -> Option<(Fleet, Operator, Tpm)> {
    let mut fleet = Fleet::start()?;
    let operator = fleet.operator();
    fleet.host.stop();
    let tpm = Tpm::boot(&fleet.directory().join("newcomer"), BROKER, "nothing yet");
    operator.approve("worker-2", Approvee::Ek(tpm.ek()));
    operator.apply_reference(&of_events(Role::Broker, boot));
    Some((fleet, operator, tpm))
}

fn connect(fleet: &Fleet, tpm: &Tpm, pcrs: &[u8]) -> Result<Peer, ConnectError> {
    let who = (Role::Broker, "worker-2");
    Peer::measured(tpm, pcrs, who, &fleet.enclave.reference, fleet.enclave.listen)
}

/// The last refusal in the audit, once there are so many.
fn refused(fleet: &Fleet, operator: &Operator, tpm: &Tpm, pcrs: &[u8]) -> (String, String) {
    let before = refusals(operator, "worker-2").len();
    let error = connect(fleet, tpm, pcrs).unwrap_err();
    let not_attested = Refusal::from(RefusalCode::NotAttested);
    assert!(matches!(&error, ConnectError::Refused { refusal } if *refusal == not_attested), "{error:?}");
    eventually("the refusal in the audit", || refusals(operator, "worker-2").get(before).cloned())
}

#[test]
fn another_command_line_a_false_log_and_one_with_more_behind_it_are_refused_and_the_audit_says_which_event() {
    let boot = Boot::good();
    let Some((fleet, operator, mut tpm)) = newcomer(&boot) else { return };
    tpm.play(&boot);
    assert!(connect(&fleet, &tpm, &EVENT_PCRS).is_ok());

    let other = edited(&boot);
    tpm.play(&other);
    let (code, text) = refused(&fleet, &operator, &tpm, &EVENT_PCRS);
    assert_eq!(code, "event-command-line", "{text}");
    assert!(text.contains("PCR 9"), "{text}");

    // The log of the good boot beside the PCRs of the other: PCR 9 is not what it gives.
    tpm.write_logs(&boot.log(), &[]);
    let (code, text) = refused(&fleet, &operator, &tpm, &EVENT_PCRS);
    assert_eq!(code, "event-log-replay", "{text}");
    assert!(text.contains("PCR 9"), "{text}");

    tpm.play(&boot);
    tpm.write_logs(&[boot.log(), vec![0xee; 3]].concat(), &[]);
    assert_eq!(refused(&fleet, &operator, &tpm, &EVENT_PCRS).0, "event-log-truncated");
    tpm.write_logs(&boot.log(), &[]);
    assert!(connect(&fleet, &tpm, &EVENT_PCRS).is_ok());
}

#[test]
fn files_measured_after_the_quote_are_neither_judged_nor_a_lie_and_those_before_it_are_judged() {
    let mut boot = Boot::good();
    let listed = sha256_hex(b"true");
    let file = |content: &str, path: &str| {
        ("ima-ng".to_owned(), template(&blindferry_tests::boot::sha256(&[content.as_bytes()]), path, None))
    };
    boot.files = vec![file("what was booted", "boot_aggregate"), file("true", "/usr/bin/true")];
    boot.policy.push_str(&format!("[tpm.events.ima.files]\n\"/usr/bin/true\" = [\"sha256:{listed}\"]\n"));
    let Some((fleet, operator, mut tpm)) = newcomer(&boot) else { return };
    tpm.play(&boot);
    assert!(connect(&fleet, &tpm, &FILE_PCRS).is_ok());

    // Measured between the quote and the reading of the list: in the list, and not in PCR 10.
    let mut later = boot.clone();
    later.files.push(file("evil", "/usr/bin/evil"));
    tpm.write_logs(&boot.log(), &later.ima_log());
    assert!(connect(&fleet, &tpm, &FILE_PCRS).is_ok());
    // Once it was quoted it is judged.
    tpm.play(&later);
    let (code, text) = refused(&fleet, &operator, &tpm, &FILE_PCRS);
    assert_eq!(code, "ima-file", "{text}");
    assert!(text.contains("/usr/bin/evil"), "{text}");
    // And a list that hides it is none.
    tpm.write_logs(&boot.log(), &boot.ima_log());
    assert_eq!(refused(&fleet, &operator, &tpm, &FILE_PCRS).0, "ima-log-replay");
}

#[test]
fn what_was_captured_by_events_accepts_this_machine_its_updated_firmware_and_no_other_command_line() {
    let boot = Boot::good();
    let Some((fleet, operator, mut tpm)) = newcomer(&boot) else { return };
    tpm.play(&boot);
    let desk = Desk::of(&fleet);
    let capture = |tpm: &Tpm| {
        let (tcti, pins, logs) = (tpm.tcti(), tpm.pins(), tpm.logs());
        let words = ["reference", "capture", "--events", "--role", "broker", "--name", "captured"];
        let place = ["--tcti", &tcti, "--pins", pins.to_str().unwrap(), "--event-log", logs.events.to_str().unwrap()];
        desk.run(&[&words[..], &place].concat())
    };
    let Ended { code, said: captured, complained } = capture(&tpm);
    assert_eq!(code, 0, "{complained}");
    let text = captured["text"].as_str().unwrap();
    let image = sha256_hex(b"a unified kernel image");
    assert!(text.contains("secure_boot = \"on\"") && text.contains(&image) && !text.contains("[tpm.pcrs]"), "{text}");
    desk.says(&["reference", "apply", &desk.file("events.ref", text)]);
    assert!(connect(&fleet, &tpm, &EVENT_PCRS).is_ok());
    tpm.play(&updated(&boot));
    assert!(connect(&fleet, &tpm, &EVENT_PCRS).is_ok());
    tpm.play(&edited(&boot));
    assert_eq!(refused(&fleet, &operator, &tpm, &EVENT_PCRS).0, "event-command-line");

    // From a log that is not behind the quote nothing is captured.
    tpm.write_logs(&boot.log(), &[]);
    let refused = capture(&tpm);
    assert!(refused.code != 0 && refused.complained.contains("PCR 9"), "{}", refused.complained);
}

#[test]
fn a_host_whose_log_is_too_long_says_so_itself_and_sends_nothing() {
    let boot = Boot::good();
    let Some((fleet, operator, mut tpm)) = newcomer(&boot) else { return };
    tpm.play(&boot);
    tpm.write_logs(&vec![0; 192 * 1024 + 1], &[]);
    let error = connect(&fleet, &tpm, &EVENT_PCRS).unwrap_err();
    let ConnectError::OwnEvidence { source } = &error else { panic!("{error:?}") };
    let cause = std::error::Error::source(source).unwrap().to_string();
    assert!(cause.contains("196608") && cause.contains("events.log"), "{cause}");
    assert_eq!(refusals(&operator, "worker-2"), []);
}

#[test]
fn a_vault_that_wants_no_logs_takes_none_and_says_so_in_the_audit() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let tpm = Tpm::boot(&fleet.directory().join("newcomer"), BROKER, "host image");
    operator.approve("worker-2", Approvee::Ek(tpm.ek()));
    let hand = Hand::on(&tpm);
    let begin = || hand.begin(fleet.enclave.listen, Role::Broker, "worker-2", Context([3; 32]));
    let begun = begin();
    assert_eq!(begun.proof.logs, WantedLogs::NONE);
    let mut evidence = hand.evidence(&begun);
    // An event log of one byte, and no IMA list.
    evidence.extend([0, 0, 0, 1, 7, 0, 0, 0, 0]);
    let last = hand.show(begun, evidence);
    assert!(matches!(last, ProofReply::Refused(refusal) if refusal.code == RefusalCode::NotAttested));
    eventually("the refusal in the audit", || {
        refusals(&operator, "worker-2").iter().any(|(code, _)| code == "logs-unasked").then_some(())
    });
    // The same quote without it is accepted.
    let begun = begin();
    let evidence = hand.evidence(&begun);
    assert!(matches!(hand.show(begun, evidence), ProofReply::Welcome(_)));
}

#[test]
fn a_vault_is_judged_by_its_events_where_its_reference_says_so_and_gives_logs_only_where_it_is_configured_to() {
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    let boot = Boot::good();
    fleet.enclave.tpm.play(&boot);
    fleet.enclave.configure(&plan);
    let order = InitOrder { pcrs: EVENT_PCRS.to_vec(), insist_unextended: true, ..fleet.init_order(&plan) };
    let made = fleet.enclave.init(&[], &order);
    let Some(SetupReply::Done { vault_reference }) = made.reply else { panic!("init: {}", fleet.enclave.log()) };
    let keys = |text: &Text<MAX_DOCUMENT>| {
        let lines = text.as_str().lines().filter(|line| line.starts_with("ak = ") || line.starts_with("audit_key = "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let reference = keys(&vault_reference) + &of_events(Role::Vault, &boot);
    fleet.enclave.reference = reference;

    fleet.enclave.serve();
    let silent = fleet.peer(&fleet.operator_tpm, Role::Operator, "desk").unwrap_err();
    assert!(
        matches!(&silent, ConnectError::Refused { refusal } if refusal.code == RefusalCode::NotReady),
        "{silent:?}"
    );
    fleet.enclave.stop();

    let logs = fleet.enclave.tpm.logs();
    let more = format!("[logs]\nevents = \"{}\"\nima = \"{}\"\n", logs.events.display(), logs.ima.display());
    fleet.enclave.configure_with(&plan, &more);
    fleet.enclave.serve();
    assert!(fleet.operator().status().memory.as_str().len() > 1);
    // A log that is not of this boot is seen by the peer, before it says anything.
    fleet.enclave.tpm.write_logs(&edited(&boot).log(), &[]);
    let refused = fleet.peer(&fleet.operator_tpm, Role::Operator, "desk").unwrap_err();
    let ConnectError::VaultRefused { source } = &refused else { panic!("{refused:?}") };
    assert_eq!(source.code(), "event-log-replay");
}

#[test]
fn the_memory_for_logs_is_what_the_docs_say() {
    const KIB: usize = 1024;
    let both = WantedLogs { events: true, ima: true };
    let place = |frame: usize, logs: WantedLogs| frame + logs.most() + logs.most_evidence();
    let handshakes = HANDSHAKES * place(MAX_FRAME_UNATTESTED, both);
    let sessions = LARGE_FRAMES * place(MAX_FRAME, both);
    let mebibytes = |bytes: usize| format!("{} MiB", f64::from(u32::try_from(bytes / KIB).unwrap()) / 1024.0);
    let page = include_str!("../docs/protocol.md");
    assert!(page.contains(&format!("has {} s once it has its place", LARGE_FRAME_TIME.as_secs())));
    for (what, bytes) in [
        ("handshakes", handshakes),
        ("sessions", sessions),
        ("both", handshakes + sessions),
        ("handshakes of a vault that wants none", HANDSHAKES * place(MAX_FRAME_UNATTESTED, WantedLogs::NONE)),
    ] {
        assert!(page.contains(&mebibytes(bytes)), "{what}: {}", mebibytes(bytes));
    }
}
