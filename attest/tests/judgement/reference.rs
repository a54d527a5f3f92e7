//! Reference values: strict in what they take, canonical in what they write.

use std::collections::BTreeSet;

use blindferry_attest::{
    reference::{Firmware, MAX_REFERENCE, ReferenceError, ReferenceValues},
    tpm::{PcrSelection, PcrValues},
};
use blindferry_proto::role::Role;
use proptest::prelude::*;

use crate::synthetic::{Case, REFERENCE};

const HEAD: &str = "version = 1\nrole = \"vault\"\n[[tpm]]\nname = \"one\"\nfirmware = \"any\"\n";
const VALUE: &str = "4444444444444444444444444444444444444444444444444444444444444444";

fn code(text: &str) -> &'static str {
    ReferenceValues::parse(text).unwrap_err().code()
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let read = ReferenceValues::parse(REFERENCE).unwrap();
    let written = read.to_toml();
    assert_eq!(ReferenceValues::parse(&written).unwrap(), read);
    assert_eq!(ReferenceValues::parse(&written).unwrap().to_toml(), written);
}

#[test]
fn a_changed_value_is_one_changed_line() {
    let before = ReferenceValues::parse(REFERENCE).unwrap().to_toml();
    let after = ReferenceValues::parse(&REFERENCE.replace(&"78".repeat(32), &"79".repeat(32))).unwrap().to_toml();
    let changed = before.lines().zip(after.lines()).filter(|(old, new)| old != new).count();
    assert_eq!((before.lines().count(), changed), (after.lines().count(), 1));
}

#[test]
fn unknown_and_missing_keys_are_refused() {
    let good = format!("{HEAD}[tpm.pcrs]\n4 = [\"{VALUE}\"]\n");
    assert!(ReferenceValues::parse(&good).is_ok());
    assert_eq!(code(&format!("colour = 1\n{good}")), "reference-toml");
    assert_eq!(code(&good.replace("name = ", "nom = ")), "reference-toml");
    assert_eq!(code(&good.replace("firmware = \"any\"\n", "")), "reference-toml");
    assert_eq!(code(&good.replace("version = 1\n", "")), "reference-toml");
    assert_eq!(code(&good.replace("\"vault\"", "\"king\"")), "reference-toml");
    assert_eq!(code(&good.replace("[tpm.pcrs]\n", "[tpm.pcr]\n")), "reference-toml");
}

#[test]
fn a_newer_version_is_called_that() {
    assert_eq!(code("version = 3\nwhatever = true\n"), "reference-version");
}

#[test]
fn no_values_are_never_fine() {
    assert_eq!(code("version = 1\nrole = \"vault\"\n"), "reference-no-platform");
    assert_eq!(code(HEAD), "reference-no-pcrs");
    assert_eq!(code(&format!("{HEAD}[tpm.pcrs]\n")), "reference-pcrs");
    assert_eq!(code(&format!("{HEAD}[tpm.pcrs]\n4 = []\n")), "reference-pcr-no-value");
    let listed = HEAD.replace("\"any\"", "[]");
    assert_eq!(code(&format!("{listed}[tpm.pcrs]\n4 = [\"{VALUE}\"]\n")), "reference-no-firmware");
}

#[test]
fn a_value_has_one_way_to_be_written() {
    let with = |pcrs: &str| format!("{HEAD}[tpm.pcrs]\n{pcrs}\n");
    assert_eq!(code(&with(&format!("04 = [\"{VALUE}\"]"))), "reference-pcr-index");
    assert_eq!(code(&with(&format!("24 = [\"{VALUE}\"]"))), "reference-pcr-index");
    assert_eq!(code(&with(&format!("4 = [\"{}\"]", "AB".repeat(32)))), "reference-pcr-value");
    assert_eq!(code(&with("4 = [\"44\"]")), "reference-pcr-value");
    assert_eq!(code(&with(&format!("4 = [\"{VALUE}\", \"{VALUE}\"]"))), "reference-pcr-value");
    assert_eq!(code(&with(&format!("4 = [\"{VALUE}\"]")).replace("\"any\"", "\"7.2\"")), "reference-firmware");
    assert_eq!(code(&with(&format!("4 = [\"{VALUE}\"]")).replace("\"any\"", "[\"7\"]")), "reference-firmware");
}

