//! Targets of SEV-SNP: as bytes, and signed by an AMD of our own.

use std::sync::LazyLock;

use blindferry_amd::{Amd, Crl, ReportSpec, Vek, VekSpec};
use blindferry_attest::{
    azure::{self, Files, Hcl, RuntimeData},
    evidence::{Evidence, MAX_EVIDENCE},
    kind::recognise,
    reference::ReferenceValues,
    snp::{
        Anchors, EndorsedVek, KeyKind, Product, Report, ReportData, Request, SnpEvidence, Verdict,
        anchor::DangerousRoot,
        examine,
        table::{CertificateTable, MAX_TABLE},
    },
};

use super::{part, patch};

/// 2026-11-21.
const NOW: u64 = 1_795_219_200;

/// A report from anybody: what parsed is what was given.
pub fn snp_report(data: &[u8]) -> bool {
    let Ok(report) = Report::parse(data) else { return false };
    assert_eq!(report.bytes().as_slice(), data);
    assert_eq!(report.signed().len() + 512, data.len());
    let (body, signature) = (report.body(), report.signature());
    for product in Product::ALL {
        for raw in [body.current_tcb, body.reported_tcb, body.committed_tcb, body.launch_tcb] {
            assert!(raw.of(product).is_none_or(|tcb| tcb.to_raw(product) == raw));
        }
    }
    !format!("{body:?}{signature:?}").is_empty()
}

/// A table of certificates from a host, alone and behind a report.
pub fn snp_table(data: &[u8]) -> bool {
    let _ = (recognise(data), CertificateTable::parse_extended(data));
    let Ok(table) = CertificateTable::parse(data) else { return false };
    let (certificates, crls) = table.into_parts();
    assert!(certificates.iter().chain(&crls).all(|part| !part.is_empty() && part.len() <= data.len().min(MAX_TABLE)));
    true
}

/// A key's certificate and a revocation list with anything for an extension, signed as AMD would; then whatever follows as
/// further certificates. First byte: which product, which kind.
pub fn snp_certificates(mut data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    data = rest;
    let line = &LINES[usize::from(choice % 3)];
    let spec = if choice & 4 == 0 { line.vek.clone() } else { line.vek.clone().loaded("CN=a provider") };
    let (in_vek, in_crl, name) = (part(&mut data), part(&mut data), part(&mut data));
    let mut spec = VekSpec { further: vec![in_vek.to_vec()], ..spec };
    if choice & 8 != 0 {
        spec.product_name = Some(String::from_utf8_lossy(name).into_owned());
    }
    if choice & 16 != 0 {
        spec.hwid = Some(name.to_vec());
    }
    for pair in name.chunks_exact(2).filter(|_| choice & 32 != 0).take(16) {
        spec.spls.push((pair[0] & 0x7f, pair[1]));
    }
    let (kind, vek, above) = match choice & 4 {
        0 => (KeyKind::Vcek, line.amd.vcek(&spec), &line.amd.ask_der),
        _ => (KeyKind::Vlek, line.amd.vlek(&spec), &line.amd.asvk_der),
    };
    let crl = line.amd.crl(&Crl { further: vec![in_crl.to_vec()], ..Crl::empty() });
    let further = part(&mut data);
    let mut certificates = vec![vek.der.as_slice(), above];
    if !further.is_empty() {
        certificates.push(further);
    }
    let crls = [crl.as_slice(), data];
    let crls = if data.is_empty() { &crls[..1] } else { &crls };
    let Ok(endorsed) = EndorsedVek::endorse(kind, &certificates, crls, &line.anchors, NOW) else { return false };
    assert_eq!((endorsed.kind(), endorsed.product()), (kind, line.product));
    true
}

