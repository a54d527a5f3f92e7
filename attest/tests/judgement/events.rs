//! Policies of events: each rule refuses alone, and what no rule is about may change.

use blindferry_attest::{reference::ReferenceValues, tpm::event_log::MAX_EVENT_LOG};

use crate::boot::{
    ACTION, APPLICATION, Boot, COMMAND_LINE, Judged as _, Measured, SEPARATOR, VARIABLE, database, measured,
    sha256_hex, variable,
};

#[test]
fn a_machine_that_boots_as_the_policy_says_is_accepted() {
    assert_eq!(Boot::good().judge().unwrap().reference_name(), "fleet");
}

#[test]
fn an_update_of_the_firmware_does_not_lock_a_machine_out() {
    let mut boot = Boot::good();
    boot.events[0] = measured(0, 8, b"firmware 2.0");
    boot.events.insert(1, measured(2, 0x8000_0004, b"a new option ROM"));
    boot.locality = 3;
    assert!(boot.judge().is_ok());
}

#[test]
fn values_beside_events_hold_too() {
    let mut boot = Boot::good();
    let all: Vec<u8> = (0..=7).chain([9, 12]).collect();
    let tables = |boot: &Boot, value: &str| format!("[tpm.pcrs]\n0 = [\"{value}\"]\n[tpm.events]\n{}", boot.policy);
    let value = hex::encode(boot.pcrs()[0]);
    assert!(boot.case(&all, &tables(&boot, &value)).judge().is_ok());
    boot.events[0] = measured(0, 8, b"firmware 2.0");
    assert_eq!(boot.case(&all, &tables(&boot, &value)).judge().unwrap_err().code(), "tpm-pcr-value");
}

#[test]
fn a_policy_of_events_is_nothing_without_a_log() {
    let mut case = Boot::good().whole_case();
    case.event_log = vec![];
    assert_eq!(case.judge().unwrap_err().code(), "event-log-missing");
}

#[test]
fn a_log_that_is_longer_than_evidence_can_carry_is_refused() {
    let parts = crate::synthetic::Case::good().parts();
    let evidence =
        blindferry_attest::evidence::TpmEvidence::new(parts.attest, parts.signature, parts.public, vec![]).unwrap();
    assert_eq!(evidence.with_logs(vec![0; MAX_EVENT_LOG], vec![]).unwrap_err().code(), "evidence-log");
}

#[test]
fn events_that_are_missing_invented_or_out_of_order_are_refused() {
    let honest = Boot::good().whole_case();
    let replayed = |change: fn(&mut Vec<Measured>)| {
        let mut told = Boot::good();
        change(&mut told.events);
        let mut case = Boot::good().whole_case();
        assert_eq!(case.pcrs, honest.pcrs);
        case.event_log = told.log();
        case.judge().unwrap_err().code()
    };
    assert_eq!(replayed(|events| drop(events.pop())), "event-log-replay");
    assert_eq!(replayed(|events| events.push(measured(4, APPLICATION, b"x"))), "event-log-replay");
    assert_eq!(replayed(|events| events.swap(1, 2)), "event-log-replay");
    assert_eq!(replayed(|events| events[0].digest[0] ^= 1), "event-log-replay");
}

#[test]
fn secure_boot_must_be_on_once_and_before_the_separator() {
    let off = |value: &[u8]| {
        let mut boot = Boot::good();
        *boot.variable("SecureBoot") = variable("SecureBoot", value);
        boot
    };
    for value in [&[0u8][..], &[], &[2], &[1, 1]] {
        assert_eq!(off(value).refusal(), "event-secure-boot");
    }
    let mut twice = Boot::good();
    twice.events.insert(1, variable("SecureBoot", &[1]));
    assert_eq!(twice.refusal(), "event-secure-boot");
    // The running system can extend whatever it likes, but only behind the firmware's separator.
    let mut later = off(&[0]);
    later.events.push(variable("SecureBoot", &[1]));
    assert_eq!(later.refusal(), "event-secure-boot");
    let mut never = Boot::good();
    let at = never.events.iter().position(|event| event.kind == VARIABLE).unwrap();
    never.events.remove(at);
    assert_eq!(never.refusal(), "event-secure-boot");
}

