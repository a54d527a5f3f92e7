//! Each question about a guest of SEV-SNP alone, with everything else valid: its own code, and on both roads the same.

use std::collections::BTreeSet;

use blindferry_amd::{
    Amd, CaSpec, Crl, VekSpec,
    certificate::VALIDITY,
    der::{amd_oid, extension},
};
use blindferry_attest::{
    attested::Identity,
    checks::Outcome,
    snp::{ChipId, ReportId, Verdict},
};

use crate::guest::{Guest, LATER, NOW, PROVIDER};

/// A guest with one fault, by the code of its refusal.
pub(crate) fn faulty() -> Vec<(&'static str, Guest)> {
    let good = Guest::good;
    let mut cases = vec![
        ("snp-length", good().with(|it| it.tamper = |report| report.truncate(1183))),
        ("snp-length", good().with(|it| it.tamper = |report| report.push(0))),
        ("snp-version", good().with(|it| it.report.version = 1)),
        ("snp-version", good().with(|it| it.report.version = 6)),
        ("snp-signature-algorithm", good().with(|it| it.report.algorithm = 2)),
        ("snp-signature-algorithm", good().with(|it| it.report.algorithm = 0)),
        ("snp-signature-encoding", good().with(|it| it.tamper = |report| report[0x2a0 + 48] = 1)),
        ("snp-signature-encoding", good().with(|it| it.tamper = |report| report[0x2a0 + 72 + 71] = 1)),
        ("snp-signature-encoding", good().with(|it| it.tamper = |report| report[0x330] = 1)),
        ("snp-signature-encoding", good().with(|it| it.tamper = |report| report[1183] = 1)),
        ("snp-reserved", good().with(|it| it.report.flags = 1 << 5)),
        ("snp-certificate", good().with(|it| it.certificates = |all| all[0] = vec![0x30, 0])),
        ("snp-certificate", good().with(|it| it.certificates = |all| all[0].push(0))),
        ("snp-certificate-missing", good().with(|it| it.certificates = |all| all.clear())),
        ("snp-certificate-missing", good().with(|it| it.certificates = |all| drop(all.remove(0)))),
        ("snp-root", good().with(|it| it.reference.root = false)),
        ("snp-root", good().with(|it| it.certificates = |all| all[2] = Amd::of("Milan").ark_der)),
        ("snp-root", good().with(|it| it.certificates = |all| all[1] = Amd::of("Turin").ask_der)),
        ("snp-chain-signature", good().with(|it| it.vek_by_root = true)),
        ("snp-chain-signature", good().with(|it| it.certificates = |all| *all[0].last_mut().unwrap() ^= 1)),
        ("snp-certificate-extension", good().with(|it| it.vek.hwid = Some(vec![1; 63]))),
        ("snp-certificate-not-yet-valid", good().with(|it| it.vek.validity = LATER)),
        ("snp-certificate-expired", good().with(|it| it.now = 2_366_841_601)),
        ("snp-certificate-revoked", good().with(|it| it.crl = Some(Crl { revoked: vec![7, 0x70001], ..Crl::empty() }))),
        ("snp-crl", good().with(|it| it.crl_forged = true)),
        ("snp-crl-missing", good().with(|it| it.crl = None)),
        ("snp-crl-stale", good().with(|it| it.crl = Some(Crl { validity: (0, 1_700_000_000), ..Crl::empty() }))),
        ("snp-crl-stale", good().with(|it| it.crl = Some(Crl { validity: LATER, ..Crl::empty() }))),
        ("snp-signature", good().with(|it| it.tamper = |report| report[0x90] ^= 1)),
        ("snp-signature", good().with(|it| it.tamper = |report| report[0x2a0..0x2a0 + 48].fill(0))),
        ("snp-signing-key", good().with(|it| it.report.flags = 7 << 2)),
        ("snp-signing-key", good().with(|it| it.report.flags = 2)),
        ("snp-signing-key", good().with(|it| it.report.flags = 5 << 2)),
        ("snp-product", good().with(|it| it.report.cpu = [0x19, 0x01, 1])),
        ("snp-product", good().with(|it| it.report.cpu = [0, 0, 0])),
        ("snp-product", good().with(|it| it.vek.product_name = Some("Naples".to_owned()))),
        ("snp-product", good().with(|it| it.vek.product_name = Some("Milan-B0".to_owned()))),
        ("snp-tcb-reserved", good().with(|it| it.report.current_tcb[2] = 1)),
        ("snp-tcb-reserved", Guest::turin().with(|it| it.report.launch_tcb[4] = 1)),
        ("snp-tcb-order", good().with(|it| it.report.current_tcb[7] = 83)),
        ("snp-tcb-provisional", good().with(|it| it.report.committed_tcb[6] = 22)),
        ("snp-tcb-provisional", good().with(|it| it.report.committed_version = [39, 55, 1])),
        ("snp-chip-id", good().with(|it| it.report.chip_id[63] ^= 1)),
        ("snp-chip-masked", good().with(|it| it.report.chip_id = [0; 64])),
        ("snp-chip-pinned", good().with(|it| it.chip = Some(ChipId::new([7; 64])))),
        ("snp-chip-pinned", good().with(|it| it.provider = Some(PROVIDER.to_owned()))),
        ("snp-chip-pinned", good().loaded().with(|it| it.provider = Some("CN=another".to_owned()))),
        ("snp-policy-reserved", good().with(|it| it.report.policy &= !(1 << 17))),
        ("snp-policy-reserved", good().with(|it| it.report.policy |= 1 << 26)),
        ("snp-policy-debug", good().with(|it| it.report.policy |= 1 << 19)),
        ("snp-policy-migration", good().with(|it| it.report.policy |= 1 << 18)),
        ("snp-host-report", good().with(|it| it.report.vmpl = u32::MAX)),
        ("snp-vmpl", good().with(|it| it.report.vmpl = 1)),
        ("snp-vmpl", good().with(|it| it.report.vmpl = 4)),
        ("snp-launch-tcb-floor", good().with(|it| it.report.launch_tcb[7] = 83)),
        ("snp-platform-reserved", good().with(|it| it.report.platform |= 1 << 8)),
        ("snp-alias-check", good().with(|it| it.report.platform &= !(1 << 5))),
        ("snp-measurement", good().with(|it| it.report.measurement[47] ^= 1)),
        ("snp-report-data", good().with(|it| it.report.report_data[31] ^= 1)),
        ("snp-report-data", good().with(|it| it.report.report_data[32] = 1)),
        ("snp-report-data", good().with(|it| it.report.report_data = [0; 64])),
        ("snp-report-id", good().with(|it| it.report_id = Some(ReportId::new([9; 32])))),
    ];
    cases.extend(by_reference());
    cases
}