/// A report of a good guest with altered bytes, signed afterwards: first byte: which product; then what is written over it.
pub fn snp_guest(data: &[u8]) -> bool {
    let Some((&choice, triples)) = data.split_first() else { return false };
    let line = &LINES[usize::from(choice % 3)];
    let mut spec = line.report.clone();
    let mut signed = spec.signed_part();
    patch(&mut signed, triples);
    spec.patches = (0..).zip(signed).collect();
    let certificates = vec![line.chip.der.clone(), line.amd.ask_der.clone()];
    let evidence = SnpEvidence::new(line.chip.sign(&spec), certificates, vec![]).unwrap();
    let request = Request {
        now: NOW,
        reference: Some(&line.values),
        report_data: Some(ReportData::new([0; 64])),
        ..Request::default()
    };
    let examination = examine(&evidence, &request);
    let accepted = examination.verdict == Verdict::Accepted;
    let report = Report::parse(evidence.report());
    assert_eq!(report.is_ok(), examination.claims.is_some(), "what we sign is authentic");
    if let (Ok(report), true) = (report, accepted) {
        let body = report.body();
        assert_eq!(body.policy.0 & (3 << 18), 0, "debugging or migration");
        assert_eq!((body.vmpl, body.report_data), (0, ReportData::new([0; 64])));
        assert_eq!(body.current_tcb, body.committed_tcb);
        assert_eq!(body.measurement.to_string(), "5f".repeat(48));
        assert_eq!(body.chip_id.to_string(), blindferry_attest::snp::ChipId::new(line.report.chip_id).to_string());
    }
    accepted
}

/// A blob of Azure's paravisor, its runtime data, and certificates behind it.
pub fn azure(mut data: &[u8]) -> bool {
    let blob = part(&mut data);
    let certificates: Vec<Vec<u8>> = std::iter::repeat_with(|| part(&mut data).to_vec()).take(2).collect();
    let files = Files { blob, certificates: &certificates, quote: None };
    let _ = azure::examine(&files, &azure::Request { now: NOW, ..azure::Request::default() });
    let _ = RuntimeData::parse(blob);
    Hcl::parse(blob).is_ok_and(|hcl| RuntimeData::parse(hcl.runtime()).is_ok())
}

/// Evidence from a peer: what parsed is written again as it came.
pub fn evidence(data: &[u8]) -> bool {
    let _ = recognise(data);
    let Ok(evidence) = Evidence::decode(data) else { return false };
    assert!(data.len() <= MAX_EVIDENCE);
    assert_eq!(evidence.encode(), data);
    if let Evidence::Snp(evidence) = evidence {
        let _ = examine(&evidence, &Request { now: NOW, ..Request::default() });
    }
    true
}

/// One of AMD's product lines, with a chip and its guest.
struct Line {
    product: Product,
    amd: Amd,
    vek: VekSpec,
    chip: Vek,
    report: ReportSpec,
    anchors: Anchors,
    values: ReferenceValues,
}

static LINES: LazyLock<[Line; 3]> = LazyLock::new(|| {
    let genoa = "bootloader = 10\ntee = 0\nsnp = 23\nmicrocode = 84";
    let turin = "fmc = 1\nbootloader = 1\ntee = 1\nsnp = 4\nmicrocode = 81";
    let milan = "bootloader = 4\ntee = 0\nsnp = 24\nmicrocode = 219";
    [
        Line::new(Product::Genoa, VekSpec::genoa(), ReportSpec::genoa(), genoa, ""),
        Line::new(Product::Turin, VekSpec::turin(), ReportSpec::turin(), turin, ""),
        Line::new(
            Product::Milan,
            VekSpec::milan(),
            ReportSpec::milan(),
            milan,
            "dangerously_trust_milan = 'a bench'\n",
        ),
    ]
});

impl Line {
    fn new(product: Product, vek: VekSpec, report: ReportSpec, floor: &str, danger: &str) -> Self {
        let amd = Amd::of(product.name());
        let name = product.name().to_lowercase();
        let root = amd.ark_pem();
        let text = format!(
            "version = 2\nrole = 'vault'\n[[snp]]\nname = 'test'\nproducts = ['{name}']\nsigned_by = 'vcek'\nchips = 'any'\n\
             vmpl = [0]\nmeasurements = ['{}']\ncrl = 'optional'\n{danger}[snp.floor.{name}]\n{floor}\n\
             [[dangerously_trusted_root]]\nproduct = '{name}'\nreason = 'a bench'\ncertificate = '''\n{root}'''\n",
            "5f".repeat(48)
        );
        let root = DangerousRoot::new(product, &root, "a bench".to_owned()).unwrap();
        let chip = amd.vcek(&vek);
        let (anchors, values) = (Anchors::dangerously_with(vec![root]), ReferenceValues::parse(&text).unwrap());
        Self { product, amd, vek, chip, report, anchors, values }
    }
}
