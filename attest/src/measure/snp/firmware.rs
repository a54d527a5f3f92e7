//! A firmware image: the tables at its end say what the monitor must put into the guest beside it.
//!
//! OVMF ends with a table of entries that are found by GUID (QEMU's `docs/specs/sev-guest-firmware.rst`). Three of them
//! matter to a launch: where processors after the first start, where the hashes of a kernel belong, and where in the
//! image the metadata lies that names sections of guest memory.

use super::digest::{LaunchDigest, PAGE, Page, PageKind};

/// The largest firmware that is measured, in bytes.
pub const MAX_FIRMWARE: usize = 16 * 1024 * 1024;

/// A firmware image whose tables have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware<'a> {
    image: &'a [u8],
    sections: Vec<Section>,
    ap_reset: Option<u32>,
    hashes_address: Option<u32>,
}

/// Memory that the monitor puts into the guest beside the image. Whole pages, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) address: u32,
    size: u32,
    pub(super) purpose: Purpose,
}

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Scratch memory of the firmware.
    Memory,
    /// The page with the guest's secrets.
    Secrets,
    /// The page with what CPUID will say.
    Cpuid,
    /// The calling area of an SVSM, which is not there.
    SvsmCallingArea,
    /// The page with the hashes of kernel, initrd and command line.
    KernelHashes,
}

/// Why a file is no firmware for an SEV-SNP guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FirmwareError {
    /// It is empty, too large, or not of whole pages.
    #[error("a firmware image of {found} bytes: whole pages of {PAGE} bytes are needed, {MAX_FIRMWARE} bytes at most")]
    Size {
        /// Its length in bytes.
        found: usize,
    },
    /// There is no table at the end.
    #[error("there is no table of GUIDs at the end: this is no OVMF image that QEMU can start as an SEV guest")]
    NoTable,
    /// The table, or an entry in it, claims a length that it cannot have.
    #[error("the table of GUIDs at the end has an entry of an impossible length")]
    Table,
    /// Two entries have one GUID.
    #[error("the table of GUIDs at the end has two entries for {what}")]
    EntryTwice {
        /// What the entry is for.
        what: &'static str,
    },
    /// The firmware was built without SEV-SNP.
    #[error("the image has no SEV metadata: this build of OVMF does not support SEV-SNP")]
    NoMetadata,
    /// The metadata is not where the table says, of another version, or claims a length that it cannot have.
    #[error("the SEV metadata cannot be read: {reason}")]
    Metadata {
        /// What is wrong.
        reason: &'static str,
    },
    /// A section is of a kind that we do not know, and cannot be measured.
    #[error("the SEV metadata has a section of kind {found:#x}, which is not known")]
    Kind {
        /// The kind.
        found: u32,
    },
    /// A section is not of whole pages, or of more than its kind has.
    #[error("the SEV metadata has a section of {size:#x} bytes at {address:#x}, which cannot be")]
    Section {
        /// Its address.
        address: u32,
        /// Its size in bytes.
        size: u32,
    },
}

impl<'a> Firmware<'a> {
    /// Reads the tables of an image.
    ///
    /// # Errors
    ///
    /// When it is no firmware that can be launched as an SEV-SNP guest.
    pub fn parse(image: &'a [u8]) -> Result<Self, FirmwareError> {
        if image.is_empty() || !image.len().is_multiple_of(PAGE) || image.len() > MAX_FIRMWARE {
            return Err(FirmwareError::Size { found: image.len() });
        }
        let Table { ap_reset, hashes_address, metadata } = Table::parse(image)?;
        let sections = metadata_sections(image, metadata.ok_or(FirmwareError::NoMetadata)?)?;
        // Firmware without a place for the hashes says that it is at address 0.
        let hashes_address = hashes_address.filter(|address| *address != 0);
        Ok(Self { image, sections, ap_reset: ap_reset.filter(|reset| *reset != 0), hashes_address })
    }

    /// The launch digest after the pages of the image, which ends at 4 GiB.
    #[must_use]
    pub fn digest(&self) -> LaunchDigest {
        let mut digest = LaunchDigest::new();
        let (pages, _none) = self.image.as_chunks::<PAGE>();
        // At most MAX_FIRMWARE, so that nothing wraps.
        let start = FOUR_GIB - u64::try_from(self.image.len()).unwrap_or(0);
        for (address, page) in (start..FOUR_GIB).step_by(PAGE).zip(pages) {
            digest.extend(Page { address, kind: PageKind::Normal(page) });
        }
        digest
    }

    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub(super) fn ap_reset(&self) -> Option<u32> {
        self.ap_reset
    }

    pub(super) fn hashes_address(&self) -> Option<u32> {
        self.hashes_address
    }
}

impl Section {
    /// The addresses of its pages.
    pub(super) fn pages(self) -> impl Iterator<Item = u64> {
        let start = u64::from(self.address);
        (start..start + u64::from(self.size)).step_by(PAGE)
    }

    fn parse(bytes: [u8; SECTION]) -> Result<Self, FirmwareError> {
        let (words, _none) = bytes.as_chunks();
        let [address, size, kind] = [0, 1, 2].map(|at| words.get(at).map_or(0, |word| u32::from_le_bytes(*word)));
        let (purpose, most) = match kind {
            0x1 => (Purpose::Memory, MAX_SECTION),
            0x2 => (Purpose::Secrets, ONE_PAGE),
            0x3 => (Purpose::Cpuid, ONE_PAGE),
            0x4 => (Purpose::SvsmCallingArea, MAX_SECTION),
            0x10 => (Purpose::KernelHashes, ONE_PAGE),
            found => return Err(FirmwareError::Kind { found }),
        };
        let whole = address.is_multiple_of(ONE_PAGE) && size.is_multiple_of(ONE_PAGE);
        if !whole || size == 0 || size > most || address.checked_add(size).is_none() {
            return Err(FirmwareError::Section { address, size });
        }
        Ok(Self { address, size, purpose })
    }
}