#[test]
fn platforms_must_list_the_same_pcrs_and_differ_in_name() {
    let one = format!("{HEAD}[tpm.pcrs]\n4 = [\"{VALUE}\"]\n");
    let other = |name: &str, pcr: u8| {
        format!("[[tpm]]\nname = \"{name}\"\nfirmware = \"any\"\n[tpm.pcrs]\n{pcr} = [\"{VALUE}\"]\n")
    };
    assert!(ReferenceValues::parse(&format!("{one}{}", other("two", 4))).is_ok());
    assert_eq!(code(&format!("{one}{}", other("two", 7))), "reference-pcr-selection");
    assert_eq!(code(&format!("{one}{}", other("one", 4))), "reference-name-twice");
}

#[test]
fn any_pcrs_must_be_asked_for_in_words_and_alone() {
    let any = format!("{HEAD}dangerously_accept_any_pcrs = \"bench without secrets\"\n");
    let read = ReferenceValues::parse(&any).unwrap();
    assert_eq!(read.sets()[0].dangerously_accepts_any_pcrs(), Some("bench without secrets"));
    assert_eq!(ReferenceValues::parse(&read.to_toml()).unwrap(), read);
    assert_eq!(read.selection(), Some(PcrSelection::new(0..8).unwrap()));
    assert_eq!(code(&any.replace("bench without secrets", " ")), "reference-reason");
    assert_eq!(code(&format!("{any}[tpm.pcrs]\n4 = [\"{VALUE}\"]\n")), "reference-no-pcrs");
    let beside = format!("{any}[[tpm]]\nname = \"two\"\nfirmware = \"any\"\n[tpm.pcrs]\n4 = [\"{VALUE}\"]\n");
    assert_eq!(code(&beside), "reference-any-beside-others");
}

#[test]
fn any_pcrs_still_means_that_all_else_is_checked() {
    let reference = "version = 1\nrole = \"broker\"\n[[tpm]]\nname = \"bench\"\nfirmware = [\"0000000000000001\"]\n\
                     dangerously_accept_any_pcrs = \"bench\"\n";
    let case = || {
        let mut case = Case::good();
        case.reference = reference.to_owned();
        case.selection = vec![0, 0, 0, 1, 0x00, 0x0b, 3, 0xff, 0, 0];
        case.pcrs = (0..8).map(|pcr| (pcr, [pcr; 32])).collect();
        case.firmware = 1;
        case
    };
    assert_eq!(case().judge().unwrap().reference_name(), "bench");
    let mut old = case();
    old.firmware = 2;
    assert_eq!(old.judge().unwrap_err().code(), "tpm-firmware");
    let mut partial = case();
    partial.selection = vec![0, 0, 0, 1, 0x00, 0x0b, 3, 0x01, 0, 0];
    assert_eq!(partial.judge().unwrap_err().code(), "tpm-pcr-selection");
}

#[test]
fn too_much_is_refused_before_it_is_parsed() {
    let long = " ".repeat(MAX_REFERENCE + 1);
    assert!(matches!(ReferenceValues::parse(&long), Err(ReferenceError::TooLong { .. })));
}

#[test]
fn a_captured_machine_is_what_its_values_accept() {
    let selection = PcrSelection::new([4, 7]).unwrap();
    let now = PcrValues::new(selection, &[(4, [0x44; 32]), (7, [0x77; 32])]).unwrap();
    let captured = ReferenceValues::capture(Role::Broker, "captured", Firmware::Any, &now).unwrap();
    let mut case = Case::good();
    case.reference = captured.to_toml();
    assert_eq!(case.judge().unwrap().reference_name(), "captured");
    let refused = ReferenceValues::capture(Role::Broker, "a\nb", Firmware::Any, &now).unwrap_err();
    assert_eq!(refused.code(), "reference-name");
}

proptest! {
    #[test]
    fn whatever_is_captured_is_read_back(
        name in "[^\\p{Cc}]{1,40}",
        pcrs in prop::collection::btree_map(0u8..24, any::<[u8; 32]>(), 1..24),
        versions in prop::collection::btree_set(any::<u64>(), 1..5),
    ) {
        let selection = PcrSelection::new(pcrs.keys().copied()).unwrap();
        let values: Vec<_> = pcrs.into_iter().collect();
        let now = PcrValues::new(selection, &values).unwrap();
        let firmware = Firmware::Only(BTreeSet::from_iter(versions));
        let captured = ReferenceValues::capture(Role::Operator, &name, firmware, &now).unwrap();
        prop_assert_eq!(ReferenceValues::parse(&captured.to_toml()).unwrap(), captured);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,400}") {
        let _ = ReferenceValues::parse(&text);
        let _ = ReferenceValues::parse(&format!("{HEAD}{text}"));
    }
}