#[test]
fn a_false_name_does_not_hide_that_secure_boot_is_off() {
    let mut boot = Boot::good();
    *boot.variable("SecureBoot") = variable("SecureBoot", &[0]);
    boot.events.push(variable("SecureBoot", &[1]));
    for (kind, data) in [(1, b"POST CODE".to_vec()), (ACTION, b"hello".to_vec()), (SEPARATOR, vec![0; 4])] {
        let mut lying = Boot { events: boot.events.clone(), ..Boot::good() };
        *lying.variable("SecureBoot") = Measured { kind, data, ..lying.variable("SecureBoot").clone() };
        assert_eq!(lying.refusal(), "event-unexpected");
    }
    // Its data as it was, under a name that is meant for texts.
    let true_data = boot.variable("SecureBoot").data.clone();
    *boot.variable("SecureBoot") = Measured { kind: ACTION, data: true_data, ..boot.variable("SecureBoot").clone() };
    assert_eq!(boot.refusal(), "event-unexpected");
}

#[test]
fn the_firmware_s_words_about_debugging_are_refused() {
    let mut boot = Boot::good();
    boot.events.insert(1, measured(7, ACTION, b"UEFI Debug Mode"));
    assert_eq!(boot.refusal(), "event-unexpected");
}

#[test]
fn each_of_pcrs_0_to_7_has_one_separator_without_an_error() {
    for pcr in 0..=7 {
        let without = Boot::good().without(pcr, SEPARATOR);
        assert_eq!(without.refusal(), "event-separator", "PCR {pcr}");
        let mut twice = Boot::good();
        twice.events.push(measured(pcr, SEPARATOR, &[0; 4]));
        assert_eq!(twice.refusal(), "event-separator", "PCR {pcr}");
        let mut error = Boot::good().without(pcr, SEPARATOR);
        error.events.insert(6, measured(pcr, SEPARATOR, &[1, 0, 0, 0]));
        assert_eq!(error.refusal(), "event-separator", "PCR {pcr}");
    }
}

#[test]
fn only_listed_images_may_start_whatever_they_are_called() {
    let mut other = Boot::good();
    other.events.push(measured(4, APPLICATION, b"a rootkit"));
    assert_eq!(other.refusal(), "event-boot-application");
    for kind in [ACTION, SEPARATOR, 0xd, 6] {
        let mut hidden = Boot::good();
        let data = b"Calling EFI Application from Boot Option".to_vec();
        hidden.events.push(Measured { kind, data, ..measured(4, APPLICATION, b"a rootkit") });
        assert_eq!(hidden.refusal(), "event-unexpected", "{kind:#x}");
    }
    assert_eq!(Boot::good().without(4, APPLICATION).refusal(), "event-no-boot-application");
}

#[test]
fn another_command_line_is_refused_although_the_image_is_the_same() {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect() };
    let digest = crate::boot::sha256(&[&wide("root=/dev/vda ro evil=1")]);
    let mut boot = Boot::good();
    boot.events.iter_mut().find(|event| event.pcr == 9).unwrap().digest = digest;
    assert_eq!(boot.refusal(), "event-command-line");
    let mut both = Boot::good();
    both.events.push(Measured { digest, ..measured(9, 6, b"Linux initrd") });
    assert_eq!(both.refusal(), "event-file");
}

#[test]
fn a_command_line_can_be_listed_by_its_digest() {
    let mut boot = Boot::good();
    let wide: Vec<u8> = COMMAND_LINE.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    boot.policy = boot.policy.replace(COMMAND_LINE, &format!("sha256:{}", sha256_hex(&wide)));
    assert!(boot.judge().is_ok());
}

#[test]
fn what_overrides_the_image_is_refused_unless_its_value_is_listed() {
    let mut boot = Boot::good();
    boot.unlogged.push((12, [7; 32]));
    assert_eq!(boot.refusal(), "event-override");
    let all: Vec<u8> = (0..=7).chain([9, 12]).collect();
    let value = hex::encode(boot.pcrs()[12]);
    let listed = format!("[tpm.pcrs]\n12 = [\"{value}\"]\n[tpm.events]\n{}", boot.policy);
    assert!(boot.case(&all, &listed).judge().is_ok());
}

#[test]
fn boot_services_must_have_been_left_in_order() {
    assert_eq!(Boot::good().without(5, ACTION).refusal(), "event-exit-boot-services");
    let mut failed = Boot::good();
    drop(failed.events.pop());
    assert_eq!(failed.refusal(), "event-exit-boot-services");
}

