//! Machines of Azure, made by the test itself: a report by an AMD of our own, a blob around it, and a quote by the key in
//! the blob. Each defect alone, with everything else valid.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use blindferry_amd::{Amd, ReportSpec, VekSpec};
use blindferry_attest::{
    attested::{AppraisalError, Attested, Expected, Identity, Pinned, PinnedGuest, PinnedMachine, appraise},
    azure::AzureEvidence,
    evidence::{Evidence, MAX_EVIDENCE, TpmEvidence},
    reference::ReferenceValues,
    result::{Algorithm, SigningKey, Terms, sign},
    snp::SnpEvidence,
    tpm::{AkName, QuoteClock},
};
use blindferry_proto::role::Role;
use ring::{
    digest,
    rand::SystemRandom,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use x509_parser::{prelude::FromDer as _, public_key::RSAPublicKey};

use crate::synthetic::{PCR_4, PCR_7, binder, name_of, sized};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

/// One machine in which all is well until a test changes one thing.
struct Machine {
    /// The key with which the vTPM quotes, and the one that the runtime data tell.
    signer: RsaKeyPair,
    told: Vec<u8>,
    ak_attributes: u32,
    report: ReportSpec,
    json: Option<String>,
    /// What REPORT_DATA is, when it is not the hash of the JSON.
    report_data: Option<[u8; 64]>,
    challenge: Vec<u8>,
    pinned: Option<AkName>,
    earlier: Option<QuoteClock>,
    measurement: [u8; 48],
    pcr_7: [u8; 32],
    after: fn(&mut Vec<u8>),
}

fn key(pem: &str) -> RsaKeyPair {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    RsaKeyPair::from_pkcs8(&STANDARD.decode(text).unwrap()).unwrap()
}

fn vtpm() -> RsaKeyPair {
    key(include_str!("../../../tests/support/amd/keys/asvk.pem"))
}

fn stranger() -> RsaKeyPair {
    key(include_str!("../../../tests/support/amd/keys/ask.pem"))
}

fn modulus(key: &RsaKeyPair) -> Vec<u8> {
    let (_, public) = RSAPublicKey::from_der(key.public_key().as_ref()).unwrap();
    public.modulus.strip_prefix(&[0]).unwrap_or(public.modulus).to_vec()
}

impl Machine {
    fn good() -> Self {
        Self {
            signer: vtpm(),
            told: modulus(&vtpm()),
            ak_attributes: 0x0005_0072,
            report: ReportSpec::genoa(),
            json: None,
            report_data: None,
            challenge: binder(Role::Broker).as_bytes().to_vec(),
            pinned: None,
            earlier: None,
            measurement: [0x5f; 48],
            pcr_7: PCR_7,
            after: |_| {},
        }
    }

    fn public(&self) -> Vec<u8> {
        let mut out = vec![0x00, 0x01, 0x00, 0x0b];
        out.extend_from_slice(&self.ak_attributes.to_be_bytes());
        // No policy, no symmetric algorithm, RSASSA with SHA-256, 4096 bits, the usual exponent.
        out.extend_from_slice(&[0, 0, 0x00, 0x10, 0x00, 0x14, 0x00, 0x0b, 0x10, 0x00, 0, 0, 0, 0]);
        sized(&mut out, &modulus(&self.signer));
        out
    }

    fn quote(&self) -> TpmEvidence {
        let pcrs = vec![(4, PCR_4), (7, self.pcr_7)];
        let values: Vec<u8> = pcrs.iter().flat_map(|(_, value)| *value).collect();
        let mut attest = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        sized(&mut attest, &[0x0b; 34]);
        sized(&mut attest, &self.challenge);
        attest.extend_from_slice(&1_000_000u64.to_be_bytes());
        attest.extend_from_slice(&[0, 0, 0, 5, 0, 0, 0, 2, 1]);
        attest.extend_from_slice(&0x2020_0312_0012_0003u64.to_be_bytes());
        attest.extend_from_slice(&[0, 0, 0, 1, 0x00, 0x0b, 3, 0x90, 0, 0]);
        sized(&mut attest, digest::digest(&digest::SHA256, &values).as_ref());
        let mut raw = vec![0; self.signer.public().modulus_len()];
        self.signer.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &attest, &mut raw).unwrap();
        let mut signature = vec![0x00, 0x14, 0x00, 0x0b];
        sized(&mut signature, &raw);
        TpmEvidence::new(attest, signature, self.public(), pcrs).unwrap()
    }

    fn blob(&self, amd: &Amd) -> (Vec<u8>, Vec<u8>) {
        let told = URL_SAFE_NO_PAD.encode(&self.told);
        let usual = format!(
            r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{told}"}}],"vm-configuration":{{"secure-boot":true,"vmUniqueId":"A-1"}},"user-data":"{}"}}"#,
            "00".repeat(64)
        );
        let json = self.json.as_ref().unwrap_or(&usual).as_bytes();
        let mut bound = [0; 64];
        bound[..32].copy_from_slice(digest::digest(&digest::SHA256, json).as_ref());
        let vcek = amd.vcek(&VekSpec::genoa());
        let report_data = self.report_data.unwrap_or(bound);
        let report = vcek.sign(&ReportSpec { report_data, ..self.report.clone() });
        let length = u32::try_from(json.len()).unwrap();
        let mut blob = b"HCLA".to_vec();
        for word in [2, 1236 + length, 2, 0, 0, 0, 0] {
            blob.extend_from_slice(&word.to_le_bytes());
        }
        blob.extend_from_slice(&report);
        for word in [20 + length, 1, 2, 1, length] {
            blob.extend_from_slice(&word.to_le_bytes());
        }
        blob.extend_from_slice(json);
        blob.resize(2600.max(blob.len()), 0);
        (self.after)(&mut blob);
        (blob, vcek.der)
    }

    fn evidence(&self, amd: &Amd) -> Evidence {
        let (blob, vcek) = self.blob(amd);
        let evidence = AzureEvidence::new(blob, vec![vcek, amd.ask_der.clone()], vec![], self.quote()).unwrap();
        let encoded = Evidence::Azure(evidence).encode();
        assert!(encoded.len() < MAX_EVIDENCE);
        // Through the wire form, as it would come from a peer.
        Evidence::decode(&encoded).unwrap()
    }

    fn reference(&self, amd: &Amd) -> ReferenceValues {
        ReferenceValues::parse(&format!(
            "version = 2\nrole = \"broker\"\n\
             [[tpm]]\nname = \"image\"\nfirmware = \"any\"\n[tpm.pcrs]\n4 = [\"{}\"]\n7 = [\"{}\"]\n\
             [[snp]]\nname = \"paravisor\"\nproducts = [\"genoa\"]\nsigned_by = \"vcek\"\nchips = \"any\"\nvmpl = [0, 3]\n\
             measurements = [\"{}\"]\ncrl = \"optional\"\n\
             [snp.floor.genoa]\nbootloader = 10\ntee = 0\nsnp = 23\nmicrocode = 84\n\
             [[dangerously_trusted_root]]\nproduct = \"genoa\"\nreason = \"a test\"\ncertificate = '''\n{}'''\n",
            hex::encode(PCR_4),
            hex::encode(PCR_7),
            hex::encode(self.measurement),
            amd.ark_pem(),
        ))
        .unwrap()
    }

    fn judge(&self) -> Result<Attested, AppraisalError> {
        let amd = Amd::of("Genoa");
        appraise(self.evidence(&amd), self.expected(), &self.reference(&amd))
    }

    fn expected(&self) -> Expected<'_> {
        let guest =
            PinnedGuest { machine: PinnedMachine::ByReference, report_id: None, now: NOW, crls: &[], endorsed: None };
        let pinned = Pinned::Vtpm { name: self.pinned.as_ref(), earlier: self.earlier.as_ref(), guest };
        Expected { binder: binder(Role::Broker), role: Role::Broker, pinned }
    }
}

