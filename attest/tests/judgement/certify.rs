//! TPM2_Certify: a key is accepted only when the pinned attestation key vouches for it, now.

use blindferry_attest::tpm::certify::{Certification, Certified, CertifyError, certify};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use crate::synthetic::{AK_ATTRIBUTES, name_of, sized};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign: a key for TLS.
const KEY_ATTRIBUTES: u32 = 0x0004_0072;
const CHALLENGE: [u8; 32] = [0xc7; 32];

/// One certification in which all is well until a test changes one thing.
struct Certifying {
    ak: EcdsaKeyPair,
    ak_attributes: u32,
    public: Vec<u8>,
    shown: Option<Vec<u8>>,
    magic: u32,
    kind: u16,
    challenge: Vec<u8>,
    name: Option<Vec<u8>>,
    qualified_name: Vec<u8>,
    after: Vec<u8>,
    scheme: [u16; 2],
    pinned: Option<Vec<u8>>,
}

fn key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

fn public(key: &EcdsaKeyPair, attributes: u32) -> Vec<u8> {
    let mut out = vec![0x00, 0x23, 0x00, 0x0b];
    out.extend_from_slice(&attributes.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10]);
    sized(&mut out, &key.public_key().as_ref()[1..33]);
    sized(&mut out, &key.public_key().as_ref()[33..65]);
    out
}

impl Certifying {
    fn good() -> Self {
        Self {
            ak: key(),
            ak_attributes: AK_ATTRIBUTES,
            public: public(&key(), KEY_ATTRIBUTES),
            shown: None,
            magic: 0xff54_4347,
            kind: 0x8017,
            challenge: CHALLENGE.to_vec(),
            name: None,
            qualified_name: [&[0x00, 0x0b][..], &[0x99; 32]].concat(),
            after: vec![],
            scheme: [0x0018, 0x000b],
            pinned: None,
        }
    }

    fn attest(&self) -> Vec<u8> {
        let mut out = self.magic.to_be_bytes().to_vec();
        out.extend_from_slice(&self.kind.to_be_bytes());
        sized(&mut out, &[0x0b; 34]);
        sized(&mut out, &self.challenge);
        out.extend_from_slice(&1_000_000u64.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 5, 0, 0, 0, 2, 1]);
        out.extend_from_slice(&0x0007_0002_0003_0004u64.to_be_bytes());
        let name = self.name.clone().unwrap_or_else(|| name_of(&self.public).as_bytes().to_vec());
        sized(&mut out, &name);
        sized(&mut out, &self.qualified_name);
        out.extend_from_slice(&self.after);
        out
    }

    fn judge_altered(&self, alter: impl FnOnce(&mut Vec<u8>), challenge: &[u8]) -> Result<Certified, CertifyError> {
        let mut attest = self.attest();
        let signed = self.ak.sign(&SystemRandom::new(), &attest).unwrap();
        alter(&mut attest);
        let mut signature: Vec<u8> = self.scheme.into_iter().flat_map(u16::to_be_bytes).collect();
        let (r, s) = signed.as_ref().split_at(32);
        sized(&mut signature, r);
        sized(&mut signature, s);
        let ak_public = public(&self.ak, self.ak_attributes);
        let pinned = name_of(self.pinned.as_ref().unwrap_or(&ak_public));
        let shown = self.shown.as_ref().unwrap_or(&self.public);
        let certification =
            Certification { attest: &attest, signature: &signature, ak_public: &ak_public, public: shown };
        certify(certification, &pinned, challenge)
    }

    fn judge(&self) -> Result<Certified, CertifyError> {
        self.judge_altered(|_| {}, &CHALLENGE)
    }
}

fn code(change: impl FnOnce(&mut Certifying)) -> &'static str {
    let mut certifying = Certifying::good();
    change(&mut certifying);
    certifying.judge().unwrap_err().code()
}

#[test]
fn a_certified_key_has_the_name_that_its_tpm_vouches_for() {
    let good = Certifying::good();
    let certified = good.judge().unwrap();
    assert_eq!(*certified.name(), name_of(&good.public));
    assert_eq!(certified.qualified_name(), good.qualified_name);
    assert_eq!((certified.firmware(), certified.clock().reset_count), (0x0007_0002_0003_0004, 5));
}

#[test]
fn another_key_than_the_certified_one_is_refused() {
    assert_eq!(code(|case| case.shown = Some(public(&key(), KEY_ATTRIBUTES))), "certify-name");
    // The same key that claims other attributes.
    let mut good = Certifying::good();
    let mut exportable = good.public.clone();
    exportable[7] ^= 0x02;
    good.shown = Some(exportable);
    assert_eq!(good.judge().unwrap_err().code(), "certify-name");
    assert_eq!(code(|case| case.name = Some(vec![])), "certify-name");
    assert_eq!(code(|case| case.shown = Some(vec![1, 2, 3])), "certify-public");
}

#[test]
fn a_certification_by_another_key_is_refused() {
    assert_eq!(code(|case| case.pinned = Some(public(&key(), AK_ATTRIBUTES))), "certify-ak-name");
}

#[test]
fn a_key_that_signs_what_no_tpm_made_certifies_nothing() {
    for attributes in [KEY_ATTRIBUTES, AK_ATTRIBUTES & !0x02, AK_ATTRIBUTES | 0x0002_0000] {
        assert_eq!(code(|case| case.ak_attributes = attributes), "certify-ak-form");
    }
}

#[test]
fn a_certification_answers_this_challenge() {
    assert_eq!(code(|case| case.challenge = vec![]), "certify-challenge");
    assert_eq!(code(|case| case.challenge = vec![0xc7; 31]), "certify-challenge");
    let good = Certifying::good();
    assert_eq!(good.judge_altered(|_| {}, &[0xc8; 32]).unwrap_err().code(), "certify-challenge");
    let unchallenged = Certifying { challenge: vec![], ..Certifying::good() };
    assert_eq!(unchallenged.judge_altered(|_| {}, &[]).unwrap_err().code(), "certify-no-challenge");
}

#[test]
fn a_quote_or_another_structure_is_no_certification() {
    assert_eq!(code(|case| case.kind = 0x8018), "certify-kind");
    assert_eq!(code(|case| case.magic = 0xff54_4348), "certify-kind");
    assert_eq!(code(|case| case.after = vec![0]), "certify-attest");
    assert_eq!(code(|case| case.name = Some(vec![0; 67])), "certify-attest");
    assert_eq!(code(|case| case.scheme = [0x0018, 0x000c]), "certify-signature");
    assert_eq!(code(|case| case.scheme = [0x0018, 0x0004]), "certify-signature-form");
}

#[test]
fn a_qualified_name_has_the_form_of_the_name() {
    for qualified_name in [vec![], vec![0x99; 34], [&[0x00, 0x0b][..], &[0x99; 31]].concat()] {
        assert_eq!(code(|case| case.qualified_name = qualified_name), "certify-qualified-name");
    }
    let other_hash = [&[0x00, 0x0c][..], &[0x99; 48]].concat();
    assert_eq!(code(|case| case.qualified_name = other_hash), "certify-qualified-name");
}

#[test]
fn every_flipped_bit_of_a_certification_is_refused() {
    let good = Certifying::good();
    for bit in 0..8 * good.attest().len() {
        let flipped = good.judge_altered(|attest| attest[bit / 8] ^= 1 << (bit % 8), &CHALLENGE);
        assert_eq!(flipped.unwrap_err().code(), "certify-signature", "bit {bit}");
    }
}
