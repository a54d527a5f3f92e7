//! The page with the hashes of kernel, initrd and command line, as QEMU fills it and OVMF checks it.

use ring::digest::{SHA256, digest};

use super::digest::PAGE;

/// Hashes of what the monitor loads beside the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    kernel: [u8; 32],
    initrd: [u8; 32],
    cmdline: [u8; 32],
}

impl KernelHashes {
    /// Hashes a kernel, its initrd, which is empty where there is none, and its command line, which ends in no NUL.
    #[must_use]
    pub fn new(kernel: &[u8], initrd: &[u8], cmdline: &str) -> Self {
        let mut terminated = cmdline.as_bytes().to_vec();
        terminated.push(0);
        Self { kernel: sha256(kernel), initrd: sha256(initrd), cmdline: sha256(&terminated) }
    }

    /// The last offset in a page at which the table fits.
    pub(super) const MAX_OFFSET: usize = PAGE - TABLE.next_multiple_of(16);

    /// A page of zeros with the table at an offset of at most [`KernelHashes::MAX_OFFSET`].
    pub(super) fn page(&self, offset: usize) -> [u8; PAGE] {
        let entries = [(CMDLINE, self.cmdline), (INITRD, self.initrd), (KERNEL, self.kernel)];
        let mut table = Vec::with_capacity(TABLE);
        table.extend_from_slice(&HEADER);
        table.extend_from_slice(&TABLE_LENGTH.to_le_bytes());
        for (guid, hash) in entries {
            table.extend_from_slice(&guid);
            table.extend_from_slice(&ENTRY_LENGTH.to_le_bytes());
            table.extend_from_slice(&hash);
        }
        let mut page = [0; PAGE];
        page.iter_mut().skip(offset).zip(table).for_each(|(to, from)| *to = from);
        page
    }
}

fn sha256(data: &[u8]) -> [u8; 32] {
    let mut value = [0; 32];
    value.iter_mut().zip(digest(&SHA256, data).as_ref()).for_each(|(to, from)| *to = *from);
    value
}

// The sizes of an entry (GUID, length, hash) and of the table (GUID, length, three entries), in bytes.
const ENTRY: usize = 16 + 2 + 32;
const TABLE: usize = 16 + 2 + 3 * ENTRY;
const ENTRY_LENGTH: u16 = 50;
const TABLE_LENGTH: u16 = 168;

// GUIDs as they lie in memory, the first three fields in little-endian order.
/// 9438d606-4f22-4cc9-b479-a793d411fd21
const HEADER: [u8; 16] =
    [0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21];
/// 4de79437-abd2-427f-b835-d5b172d2045b
const KERNEL: [u8; 16] =
    [0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b];
/// 44baf731-3a2f-4bd7-9af1-41e29169781d
const INITRD: [u8; 16] =
    [0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d];
/// 97d02dd8-bd20-4c94-aa78-e7714d36ab2a
const CMDLINE: [u8; 16] =
    [0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a];