fn code(change: impl FnOnce(&mut Machine)) -> &'static str {
    let mut machine = Machine::good();
    change(&mut machine);
    machine.judge().unwrap_err().code()
}

#[test]
fn a_machine_is_known_by_the_key_that_a_report_vouches_for() {
    let machine = Machine::good();
    let name = name_of(&machine.public());
    let attested = machine.judge().unwrap();
    assert_eq!(*attested.identity(), Identity::Vtpm(name.clone()));
    let claims = attested.claims();
    assert_eq!((claims.platform, claims.reference.as_str()), ("azure", "image"));
    assert_eq!(claims.pcrs[&7], hex::encode(PCR_7));
    assert_eq!(claims.snp.unwrap().measurement, "5f".repeat(48));
    let azure = claims.azure.unwrap();
    assert_eq!((azure.paravisor.as_deref(), azure.vm_id.as_deref()), (Some("paravisor"), Some("A-1")));
    assert!(Machine { pinned: Some(name), ..Machine::good() }.judge().is_ok());
}

#[test]
fn a_quote_by_a_key_that_no_report_vouches_for_is_refused() {
    assert_eq!(code(|machine| machine.signer = stranger()), "azure-ak");
    // The blob of one machine with the vTPM of another, each valid for itself.
    assert_eq!(code(|machine| machine.told = modulus(&stranger())), "azure-ak");
}

