//! Evidence made by the test itself: a builder of its own, so that parser and builder cannot share a mistake.

use blindferry_attest::{
    attested::{AppraisalError, Attested, Expected, Pinned, appraise},
    binder::Binder,
    evidence::{Evidence, TpmEvidence},
    reference::ReferenceValues,
    tpm::{AkName, QuoteClock},
};
use blindferry_proto::role::Role;
use ring::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};

pub(crate) const AK_ATTRIBUTES: u32 = 0x0005_0072;
pub(crate) const PCR_4: [u8; 32] = [0x44; 32];
pub(crate) const PCR_7: [u8; 32] = [0x77; 32];

/// One appraisal in which all is well until a test changes one thing.
pub(crate) struct Case {
    pub(crate) key: EcdsaKeyPair,
    pub(crate) name_alg: u16,
    pub(crate) attributes: u32,
    pub(crate) key_scheme: Vec<u8>,
    pub(crate) signature_scheme: [u16; 2],
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) challenge: Vec<u8>,
    pub(crate) clock: u64,
    pub(crate) reset_count: u32,
    pub(crate) restart_count: u32,
    pub(crate) safe: u8,
    pub(crate) firmware: u64,
    pub(crate) selection: Vec<u8>,
    pub(crate) pcr_digest: Option<Vec<u8>>,
    pub(crate) pcrs: Vec<(u8, [u8; 32])>,
    pub(crate) after_attest: Vec<u8>,
    pub(crate) after_public: Vec<u8>,
    pub(crate) after_signature: Vec<u8>,
    pub(crate) pinned: Option<AkName>,
    pub(crate) earlier: Option<QuoteClock>,
    pub(crate) role: Role,
    pub(crate) reference: String,
}

/// The three structures of a TPM.
pub(crate) struct Parts {
    pub(crate) attest: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) public: Vec<u8>,
}

impl Case {
    pub(crate) fn good() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self {
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap(),
            name_alg: 0x000b,
            attributes: AK_ATTRIBUTES,
            key_scheme: vec![0x00, 0x18, 0x00, 0x0b],
            signature_scheme: [0x0018, 0x000b],
            magic: 0xff54_4347,
            kind: 0x8018,
            challenge: binder(Role::Broker).as_bytes().to_vec(),
            clock: 1_000_000,
            reset_count: 5,
            restart_count: 2,
            safe: 1,
            firmware: 0x0007_0002_0003_0004,
            selection: vec![0, 0, 0, 1, 0x00, 0x0b, 3, 0x90, 0, 0],
            pcr_digest: None,
            pcrs: vec![(4, PCR_4), (7, PCR_7)],
            after_attest: vec![],
            after_public: vec![],
            after_signature: vec![],
            pinned: None,
            earlier: Some(QuoteClock { clock: 999_999, reset_count: 5, restart_count: 2 }),
            role: Role::Broker,
            reference: REFERENCE.to_owned(),
        }
    }

    pub(crate) fn parts(&self) -> Parts {
        let attest = self.attest();
        let signed = self.key.sign(&SystemRandom::new(), &attest).unwrap();
        let (r, s) = signed.as_ref().split_at(32);
        let mut signature = vec![];
        for id in self.signature_scheme {
            signature.extend_from_slice(&id.to_be_bytes());
        }
        sized(&mut signature, r);
        sized(&mut signature, s);
        signature.extend_from_slice(&self.after_signature);
        Parts { attest, signature, public: self.public() }
    }

    pub(crate) fn judge(self) -> Result<Attested, AppraisalError> {
        let parts = self.parts();
        self.judge_parts(parts)
    }

    pub(crate) fn judge_parts(&self, parts: Parts) -> Result<Attested, AppraisalError> {
        let pinned = self.pinned.clone().unwrap_or_else(|| name_of(&self.public()));
        let evidence = TpmEvidence::new(parts.attest, parts.signature, parts.public, self.pcrs.clone()).unwrap();
        // Through the wire form, as it would come from a peer.
        let evidence = Evidence::decode(&Evidence::Tpm(evidence).encode()).unwrap();
        let expected = Expected {
            binder: binder(Role::Broker),
            role: self.role,
            pinned: Pinned::Ak { name: &pinned, earlier: self.earlier.as_ref() },
        };
        appraise(evidence, expected, &ReferenceValues::parse(&self.reference).unwrap())
    }

    fn public(&self) -> Vec<u8> {
        let mut out = vec![0x00, 0x23];
        out.extend_from_slice(&self.name_alg.to_be_bytes());
        out.extend_from_slice(&self.attributes.to_be_bytes());
        sized(&mut out, &[]);
        out.extend_from_slice(&[0x00, 0x10]);
        out.extend_from_slice(&self.key_scheme);
        out.extend_from_slice(&[0x00, 0x03, 0x00, 0x10]);
        let point = self.key.public_key().as_ref();
        sized(&mut out, &point[1..33]);
        sized(&mut out, &point[33..65]);
        out.extend_from_slice(&self.after_public);
        out
    }

    fn attest(&self) -> Vec<u8> {
        let mut out = self.magic.to_be_bytes().to_vec();
        out.extend_from_slice(&self.kind.to_be_bytes());
        sized(&mut out, &[0x0b; 34]);
        sized(&mut out, &self.challenge);
        out.extend_from_slice(&self.clock.to_be_bytes());
        out.extend_from_slice(&self.reset_count.to_be_bytes());
        out.extend_from_slice(&self.restart_count.to_be_bytes());
        out.push(self.safe);
        out.extend_from_slice(&self.firmware.to_be_bytes());
        out.extend_from_slice(&self.selection);
        let values: Vec<u8> = self.pcrs.iter().flat_map(|(_, value)| *value).collect();
        let digest = digest::digest(&digest::SHA256, &values).as_ref().to_vec();
        sized(&mut out, self.pcr_digest.as_ref().unwrap_or(&digest));
        out.extend_from_slice(&self.after_attest);
        out
    }
}

pub(crate) fn binder(role: Role) -> Binder {
    Binder::compute(role, b"a TLS key", &[7; 32]).unwrap()
}

pub(crate) fn name_of(public: &[u8]) -> AkName {
    let mut name = vec![0x00, 0x0b];
    name.extend_from_slice(digest::digest(&digest::SHA256, public).as_ref());
    AkName::from_bytes(&name).unwrap()
}

pub(crate) fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) const REFERENCE: &str = r#"
version = 1
role = "broker"

[[tpm]]
name = "last month"
firmware = "any"
[tpm.pcrs]
4 = ["4040404040404040404040404040404040404040404040404040404040404040"]
7 = ["7070707070707070707070707070707070707070707070707070707070707070"]

[[tpm]]
name = "this month"
firmware = ["0007000200030004", "0007000200030005"]
[tpm.pcrs]
4 = ["4444444444444444444444444444444444444444444444444444444444444444"]
7 = [
    "7777777777777777777777777777777777777777777777777777777777777777",
    "7878787878787878787878787878787878787878787878787878787878787878",
]
"#;
