//! Bytes of SEV-SNP from anybody: no panic, no allocation beyond bounds, one form for each thing.

use blindferry_amd::{Amd, Crl, ReportSpec, VekSpec, certificate_table, guid};
use blindferry_attest::{
    attested::{Expected, Identity, Pinned, PinnedGuest, PinnedMachine, appraise},
    evidence::Evidence,
    kind::{Kind, recognise},
    snp::{
        Anchors, ChipId, EndorsedVek, KeyKind, Report, SnpEvidence,
        table::{CertificateTable, MAX_TABLE},
    },
};
use blindferry_proto::role::Role;
use proptest::prelude::*;

use crate::{
    guest::{Guest, NOW},
    synthetic::binder,
};

#[test]
fn every_reserved_byte_of_a_report_is_looked_at() {
    let vek = Amd::of("Genoa").vcek(&VekSpec::genoa());
    let reserved = |version: u32| {
        let cpu = if version < 3 { 0x188..0x1a0 } else { 0x18b..0x1a0 };
        let mitigations = if version < 5 { 0x1f8..0x208 } else { 0..0 };
        [0x4c..0x50, cpu, 0x1eb..0x1ec, 0x1ef..0x1f0, mitigations, 0x208..0x2a0].into_iter().flatten()
    };
    for version in 2..=5 {
        let spec = ReportSpec { version, ..ReportSpec::genoa() };
        assert!(Report::parse(&vek.sign(&spec)).is_ok(), "version {version}");
        let mut report = vek.sign(&spec);
        for offset in reserved(version) {
            report[offset] = 0x80;
            assert_eq!(Report::parse(&report).unwrap_err().code(), "snp-reserved", "{version} at {offset:#x}");
            report[offset] = 0;
        }
    }
}

#[test]
fn every_byte_behind_r_and_s_is_looked_at() {
    let mut report = Amd::of("Genoa").vcek(&VekSpec::genoa()).sign(&ReportSpec::genoa());
    for offset in (0x2a0 + 48..0x2a0 + 72).chain(0x2a0 + 120..1184) {
        report[offset] = 1;
        assert_eq!(Report::parse(&report).unwrap_err().code(), "snp-signature-encoding", "at {offset:#x}");
        report[offset] = 0;
    }
}

#[test]
fn a_chain_that_was_kept_serves_its_own_certificate_within_its_time() {
    let guest = Guest::good();
    let (evidence, values) = (guest.evidence(), guest.values());
    let slices = |lists: &[Vec<u8>]| lists.to_vec();
    let (certificates, crls) = (slices(evidence.certificates()), slices(evidence.crls()));
    let certificates: Vec<_> = certificates.iter().map(Vec::as_slice).collect();
    let crls: Vec<_> = crls.iter().map(Vec::as_slice).collect();
    let kept = EndorsedVek::endorse(KeyKind::Vcek, &certificates, &crls, values.anchors(), NOW).unwrap();
    // The key's certificate alone is enough from then on.
    let short = SnpEvidence::new(evidence.report().to_vec(), vec![kept.der().to_vec()], vec![]).unwrap();
    let attested = guest.judge_evidence(short.clone(), binder(Role::Vault), Some(&kept)).unwrap();
    assert_eq!(attested.identity(), &Identity::Chip(ChipId::new([0xc4; 64])));
    // Another certificate is not served by it, and neither is a time after its end.
    let other = guest.evidence();
    let unkept = SnpEvidence::new(other.report().to_vec(), vec![other.certificates()[0].clone()], vec![]).unwrap();
    assert!(guest.judge_evidence(unkept, binder(Role::Vault), Some(&kept)).is_err());
    let later = Guest { now: 2_366_841_601, ..guest.clone() };
    let refused = later.judge_evidence(short.clone(), binder(Role::Vault), Some(&kept)).unwrap_err();
    assert_eq!(refused.code(), "snp-certificate-expired");
    // Nor is it when its root is no longer trusted: AMD's authority of the same name did not sign it.
    let distrusting = guest.with(|it| it.reference.root = false);
    let refused = distrusting.judge_evidence(short, binder(Role::Vault), Some(&kept)).unwrap_err();
    assert_eq!(refused.code(), "snp-chain-signature");
}

#[test]
fn a_chain_that_was_kept_does_not_outlive_a_list_that_revokes_it() {
    let guest = Guest::good();
    let (evidence, values) = (guest.evidence(), guest.values());
    let certificates: Vec<_> = evidence.certificates().iter().map(Vec::as_slice).collect();
    let crls: Vec<_> = evidence.crls().iter().map(Vec::as_slice).collect();
    let kept = EndorsedVek::endorse(KeyKind::Vcek, &certificates, &crls, values.anchors(), NOW).unwrap();
    let revoking = Amd::of("Genoa").crl(&Crl { revoked: vec![0x70001], ..Crl::empty() });
    // A newer list comes with the evidence, or the judge has it: the old one is current still, and does not decide.
    let of_peer =
        SnpEvidence::new(evidence.report().to_vec(), evidence.certificates().to_vec(), vec![revoking.clone()]).unwrap();
    let refused = guest.judge_evidence(of_peer, binder(Role::Vault), Some(&kept)).unwrap_err();
    assert_eq!(refused.code(), "snp-certificate-revoked");
    let judge = |crls: &[Vec<u8>]| {
        let machine = PinnedMachine::ByReference;
        let guest = PinnedGuest { machine, report_id: None, now: NOW, crls, endorsed: Some(&kept) };
        let expected = Expected { binder: binder(Role::Vault), role: Role::Vault, pinned: Pinned::Guest(guest) };
        appraise(Evidence::Snp(evidence.clone()), expected, &values).err().map(|refusal| refusal.code())
    };
    assert_eq!(judge(&[revoking]), Some("snp-certificate-revoked"));
    assert_eq!(judge(evidence.crls()), None);
}

