//! Targets of TPMs: as bytes, and quoted by a TPM that is played here.

use std::{collections::BTreeSet, sync::LazyLock};

use blindferry_attest::{
    attested::{Expected, Pinned, appraise},
    binder::Binder,
    endorsement::{EkClaim, EndorsementPolicy, Manufacturers, endorse, roots},
    evidence::{Evidence, TpmEvidence},
    reference::ReferenceValues,
    tpm::{
        AkName, PcrSelection,
        event_log::{Bank, Log, explain::explain},
        events::Logs,
        ima,
        public::Public,
        quote::Quote,
        quoted::{AuthenticQuote, QuotedPcrs},
        signature::Signature,
    },
};
use blindferry_proto::role::Role;
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use super::{part, patch};

/// The structures of a TPM, each from the same bytes.
pub fn tpm_structures(data: &[u8]) -> bool {
    let quote = Quote::parse(data);
    let signature = Signature::parse(data);
    let public = Public::parse(data);
    let name = AkName::from_bytes(data);
    if let Ok(public) = &public {
        assert!(!public.key().spki().is_empty());
    }
    if let Ok(name) = &name {
        assert_eq!(name.as_bytes(), data);
    }
    !format!("{quote:?}{signature:?}").is_empty()
        && (quote.is_ok() || signature.is_ok() || public.is_ok() || name.is_ok())
}

/// A good quote with altered bytes, signed afterwards, judged for a session; and altered bytes of its PCR values.
pub fn tpm_quote(mut data: &[u8]) -> bool {
    let altered = part(&mut data);
    let mut pcrs = vec![(4, [0x44; 32]), (7, [0x77; 32])];
    for triple in data.chunks_exact(3) {
        pcrs[usize::from(triple[0] & 1)].1[usize::from(triple[1] & 31)] = triple[2];
    }
    let binder = || Binder::compute(Role::Broker, b"a TLS key", &[7; 32]).unwrap();
    let mut attest = TPM.attest(binder().as_bytes(), &pcrs);
    patch(&mut attest, altered);
    let evidence = TpmEvidence::new(attest.clone(), TPM.sign(&attest), TPM.public(), pcrs).unwrap();
    let name = TPM.name();
    let expected = Expected { binder: binder(), role: Role::Broker, pinned: Pinned::Ak { name: &name, earlier: None } };
    match appraise(Evidence::Tpm(evidence), expected, &QUOTE_VALUES) {
        Ok(attested) => {
            assert_eq!(attested.binder(), binder().as_bytes());
            assert_eq!(attested.claims().pcrs.len(), 2);
            true
        }
        Err(refusal) => refusal.code().is_empty(),
    }
}

/// An event log, and what is said of it.
pub fn event_log(data: &[u8]) -> bool {
    let Ok(log) = Log::parse(data) else { return false };
    for bank in [Bank::Sha1, Bank::Sha256, Bank::Sha384] {
        assert_eq!(log.compute(bank).len(), 24);
    }
    assert_eq!(explain(&log).len(), log.events().len());
    true
}

/// An event log that a TPM quotes exactly, held against rules for its events.
pub fn event_policy(data: &[u8]) -> bool {
    let Ok(log) = Log::parse(data) else { return false };
    let computed = log.compute(Bank::Sha256);
    let value = |pcr: u8| Some((pcr, <[u8; 32]>::try_from(computed[usize::from(pcr)].as_slice()).ok()?));
    let Some(values) = (0..=7).chain([9, 12]).map(value).collect::<Option<Vec<_>>>() else { return false };
    let quoted = TPM.quoted(&values);
    let logs = Logs::new(&quoted, Some(data), None);
    assert_eq!(logs.values().iter().count(), values.len());
    let binder = || Binder::compute(Role::Broker, b"a TLS key", &[7; 32]).unwrap();
    let attest = TPM.attest(binder().as_bytes(), &values);
    let evidence = TpmEvidence::new(attest.clone(), TPM.sign(&attest), TPM.public(), values);
    let Ok(evidence) = evidence.unwrap().with_logs(data.to_vec(), vec![]) else { return false };
    let name = TPM.name();
    let expected = Expected { binder: binder(), role: Role::Broker, pinned: Pinned::Ak { name: &name, earlier: None } };
    appraise(Evidence::Tpm(evidence), expected, &EVENT_VALUES).is_ok()
}

/// A list of files, and its replay to a PCR that a TPM quotes.
pub fn ima_log(data: &[u8]) -> bool {
    let Ok(log) = ima::Log::parse(data) else { return false };
    let quoted = TPM.quoted(&[(10, log.compute())]);
    let replayed = log.replay(&quoted).expect("what was quoted is what was computed");
    assert_eq!(replayed.entries().len() + replayed.later(), log.entries().len());
    for entry in log.entries() {
        let _ =
            (entry.path(), entry.file().algorithm(), entry.file().is_strong(), entry.signature(), entry.is_violation());
    }
    true
}

