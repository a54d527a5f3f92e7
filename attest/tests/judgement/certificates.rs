//! EK certificate chains: each defect alone, in a chain that is otherwise good.

use std::collections::BTreeSet;

use blindferry_amd::der;
use blindferry_attest::endorsement::{EkClaim, Endorsed, EndorsementError, EndorsementPolicy, Manufacturers, endorse};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PublicKeyData as _, SigningKey as _,
};

use crate::synthetic::{Case, sized};

/// TPMT_PUBLIC of an EK by template L-2 (P-256) with this uncompressed point.
pub(crate) fn ek_p256(point: &[u8]) -> Vec<u8> {
    let mut out = template_head(0x0023);
    // NULL scheme, P-256, NULL key derivation.
    out.extend_from_slice(&[0x00, 0x10, 0x00, 0x03, 0x00, 0x10]);
    sized(&mut out, &point[1..33]);
    sized(&mut out, &point[33..65]);
    out
}

/// TPMT_PUBLIC of an EK by template L-1 (RSA 2048) with this modulus and exponent 65537.
pub(crate) fn ek_rsa2048(modulus: &[u8]) -> Vec<u8> {
    let mut out = template_head(0x0001);
    out.extend_from_slice(&[0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0]);
    sized(&mut out, modulus);
    out
}

fn template_head(kind: u16) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend_from_slice(&[0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2]);
    sized(&mut out, &hex::decode("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa").unwrap());
    // AES-128-CFB.
    out.extend_from_slice(&[0x00, 0x06, 0x00, 0x80, 0x00, 0x43]);
    out
}

/// A vendor: root, intermediate, and the certificate of one EK.
struct Vendor {
    root: CertificateParams,
    middle: CertificateParams,
    leaf: CertificateParams,
    middle_issuer_name: Option<&'static str>,
    now: u64,
    manufacturers: Manufacturers,
    /// Changes the chain (leaf, intermediate) and the roots after signing.
    after: fn(&mut Vec<Vec<u8>>, &mut Vec<Vec<u8>>),
}

/// 2024-01-01.
const NOW: u64 = 1_704_067_200;

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
}

/// subjectAltName with a directoryName of id:49465800, as a certificate without a subject has it: critical.
fn names_infineon() -> CustomExtension {
    let content = hex::decode("301ca41a301831163014060567810502010c0b69643a3439343635383030").unwrap();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
    extension.set_criticality(true);
    extension
}

impl Vendor {
    fn good() -> Self {
        let mut leaf = CertificateParams::new(vec![]).unwrap();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
        leaf.custom_extensions = vec![names_infineon()];
        leaf.not_before = rcgen::date_time_ymd(2023, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2033, 1, 1);
        Self {
            root: authority("root"),
            middle: authority("intermediate"),
            leaf,
            middle_issuer_name: None,
            now: NOW,
            manufacturers: Manufacturers::Any,
            after: |_, _| {},
        }
    }

    fn endorse(self) -> Result<Endorsed, EndorsementError> {
        let now = self.now;
        let (claim, policy) = self.sign();
        endorse(claim, &policy, now)
    }

    fn sign(self) -> (EkClaim, EndorsementPolicy) {
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let middle_key = KeyPair::generate().unwrap();
        let ek_key = KeyPair::generate().unwrap();
        let root = self.root.self_signed(&root_key).unwrap();
        let mut signer = self.root.clone();
        if let Some(name) = self.middle_issuer_name {
            signer.distinguished_name.push(DnType::CommonName, name);
        }
        let middle = self.middle.signed_by(&middle_key, &Issuer::from_params(&signer, &root_key)).unwrap();
        let leaf = self.leaf.signed_by(&ek_key, &Issuer::from_params(&self.middle, &middle_key)).unwrap();
        let mut certificates = vec![leaf.der().to_vec(), middle.der().to_vec()];
        let mut roots = vec![root.der().to_vec()];
        (self.after)(&mut certificates, &mut roots);
        let claim = EkClaim {
            ek_public: ek_p256(ek_key.public_key_raw()),
            certificates,
            ak_public: Case::good().parts().public,
        };
        let policy = EndorsementPolicy {
            allowed: BTreeSet::new(),
            denied: BTreeSet::new(),
            roots,
            manufacturers: self.manufacturers,
        };
        (claim, policy)
    }
}