#[test]
fn a_certificate_table_gives_what_the_host_put_there() {
    let amd = Amd::of("Genoa");
    let vek = amd.vcek(&VekSpec::genoa());
    let table = certificate_table(&[
        (guid::VCEK, &vek.der),
        ([7; 16], b"the host's own"),
        (guid::ASK, &amd.ask_der),
        (guid::ARK, &amd.ark_der),
    ]);
    assert_eq!(recognise(&table), Kind::SnpCertificateTable);
    let report = vek.sign(&ReportSpec::genoa());
    assert_eq!(recognise(&report), Kind::SnpReport);
    assert_eq!(recognise(&[report.clone(), table.clone()].concat()), Kind::SnpExtendedReport);
    let whole = [report.clone(), table].concat();
    let (found, table) = CertificateTable::parse_extended(&whole).unwrap();
    assert_eq!(found, report);
    let (certificates, crls) = table.into_parts();
    assert_eq!((certificates, crls.len()), (vec![vek.der.clone(), amd.ask_der, amd.ark_der], 0));
}

#[test]
fn a_certificate_table_that_points_astray_is_refused() {
    let entry = |offset: u32, len: u32| {
        [&guid::VCEK[..], &offset.to_le_bytes(), &len.to_le_bytes(), &[0; 24], b"certificate"].concat()
    };
    assert!(CertificateTable::parse(&entry(48, 11)).is_ok());
    for (offset, len) in [(48, 12), (47, 11), (0, 11), (48, 0), (u32::MAX, 1), (48, u32::MAX), (59, 1)] {
        assert_eq!(CertificateTable::parse(&entry(offset, len)).unwrap_err().code(), "snp-table-entry");
    }
    let endless = vec![1; 24 * 17];
    assert_eq!(CertificateTable::parse(&endless).unwrap_err().code(), "snp-table-entries");
    assert_eq!(CertificateTable::parse(&[1; 23]).unwrap_err().code(), "snp-table-entries");
    assert_eq!(CertificateTable::parse(&vec![0; MAX_TABLE + 1]).unwrap_err().code(), "snp-table-too-long");
}

#[test]
fn evidence_is_bounded_in_size_and_number() {
    let part = vec![1; 4097];
    assert_eq!(SnpEvidence::new(part.clone(), vec![], vec![]).unwrap_err().code(), "evidence-part");
    assert_eq!(SnpEvidence::new(vec![1], vec![part], vec![]).unwrap_err().code(), "evidence-part");
    assert_eq!(SnpEvidence::new(vec![1], vec![vec![]], vec![]).unwrap_err().code(), "evidence-part");
    assert_eq!(SnpEvidence::new(vec![1], vec![vec![1]; 9], vec![]).unwrap_err().code(), "evidence-too-many");
    assert_eq!(SnpEvidence::new(vec![1], vec![], vec![vec![1]; 4]).unwrap_err().code(), "evidence-too-many");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn evidence_survives_the_wire(
        report in proptest::collection::vec(any::<u8>(), 1..1200),
        certificates in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..9),
        crls in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..4),
    ) {
        let evidence = Evidence::Snp(SnpEvidence::new(report, certificates, crls).unwrap());
        let bytes = evidence.encode();
        prop_assert_eq!(Evidence::decode(&bytes).unwrap(), evidence);
        prop_assert!(Evidence::decode(&bytes[..bytes.len() - 1]).is_err());
        prop_assert!(Evidence::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1400), at in 0..1184usize) {
        let _ = CertificateTable::parse(&bytes);
        let _ = CertificateTable::parse_extended(&bytes);
        let _ = recognise(&bytes);
        let _ = EndorsedVek::endorse(KeyKind::Vcek, &[&bytes], &[&bytes], &Anchors::amd(), NOW);
        let mut report = ReportSpec::genoa().signed_part();
        report.resize(1184, 0);
        for (to, from) in report[at..].iter_mut().zip(&bytes) {
            *to = *from;
        }
        let _ = Report::parse(&report);
    }

    #[test]
    fn no_altered_certificate_or_list_makes_a_reader_panic(flips in proptest::collection::vec((0..1200usize, any::<u8>()), 1..4)) {
        let amd = Amd::of("Genoa");
        let mut vek = amd.vcek(&VekSpec::genoa()).der;
        let mut crl = amd.crl(&Crl::empty());
        for (at, byte) in flips {
            for der in [&mut vek, &mut crl] {
                let len = der.len();
                der[at % len] = byte;
            }
        }
        let _ = EndorsedVek::endorse(KeyKind::Vcek, &[&vek, &amd.ask_der], &[&crl], &Anchors::amd(), NOW);
    }
}
