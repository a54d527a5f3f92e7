//! Evidence on the wire, what it is judged by, and the bare signature in it.

use blindferry_amd::Amd;
use blindferry_attest::{
    attested::{Attested, Expected, Pinned, PinnedGuest, PinnedMachine, appraise},
    evidence::{Evidence, TpmEvidence},
    reference::ReferenceValues,
    snp::{EndorsedVek, KeyKind, Report, SnpEvidence},
    tpm::AkName,
};
use blindferry_proto::role::Role;
use ring::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{self, KeyPair as _, RSA_PKCS1_SHA256, UnparsedPublicKey, VerificationAlgorithm},
};

use crate::{
    boot::{self, Boot, Judged as _, measured},
    guest::{Guest, NOW},
    synthetic::{self, Parts, binder, name_of, sized},
};

/// What every verifier has to do: one signature, checked by ring.
pub(crate) struct BareSignature {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl BareSignature {
    pub(crate) fn verify(&self) {
        UnparsedPublicKey::new(self.algorithm, &self.key).verify(&self.message, &self.signature).unwrap();
    }
}

/// A guest of SEV-SNP, its evidence on the wire, and what it is judged by.
pub(crate) struct OfGuest {
    pub(crate) evidence: Vec<u8>,
    pub(crate) report: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) ask: Vec<u8>,
    pub(crate) ark: Vec<u8>,
    reference: ReferenceValues,
    endorsed: EndorsedVek,
    pub(crate) signature: BareSignature,
}

impl OfGuest {
    pub(crate) fn new(guest: Guest) -> Self {
        let reference = guest.values();
        let made = guest.evidence();
        // Without the root, which a guest has no need to send.
        let certificates = made.certificates()[..2].to_vec();
        let evidence = SnpEvidence::new(made.report().to_vec(), certificates.clone(), made.crls().to_vec()).unwrap();
        let [certificate, _] = certificates.clone().try_into().unwrap();
        let kind = if guest.vek.csp_id.is_some() { KeyKind::Vlek } else { KeyKind::Vcek };
        let lists: Vec<_> = made.crls().iter().map(Vec::as_slice).collect();
        let chain: Vec<_> = certificates.iter().map(Vec::as_slice).collect();
        let endorsed = EndorsedVek::endorse(kind, &chain, &lists, reference.anchors(), NOW).unwrap();
        let report = Report::parse(made.report()).unwrap();
        let signature = BareSignature {
            algorithm: &signature::ECDSA_P384_SHA384_FIXED,
            key: point_of(&certificate),
            message: report.signed().to_vec(),
            signature: report.signature().to_vec(),
        };
        let Amd { ask_der: ask, ark_der: ark, .. } = Amd::of(guest.product);
        let (report, evidence) = (made.report().to_vec(), Evidence::Snp(evidence).encode());
        Self { evidence, report, certificate, ask, ark, reference, endorsed, signature }
    }

    pub(crate) fn judge(&self, cached: bool) -> Attested {
        let guest = PinnedGuest {
            machine: PinnedMachine::ByReference,
            report_id: None,
            now: NOW,
            crls: &[],
            endorsed: cached.then_some(&self.endorsed),
        };
        let expected = Expected { binder: binder(Role::Vault), role: Role::Vault, pinned: Pinned::Guest(guest) };
        appraise(Evidence::decode(&self.evidence).unwrap(), expected, &self.reference).unwrap()
    }
}

/// A machine with a TPM, its evidence on the wire, and what it is judged by.
pub(crate) struct OfMachine {
    pub(crate) evidence: Vec<u8>,
    name: AkName,
    reference: ReferenceValues,
    pub(crate) signature: BareSignature,
}

impl OfMachine {
    pub(crate) fn p256(events: Option<usize>) -> Self {
        let case = events.map_or_else(synthetic::Case::good, |events| boot_of(events).whole_case());
        let parts = case.parts();
        // TPMT_SIGNATURE: two algorithms, then R and S with their lengths.
        let (r, s) = (&parts.signature[6..38], &parts.signature[40..72]);
        let signature = BareSignature {
            algorithm: &signature::ECDSA_P256_SHA256_FIXED,
            key: case.key.public_key().as_ref().to_vec(),
            message: parts.attest.clone(),
            signature: [r, s].concat(),
        };
        Self::new(&case, parts, signature)
    }

    pub(crate) fn rsa(events: usize) -> Self {
        let case = boot_of(events).whole_case();
        let key = KeyPair::from_pkcs8(include_bytes!("keys/ak-rsa-2048.pk8")).unwrap();
        let Parts { attest, .. } = case.parts();
        let mut signed = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &attest, &mut signed).unwrap();
        let mut of_tpm = vec![0x00, 0x14, 0x00, 0x0b];
        sized(&mut of_tpm, &signed);
        // RSAPublicKey in DER: 9 bytes of headers and sign before 2048 bits.
        let public = rsa_public(&key.public().as_ref()[9..265]);
        let signature = BareSignature {
            algorithm: &signature::RSA_PKCS1_2048_8192_SHA256,
            key: key.public().as_ref().to_vec(),
            message: attest.clone(),
            signature: signed,
        };
        Self::new(&case, Parts { attest, signature: of_tpm, public }, signature)
    }

    fn new(case: &synthetic::Case, parts: Parts, signature: BareSignature) -> Self {
        let name = name_of(&parts.public);
        let evidence = TpmEvidence::new(parts.attest, parts.signature, parts.public, case.pcrs.clone()).unwrap();
        let evidence = evidence.with_logs(case.event_log.clone(), case.ima_log.clone()).unwrap();
        let reference = ReferenceValues::parse(&case.reference).unwrap();
        Self { evidence: Evidence::Tpm(evidence).encode(), name, reference, signature }
    }

    pub(crate) fn judge(&self) -> Attested {
        let pinned = Pinned::Ak { name: &self.name, earlier: None };
        let expected = Expected { binder: binder(Role::Broker), role: Role::Broker, pinned };
        appraise(Evidence::decode(&self.evidence).unwrap(), expected, &self.reference).unwrap()
    }
}

/// A boot with so many events: what a good one has, and drivers and tables of some hundred bytes each besides.
fn boot_of(events: usize) -> Boot {
    let mut boot = Boot::good();
    let separators = boot.events.iter().position(|event| event.pcr == 0 && event.kind == boot::SEPARATOR).unwrap();
    for number in boot.events.len()..events {
        let pcr = u32::try_from(number % 4).unwrap();
        boot.events.insert(separators, measured(pcr, 0x8000_0006, &[u8::try_from(number % 251).unwrap(); 300]));
    }
    boot
}

/// The point in the last key of a certificate on P-384: behind the header of its BIT STRING.
fn point_of(certificate: &[u8]) -> Vec<u8> {
    let header = [0x03, 0x62, 0x00, 0x04];
    let at = certificate.windows(4).position(|window| window == header).unwrap();
    certificate[at + 3..at + 100].to_vec()
}

/// TPMT_PUBLIC of a restricted RSA-2048 key that signs by RSASSA with SHA-256.
fn rsa_public(modulus: &[u8]) -> Vec<u8> {
    let mut out = vec![0x00, 0x01, 0x00, 0x0b];
    out.extend(synthetic::AK_ATTRIBUTES.to_be_bytes());
    sized(&mut out, &[]);
    out.extend([0x00, 0x10, 0x00, 0x14, 0x00, 0x0b, 0x08, 0x00, 0, 0, 0, 0]);
    sized(&mut out, modulus);
    out
}
