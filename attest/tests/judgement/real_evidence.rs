//! Evidence and certificates of real platforms, where the set of vectors lies beside the repository. None of it is ours
//! to publish, so these tests skip without it.

use std::{collections::BTreeSet, fs, path::PathBuf};

use blindferry_attest::{
    attested::{AppraisalError, Expected, Pinned, appraise},
    endorsement::{EkClaim, Endorsed, EndorsementError, EndorsementPolicy, Manufacturers, endorse},
    evidence::{Evidence, TpmEvidence},
    reference::{Firmware, ReferenceValues},
    tpm::{AkName, PcrSelection, PcrValues, algorithm::HashAlg, public::Public, quote::Quote},
};
use blindferry_proto::role::Role;
use x509_parser::{prelude::FromDer as _, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use crate::{
    certificates::{ek_p256, ek_rsa2048},
    synthetic::{Case, binder, name_of, sized},
};

/// 2024-01-01.
const NOW: u64 = 1_704_067_200;

fn vector(name: &str) -> Option<Vec<u8>> {
    let set = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/attestation");
    if !set.is_dir() {
        println!("skipped: there are no attestation vectors at {}", set.display());
        return None;
    }
    Some(fs::read(set.join(name)).unwrap())
}

fn judge(attest: &[u8], signature: &[u8], public: &[u8], pcrs: &[(u8, [u8; 32])]) -> AppraisalError {
    let selection = PcrSelection::new(pcrs.iter().map(|(pcr, _)| *pcr)).unwrap();
    let now = PcrValues::new(selection, pcrs).unwrap();
    let reference = ReferenceValues::capture(Role::Broker, "as it was", Firmware::Any, &now).unwrap();
    let evidence = TpmEvidence::new(attest.to_vec(), signature.to_vec(), public.to_vec(), pcrs.to_vec()).unwrap();
    let pinned: AkName = name_of(public);
    let expected = Expected {
        binder: binder(Role::Broker),
        role: Role::Broker,
        pinned: Pinned::Ak { name: &pinned, earlier: None },
    };
    appraise(Evidence::Tpm(evidence), expected, &reference).unwrap_err()
}

/// Its signature holds, and its PCRs; but it answers nobody's challenge.
#[test]
fn a_real_quote_without_a_nonce_is_refused_for_that_alone() {
    let file = |name: &str| vector(&format!("google-go-tpm-tools/gce-cos-85-no-nonce.{name}"));
    let Some(attest) = file("sha256.attest.bin") else {
        return;
    };
    let (signature, public) = (file("sha256.tpmt_signature.bin").unwrap(), file("ak.tpmt_public.bin").unwrap());
    let values = file("sha256.pcrs.bin").unwrap();
    let pcrs: Vec<(u8, [u8; 32])> = (0..).zip(values.chunks_exact(32).map(|value| value.try_into().unwrap())).collect();

    let quote = Quote::parse(&attest).unwrap();
    let all = PcrSelection::new(0..24).unwrap();
    assert!(quote.selection().is_exactly(all));
    assert_eq!(PcrValues::new(all, &pcrs).unwrap().digest(HashAlg::Sha256), quote.pcr_digest());
    assert_eq!((quote.firmware(), quote.clock().reset_count, quote.clock().safe), (0x2016_0511_0016_2800, 10, true));

    let refused = judge(&attest, &signature, &public, &pcrs);
    assert!(matches!(&refused, AppraisalError::QuoteChallenge { found, .. } if found.is_empty()), "{refused}");
    let mut altered = attest.clone();
    altered[60] ^= 1;
    assert_eq!(judge(&altered, &signature, &public, &pcrs).code(), "tpm-signature");
}

#[test]
fn real_quotes_of_other_banks_parse_and_are_not_of_the_sha256_bank() {
    for bank in ["sha1", "sha384"] {
        let Some(attest) = vector(&format!("google-go-tpm-tools/gce-cos-85-no-nonce.{bank}.attest.bin")) else {
            return;
        };
        assert!(!Quote::parse(&attest).unwrap().selection().is_exactly(PcrSelection::new(0..24).unwrap()));
    }
}

#[test]
fn a_real_quote_for_another_nonce_is_refused_for_that_alone() {
    let Some(attest) = vector("keylime/quote.attest.bin") else {
        return;
    };
    let signature = vector("keylime/quote.tpmt_signature.bin").unwrap();
    let spki = vector("keylime/ak.spki.der").unwrap();
    let quote = Quote::parse(&attest).unwrap();
    assert_eq!(hex::encode(quote.pcr_digest()), "ec1636c69c548fd09a165a4f874e5d1610a8fbe36241566017e92b17e144b971");
    assert!(quote.selection().is_exactly(PcrSelection::new([15, 16, 22]).unwrap()));
    let mut public = vec![0x00, 0x01, 0x00, 0x0b, 0x00, 0x05, 0x00, 0x72, 0, 0, 0x00, 0x10, 0x00, 0x14, 0x00, 0x0b];
    public.extend_from_slice(&[0x08, 0x00, 0, 0, 0, 0]);
    sized(&mut public, &modulus(&spki));
    // Our own SubjectPublicKeyInfo of that key is the one it came with.
    assert_eq!(Public::parse(&public).unwrap().key().spki(), spki);
    let pcrs = [(15, [0; 32]), (16, [0; 32]), (22, [0; 32])];
    let AppraisalError::QuoteChallenge { found, .. } = judge(&attest, &signature, &public, &pcrs) else {
        panic!("refused for another reason")
    };
    assert_eq!(hex::encode(found), "db1db298db6d60e6385b7231743e9c3056a18003");
}

#[test]
fn real_ek_certificates_chain_to_their_vendor() {
    let Some(root) = vector("google-go-tpm-tools/gcp_ek_ak_ca_root.crt.der") else {
        return;
    };
    let intermediate = vector("google-go-tpm-tools/gcp_ek_ak_ca_intermediate_v3.crt.der").unwrap();
    let endorsed = |kind: &str, chain: &[&Vec<u8>], roots: &[&Vec<u8>], now| -> Result<Endorsed, EndorsementError> {
        let leaf = vector(&format!("google-go-tpm-tools/pca_tpm_{kind}_cert.der")).unwrap();
        let claim = EkClaim {
            ek_public: ek_of(&leaf),
            certificates: std::iter::once(&leaf).chain(chain.iter().copied()).cloned().collect(),
            ak_public: Case::good().parts().public,
        };
        let roots = roots.iter().copied().cloned().collect();
        endorse(
            claim,
            &EndorsementPolicy {
                allowed: BTreeSet::new(),
                denied: BTreeSet::new(),
                roots,
                manufacturers: Manufacturers::Any,
            },
            now,
        )
    };
    for kind in ["ecc_enc", "rsa_enc"] {
        assert!(endorsed(kind, &[&intermediate], &[&root], NOW).is_ok());
        assert!(endorsed(kind, &[&intermediate, &root], &[&root], NOW).is_ok());
        assert!(endorsed(kind, &[], &[&intermediate], NOW).is_ok());
        assert_eq!(endorsed(kind, &[], &[&root], NOW).unwrap_err().code(), "ek-no-root");
        assert_eq!(endorsed(kind, &[&intermediate], &[&root], 0).unwrap_err().code(), "ek-certificate-validity");
        let stranger = vector("keylime/tpm-root-IFX_RSA_RT.der").unwrap();
        assert_eq!(endorsed(kind, &[&intermediate], &[&stranger], NOW).unwrap_err().code(), "ek-no-root");
    }
    // Certificates for attestation keys of the same machine.
    for kind in ["ecc_sign", "rsa_sign"] {
        assert_eq!(endorsed(kind, &[&intermediate], &[&root], NOW).unwrap_err().code(), "ek-certificate-use");
    }
}

/// TPMT_PUBLIC of the EK that a certificate is for, by the TCG's template.
fn ek_of(certificate: &[u8]) -> Vec<u8> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let spki = certificate.public_key();
    match spki.parsed().unwrap() {
        PublicKey::RSA(_) => ek_rsa2048(&modulus(spki.raw)),
        _ => ek_p256(&spki.subject_public_key.data),
    }
}

fn modulus(spki: &[u8]) -> Vec<u8> {
    let (_, spki) = SubjectPublicKeyInfo::from_der(spki).unwrap();
    match spki.parsed().unwrap() {
        PublicKey::RSA(key) => key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus).to_vec(),
        other => panic!("not an RSA key: {other:?}"),
    }
}
