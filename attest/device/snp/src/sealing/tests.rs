//! A guest in memory, whose keys depend on what MSG_KEY_REQ says that they depend on.

use std::cell::RefCell;

use blindferry_handle::sev_guest::{ExtendedReport, REPORT_LEN};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;

use super::*;

/// A report of version 3 with these values, unsigned: sealing believes its own firmware.
struct Fake {
    report: RefCell<Vec<u8>>,
    asked: RefCell<Vec<KeyRequest>>,
}

const POLICY: usize = 0x08;
const GUEST_SVN: usize = 0x04;
const FAMILY_ID: usize = 0x10;
const IMAGE_ID: usize = 0x20;
const SIGNING_KEY: usize = 0x48;
const MEASUREMENT: usize = 0x90;
const CPU: usize = 0x188;
const CHIP_ID: usize = 0x1a0;
const COMMITTED_TCB: usize = 0x1e0;

impl Fake {
    fn new() -> Self {
        let mut report = vec![0; REPORT_LEN];
        report[0] = 3;
        report[POLICY + 2] = 3;
        report[0x34] = 1; // SIGNATURE_ALGO: ECDSA P-384 with SHA-384
        report[MEASUREMENT..MEASUREMENT + 48].fill(0x5f);
        report[CPU..CPU + 3].copy_from_slice(&[0x19, 0x11, 1]);
        report[CHIP_ID..CHIP_ID + 64].fill(0xc4);
        report[COMMITTED_TCB..COMMITTED_TCB + 8].copy_from_slice(&[10, 0, 0, 0, 0, 0, 23, 84]);
        Self { report: RefCell::new(report), asked: RefCell::default() }
    }

    fn set(&self, at: usize, value: u8) {
        self.report.borrow_mut()[at] = value;
    }
}

impl Guest for Fake {
    fn interface(&self) -> &'static str {
        "memory"
    }

    fn report(&self, _: &[u8; 64]) -> Result<ExtendedReport, DeviceRefusal> {
        Ok(ExtendedReport { report: self.report.borrow().clone(), table: Vec::new() })
    }

    fn derived_key(&self, request: &KeyRequest, slot: &mut [u8; DERIVED_KEY_LEN]) -> Result<(), DeviceRefusal> {
        self.asked.borrow_mut().push(*request);
        let report = self.report.borrow();
        let chosen = |bit: u64, span: std::ops::Range<usize>| {
            if request.fields & bit == 0 { Vec::new() } else { report[span].to_vec() }
        };
        let mixed = [
            format!("{request:?}").into_bytes(),
            report[CHIP_ID..CHIP_ID + 64].to_vec(),
            chosen(GUEST_POLICY, POLICY..POLICY + 8),
            chosen(super::IMAGE_ID, IMAGE_ID..IMAGE_ID + 16),
            chosen(super::FAMILY_ID, FAMILY_ID..FAMILY_ID + 16),
            chosen(super::MEASUREMENT, MEASUREMENT..MEASUREMENT + 48),
        ];
        slot.copy_from_slice(digest(&SHA256, &mixed.concat()).as_ref());
        Ok(())
    }

    fn vmpl(&self) -> u32 {
        0
    }
}

fn key() -> SecretBytes {
    SecretBytes::copy_and_wipe(&mut [7; KEY_LEN]).unwrap()
}

fn sealed(guest: &Fake, mix: KeyMix) -> Vec<u8> {
    seal(guest, &key(), mix, &SystemRandom::new()).unwrap()
}

fn differs(guest: &Fake, blob: &[u8]) -> Vec<String> {
    match unseal(guest, blob).unwrap_err() {
        DeviceRefusal::GuestDiffers { differing } => differing.into_iter().map(|field| field.name).collect(),
        other => panic!("{other}"),
    }
}

const EVERYTHING: KeyMix = KeyMix { root: RootKey::Vcek, tcb: true, guest_svn: true, family_id: true, image_id: true };