#[test]
fn databases_of_signatures_are_held_against_their_lists() {
    for (name, value) in [("db", &b"certificates"[..]), ("dbx", b"digests")] {
        let with = |digest: [u8; 32]| {
            let mut boot = Boot::good();
            boot.policy.push_str(&format!("{name} = [\"{}\"]\n", hex::encode(digest)));
            boot
        };
        assert!(with(database(name, value).digest).judge().is_ok());
        assert_eq!(with([1; 32]).refusal(), "event-variable");
    }
}

#[test]
fn secure_boot_alone_leaves_the_command_line_to_the_signed_image() {
    let mut boot = Boot::good();
    boot.policy =
        format!("secure_boot = \"on\"\nboot_applications = [\"{}\"]\n", sha256_hex(b"a unified kernel image"));
    boot.events.retain(|event| event.pcr != 9);
    assert!(boot.judge().is_ok());
}

#[test]
fn a_policy_that_binds_too_little_is_no_policy() {
    let code = |policy: &str| {
        let text = format!(
            "version = 2\nrole = \"broker\"\n[[tpm]]\nname = \"x\"\nfirmware = \"any\"\n[tpm.events]\n{policy}"
        );
        ReferenceValues::parse(&text).unwrap_err().code()
    };
    let old = Boot::good().whole_case().reference.replace("version = 2", "version = 1");
    assert_eq!(ReferenceValues::parse(&old).unwrap_err().code(), "reference-events-version");
    let image = "boot_applications = [\"4444444444444444444444444444444444444444444444444444444444444444\"]\n";
    let on = format!("secure_boot = \"on\"\n{image}");
    assert_eq!(code("secure_boot = \"on\"\nboot_applications = []\n"), "reference-events-no-boot-application");
    assert_eq!(code("secure_boot = \"on\"\n"), "reference-toml");
    assert_eq!(code(image), "reference-toml");
    assert_eq!(code(&format!("{on}colour = 1\n")), "reference-toml");
    assert_eq!(code(&format!("secure_boot = \"any\"\n{image}")), "reference-events-command-line-open");
    assert_eq!(code(&format!("{on}files = [\"{}\"]\n", "44".repeat(32))), "reference-events-files-alone");
    assert_eq!(code(&format!("{on}db = [\"44\"]\n")), "reference-events-digest");
    assert_eq!(code(&format!("{on}dbx = [\"{}\"]\n", "AB".repeat(32))), "reference-events-digest");
    for line in ["", "a\\nb", "sha256:44", &"x".repeat(2049)] {
        assert_eq!(code(&format!("{on}command_lines = [\"{line}\"]\n")), "reference-events-command-line");
    }
    let ima = |rules: &str| code(&format!("{on}[tpm.events.ima]\n{rules}"));
    assert_eq!(ima(""), "reference-events-ima-no-file");
    assert_eq!(ima("signers = [\"00\"]\n"), "reference-events-ima-signer");
    assert_eq!(ima("unjudged_below = [\"/var\"]\n"), "reference-events-ima-folder");
    assert_eq!(ima("unjudged_below = [\"/\"]\n"), "reference-events-ima-folder");
    assert_eq!(ima("[tpm.events.ima.files]\n\"/x\" = [\"sha1:00\"]\n"), "reference-events-ima-file");
    assert_eq!(ima("[tpm.events.ima.files]\n\"/x\" = []\n"), "reference-events-ima-file");
}

#[test]
fn a_policy_is_written_in_one_form_and_read_back_the_same() {
    let text = Boot::good().whole_case().reference
        + "db = [\"4444444444444444444444444444444444444444444444444444444444444444\"]\n\
           [tpm.events.ima]\nunjudged_below = [\"/var/\"]\n[tpm.events.ima.files]\n\
           \"/bin/a \\\"b\\\"\" = [\"sha256:4444444444444444444444444444444444444444444444444444444444444444\"]\n";
    let read = ReferenceValues::parse(&text).unwrap();
    let written = read.to_toml();
    assert_eq!(ReferenceValues::parse(&written).unwrap(), read);
    assert_eq!(ReferenceValues::parse(&written).unwrap().to_toml(), written);
}