/// Faults that reference values make of a good guest.
fn by_reference() -> Vec<(&'static str, Guest)> {
    let with =
        |key: &'static str, value: &str| Guest::good().with(|it| it.reference = it.reference.clone().with(key, value));
    let and = |table: &str| Guest::good().with(|it| it.reference = it.reference.clone().and(table));
    let floors = |product: &str| format!("[snp.floor.{product}]\nbootloader = 0\ntee = 0\nsnp = 0\nmicrocode = 0\n");
    let key = |text: &str| format!("[\"{}\"]", text.repeat(48));
    let mut cases = vec![
        ("snp-signing-key", Guest::good().loaded().with(|it| it.reference = Guest::good().reference)),
        ("snp-chip-not-allowed", with("chips", &format!("[\"{}\"]", "ab".repeat(64)))),
        ("snp-provider-not-allowed", {
            let loaded = Guest::good().loaded();
            let reference = loaded.reference.clone().with("providers", "[\"CN=another\"]");
            loaded.with(|it| it.reference = reference)
        }),
        ("snp-policy-abi", and("[snp.guest]\nabi = \"1.51\"")),
        ("snp-tcb-floor", Guest::good().with(|it| it.reference.tables = it.reference.tables.replace("84", "85"))),
        ("snp-tcb-floor", Guest::good().with(|it| it.reference.tables = it.reference.tables.replace("23", "24"))),
        ("snp-mitigation-launch", and("[snp.mitigation]\nlaunch = \"0000000000000001\"")),
        ("snp-mitigation-current", {
            let turin = Guest::turin();
            let reference = turin.reference.clone().and("[snp.mitigation]\ncurrent = \"0000000000000003\"");
            turin.with(|it| it.reference = reference)
        }),
        ("snp-id-key", with("id_keys", &key("aa"))),
        ("snp-author-key", with("author_keys", &key("aa"))),
        ("snp-host-data", with("host_data", &format!("[\"{}\"]", "aa".repeat(32)))),
        ("snp-product-not-allowed", {
            let reference = Guest::turin().reference.and(&floors("genoa"));
            // Turin alone is accepted; the floor of Genoa would be a fault of the file.
            let reference = reference.without("products").with("products", "[\"genoa\", \"turin\"]");
            let milan = Guest::milan();
            let reference = crate::guest::Reference { root: milan.reference.root, ..reference };
            milan.with(|it| it.reference = reference)
        }),
    ];
    for (code, table, wrong) in BITS {
        cases.push((code, and(&format!("[snp.{table}]\n{wrong}"))));
    }
    // What an id block says counts only where its signer is listed.
    let signed = |change: fn(&mut Guest), key: &'static str, value: &'static str| {
        let mut guest = Guest::good().with(change);
        guest.report.id_key_digest = [0xaa; 48];
        guest.reference = guest.reference.with("id_keys", &format!("[\"{}\"]", "aa".repeat(48))).with(key, value);
        guest
    };
    cases.push(("snp-family-id", signed(|_| {}, "family_id", "\"01010101010101010101010101010101\"")));
    cases.push(("snp-image-id", signed(|_| {}, "image_id", "\"01010101010101010101010101010101\"")));
    cases.push(("snp-guest-svn", signed(|it| it.report.guest_svn = 4, "guest_svn", "5")));
    cases.push(("snp-author-key", {
        // The digest is there, but the flag says that it means nothing.
        let unsigned = |it: &mut Guest| it.report.author_key_digest = [0xbb; 48];
        let digest: &'static str = Box::leak(format!("[\"{}\"]", "bb".repeat(48)).into_boxed_str());
        signed(unsigned, "author_keys", digest)
    }));
    cases
}