/// What of the table at the end matters here.
#[derive(Default)]
struct Table {
    ap_reset: Option<u32>,
    hashes_address: Option<u32>,
    /// How far before the end of the image the metadata starts, in bytes.
    metadata: Option<u32>,
}

impl Table {
    /// Reads the table backwards: each entry ends in its own length and GUID, the table itself in those of its footer.
    fn parse(image: &[u8]) -> Result<Self, FirmwareError> {
        let (before_vector, _) = image.split_last_chunk::<RESET_VECTOR>().ok_or(FirmwareError::NoTable)?;
        let (before_footer, length, guid) = trailer(before_vector).ok_or(FirmwareError::NoTable)?;
        if guid != FOOTER {
            return Err(FirmwareError::NoTable);
        }
        let entries = length.checked_sub(TRAILER).and_then(|length| before_footer.len().checked_sub(length));
        let (_, mut left) =
            entries.and_then(|start| before_footer.split_at_checked(start)).ok_or(FirmwareError::Table)?;
        let mut table = Self::default();
        while !left.is_empty() {
            let (before, length, guid) = trailer(left).ok_or(FirmwareError::Table)?;
            let data = length.checked_sub(TRAILER).and_then(|length| before.len().checked_sub(length));
            let (rest, data) = data.and_then(|start| before.split_at_checked(start)).ok_or(FirmwareError::Table)?;
            let (slot, what) = match guid {
                AP_RESET => (Some(&mut table.ap_reset), "the start of processors"),
                HASHES => (Some(&mut table.hashes_address), "the hashes of a kernel"),
                METADATA => (Some(&mut table.metadata), "the SEV metadata"),
                _ => (None, ""),
            };
            if let Some(slot) = slot {
                let value = data.first_chunk().ok_or(FirmwareError::Table)?;
                if slot.replace(u32::from_le_bytes(*value)).is_some() {
                    return Err(FirmwareError::EntryTwice { what });
                }
            }
            left = rest;
        }
        Ok(table)
    }
}

/// Splits a length and a GUID off the end.
fn trailer(bytes: &[u8]) -> Option<(&[u8], usize, [u8; 16])> {
    let (bytes, guid) = bytes.split_last_chunk()?;
    let (bytes, length) = bytes.split_last_chunk()?;
    Some((bytes, usize::from(u16::from_le_bytes(*length)), *guid))
}

/// The sections that the metadata names, which starts `from_end` bytes before the end.
fn metadata_sections(image: &[u8], from_end: u32) -> Result<Vec<Section>, FirmwareError> {
    let bad = |reason| FirmwareError::Metadata { reason };
    let start = usize::try_from(from_end).ok().and_then(|from_end| image.len().checked_sub(from_end));
    let rest = start.and_then(|start| image.get(start..)).ok_or_else(|| bad("it starts before the image"))?;
    let (header, rest) = rest.split_first_chunk::<METADATA_HEADER>().ok_or_else(|| bad("its header ends early"))?;
    let (words, _none) = header.as_chunks::<4>();
    let [signature, length, version, count] = words else {
        return Err(bad("its header ends early"));
    };
    if signature != b"ASEV" {
        return Err(bad("it does not start with ASEV"));
    }
    if u32::from_le_bytes(*version) != 1 {
        return Err(bad("it is not of version 1"));
    }
    let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
    if count > MAX_SECTIONS {
        return Err(bad("it has more sections than any firmware"));
    }
    // QEMU reads by the length, others by the count; they must not read different sections.
    if usize::try_from(u32::from_le_bytes(*length)).ok() != Some(METADATA_HEADER + count * SECTION) {
        return Err(bad("its length is not that of its sections"));
    }
    let (sections, _rest) = rest.as_chunks::<SECTION>();
    let sections = sections.get(..count).ok_or_else(|| bad("its sections end early"))?;
    sections.iter().map(|bytes| Section::parse(*bytes)).collect()
}

/// The image ends there.
const FOUR_GIB: u64 = 1 << 32;
/// The length of the code behind the table, in bytes.
const RESET_VECTOR: usize = 32;
/// The length of the length and GUID that end an entry, in bytes.
const TRAILER: usize = 2 + 16;
/// The length of the metadata before its sections, in bytes: signature, length, version, count.
const METADATA_HEADER: usize = 16;
/// The length of a section in the metadata, in bytes: address, size, kind.
const SECTION: usize = 12;
/// OVMF has at most 8.
const MAX_SECTIONS: usize = 32;
/// The largest section, in bytes; OVMF's scratch memory has 68 KiB. Bounds the hashing: 32 times 4096 pages.
const MAX_SECTION: u32 = 16 * 1024 * 1024;
/// As [`PAGE`].
const ONE_PAGE: u32 = 4096;

// GUIDs as they lie in memory, the first three fields in little-endian order.
/// 96b582de-1fb2-45f7-baea-a366c55a082d
const FOOTER: [u8; 16] =
    [0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d];
/// 00f771de-1a7e-4fcb-890e-68c77e2fb44e
const AP_RESET: [u8; 16] =
    [0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e];
/// 7255371f-3a3b-4b04-927b-1da6efa8d454
const HASHES: [u8; 16] =
    [0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54];
/// dc886566-984a-4798-a75e-5585a7bf67cc
const METADATA: [u8; 16] =
    [0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc];