fn code(change: impl FnOnce(&mut Vendor)) -> &'static str {
    let mut vendor = Vendor::good();
    change(&mut vendor);
    vendor.endorse().unwrap_err().code()
}

#[test]
fn a_chain_to_a_root_endorses_an_ek() {
    assert!(Vendor::good().endorse().is_ok());
}

#[test]
fn the_root_may_come_along_and_an_intermediate_may_be_the_root() {
    let along = Vendor { after: |chain, roots| chain.push(roots[0].clone()), ..Vendor::good() };
    assert!(along.endorse().is_ok());
    let pinned = Vendor { after: |chain, roots| *roots = vec![chain[1].clone()], ..Vendor::good() };
    assert!(pinned.endorse().is_ok());
    let popped = Vendor { after: |chain, roots| *roots = vec![chain.pop().unwrap()], ..Vendor::good() };
    assert!(popped.endorse().is_ok());
}

#[test]
fn an_ek_certificate_is_no_root_for_itself() {
    assert_eq!(
        code(|vendor| vendor.after = |chain, roots| {
            chain.truncate(1);
            *roots = chain.clone();
        }),
        "ek-no-root"
    );
}

#[test]
fn a_chain_to_nowhere_is_refused() {
    assert_eq!(code(|vendor| vendor.after = |chain, _| chain.truncate(1)), "ek-no-root");
    assert_eq!(code(|vendor| vendor.after = |chain, _| chain.clear()), "ek-not-allowed");
    assert_eq!(code(|vendor| vendor.after = |_, roots| roots.clear()), "ek-not-allowed");
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    assert_eq!(code(|vendor| vendor.after = |chain, _| chain.swap(0, 1)), "ek-certificate-key");
}

#[test]
fn a_root_of_the_same_name_with_another_key_is_refused() {
    let forge = |_: &mut Vec<Vec<u8>>, roots: &mut Vec<Vec<u8>>| {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        *roots = vec![authority("root").self_signed(&key).unwrap().der().to_vec()];
    };
    assert_eq!(code(|vendor| vendor.after = forge), "ek-certificate-signature");
    // But it does not get in the way of the right one.
    let both = Vendor {
        after: |_, roots| {
            let key = KeyPair::generate().unwrap();
            roots.insert(0, authority("root").self_signed(&key).unwrap().der().to_vec());
        },
        ..Vendor::good()
    };
    assert!(both.endorse().is_ok());
}

#[test]
fn an_altered_certificate_is_refused() {
    // The last byte belongs to the signature.
    let alter = |chain: &mut Vec<Vec<u8>>, _: &mut Vec<Vec<u8>>| *chain[0].last_mut().unwrap() ^= 1;
    assert_eq!(code(|vendor| vendor.after = alter), "ek-certificate-signature");
}

#[test]
fn certificates_are_refused_outside_their_time() {
    let day = 24 * 60 * 60;
    for now in [0, NOW - 366 * day, NOW + 10 * 366 * day, u64::MAX] {
        assert_eq!(code(|vendor| vendor.now = now), "ek-certificate-validity");
    }
    assert_eq!(code(|vendor| vendor.middle.not_after = rcgen::date_time_ymd(2022, 1, 1)), "ek-certificate-validity");
    assert_eq!(code(|vendor| vendor.root.not_after = rcgen::date_time_ymd(2022, 1, 1)), "ek-certificate-validity");
}

