//! Firmware images of one page, with the tables that OVMF has at its end.

/// The tables of OVMF's AmdSev build of edk2-stable202405, in an image of one page: its last 4 KiB is what
/// virtee/sev-snp-measure publishes digests for.
pub(crate) fn amd_sev() -> Vec<u8> {
    image(
        0x80_b004,
        0x81_0c00,
        &[
            (0x80_0000, 0x9000, 1),
            (0x80_a000, 0x3000, 1),
            (0x80_d000, 0x1000, 2),
            (0x80_e000, 0x1000, 3),
            (0x80_f000, 0x1000, 4),
            (0x81_0000, 0x1000, 0x10),
            (0x81_1000, 0xf000, 1),
        ],
    )
}

/// A page of firmware with these tables.
pub(crate) fn image(ap_reset: u32, hashes: u32, sections: &[(u32, u32, u32)]) -> Vec<u8> {
    let mut image = vec![0x90; 2048];
    let from_end = u32::try_from(4096 - image.len()).unwrap();
    let count = u32::try_from(sections.len()).unwrap();
    image.extend(b"ASEV");
    [16 + 12 * count, 1, count].iter().for_each(|word| image.extend(word.to_le_bytes()));
    for (address, size, kind) in sections {
        [address, size, kind].iter().for_each(|word| image.extend(word.to_le_bytes()));
    }
    let mut table = Vec::new();
    for (guid, value) in [
        ("de71f7007e1acb4f890e68c77e2fb44e", ap_reset),
        ("1f3755723b3a044b927b1da6efa8d454", hashes),
        ("666588dc4a989847a75e5585a7bf67cc", from_end),
    ] {
        table.extend(value.to_le_bytes());
        table.extend(22u16.to_le_bytes());
        table.extend(hex::decode(guid).unwrap());
    }
    table.extend(u16::try_from(table.len() + 18).unwrap().to_le_bytes());
    table.extend(hex::decode("de82b596b21ff745baeaa366c55a082d").unwrap());
    image.resize(4096 - 32 - table.len(), 0);
    image.extend(table);
    image.resize(4096, 0xf4);
    image
}
