//! `[[snp]]` in reference values: strict, canonical, and nothing open that has to be decided.

use blindferry_attest::{
    reference::ReferenceValues,
    snp::{Anchors, EndorsedVek, KeyKind, Report},
};
use blindferry_proto::role::Role;

use crate::guest::{Guest, NOW, Reference};

fn code(reference: &Reference) -> &'static str {
    reference.parse("Genoa").map(|_| "none").unwrap_or_else(|error| error.code())
}

fn good() -> Reference {
    Guest::good().reference
}

#[test]
fn every_key_survives_writing_and_reading_in_one_form() {
    let full = good()
        .with("chips", &format!("[\"{}\", \"{}\"]", "0b".repeat(64), "0a".repeat(64)))
        .with("id_keys", &format!("[\"{}\"]", "01".repeat(48)))
        .with("author_keys", &format!("[\"{}\"]", "02".repeat(48)))
        .with("family_id", &format!("\"{}\"", "03".repeat(16)))
        .with("image_id", &format!("\"{}\"", "04".repeat(16)))
        .with("guest_svn", "7")
        .with("host_data", &format!("[\"{}\"]", "05".repeat(32)))
        .with("vmpl", "[2, 0]")
        .with("dangerously_accept_masked_chip", "\"a \\\"quoted\\\" reason\"")
        .with("dangerously_accept_provisional_firmware", "\"why\"")
        .with("dangerously_accept_no_alias_check", "\"why\"")
        .and("[snp.guest]\nabi = \"1.51\"\nsmt = true\ncxl = false\n[snp.platform]\necc = true\ntsme = false")
        .and("[snp.mitigation]\nlaunch = \"0000000000000001\"\ncurrent = \"0000000000000003\"");
    for reference in [full, good(), Guest::good().loaded().reference] {
        let values = reference.parse("Genoa").unwrap();
        let text = values.to_toml();
        let again = ReferenceValues::parse(&text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        assert_eq!(again, values);
        assert_eq!(again.to_toml(), text);
    }
}

#[test]
fn what_has_to_be_decided_cannot_be_left_away() {
    for key in ["name", "products", "signed_by", "vmpl", "crl"] {
        assert_eq!(code(&good().without(key)), "reference-toml", "{key}");
    }
    for key in ["chips", "measurements"] {
        assert_eq!(code(&good().without(key)), "reference-snp", "{key}");
    }
    let floorless = Reference { tables: String::new(), ..good() };
    assert_eq!(code(&floorless), "reference-toml");
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let key = format!("[\"{}\"]", "01".repeat(48));
    let genoa_and_turin = good().with("products", "[\"genoa\", \"turin\"]");
    for (number, reference) in [
        genoa_and_turin.clone(),
        good().with("products", "[]"),
        good().with("products", "[\"genoa\", \"genoa\"]"),
        good().with("products", "[\"milan\"]"),
        good().with("dangerously_trust_milan", "\"why\""),
        good().with("signed_by", "\"vlek\""),
        good().with("providers", "[\"CN=one\"]"),
        good().with("chips", "[]"),
        good().with("chips", "\"all\""),
        good().with("chips", &format!("[\"{}\"]", "00".repeat(64))),
        good().with("vmpl", "[]"),
        good().with("vmpl", "[4]"),
        good().with("measurements", "[]"),
        good().with("measurements", &format!("[\"{}\"]", "5F".repeat(48))),
        good().with("measurements", &format!("[\"{}\"]", "5f".repeat(47))),
        good().with("dangerously_accept_any_measurement", "\"why\""),
        good().with("guest_svn", "1"),
        good().with("family_id", &format!("\"{}\"", "01".repeat(16))),
        good().with("host_data", "[]"),
        good().with("id_keys", "[]"),
        good().with("id_keys", &key).with("dangerously_accept_any_measurement", "\"why\""),
        good().and("[snp.guest]\nsmtt = true"),
        good().and("[snp.guest]\ndebug = true"),
        good().and("[snp.guest]\nabi = \"1.051\""),
        good().and("[snp.platform]\nalias_check = false"),
        good().and("[snp.mitigation]\nlaunch = \"0000000000000000\""),
        good().and("[snp.floor.turin]\nfmc = 0\nbootloader = 0\ntee = 0\nsnp = 0\nmicrocode = 0"),
        genoa_and_turin.and("[snp.floor.turin]\nbootloader = 0\ntee = 0\nsnp = 0\nmicrocode = 0"),
        Guest::good().loaded().reference.with("dangerously_accept_masked_chip", "\"why\""),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(code(&reference), "reference-snp", "case {number}");
    }
}

#[test]
fn what_is_dangerous_has_a_reason_and_is_told() {
    let silent = good().with("dangerously_accept_no_alias_check", "\" \"");
    assert_eq!(code(&silent), "reference-danger-reason");
    let values = good().with("dangerously_accept_no_alias_check", "\"old BIOS\"").parse("Genoa").unwrap();
    let told: Vec<_> = values.dangers().iter().map(|danger| (danger.key, danger.reason.to_owned())).collect();
    let wanted = [("dangerously_accept_no_alias_check", "old BIOS"), ("dangerously_trusted_root", "a bench")];
    assert_eq!(told, wanted.map(|(key, reason)| (key, reason.to_owned())));
    assert!(Reference { root: false, ..good() }.parse("Genoa").unwrap().dangers().is_empty());
}

#[test]
fn a_root_is_one_self_signed_ca() {
    let text = good().text("Genoa");
    let with = |der: &[u8]| {
        let (head, _) = text.split_once("certificate = ").unwrap();
        let pem = blindferry_amd::certificate::pem(der);
        ReferenceValues::parse(&format!("{head}certificate = \"\"\"\n{pem}\"\"\"\n")).map_err(|error| error.code())
    };
    let amd = blindferry_amd::Amd::of("Genoa");
    assert!(with(&amd.ark_der).is_ok());
    assert_eq!(with(&amd.ask_der).unwrap_err(), "reference-root");
    assert_eq!(with(b"no certificate").unwrap_err(), "reference-root");
    let rootless = "version = 2\nrole = \"vault\"\n[[tpm]]\nname = \"x\"\nfirmware = \"any\"\n\
                    dangerously_accept_any_pcrs = \"why\"\n";
    assert_eq!(ReferenceValues::parse(rootless).unwrap().guests().len(), 0);
    let (_, root) = text.split_once("[[dangerously_trusted_root]]").unwrap();
    let lonely = format!("{rootless}[[dangerously_trusted_root]]{root}");
    assert_eq!(ReferenceValues::parse(&lonely).unwrap_err().code(), "reference-root-without-snp");
}

#[test]
fn version_1_knows_no_guests_and_is_still_written_without_them() {
    let old = good().text("Genoa").replace("version = 2", "version = 1");
    assert_eq!(ReferenceValues::parse(&old).unwrap_err().code(), "reference-snp-version");
    let tpm = "version = 2\nrole = \"vault\"\n[[tpm]]\nname = \"x\"\nfirmware = \"any\"\n\
               dangerously_accept_any_pcrs = \"why\"\n";
    assert!(ReferenceValues::parse(tpm).unwrap().to_toml().starts_with("version = 1\n"));
}

#[test]
fn two_sets_accept_what_either_does_and_tell_of_the_closer_one() {
    let mut guest = Guest::good();
    let other = "[[snp]]\nname = \"next\"\nproducts = [\"genoa\"]\nsigned_by = \"vcek\"\nchips = \"any\"\nvmpl = [0]\n\
                 measurements = [\"MEASUREMENT\"]\ncrl = \"optional\"\n\
                 [snp.floor.genoa]\nbootloader = 10\ntee = 0\nsnp = 24\nmicrocode = 84"
        .replace("MEASUREMENT", &"66".repeat(48));
    guest.reference = guest.reference.and(&other);
    assert_eq!(guest.judge().unwrap().reference_name(), "test");
    guest.report.measurement = [0x66; 48];
    // The first set got as far as the measurement; the second only to the floor.
    assert_eq!(guest.judge().unwrap_err().code(), "snp-measurement");
    assert_eq!(guest.examine().reference.as_deref(), Some("test"));
}

#[test]
fn what_was_captured_accepts_the_guest_that_it_was_captured_from() {
    for (guest, milan) in [(Guest::good(), None), (Guest::turin(), None), (Guest::milan(), Some("a bench"))] {
        let evidence = guest.evidence();
        let values = guest.values();
        let certificates: Vec<_> = evidence.certificates().iter().map(Vec::as_slice).collect();
        let vek = EndorsedVek::endorse(KeyKind::Vcek, &certificates, &[], values.anchors(), NOW).unwrap();
        let authentic = vek.authenticate(Report::parse(evidence.report()).unwrap(), NOW).unwrap();
        let captured = ReferenceValues::capture_guest(Role::Vault, "as it was", &authentic, milan).unwrap();
        let read = ReferenceValues::parse(&captured.to_toml()).unwrap();
        assert_eq!(read, captured);
        assert_eq!(captured.anchors(), &Anchors::amd(), "a dangerous root is never captured");
        if milan.is_some() {
            let refused = ReferenceValues::capture_guest(Role::Vault, "as it was", &authentic, None).unwrap_err();
            assert_eq!(refused.code(), "reference-snp");
        }
        // With the bench's root put back, it accepts.
        let (_, root) = guest
            .reference
            .text(guest.product)
            .split_once("[[dangerously")
            .map(|(a, b)| (a.len(), b.to_owned()))
            .unwrap();
        let values = ReferenceValues::parse(&format!("{}\n[[dangerously{root}", captured.to_toml())).unwrap();
        let request = blindferry_attest::snp::Request { now: NOW, reference: Some(&values), ..Default::default() };
        let examination = blindferry_attest::snp::examine(&evidence, &request);
        assert_eq!(examination.verdict, blindferry_attest::snp::Verdict::Accepted, "{:?}", examination.checks);
    }
}