#[test]
fn the_same_guest_unseals_and_nothing_has_risen() {
    let guest = Fake::new();
    for mix in [KeyMix::default(), EVERYTHING, KeyMix { root: RootKey::Vmrk, ..EVERYTHING }] {
        let unsealed = unseal(&guest, &sealed(&guest, mix)).unwrap();
        assert_eq!((unsealed.mix, unsealed.risen), (mix, Vec::new()));
    }
}

#[test]
fn measurement_and_policy_are_mixed_in_whatever_else_is() {
    let guest = Fake::new();
    let nothing = KeyMix { tcb: false, ..KeyMix::default() };
    let _blob = sealed(&guest, nothing);
    assert_eq!(guest.asked.borrow()[0].fields, GUEST_POLICY | super::MEASUREMENT);
    let _blob = sealed(&guest, EVERYTHING);
    assert_eq!(guest.asked.borrow()[1].fields, 0x3f);
    assert_eq!(guest.asked.borrow()[1].tcb, u64::from_le_bytes([10, 0, 0, 0, 0, 0, 23, 84]));
}

#[test]
fn each_field_that_differs_is_named() {
    for (at, value, name) in [
        (MEASUREMENT, 1, "the measurement"),
        (POLICY, 1, "the guest policy"),
        (CHIP_ID, 1, "the chip"),
        (SIGNING_KEY, 1 << 2, "the signing key"),
        (FAMILY_ID, 1, "the family id"),
        (IMAGE_ID, 1, "the image id"),
        (COMMITTED_TCB + 6, 22, "the committed TCB"),
    ] {
        let guest = Fake::new();
        let blob = sealed(&guest, EVERYTHING);
        guest.set(at, value);
        assert!(differs(&guest, &blob).iter().any(|found| found == name), "{name}");
    }
    let guest = Fake::new();
    guest.set(GUEST_SVN, 3);
    let blob = sealed(&guest, EVERYTHING);
    guest.set(GUEST_SVN, 2);
    assert_eq!(differs(&guest, &blob), ["the guest SVN"]);
}

#[test]
fn a_component_that_fell_is_not_made_good_by_one_that_rose() {
    let guest = Fake::new();
    let blob = sealed(&guest, KeyMix::default());
    guest.set(COMMITTED_TCB + 6, 22);
    guest.set(COMMITTED_TCB + 7, 99);
    assert_eq!(differs(&guest, &blob), ["the committed TCB"]);
}

#[test]
fn what_has_risen_is_told_and_the_versions_of_then_are_asked_for() {
    let guest = Fake::new();
    let blob = sealed(&guest, EVERYTHING);
    guest.set(COMMITTED_TCB + 7, 90);
    guest.set(GUEST_SVN, 1);
    let risen = unseal(&guest, &blob).unwrap().risen;
    let names: Vec<&str> = risen.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["the committed TCB", "the guest SVN"]);
    let asked = guest.asked.borrow();
    assert_eq!(asked.first(), asked.last());
}

#[test]
fn a_header_that_lies_opens_nothing() {
    // The blob says that it was sealed on this chip, and was sealed on another.
    let guest = Fake::new();
    let mut blob = sealed(&guest, KeyMix::default());
    guest.set(CHIP_ID, 1);
    let at = blob.windows(8).position(|bytes| bytes == [0xc4; 8]).unwrap();
    blob[at] = 1;
    assert!(matches!(unseal(&guest, &blob), Err(DeviceRefusal::GuestForeign)));
}

#[test]
fn any_changed_byte_and_any_cut_is_found() {
    let guest = Fake::new();
    let blob = sealed(&guest, KeyMix::default());
    assert!(blob.len() <= BLOB_LIMIT);
    for at in 0..blob.len() {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        assert!(unseal(&guest, &changed).is_err(), "byte {at}");
        assert!(unseal(&guest, &blob[..at]).is_err(), "cut at {at}");
    }
    assert!(matches!(unseal(&guest, &[&blob[..], &[0]].concat()), Err(DeviceRefusal::BlobMalformed)));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_blob_or_refused(bytes: Vec<u8>) {
        proptest::prop_assert!(unseal(&Fake::new(), &[&MAGIC[..], &bytes].concat()).is_err());
    }
}