#[test]
fn who_is_no_authority_certifies_nothing() {
    for change in [
        (|vendor| vendor.middle.is_ca = IsCa::ExplicitNoCa) as fn(&mut Vendor),
        |vendor| vendor.middle.is_ca = IsCa::NoCa,
        |vendor| vendor.middle.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        |vendor| vendor.root.is_ca = IsCa::ExplicitNoCa,
        |vendor| vendor.root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
    ] {
        assert_eq!(code(change), "ek-certificate-authority");
    }
}

#[test]
fn issuer_and_subject_must_be_one_name() {
    let rename = |chain: &mut Vec<Vec<u8>>, roots: &mut Vec<Vec<u8>>| chain.insert(1, roots[0].clone());
    assert_eq!(code(|vendor| vendor.after = rename), "ek-certificate-issuer");
    assert_eq!(code(|vendor| vendor.middle_issuer_name = Some("another root")), "ek-no-root");
}

#[test]
fn a_certificate_that_is_not_for_an_ek_is_refused() {
    for change in [
        (|vendor| vendor.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)) as fn(&mut Vendor),
        |vendor| vendor.leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        // tcg-kp-AIKCertificate
        |vendor| vendor.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])],
        |vendor| vendor.leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
    ] {
        assert_eq!(code(change), "ek-certificate-use");
    }
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let unknown = || {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(true);
        extension
    };
    assert_eq!(code(|vendor| vendor.leaf.custom_extensions.push(unknown())), "ek-certificate-extension");
    assert_eq!(code(|vendor| vendor.middle.custom_extensions.push(unknown())), "ek-certificate-extension");
}

#[test]
fn an_extension_that_is_there_twice_is_refused() {
    assert_eq!(code(|vendor| vendor.leaf.custom_extensions.push(names_infineon())), "ek-certificate");
}

#[test]
fn too_many_or_too_long_certificates_are_refused_before_they_are_parsed() {
    assert_eq!(code(|vendor| vendor.after = |chain, _| *chain = vec![vec![0]; 5]), "ek-chain-too-long");
    assert_eq!(code(|vendor| vendor.after = |chain, _| chain[0] = vec![0; 8193]), "ek-certificate-too-long");
    assert_eq!(code(|vendor| vendor.after = |chain, _| chain[0].push(0)), "ek-certificate");
    assert_eq!(code(|vendor| vendor.after = |chain, _| chain[1] = vec![]), "ek-certificate");
}

#[test]
fn a_broken_root_of_our_own_is_an_error_and_not_ignored() {
    assert_eq!(code(|vendor| vendor.after = |_, roots| roots.insert(0, vec![1, 2, 3])), "ek-root");
}

#[test]
fn manufacturers_can_be_limited() {
    let only = |id: &str| Manufacturers::Only(BTreeSet::from([id.to_owned()]));
    assert!(Vendor { manufacturers: only("IFX"), ..Vendor::good() }.endorse().is_ok());
    assert_eq!(code(|vendor| vendor.manufacturers = only("INTC")), "ek-manufacturer");
    let unnamed = |vendor: &mut Vendor| {
        vendor.manufacturers = only("IFX");
        vendor.leaf.custom_extensions.clear();
    };
    assert_eq!(code(unnamed), "ek-manufacturer");
}

/// The few bytes around the signed part and the signature are under no signature; nothing is taken from them but what
/// the signed part says as well.
#[test]
fn every_flipped_bit_of_what_a_ca_signed_and_of_its_signature_is_refused() {
    let (claim, policy) = Vendor::good().sign();
    assert!(endorse(claim.clone(), &policy, NOW).is_ok());
    for index in 0..claim.certificates.len() {
        let der = &claim.certificates[index];
        let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
        // A header of four bytes stands before the signed part.
        let signed = 4..4 + parsed.tbs_certificate.as_ref().len();
        let signature = der.len() - parsed.signature_value.data.len()..der.len();
        assert_eq!(&der[signed.clone()], parsed.tbs_certificate.as_ref());
        for byte in signed.chain(signature) {
            for bit in 0..8 {
                let mut altered = claim.clone();
                altered.certificates[index][byte] ^= 1 << bit;
                assert!(endorse(altered, &policy, NOW).is_err(), "byte {byte} of certificate {index}");
            }
        }
    }
}