/// Bits of policy and platform: the reference value that a good guest is not like.
const BITS: [(&str, &str, &str); 14] = [
    ("snp-policy-smt", "guest", "smt = false"),
    ("snp-policy-single-socket", "guest", "single_socket = true"),
    ("snp-policy-cxl", "guest", "cxl = true"),
    ("snp-policy-memory-xts", "guest", "memory_aes_256_xts = true"),
    ("snp-policy-rapl", "guest", "rapl_disabled = true"),
    ("snp-policy-ciphertext-hiding", "guest", "ciphertext_hiding = true"),
    ("snp-policy-page-swap", "guest", "page_swap_disabled = true"),
    ("snp-platform-smt", "platform", "smt = false"),
    ("snp-platform-tsme", "platform", "tsme = true"),
    ("snp-platform-ecc", "platform", "ecc = false"),
    ("snp-platform-rapl", "platform", "rapl_disabled = true"),
    ("snp-platform-ciphertext-hiding", "platform", "ciphertext_hiding = true"),
    ("snp-platform-iommu", "platform", "iommu_write_safe = true"),
    ("snp-platform-tio", "platform", "tio = true"),
];

#[test]
fn a_good_guest_of_each_product_is_attested_and_says_so() {
    for guest in [Guest::good(), Guest::milan(), Guest::turin()] {
        let attested = guest.judge().unwrap();
        let claims = attested.claims();
        let snp = claims.snp.as_ref().unwrap();
        assert_eq!((claims.platform, claims.reference.as_str(), claims.firmware.as_str()), ("snp", "test", "1.55.40"));
        assert_eq!(snp.product.split('-').next(), Some(guest.product));
        assert_eq!(attested.identity(), &Identity::Chip(ChipId::new(guest.report.chip_id)));
        assert_eq!(attested.report_id(), Some(ReportId::new(guest.report.report_id)));
        assert_eq!(snp.measurement, "5f".repeat(48));
        assert!(snp.dangerous_root.is_some());
        assert!(attested.ak_name().is_none() && attested.clock().is_none());
    }
}

