//! The target of the vault's key as an SEV-SNP guest seals it: the front keeps that too, and gives it to a guest that starts.

use std::sync::LazyLock;

use blindferry_amd::{Amd, ReportSpec, VekSpec};
use blindferry_device::protocol::DeviceRefusal;
use blindferry_device_snp::{
    guest::Guest,
    sealing::{seal, unseal},
};
use blindferry_handle::{
    secret::SecretBytes,
    sev_guest::{DERIVED_KEY_LEN, ExtendedReport, KeyRequest},
};
use blindferry_proto::key_mix::{KeyMix, RootKey};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
};

use super::patch;

/// First byte 0: a good sealed key with bytes written over it; else: anything, brought as one.
pub fn guest_keys(data: &[u8]) -> bool {
    let Some((&choice, rest)) = data.split_first() else { return false };
    let Sealed { machine, blob } = &*SEALED;
    if choice != 0 {
        let refused = unseal(machine, rest).expect_err("a key was made up");
        return !matches!(refused, DeviceRefusal::BlobMalformed);
    }
    let mut altered = blob.clone();
    patch(&mut altered, rest);
    match unseal(machine, &altered) {
        Ok(unsealed) => {
            assert!(altered == *blob && unsealed.mix == MIX && unsealed.risen.is_empty(), "a changed bit opened")
        }
        Err(refusal) => assert!(altered != *blob, "{refusal}"),
    }
    altered != *blob
}

/// Everything that may be mixed in.
const MIX: KeyMix = KeyMix { root: RootKey::Vcek, tcb: true, guest_svn: true, family_id: true, image_id: true };

/// A guest whose firmware derives a key from all that it is asked for.
struct Machine {
    report: Vec<u8>,
}

impl Guest for Machine {
    fn interface(&self) -> &'static str {
        "a fuzzer"
    }

    fn report(&self, _: &[u8; 64]) -> Result<ExtendedReport, DeviceRefusal> {
        Ok(ExtendedReport { report: self.report.clone(), table: vec![] })
    }

    fn derived_key(&self, request: &KeyRequest, slot: &mut [u8; DERIVED_KEY_LEN]) -> Result<(), DeviceRefusal> {
        slot.copy_from_slice(digest(&SHA256, format!("{request:?}").as_bytes()).as_ref());
        Ok(())
    }

    fn vmpl(&self) -> u32 {
        0
    }
}

struct Sealed {
    machine: Machine,
    blob: Vec<u8>,
}

static SEALED: LazyLock<Sealed> = LazyLock::new(|| {
    let machine = Machine { report: Amd::of("Genoa").vcek(&VekSpec::genoa()).sign(&ReportSpec::genoa()) };
    let key = SecretBytes::copy_and_wipe(&mut [9; 32]).expect("secret memory");
    let blob = seal(&machine, &key, MIX, &SystemRandom::new()).expect("a sealed key");
    Sealed { machine, blob }
});
