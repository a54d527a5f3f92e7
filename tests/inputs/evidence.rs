//! What the fuzzer starts from where evidence is judged.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use blindferry_amd::{Amd, ReportSpec, VekSpec, certificate_table, guid};
use blindferry_attest::{
    evidence::{Evidence, TpmEvidence},
    snp::SnpEvidence,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use ring::digest::{SHA256, digest};

use crate::{
    Put,
    boot::{Boot, Judged as _, ima_entry, template},
    firmware, image, parts,
    synthetic::{Case, sized},
};

pub(crate) fn all(put: &mut Put<'_>) {
    let amd = Amd::of("Genoa");
    let vek = amd.vcek(&VekSpec::genoa());
    let report = vek.sign(&ReportSpec::genoa());
    put("snp_report", "genoa", report.clone());
    put("snp_report", "turin", vek.sign(&ReportSpec::turin()));
    put("snp_report", "version-2", vek.sign(&ReportSpec { version: 2, ..ReportSpec::milan() }));
    put(
        "snp_table",
        "table",
        certificate_table(&[(guid::VCEK, b"a VCEK"), ([7; 16], b"another"), (guid::ASK, b"an ASK")]),
    );
    // 2.5.29.35, not critical, empty.
    let extension = b"\x30\x09\x06\x03\x55\x1d\x23\x04\x02\x30\x00";
    for (name, choice) in [("genoa", 0), ("turin", 1), ("milan-vlek", 6)] {
        put("snp_certificates", name, [vec![choice], parts(&[extension, extension, b"", b""])].concat());
    }
    for (name, choice) in [("genoa", 0), ("turin", 1), ("milan", 2)] {
        // The last byte of REPORT_ID, which these rules leave open.
        put("snp_guest", name, vec![choice, 0x01, 0x5f, 0x77]);
    }

    let case = Case::good();
    let tpm = case.parts();
    put("tpm_structures", "attest", tpm.attest.clone());
    put("tpm_structures", "signature", tpm.signature.clone());
    put("tpm_structures", "public", tpm.public.clone());
    put("tpm_quote", "untouched", vec![0, 0]);
    let boot = Boot::good();
    put("event_log", "boot", boot.log());
    put("event_policy", "boot", boot.log());
    let entries = [
        ima_entry("ima-ng", &template(&[9; 32], "boot_aggregate", None)),
        ima_entry("ima-sig", &template(&[3; 32], "/usr/bin/true", Some(&[3, 2, 4, 1, 2, 3, 4, 0, 1, 9]))),
    ];
    put("ima_log", "two-files", entries.concat());
    put("azure", "blob", parts(&[&hcl()]));
    put("ek_certificate", "vendor", endorsement());

    let snp = SnpEvidence::new(report, vec![vek.der], vec![]).unwrap();
    put("evidence", "snp", Evidence::Snp(snp).encode());
    let tpm = TpmEvidence::new(tpm.attest, tpm.signature, tpm.public, case.pcrs.clone()).unwrap();
    put("evidence", "tpm", Evidence::Tpm(tpm).encode());
    put("reference_values", "tpm", crate::synthetic::REFERENCE.as_bytes().to_vec());
    put("reference_values", "events", boot.whole_case().reference.into_bytes());
    put("reference_values", "snp", SNP_REFERENCE.as_bytes().to_vec());
    let kernel = image::kernel("6.1.0");
    let sections: [(&str, &[u8]); 5] = [
        (".linux", &kernel),
        (".osrel", b"ID=debian\n"),
        (".cmdline", b"quiet"),
        (".initrd", b"initrd"),
        (".sdmagic", b"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####"),
    ];
    put("uki", "uki", image::image(&sections));
    put("firmware", "amd-sev", firmware::amd_sev());
}

/// Runtime data with a key, in a blob whose report nobody signed.
fn hcl() -> Vec<u8> {
    let key = URL_SAFE_NO_PAD.encode([0xc1; 256]);
    let json = format!(
        r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{key}"}}],"vm-configuration":{{"secure-boot":true,"vmUniqueId":"A-1"}},"user-data":"{}"}}"#,
        "00".repeat(64)
    );
    let json = json.as_bytes();
    let length = u32::try_from(json.len()).unwrap();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut report = ReportSpec::genoa();
    report.report_data[..32].copy_from_slice(digest(&SHA256, json).as_ref());
    let mut signed = report.signed_part();
    signed.resize(1184, 0);
    let mut blob = b"HCLA".to_vec();
    blob.extend(words(&[2, 1236 + length, 2, 0, 0, 0, 0]));
    blob.extend(signed);
    blob.extend(words(&[20 + length, 1, 2, 1, length]));
    blob.extend(json);
    blob
}

/// An EK of template L-2, a vendor's root, and the certificate of the EK.
fn endorsement() -> Vec<u8> {
    let (root_key, ek_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut root = CertificateParams::new(vec![]).unwrap();
    root.distinguished_name.push(DnType::CommonName, "root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut leaf = CertificateParams::new(vec![]).unwrap();
    leaf.distinguished_name = DistinguishedName::new();
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
    let name = hex::decode("301ca41a301831163014060567810502010c0b69643a3439343635383030").unwrap();
    let mut alternative = CustomExtension::from_oid_content(&[2, 5, 29, 17], name);
    alternative.set_criticality(true);
    leaf.custom_extensions = vec![alternative];
    let certificate = leaf.signed_by(&ek_key, &Issuer::from_params(&root, &root_key)).unwrap();
    let root = root.self_signed(&root_key).unwrap();

    let mut public = vec![0x00, 0x23, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2];
    sized(&mut public, &hex::decode("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa").unwrap());
    public.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x00, 0x03, 0x00, 0x10]);
    let point = ek_key.public_key_raw();
    sized(&mut public, &point[1..33]);
    sized(&mut public, &point[33..65]);
    parts(&[&public, root.der(), certificate.der()])
}

const SNP_REFERENCE: &str = r#"version = 2
role = "vault"

[[snp]]
name = "vault image 2026.11"
products = ["genoa"]
signed_by = "vcek"
chips = "any"
vmpl = [0]
measurements = ["5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f"]
id_keys = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
guest_svn = 4
crl = "optional"
[snp.floor.genoa]
bootloader = 10
tee = 0
snp = 23
microcode = 84
[snp.guest]
abi = "1.51"
smt = false
[snp.platform]
ecc = true
[snp.mitigation]
launch = "0000000000000001"
"#;