#[test]
fn a_good_guest_under_a_vlek_is_its_providers() {
    for guest in [Guest::good(), Guest::milan(), Guest::turin()] {
        let attested = guest.loaded().judge().unwrap();
        assert_eq!(attested.identity(), &Identity::Provider(PROVIDER.to_owned()));
        assert_eq!(attested.claims().snp.unwrap().chip_id, None);
    }
}

#[test]
fn each_fault_alone_is_refused_by_its_own_code_on_both_roads() {
    for (number, (code, guest)) in faulty().into_iter().enumerate() {
        let refusal = guest.judge().map(|_| ()).expect_err(&format!("case {number} ({code}) was let in"));
        assert_eq!(refusal.code(), code, "case {number}: {refusal}");
        let examination = guest.examine();
        let first = examination.checks.iter().find_map(|check| match check.outcome() {
            Outcome::Refused(code) => Some(code),
            Outcome::Passed | Outcome::Open => None,
        });
        // What is missing is no fault of what is there.
        assert_eq!(first, Some(code).filter(|code| *code != "snp-certificate-missing"), "case {number}");
        let verdict = match code {
            "snp-certificate-missing" => Verdict::Unjudged(code),
            _ => Verdict::Refused(code),
        };
        assert_eq!(examination.verdict, verdict, "case {number}");
    }
}

#[test]
fn every_question_has_a_guest_that_it_refuses() {
    let source = include_str!("../../src/snp/question.rs");
    let codes = source.lines().filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\","));
    let mut open: BTreeSet<&str> = codes.collect();
    assert!(open.len() > 60, "the search is broken");
    for (code, _) in faulty() {
        open.remove(code);
    }
    // These two need a key that no file allows, and a certificate of another firmware; see below.
    assert_eq!(open, BTreeSet::from(["snp-product-distrusted", "snp-tcb-certificate"]));
}

#[test]
fn a_certificate_of_other_firmware_is_refused_for_each_component() {
    for (base, numbers) in [(Guest::good(), vec![1, 2, 3, 8]), (Guest::turin(), vec![1, 2, 3, 8, 9])] {
        for number in numbers {
            let mut guest = base.clone();
            for (spl, value) in &mut guest.vek.spls {
                if *spl == number {
                    *value += 1;
                }
            }
            assert_eq!(guest.judge().unwrap_err().code(), "snp-tcb-certificate", "component {number}");
        }
    }
}

#[test]
fn a_milan_is_refused_last_where_nobody_gave_a_reason_to_trust_it() {
    let milan = Guest::milan();
    let values = milan.values();
    let examination = blindferry_attest::snp::examine(
        &milan.evidence(),
        &blindferry_attest::snp::Request { now: NOW, reference: None, ..Default::default() },
    );
    // Under AMD's roots alone it is not even authentic.
    assert_eq!(examination.verdict, Verdict::Refused("snp-root"));
    let dangers: Vec<_> = values.dangers().iter().map(|danger| danger.key).collect();
    assert_eq!(dangers, ["dangerously_trust_milan", "dangerously_trusted_root"]);
    let rows = milan.examine().checks;
    assert_eq!(rows.last().unwrap().name(), "product line trusted");
}

