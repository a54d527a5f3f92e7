//! Describing, quoting, activating.

use blindferry_attest::endorsement::{
    ActivationSecret, EkClaim, EndorsementPolicy, Manufacturers, RandomError, endorse,
};
use blindferry_attest::evidence::Evidence;
use blindferry_attest::tpm::PcrSelection;
use blindferry_device::protocol::{DeviceRefusal, TpmDescription};
use blindferry_proto::logs::WantedLogs;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use crate::machine::{KEY, Machine, is_key, pins, refusal, selection};
use crate::swtpm::Swtpm;

#[tokio::test]
async fn a_tpm_is_described_the_same_every_time_and_known_as_software() {
    let Some(machine) = Machine::start() else { return };
    let described = machine.describe().await;
    assert_eq!(described, machine.describe().await);
    assert!(described.software);
    assert_eq!((described.manufacturer.as_str(), described.vendor.as_str()), ("IBM", "SW   TPM"));
    assert_eq!(described.ak_name[2..], *digest(&SHA256, &described.ak_public).as_ref());
    assert!(described.ek_certificates.is_empty());
}

#[tokio::test]
async fn a_certified_endorsement_key_is_preferred_and_described_with_its_certificate() {
    let Some(tpm) = Swtpm::start_with_certificates() else { return };
    let machine = Machine::over(tpm);
    let described = machine.describe().await;
    // swtpm_setup certifies a P-384 EK and an RSA-2048 EK, the former of which is preferred.
    assert_eq!(described.ek_certificates.len(), 1);
    let x_and_y = &described.ek_public[described.ek_public.len() - 98..];
    let (x, y) = (&x_and_y[..48], &x_and_y[50..]);
    let point = [x, y].concat();
    assert!(described.ek_certificates[0].windows(96).any(|window| window == point));
    assert_eq!(activation(&machine, &described).await, Ok(()));
}

#[tokio::test]
async fn a_quote_is_signed_by_the_attestation_key_over_binder_and_pcrs() {
    let Some(machine) = Machine::start() else { return };
    machine.tpm.tool(&format!("tpm2_pcrextend 4:sha256={}", "02".repeat(32)));
    let described = machine.describe().await;
    // More than eight PCRs are read in several pieces.
    for selection in [selection(), PcrSelection::new(0..24).unwrap()] {
        let encoded = machine.device.quote([9; 32], Some(&selection)).await.unwrap();
        let Evidence::Tpm(evidence) = Evidence::decode(&encoded).unwrap() else { panic!("another platform") };
        assert_eq!(evidence.ak_public(), described.ak_public);
        assert!(evidence.pcrs().iter().map(|(index, _)| *index).eq(selection.indices()));

        let (x, y) = described.ak_public[described.ak_public.len() - 68..].split_at(34);
        let point = [&[4], &x[2..], &y[2..]].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let signature = fixed(evidence.signature());
        key.verify(evidence.attest(), &signature).unwrap();
        let mut changed = evidence.attest().to_vec();
        *changed.last_mut().unwrap() ^= 1;
        key.verify(&changed, &signature).unwrap_err();

        let values: Vec<u8> = evidence.pcrs().iter().flat_map(|(_, value)| *value).collect();
        assert!(evidence.attest().ends_with(digest(&SHA256, &values).as_ref()));
        let extra = [&[0, 32][..], &[9; 32]].concat();
        assert!(evidence.attest().windows(34).any(|window| window == extra));
    }
}

#[tokio::test]
async fn a_selection_of_nothing_or_of_what_is_not_there_is_refused() {
    use blindferry_device::protocol::{Numbered, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request};
    use blindferry_device::spawn::spawn;
    let Some(machine) = Machine::start() else { return };
    let executable = std::path::Path::new(env!("CARGO_BIN_EXE_blindferry-device"));
    let (mut process, socket) = spawn(executable, crate::machine::process(&machine.tpm)).unwrap();
    for pcrs in [vec![], vec![24], vec![1, 1]] {
        let request = Numbered { number: 5, message: Request::Quote { binder: [0; 32], pcrs, logs: WantedLogs::NONE } };
        socket.send(&request.encode(REQUEST_LIMIT).unwrap(), &[]).unwrap();
        let reply = Numbered::<Reply>::decode(&socket.receive().unwrap().bytes, REPLY_LIMIT).unwrap();
        assert_eq!(reply.number, 5);
        assert!(matches!(reply.message, Reply::Refused(DeviceRefusal::BadSelection)));
    }
    drop(socket);
    assert!(process.wait().unwrap().success(), "it ends when its client is gone");
}

