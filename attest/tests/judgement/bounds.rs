//! Bounds are exact, and what is told of a judgement is what was judged.

use blindferry_attest::{
    binder::Binder,
    checks::{Check, Outcome},
    snp::{ChipId, EndorsedVek, KeyKind, ReportId},
};
use blindferry_proto::role::Role;

use crate::guest::{Guest, NOW, PROVIDER};

#[test]
fn the_longest_key_is_bound_and_one_byte_more_is_not() {
    assert!(Binder::compute(Role::Vault, &[1; Binder::MAX_SPKI], &[7; 32]).is_ok());
    assert!(Binder::compute(Role::Vault, &[1; Binder::MAX_SPKI + 1], &[7; 32]).is_err());
}

#[test]
fn as_many_certificates_and_lists_as_are_allowed_are_looked_at_and_not_one_more() {
    let guest = Guest::good();
    let (evidence, values) = (guest.evidence(), guest.values());
    let parts = |of: &[Vec<u8>], count: usize| of.iter().cycle().take(count).cloned().collect::<Vec<_>>();
    let endorse = |certificates: usize, crls: usize| {
        let (certificates, crls) = (parts(evidence.certificates(), certificates), parts(evidence.crls(), crls));
        let [certificates, crls] = [&certificates, &crls].map(|all| all.iter().map(Vec::as_slice).collect::<Vec<_>>());
        EndorsedVek::endorse(KeyKind::Vcek, &certificates, &crls, values.anchors(), NOW).map(drop)
    };
    assert!(endorse(8, 6).is_ok());
    for (certificates, crls) in [(9, 0), (1, 7)] {
        let refusal = endorse(certificates, crls).unwrap_err();
        assert_eq!(refusal.found(), format!("{certificates} certificates and {crls} lists"));
    }
}

/// The table that people read, for a guest that answers everything that can be asked of it. Written down as a whole: a
/// text that no longer tells what was compared is a change that somebody has to see. With
/// `BLINDFERRY_WRITE_TABLE` it is written down anew.
#[test]
fn a_persons_table_says_of_each_question_what_was_found_and_what_was_wanted() {
    let mut text = String::new();
    for (title, guest) in
        [("Genoa", Guest::good()), ("everything asked", asked()), ("Turin, VLEK", Guest::turin().loaded())]
    {
        text.push_str(&format!("== {title}\n"));
        guest.examine().checks.iter().for_each(|check| text.push_str(&row(check)));
    }
    if std::env::var_os("BLINDFERRY_WRITE_TABLE").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judgement/bounds_table.txt");
        std::fs::write(file, &text).unwrap();
        return;
    }
    for (line, (found, wanted)) in text.lines().zip(include_str!("bounds_table.txt").lines()).enumerate() {
        assert_eq!(found, wanted, "line {}", line + 1);
    }
    assert_eq!(text.lines().count(), include_str!("bounds_table.txt").lines().count());
}

fn row(check: &Check) -> String {
    let outcome = match check.outcome() {
        Outcome::Passed => "passed",
        Outcome::Refused(code) => code,
        Outcome::Open => "open",
    };
    format!("{outcome}: {}: {} / {}\n", check.name(), check.found(), check.wanted())
}

/// A guest whose reference values leave nothing open.
fn asked() -> Guest {
    let mut guest = Guest::turin();
    guest.report.id_key_digest = [0xaa; 48];
    guest.report.author_key_digest = [0xbb; 48];
    guest.report.flags = 1;
    guest.report.guest_svn = 7;
    // ABI 1.51.
    guest.report.policy |= 0x0133;
    guest.report.family_id = [1; 16];
    guest.report.image_id = [2; 16];
    guest.report.host_data = [0xcc; 32];
    guest.report_id = Some(ReportId::new(guest.report.report_id));
    guest.chip = Some(ChipId::new(guest.report.chip_id));
    let keys = |byte: &str| format!("[\"{}\"]", byte.repeat(48));
    let reference = guest.reference.with("id_keys", &keys("aa")).with("author_keys", &keys("bb"));
    let reference = reference.with("family_id", &format!("\"{}\"", "01".repeat(16)));
    let reference = reference.with("image_id", &format!("\"{}\"", "02".repeat(16))).with("guest_svn", "7");
    let reference = reference.with("host_data", &format!("[\"{}\"]", "cc".repeat(32)));
    let reference = reference.and(
        "[snp.launch_floor.turin]\nfmc = 1\nbootloader = 1\ntee = 1\nsnp = 4\nmicrocode = 81\n\
         [snp.guest]\nabi = \"1.51\"\nsmt = true\nsingle_socket = false\ncxl = false\nmemory_aes_256_xts = false\n\
         rapl_disabled = false\nciphertext_hiding = false\npage_swap_disabled = false\n\
         [snp.platform]\nsmt = true\ntsme = false\necc = true\nrapl_disabled = false\nciphertext_hiding = false\n\
         iommu_write_safe = false\ntio = false\n\
         [snp.mitigation]\nlaunch = \"0000000000000001\"\ncurrent = \"0000000000000001\"",
    );
    assert!(!reference.text("Turin").contains(PROVIDER));
    Guest { reference, ..guest }
}