#[test]
fn extensions_of_a_signing_key_have_one_form() {
    let spoilt = |change: fn(&mut VekSpec)| Guest::good().with(|it| change(&mut it.vek));
    let cases = [
        spoilt(|vek| vek.spls.retain(|(number, _)| *number != 8)),
        spoilt(|vek| vek.spls.push((8, 84))),
        spoilt(|vek| vek.spls.push((9, 0))),
        spoilt(|vek| vek.spls.iter_mut().filter(|(number, _)| *number == 4).for_each(|(_, value)| *value = 1)),
        spoilt(|vek| vek.product_name = None),
        spoilt(|vek| vek.hwid = None),
        spoilt(|vek| vek.hwid = Some(vec![0; 64])),
        spoilt(|vek| vek.csp_id = Some(PROVIDER.to_owned())).with(|it| {
            it.certificates = |all| all[1] = Amd::of("Genoa").asvk_der;
            it.vek.common_name = "SEV-VLEK".to_owned();
            it.report.flags = 1 << 2;
        }),
        spoilt(|vek| vek.further.push(extension(&amd_oid(&[99]), true, &[5, 0]))),
        spoilt(|vek| vek.further.push(extension(b"\x06\x03\x55\x1d\x13", true, b"\x30\x03\x01\x01\xff"))),
        Guest::turin().with(|it| it.vek.spls.retain(|(number, _)| *number != 9)),
        Guest::turin().with(|it| it.vek.hwid = Some(vec![0xc4; 64])),
    ];
    for (number, guest) in cases.into_iter().enumerate() {
        let refusal = guest.judge().unwrap_err();
        assert_eq!(refusal.code(), "snp-certificate-extension", "case {number}: {refusal}");
    }
}

#[test]
fn an_authority_is_a_ca_that_may_sign_certificates_and_nothing_unknown() {
    const UNKNOWN: fn(&mut CaSpec) = |ask| ask.further.push(extension(&amd_oid(&[99]), true, &[5, 0]));
    /// Signed by the root, as the good one is, for the same key.
    fn authority(change: impl FnOnce(&mut CaSpec)) -> Vec<u8> {
        let good = |serial| CaSpec { serial, ca: true, key_usage: 0x04, validity: VALIDITY, further: vec![] };
        let mut ask = good(0x70001);
        change(&mut ask);
        Amd::with("Genoa", &good(0x70000), &ask, &good(0x70101)).ask_der
    }
    assert!(Guest::good().with(|it| it.certificates = |all| all[1] = authority(|_| {})).judge().is_ok());
    for guest in [
        Guest::good().with(|it| it.certificates = |all| all[1] = authority(|ask| ask.ca = false)),
        Guest::good().with(|it| it.certificates = |all| all[1] = authority(|ask| ask.key_usage = 0x02)),
        Guest::good().with(|it| it.certificates = |all| all[1] = authority(UNKNOWN)),
    ] {
        assert_eq!(guest.judge().unwrap_err().code(), "snp-certificate-extension");
    }
}

#[test]
fn a_vlek_is_not_taken_for_a_vcek_nor_the_other_way_round() {
    // Signed by the authority of the other kind.
    let under_ask = Guest::good().loaded().with(|it| {
        it.vek.csp_id = None;
        it.vek.hwid = Some(vec![0xc4; 64]);
    });
    assert_eq!(under_ask.judge().unwrap_err().code(), "snp-chain-signature");
    // The certificate's name says VCEK, the report says VLEK: there is none.
    let renamed = Guest::good().loaded().with(|it| it.vek.common_name = "SEV-VCEK".to_owned());
    assert_eq!(renamed.judge().unwrap_err().code(), "snp-certificate-missing");
}
