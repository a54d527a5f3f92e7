//! What is captured from a boot accepts that boot, is what an operator would have written, and never binds too little.

use blindferry_attest::{
    evidence::TpmEvidence,
    reference::{Firmware, ReferenceValues},
    tpm::events::EventPolicy,
};
use blindferry_proto::role::Role;

use crate::boot::{Boot, COMMAND_LINE, Judged as _, measured, variable};

fn evidence(boot: &Boot) -> TpmEvidence {
    let case = boot.case(&EventPolicy::CAPTURED, "");
    let parts = case.parts();
    let quote = TpmEvidence::new(parts.attest, parts.signature, parts.public, case.pcrs).unwrap();
    quote.with_logs(boot.log(), vec![]).unwrap()
}

fn captured(boot: &Boot, command_line: Option<&str>) -> Result<String, &'static str> {
    let values = ReferenceValues::capture_events(Role::Broker, "fleet", Firmware::Any, &evidence(boot), command_line);
    values.map(|values| values.to_toml()).map_err(|error| error.code())
}

/// The same boot judged by another text of reference values.
fn accepts(text: &str, boot: &Boot) -> bool {
    let mut case = boot.case(&EventPolicy::CAPTURED, "");
    case.reference = text.to_owned();
    case.judge().is_ok()
}

#[test]
fn what_is_captured_accepts_this_boot_and_its_updated_firmware_and_is_what_one_would_write() {
    let boot = Boot::good();
    let text = captured(&boot, Some(COMMAND_LINE)).unwrap();
    let by_hand = format!(
        "version = 2\nrole = \"broker\"\n[[tpm]]\nname = \"fleet\"\nfirmware = \"any\"\n[tpm.events]\n{}",
        boot.policy
    );
    assert_eq!(text, ReferenceValues::parse(&by_hand).unwrap().to_toml());
    assert!(accepts(&text, &boot));
    let mut updated = Boot::good();
    updated.events[0] = measured(0, 8, b"firmware 2.0");
    assert!(accepts(&text, &updated));
}

#[test]
fn a_command_line_in_words_that_was_not_measured_is_not_written() {
    let boot = Boot::good();
    for told in [None, Some("root=/dev/vda ro evil=1"), Some("")] {
        let text = captured(&boot, told).unwrap();
        assert!(text.contains("\"sha256:") && !text.contains("evil"), "{text}");
        assert!(accepts(&text, &boot));
    }
}

#[test]
fn a_boot_without_secure_boot_and_without_a_measured_command_line_cannot_be_captured() {
    let mut boot = Boot::good();
    *boot.variable("SecureBoot") = variable("SecureBoot", &[0]);
    let text = captured(&boot, None).unwrap();
    assert!(text.contains("secure_boot = \"any\"") && text.contains("command_lines"), "{text}");
    boot.events.retain(|event| event.pcr != 9);
    assert_eq!(captured(&boot, Some(COMMAND_LINE)), Err("reference-events-command-line-open"));
    // With Secure Boot alone it can: images are signed, and their command line is theirs.
    let mut signed = Boot::good();
    signed.events.retain(|event| event.pcr != 9);
    let text = captured(&signed, Some(COMMAND_LINE)).unwrap();
    assert!(!text.contains("command_lines") && !text.contains("files"), "{text}");
}

#[test]
fn nothing_is_captured_from_a_log_that_is_not_behind_the_quote_or_that_no_policy_accepts() {
    let mut hidden = Boot::good();
    hidden.unlogged.push((4, [7; 32]));
    assert_eq!(captured(&hidden, None), Err("event-log-replay"));
    let none = evidence(&Boot::good());
    let none = TpmEvidence::new(
        none.attest().to_vec(),
        none.signature().to_vec(),
        none.ak_public().to_vec(),
        none.pcrs().to_vec(),
    );
    let none = ReferenceValues::capture_events(Role::Broker, "fleet", Firmware::Any, &none.unwrap(), None);
    assert_eq!(none.unwrap_err().code(), "event-log-missing");
    let mut overridden = Boot::good();
    overridden.events.push(measured(12, 0xd, b"init=/bin/sh"));
    assert_eq!(captured(&overridden, None), Err("event-override"));
    let bare = Boot::good().without(0, 8).without(4, 0x8000_0003);
    assert_eq!(captured(&bare, None), Err("reference-events-no-boot-application"));
}
