//! A platform without a TPM: a P-256 key in memory that signs what a TPM would marshal.

use blindferry_attest::binder::Binder;
use blindferry_attest::evidence::{Evidence, TpmEvidence};
use blindferry_attest::reference::ReferenceValues;
use blindferry_attest::tpm::AkName;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::limits::{MAX_EVENT_LOG, MAX_IMA_LOG};
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::role::Role;
use blindferry_proto::session::{Activate, Endorsement};
use blindferry_session::platform::{Platform, PlatformError};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What PCR 7 holds while nothing is wrong.
pub(crate) const PCR_7: u8 = 0x77;

/// One machine's TPM, in software. Clones are the same TPM.
#[derive(Clone, Debug)]
pub(crate) struct SoftwareTpm(Arc<State>);

#[derive(Debug)]
struct State {
    ak: EcdsaKeyPair,
    pcr_7: AtomicU8,
    clock: AtomicU64,
    conduct: Mutex<Conduct>,
    binders: Mutex<Vec<[u8; 32]>>,
}

/// What it answers when it is asked for evidence.
#[derive(Clone, Debug)]
pub(crate) enum Conduct {
    /// A quote over the binder.
    Honest,
    /// A quote over the binder with these logs, whatever was asked for.
    Talkative(WantedLogs),
    /// These bytes, whatever the binder.
    Says(Vec<u8>),
    /// That it cannot.
    Broken,
    /// Nothing, ever.
    Silent,
}

impl SoftwareTpm {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(Arc::new(State {
            ak: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap(),
            pcr_7: AtomicU8::new(PCR_7),
            clock: AtomicU64::new(1_000),
            conduct: Mutex::new(Conduct::Honest),
            binders: Mutex::default(),
        }))
    }

    /// The Name of its attestation key.
    pub(crate) fn ak(&self) -> AkName {
        let mut name = vec![0x00, 0x0b];
        name.extend_from_slice(digest(&SHA256, &self.ak_public()).as_ref());
        AkName::from_bytes(&name).unwrap()
    }

    /// From now on it runs other software.
    pub(crate) fn run_other_software(&self) {
        self.0.pcr_7.store(0x66, Ordering::Relaxed);
    }

    /// From now on it behaves so.
    pub(crate) fn behave(&self, conduct: Conduct) {
        *self.0.conduct.lock().unwrap() = conduct;
    }

    /// Every binder that it was asked for evidence over.
    pub(crate) fn binders(&self) -> Vec<[u8; 32]> {
        self.0.binders.lock().unwrap().clone()
    }

    /// Honest evidence over `challenge`, encoded.
    pub(crate) fn quote(&self, challenge: &[u8; 32]) -> Vec<u8> {
        self.quote_with(challenge, WantedLogs::NONE)
    }

    /// The same with logs of the greatest length that say nothing.
    pub(crate) fn quote_with(&self, challenge: &[u8; 32], logs: WantedLogs) -> Vec<u8> {
        let pcr = [self.0.pcr_7.load(Ordering::Relaxed); 32];
        let attest = self.attest(challenge, &pcr);
        let signed = self.0.ak.sign(&SystemRandom::new(), &attest).unwrap();
        let (r, s) = signed.as_ref().split_at(32);
        // TPMT_SIGNATURE: ECDSA with SHA-256.
        let mut signature = vec![0x00, 0x18, 0x00, 0x0b];
        sized(&mut signature, r);
        sized(&mut signature, s);
        let evidence = TpmEvidence::new(attest, signature, self.ak_public(), vec![(7, pcr)]).unwrap();
        let log = |wanted, most| if wanted { vec![0; most] } else { vec![] };
        Evidence::Tpm(evidence.with_logs(log(logs.events, MAX_EVENT_LOG), log(logs.ima, MAX_IMA_LOG)).unwrap()).encode()
    }

    /// TPMT_PUBLIC of a restricted signing key on P-256.
    fn ak_public(&self) -> Vec<u8> {
        let mut out = vec![0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x00, 0x72];
        sized(&mut out, &[]);
        out.extend_from_slice(&[0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10]);
        let point = self.0.ak.public_key().as_ref();
        sized(&mut out, &point[1..33]);
        sized(&mut out, &point[33..65]);
        out
    }

    /// TPMS_ATTEST of a quote of PCR 7.
    fn attest(&self, challenge: &[u8; 32], pcr: &[u8; 32]) -> Vec<u8> {
        let mut out = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        sized(&mut out, &[0x0b; 34]);
        sized(&mut out, challenge);
        out.extend_from_slice(&self.0.clock.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        out.extend_from_slice(&5_u32.to_be_bytes());
        out.extend_from_slice(&2_u32.to_be_bytes());
        out.push(1);
        out.extend_from_slice(&7_u64.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 1, 0x00, 0x0b, 3, 0x80, 0, 0]);
        sized(&mut out, digest(&SHA256, pcr).as_ref());
        out
    }
}

impl Platform for SoftwareTpm {
    async fn evidence(&self, binder: &Binder, logs: WantedLogs) -> Result<Vec<u8>, PlatformError> {
        self.0.binders.lock().unwrap().push(*binder.as_bytes());
        let conduct = self.0.conduct.lock().unwrap().clone();
        match conduct {
            Conduct::Honest => Ok(self.quote_with(binder.as_bytes(), logs)),
            Conduct::Talkative(more) => Ok(self.quote_with(binder.as_bytes(), more)),
            Conduct::Says(evidence) => Ok(evidence),
            Conduct::Broken => Err(PlatformError::Other("the TPM is broken")),
            Conduct::Silent => std::future::pending().await,
        }
    }

    async fn endorsement(&self) -> Result<Option<Endorsement>, PlatformError> {
        Ok(Some(endorsement(self)))
    }

    /// Stands in for the TPM's arithmetic: the secret lies open at the start of the credential.
    async fn activate(&self, credential: &Activate) -> Result<[u8; 32], PlatformError> {
        let secret = credential.credential.as_slice().first_chunk();
        secret.copied().ok_or(PlatformError::Other("the credential is too short"))
    }
}

pub(crate) fn endorsement(tpm: &SoftwareTpm) -> Endorsement {
    Endorsement {
        ek_public: Bytes::new(b"an EK".to_vec()).unwrap(),
        certificates: Vec::new(),
        ak_public: Bytes::new(tpm.ak_public()).unwrap(),
    }
}

/// Reference values of one role that accept a [`SoftwareTpm`] with which nothing is wrong.
pub(crate) fn reference(role: Role) -> ReferenceValues {
    let role = format!("{role:?}").to_lowercase();
    let text = format!(
        "version = 1\nrole = \"{role}\"\n[[tpm]]\nname = \"this month\"\nfirmware = \"any\"\n[tpm.pcrs]\n7 = [\"{}\"]\n",
        hex::encode([PCR_7; 32])
    );
    ReferenceValues::parse(&text).unwrap()
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend_from_slice(bytes);
}
