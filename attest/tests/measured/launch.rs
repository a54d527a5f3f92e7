//! Launch measurements that others published, and firmware that lies.

use std::{collections::BTreeSet, num::NonZeroU16};

use blindferry_attest::measure::snp::{
    Firmware, FirmwareError, KernelHashes, Launch, LaunchDigest, LaunchError, MAX_FIRMWARE, MAX_VCPUS, Monitor,
};
use proptest::prelude::*;

use crate::firmware::{amd_sev, image};

pub(crate) fn launch<'a>(firmware: &'a Firmware<'a>, vcpus: u16) -> Launch<'a> {
    Launch {
        firmware,
        kernel: None,
        vcpus: NonZeroU16::new(vcpus).unwrap(),
        cpu: "EPYC-v4".parse().unwrap(),
        guest_features: 1,
        monitor: Monitor::Qemu,
    }
}

/// The digest of the published image's own bytes, from which each published measurement goes on.
const PUBLISHED_FIRMWARE: &str =
    "086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74";

#[test]
fn published_measurements_are_met() {
    let image = amd_sev();
    let firmware = Firmware::parse(&image).unwrap();
    let mut published = [0; 48];
    hex::decode_to_slice(PUBLISHED_FIRMWARE, &mut published).unwrap();
    let logged = Some("console=ttyS0 loglevel=7");
    // Kernel and initrd of the published runs are empty files. From the tests of
    // sev-snp-measure 0.0.13, which virtee/sev shares but for EC2, where it is older (RDX was 0 there).
    #[rustfmt::skip]
    let cases = [
        (1, 0x01, Some(""), Monitor::Qemu, "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5"),
        (1, 0x21, Some(""), Monitor::Qemu, "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198"),
        (1, 0x01, logged, Monitor::Qemu, "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa"),
        (1, 0x21, logged, Monitor::Qemu, "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977"),
        (1, 0x01, Some(""), Monitor::Ec2, "0883bd0eeb716e65b7b977a321c278d1e51b33b5c655fab985443bbcc65c086b9c15e8a0bd8811050dec7e24964e5056"),
        (1, 0x21, Some(""), Monitor::Ec2, "0ce9ccc06bab55eebe8abc234f3df6514883977a68a591b71052498ab52b2f1aa415db338033946ef93aa8278c0d67fb"),
        (1, 0x01, Some(""), Monitor::Gce, "5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e"),
        (4, 0x01, Some(""), Monitor::Gce, "5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d"),
        (1, 0x01, None, Monitor::Qemu, "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d"),
        (1, 0x21, None, Monitor::Qemu, "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b"),
        (4, 0x01, Some(""), Monitor::Qemu, "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5"),
        (4, 0x21, Some(""), Monitor::Qemu, "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942"),
    ];
    for (vcpus, guest_features, cmdline, monitor, measurement) in cases {
        let kernel = cmdline.map(|cmdline| KernelHashes::new(b"", b"", cmdline));
        let launch = Launch { kernel, guest_features, monitor, ..launch(&firmware, vcpus) };
        let found = launch.continued(LaunchDigest::resume(published)).unwrap();
        assert_eq!(hex::encode(found), measurement, "{vcpus} {guest_features:#x} {cmdline:?} {monitor:?}");
    }
}

#[test]
fn every_input_of_a_launch_is_in_its_measurement() {
    let image = amd_sev();
    let firmware = Firmware::parse(&image).unwrap();
    let mut patched = image.clone();
    patched[7] ^= 1;
    let patched = Firmware::parse(&patched).unwrap();
    let base = Launch { kernel: Some(KernelHashes::new(b"k", b"i", "c")), ..launch(&firmware, 2) };
    let with = |kernel| Launch { kernel, ..base.clone() };
    let launches = [
        base.clone(),
        Launch { firmware: &patched, ..base.clone() },
        with(None),
        with(Some(KernelHashes::new(b"K", b"i", "c"))),
        with(Some(KernelHashes::new(b"k", b"I", "c"))),
        with(Some(KernelHashes::new(b"k", b"i", "C"))),
        Launch { vcpus: NonZeroU16::new(3).unwrap(), ..base.clone() },
        Launch { cpu: "EPYC-Milan".parse().unwrap(), ..base.clone() },
        Launch { guest_features: 0x21, ..base.clone() },
        Launch { monitor: Monitor::Ec2, ..base.clone() },
        Launch { monitor: Monitor::Gce, ..base.clone() },
    ];
    let measurements: BTreeSet<_> = launches.iter().map(|one| one.measurement().unwrap()).collect();
    assert_eq!(measurements.len(), launches.len());
}

