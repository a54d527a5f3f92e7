//! Targets of files: reference values, images that boot, firmware.

use std::num::NonZeroU16;

use blindferry_attest::{
    measure::{
        pe::Image,
        snp::{CpuSignature, Firmware, KernelHashes, Launch, Monitor},
        uki::{Boot, StubVersion, Uki},
    },
    reference::{ReferenceValues, Signature},
};

/// Reference values: what parsed is read back as it was written.
pub fn reference_values(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let _ = Signature::parse(text);
    let Ok(values) = ReferenceValues::parse(text) else { return false };
    let written = values.to_toml();
    let read = ReferenceValues::parse(&written).expect("what we write, we read");
    assert_eq!(read, values);
    assert!(values.differences(&read).is_empty());
    assert_eq!(read.to_toml(), written);
    true
}

/// A PE image, and the UKI that it may be.
pub fn uki(data: &[u8]) -> bool {
    let Ok(image) = Image::parse(data) else { return false };
    let _ = image.authenticode();
    assert!(image.sections().iter().all(|one| one.content().is_none_or(|content| content.len() <= data.len())));
    let newest = StubVersion::new(257).expect("a version that is known");
    let stubs = [Uki::parse(data), Uki::parse_with_stub(data, newest)];
    let predicted =
        stubs.into_iter().flatten().map(|uki| (uki.cmdline().is_ok(), uki.predict(&Boot::default()).is_ok()));
    predicted.fold(false, |any, (cmdline, predicted)| {
        assert!(cmdline || !predicted);
        any || predicted
    })
}

/// Firmware, and the launches that it may be part of.
pub fn firmware(data: &[u8]) -> bool {
    let Ok(firmware) = Firmware::parse(data) else { return false };
    let mut measured = false;
    for kernel in [None, Some(KernelHashes::new(b"kernel", b"initrd", "quiet"))] {
        for monitor in [Monitor::Qemu, Monitor::Ec2, Monitor::Gce] {
            let launch = Launch {
                firmware: &firmware,
                kernel: kernel.clone(),
                vcpus: NonZeroU16::new(2).expect("not zero"),
                cpu: CpuSignature::of(25, 17, 1),
                guest_features: 1,
                monitor,
            };
            measured |= launch.measurement().is_ok();
        }
    }
    measured
}