/// Nuvoton's certificates have names like these, which strict parsers of DER refuse: a SET whose members are not sorted.
#[test]
fn a_name_with_its_set_out_of_order_is_taken_as_it_is() {
    let (claim, policy) = unsorted(|name| name);
    assert!(endorse(claim, &policy, NOW).is_ok());
}

/// Names are compared as they stand. Sorting them would be to mend what was signed.
#[test]
fn names_that_differ_in_the_order_of_a_set_are_different_names() {
    let (claim, policy) = unsorted(|_| name_of_vendor([COUNTRY, ORGANISATION]));
    assert_eq!(endorse(claim, &policy, NOW).unwrap_err().code(), "ek-no-root");
}

const COUNTRY: &[u8] = b"\x30\x09\x06\x03\x55\x04\x06\x13\x02TW";
const ORGANISATION: &[u8] = b"\x30\x0f\x06\x03\x55\x04\x0a\x13\x08No Vendo";

fn name_of_vendor(set: [&[u8]; 2]) -> Vec<u8> {
    der::seq(&[&der::tlv(0x31, &set)])
}

/// A root whose name has a set out of order (the longer member first), and an EK certificate under it whose issuer is what
/// `issuer` makes of that name.
fn unsorted(issuer: fn(Vec<u8>) -> Vec<u8>) -> (EkClaim, EndorsementPolicy) {
    let (root, ek) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let name = name_of_vendor([ORGANISATION, COUNTRY]);
    let ca = der::extension(b"\x06\x03\x55\x1d\x13", true, b"\x30\x03\x01\x01\xff");
    let root_der = signed_by(&root, &name, &name, &root, &ca);
    let usage = der::extension(b"\x06\x03\x55\x1d\x0f", true, b"\x03\x02\x03\x08");
    let leaf = signed_by(&root, &issuer(name), &der::seq(&[]), &ek, &usage);
    let ak_public = Case::good().parts().public;
    let claim = EkClaim { ek_public: ek_p256(ek.public_key_raw()), certificates: vec![leaf], ak_public };
    let policy = EndorsementPolicy {
        allowed: BTreeSet::new(),
        denied: BTreeSet::new(),
        roots: vec![root_der],
        manufacturers: Manufacturers::Any,
    };
    (claim, policy)
}

fn signed_by(signer: &KeyPair, issuer: &[u8], subject: &[u8], key: &KeyPair, extension: &[u8]) -> Vec<u8> {
    // ecdsa-with-SHA256
    let algorithm = der::seq(&[b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"]);
    let validity = der::seq(&[&der::time(1_577_836_800), &der::time(2_208_988_800)]);
    let tbs = der::seq(&[
        b"\xa0\x03\x02\x01\x02",
        &der::unsigned(&[7]),
        &algorithm,
        issuer,
        &validity,
        subject,
        &key.subject_public_key_info(),
        &der::tlv(0xa3, &[&der::seq(&[extension])]),
    ]);
    der::seq(&[&tbs, &algorithm, &der::bits(&signer.sign(&tbs).unwrap())])
}

proptest! {
    #[test]
    fn no_altered_certificate_makes_the_parser_panic(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..16),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut claim, policy) = Vendor::good().sign();
        for certificate in &mut claim.certificates {
            let (at, len) = (at.index(certificate.len()), 1 + cut.index(certificate.len()));
            for (to, from) in certificate[at..].iter_mut().zip(&bytes) {
                *to = *from;
            }
            certificate.truncate(len);
        }
        let _ = endorse(claim, &policy, NOW);
    }
}