#[test]
fn a_kernel_that_the_firmware_would_not_check_is_refused() {
    let memory = (0x80_0000, 0x1000, 1);
    let refused = |hashes, sections: &[_]| {
        let image = image(0x80_b004, hashes, sections);
        let firmware = Firmware::parse(&image).unwrap();
        let kernel = Some(KernelHashes::new(b"", b"", ""));
        Launch { kernel, ..launch(&firmware, 1) }.measurement().unwrap_err()
    };
    let page = (0x81_0000, 0x1000, 0x10);
    assert_eq!(refused(0x81_0c00, &[memory]), LaunchError::NoKernelHashes);
    assert_eq!(refused(0, &[memory, page]), LaunchError::NoKernelHashes);
    for table in [0x80_fc00, 0x81_0f51, 0x81_1000] {
        assert_eq!(refused(table, &[memory, page]), LaunchError::HashesOutside { table, page: 0x81_0000 });
    }
}

#[test]
fn more_processors_than_can_be_started_are_refused() {
    let image = image(0, 0, &[(0x80_0000, 0x1000, 1)]);
    let firmware = Firmware::parse(&image).unwrap();
    assert!(launch(&firmware, 1).measurement().is_ok());
    assert_eq!(launch(&firmware, 2).measurement(), Err(LaunchError::NoApReset));
    let error = LaunchError::TooManyProcessors { found: MAX_VCPUS + 1 };
    assert_eq!(launch(&firmware, MAX_VCPUS + 1).measurement(), Err(error));
}

#[test]
fn firmware_that_lies_is_refused() {
    let refused = |image: &[u8]| Firmware::parse(image).unwrap_err();
    let good = amd_sev();
    assert_eq!(refused(&[]), FirmwareError::Size { found: 0 });
    assert_eq!(refused(&good[1..]), FirmwareError::Size { found: 4095 });
    assert_eq!(refused(&vec![0; MAX_FIRMWARE + 4096]), FirmwareError::Size { found: MAX_FIRMWARE + 4096 });
    assert_eq!(refused(&[0; 4096]), FirmwareError::NoTable);
    let with = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        Firmware::parse(&image).map(|_| ()).unwrap_err()
    };
    let footer = 4096 - 32 - 18;
    assert_eq!(with(footer, &17u16.to_le_bytes()), FirmwareError::Table);
    assert_eq!(with(footer, &5000u16.to_le_bytes()), FirmwareError::Table);
    assert_eq!(with(footer, &19u16.to_le_bytes()), FirmwareError::Table);
    // The last entry is that of the metadata: value, length, GUID.
    assert_eq!(with(footer - 18, &0u16.to_le_bytes()), FirmwareError::Table);
    assert_eq!(with(footer - 18, &18u16.to_le_bytes()), FirmwareError::Table);
    assert_eq!(with(footer - 16, &[0; 16]), FirmwareError::NoMetadata);
    let hashes_guid = hex::decode("1f3755723b3a044b927b1da6efa8d454").unwrap();
    assert!(matches!(with(footer - 16, &hashes_guid), FirmwareError::EntryTwice { .. }));
    for (at, value) in [(footer - 22, 5000), (footer - 22, 8), (2048, 0), (2052, 99), (2056, 2), (2060, 33), (2060, 6)]
    {
        let error = with(at, &u32::to_le_bytes(value));
        assert!(matches!(error, FirmwareError::Metadata { .. }), "{at} {error}");
    }
    let section = |address, size, kind| refused(&image(1, 0, &[(address, size, kind)]));
    assert_eq!(section(0, 0x1000, 5), FirmwareError::Kind { found: 5 });
    for (address, size, kind) in
        [(1, 0x1000, 1), (0, 1, 1), (0, 0, 1), (0, 0x2000, 2), (0, 0x2000, 3), (0, 0x2000, 0x10), (0, 0x100_1000, 1)]
    {
        assert_eq!(section(address, size, kind), FirmwareError::Section { address, size });
    }
    assert!(matches!(section(0xffff_f000, 0x1000, 1), FirmwareError::Section { .. }));
}

proptest! {
    #[test]
    fn no_firmware_makes_the_parser_panic(edits in proptest::collection::vec((1900usize..4096, any::<u8>()), 0..64)) {
        let mut image = amd_sev();
        edits.iter().for_each(|(at, value)| image[*at] = *value);
        if let Ok(firmware) = Firmware::parse(&image) {
            let kernel = Some(KernelHashes::new(b"", b"", ""));
            let _measured = Launch { kernel, ..launch(&firmware, 2) }.measurement();
        }
    }
}