/// An EK's public area and its certificates, under the first of them as the root.
pub fn ek_certificate(mut data: &[u8]) -> bool {
    let ek_public = part(&mut data).to_vec();
    let mut certificates: Vec<Vec<u8>> = vec![];
    while !data.is_empty() && certificates.len() < 6 {
        certificates.push(part(&mut data).to_vec());
    }
    if certificates.is_empty() {
        return false;
    }
    let root = certificates.remove(0);
    let _ = roots(certificates.clone());
    let policy = EndorsementPolicy {
        allowed: BTreeSet::new(),
        denied: BTreeSet::new(),
        roots: vec![root],
        manufacturers: Manufacturers::Any,
    };
    let claim = EkClaim { ek_public, certificates, ak_public: TPM.public() };
    endorse(claim, &policy, 1_704_067_200).is_ok()
}

static TPM: LazyLock<Tpm> = LazyLock::new(|| {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    Tpm(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
});

static QUOTE_VALUES: LazyLock<ReferenceValues> = LazyLock::new(|| {
    let pcrs = format!("4 = ['{}']\n7 = ['{}']\n", "44".repeat(32), "77".repeat(32));
    let text = format!("version = 1\nrole = 'broker'\n[[tpm]]\nname = 'a'\nfirmware = 'any'\n[tpm.pcrs]\n{pcrs}");
    ReferenceValues::parse(&text).unwrap()
});

/// As the seeds' machine boots; see the test that writes them.
static EVENT_VALUES: LazyLock<ReferenceValues> = LazyLock::new(|| {
    let digest =
        |bytes: &[u8]| -> String { digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect() };
    let text = format!(
        "version = 2\nrole = 'broker'\n[[tpm]]\nname = 'a'\nfirmware = 'any'\n[tpm.events]\nsecure_boot = 'on'\n\
         boot_applications = ['{}']\ncommand_lines = ['root=/dev/vda ro quiet']\nfiles = ['{}']\n",
        digest(b"a unified kernel image"),
        digest(b"an initrd"),
    );
    ReferenceValues::parse(&text).unwrap()
});

/// A TPM, as far as its attestation key goes.
struct Tpm(EcdsaKeyPair);

impl Tpm {
    /// TPMT_PUBLIC.
    fn public(&self) -> Vec<u8> {
        let mut out = vec![0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x00, 0x72, 0, 0];
        out.extend_from_slice(&[0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, 0x00, 0x03, 0x00, 0x10]);
        let point = self.0.public_key().as_ref();
        for number in [&point[1..33], &point[33..65]] {
            out.extend_from_slice(&[0, 32]);
            out.extend_from_slice(number);
        }
        out
    }

    fn name(&self) -> AkName {
        Public::parse(&self.public()).unwrap().name().clone()
    }

    /// TPMS_ATTEST of a quote of these PCRs of the SHA-256 bank.
    fn attest(&self, challenge: &[u8; 32], pcrs: &[(u8, [u8; 32])]) -> Vec<u8> {
        let mut out = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18, 0, 34];
        out.extend_from_slice(&[0x0b; 34]);
        out.extend_from_slice(&[0, 32]);
        out.extend_from_slice(challenge);
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 5, 0, 0, 0, 2, 1, 0, 7, 0, 2, 0, 3, 0, 4]);
        let selection = PcrSelection::new(pcrs.iter().map(|(pcr, _)| *pcr)).unwrap();
        out.extend_from_slice(&selection.to_tpml());
        let values: Vec<u8> = pcrs.iter().flat_map(|(_, value)| *value).collect();
        out.extend_from_slice(&[0, 32]);
        out.extend_from_slice(digest(&SHA256, &values).as_ref());
        out
    }

    /// TPMT_SIGNATURE.
    fn sign(&self, attest: &[u8]) -> Vec<u8> {
        let signed = self.0.sign(&SystemRandom::new(), attest).unwrap();
        let mut out = vec![0x00, 0x18, 0x00, 0x0b];
        for number in signed.as_ref().chunks(32) {
            out.extend_from_slice(&[0, 32]);
            out.extend_from_slice(number);
        }
        out
    }

    fn quoted(&self, pcrs: &[(u8, [u8; 32])]) -> QuotedPcrs {
        let attest = self.attest(&[0; 32], pcrs);
        let ak = Public::parse(&self.public()).unwrap();
        let authentic = AuthenticQuote::check(&attest, &self.sign(&attest), &ak).unwrap();
        authentic.pcrs(pcrs, PcrSelection::new(pcrs.iter().map(|(pcr, _)| *pcr)).unwrap()).unwrap()
    }
}