#[test]
fn runtime_data_that_the_report_does_not_vouch_for_are_refused() {
    assert_eq!(code(|machine| machine.report_data = Some([0; 64])), "azure-runtime-binding");
    // The binder in the report instead, as a guest without a paravisor would do it.
    let mut data = [0; 64];
    data[..32].copy_from_slice(binder(Role::Broker).as_bytes());
    assert_eq!(code(|machine| machine.report_data = Some(data)), "azure-runtime-binding");
    assert_eq!(code(|machine| machine.after = |blob| blob[1300] ^= 1), "azure-runtime-binding");
    assert_eq!(code(|machine| machine.json = Some("{}".to_owned())), "azure-runtime");
    assert_eq!(code(|machine| machine.json = Some(r#"{"keys":[]}"#.to_owned())), "azure-runtime-key");
}

#[test]
fn a_report_from_where_the_guest_runs_is_refused_even_where_the_reference_values_allow_it() {
    assert_eq!(code(|machine| machine.report.vmpl = 3), "azure-vmpl");
    assert_eq!(code(|machine| machine.report.vmpl = u32::MAX), "azure-vmpl");
}

#[test]
fn the_paravisor_is_judged_as_any_guest() {
    assert_eq!(code(|machine| machine.report.measurement = [0x60; 48]), "snp-measurement");
    assert_eq!(code(|machine| machine.report.policy |= 1 << 19), "snp-policy-debug");
    assert_eq!(code(|machine| machine.after = |blob| blob[32 + 0x90] ^= 1), "snp-signature");
    assert_eq!(code(|machine| machine.after = |blob| blob.truncate(1236)), "azure-length");
}

#[test]
fn the_quote_is_judged_as_any_quote() {
    assert_eq!(code(|machine| machine.challenge = vec![]), "tpm-quote-challenge");
    assert_eq!(code(|machine| machine.challenge = binder(Role::Vault).as_bytes().to_vec()), "tpm-quote-challenge");
    assert_eq!(code(|machine| machine.pcr_7 = [0x79; 32]), "tpm-pcr-value");
    assert_eq!(code(|machine| machine.ak_attributes = 0x0004_0072), "tpm-ak-attributes");
    assert_eq!(code(|machine| machine.pinned = Some(name_of(b"another key"))), "tpm-ak-name");
    let later = QuoteClock { clock: 1_000_000, reset_count: 6, restart_count: 0 };
    assert_eq!(code(|machine| machine.earlier = Some(later)), "tpm-clock-reset");
}

#[test]
fn evidence_of_one_platform_does_not_pass_for_another() {
    let (amd, machine) = (Amd::of("Genoa"), Machine::good());
    let reference = machine.reference(&amd);
    let name = name_of(&machine.public());
    let judge = |evidence, pinned| {
        let expected = Expected { binder: binder(Role::Broker), role: Role::Broker, pinned };
        let refused = appraise(evidence, expected, &reference).unwrap_err();
        match refused {
            AppraisalError::Platform { found, wanted } => format!("{}: {found}, not {wanted}", refused.code()),
            _ => refused.code().to_owned(),
        }
    };
    let guest =
        PinnedGuest { machine: PinnedMachine::ByReference, report_id: None, now: NOW, crls: &[], endorsed: None };
    // Without the report, a vTPM's key could be anybody's.
    let vtpm = Pinned::Vtpm { name: Some(&name), earlier: None, guest };
    assert_eq!(judge(Evidence::Tpm(machine.quote()), vtpm), "evidence-pinned-platform: tpm, not azure");
    let ak = Pinned::Ak { name: &name, earlier: None };
    assert_eq!(judge(machine.evidence(&amd), ak), "evidence-pinned-platform: azure, not tpm");
    let not_guest = judge(machine.evidence(&amd), Pinned::Guest(guest));
    assert_eq!(not_guest, "evidence-pinned-platform: azure, not snp");
    let (blob, vcek) = machine.blob(&amd);
    let snp = SnpEvidence::new(blob[32..1216].to_vec(), vec![vcek, amd.ask_der.clone()], vec![]).unwrap();
    assert_eq!(judge(Evidence::Snp(snp.clone()), vtpm), "evidence-pinned-platform: snp, not azure");
    // The report of a paravisor is no evidence of a guest: it answers no binder.
    assert_eq!(judge(Evidence::Snp(snp), Pinned::Guest(guest)), "snp-report-data");
}

#[test]
fn both_the_paravisor_and_what_it_booted_need_reference_values() {
    let amd = Amd::of("Genoa");
    let text = Machine::good().reference(&amd).to_toml();
    let (tpm, snp) = (text.find("[[tpm]]").unwrap(), text.find("[[snp]]").unwrap());
    let head = &text[..tpm.min(snp)];
    let without_guests = format!("{}{}", head.replace("version = 2", "version = 1"), &text[tpm..snp]);
    let without_tpms = format!("{head}{}", &text[snp..]);
    for text in [without_guests, without_tpms] {
        let reference = ReferenceValues::parse(&text).unwrap();
        let machine = Machine::good();
        let refused = appraise(machine.evidence(&amd), machine.expected(), &reference).unwrap_err();
        assert_eq!(refused.code(), "reference-other-platform");
    }
}

#[test]
fn a_result_about_hardware_that_is_not_amds_says_so() {
    let random = SystemRandom::new();
    let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_der();
    let key = SigningKey::from_pkcs8(Algorithm::Es256, &pkcs8, &random).unwrap();
    let terms = Terms { judged: NOW, lifetime: 600, policy: "tag:example.org,2026:azure", channel: None };
    let result = sign(&Machine::good().judge().unwrap(), &terms, &key, &random).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(result.as_str().split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["ear_status"], "contraindicated");
    let vector = &claims["submods"]["azure"]["ear_trustworthiness_vector"];
    assert_eq!(*vector, serde_json::json!({ "hardware": 97 }));
}