#[tokio::test]
async fn a_credential_made_for_this_tpm_is_activated() {
    let Some(machine) = Machine::start() else { return };
    let described = machine.describe().await;
    assert_eq!(activation(&machine, &described).await, Ok(()));
}

#[tokio::test]
async fn a_credential_made_for_another_tpm_or_another_key_is_refused() {
    let (Some(machine), Some(other)) = (Machine::start(), Machine::start()) else { return };
    let mine = machine.describe().await;
    let theirs = other.describe().await;
    let other_ek = TpmDescription { ek_public: theirs.ek_public, ..mine.clone() };
    assert_eq!(activation(&machine, &other_ek).await, Err(DeviceRefusal::CredentialForeign));
    let other_ak = TpmDescription { ak_name: theirs.ak_name, ..mine };
    assert_eq!(activation(&machine, &other_ak).await, Err(DeviceRefusal::CredentialForeign));
    assert_eq!(refusal(machine.device.activate(&[0, 9], &[0, 0]).await).code(), "bad-request");
}

/// The whole enrolment with the software verifier: no TPM on its side.
#[tokio::test]
async fn a_tpm_enrols_with_the_verifier_by_its_endorsement_key_and_an_activated_credential() {
    let machines = [Machine::start(), Swtpm::start_with_certificates().map(Machine::over)];
    for machine in machines.into_iter().flatten() {
        let described = machine.describe().await;
        let pinned = std::fs::read_to_string(pins(&machine.tpm)).unwrap();
        let hash = pinned.lines().find_map(|line| line.strip_prefix("ek-hash = ")).unwrap().trim_matches('"');
        let policy = EndorsementPolicy {
            allowed: [hash.parse().unwrap()].into(),
            denied: std::collections::BTreeSet::new(),
            roots: Vec::new(),
            manufacturers: Manufacturers::Any,
        };
        let claim =
            EkClaim { ek_public: described.ek_public, certificates: Vec::new(), ak_public: described.ak_public };
        let mut random = |bytes: &mut [u8]| SystemRandom::new().fill(bytes).map_err(|_| RandomError);
        let secret = ActivationSecret::draw(&mut random).unwrap();
        let (blob, activation) = endorse(claim, &policy, 0).unwrap().challenge(secret, &mut random).unwrap();
        let answer = machine.device.activate(&blob.credential, &blob.encrypted_secret).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "the answer goes to the verifier")]
        let enrolled = activation.answer(answer.expose()).unwrap();
        assert_eq!(enrolled.ak_name().as_bytes(), described.ak_name);
    }
}

/// Has tpm2-tools make a credential, which needs no TPM, and activates it.
async fn activation(machine: &Machine, described: &TpmDescription) -> Result<(), DeviceRefusal> {
    let (credential, encrypted_secret) = credential(&machine.tpm, described);
    match machine.device.activate(&credential, &encrypted_secret).await {
        Ok(secret) => {
            assert!(is_key(&secret));
            Ok(())
        }
        error => Err(refusal(error)),
    }
}

/// TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET for [`KEY`].
pub(crate) fn credential(tpm: &Swtpm, described: &TpmDescription) -> (Vec<u8>, Vec<u8>) {
    let len = u16::try_from(described.ek_public.len()).unwrap();
    let public = [&len.to_be_bytes()[..], &described.ek_public].concat();
    std::fs::write(tpm.directory.join("ek.pub"), public).unwrap();
    std::fs::write(tpm.directory.join("secret"), KEY).unwrap();
    let name: String = described.ak_name.iter().map(|byte| format!("{byte:02x}")).collect();
    let made = std::process::Command::new("tpm2_makecredential")
        .args(["-T", "none", "-u", "ek.pub", "-s", "secret", "-o", "credential", "-n", &name])
        .current_dir(&tpm.directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // After a magic number and a version, the two structures.
    let bytes = std::fs::read(tpm.directory.join("credential")).unwrap();
    let structures = &bytes[8..];
    let len = 2 + usize::from(u16::from_be_bytes([structures[0], structures[1]]));
    (structures[..len].to_vec(), structures[len..].to_vec())
}

/// `r ‖ s` of a TPMT_SIGNATURE with ECDSA and SHA-256, padded.
fn fixed(signature: &[u8]) -> Vec<u8> {
    assert_eq!(signature[..4], [0x00, 0x18, 0x00, 0x0b]);
    let mut rest = &signature[4..];
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        fixed.extend(vec![0; 32 - len]);
        fixed.extend_from_slice(&rest[2..2 + len]);
        rest = &rest[2 + len..];
    }
    fixed
}
