//! The chain of digests over the pages of a launch (SEV-SNP firmware ABI, section 8.17.2, PAGE_INFO).

use ring::digest::{SHA384, digest};

/// The size of a page, in bytes.
pub(super) const PAGE: usize = 4096;

/// The launch digest so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchDigest([u8; Self::LEN]);

/// One page that is put into the guest.
pub(super) struct Page<'a> {
    /// Where, in guest physical memory.
    pub(super) address: u64,
    /// As what.
    pub(super) kind: PageKind<'a>,
}

/// What a page is for, and what of it is measured.
#[derive(Clone, Copy)]
pub(super) enum PageKind<'a> {
    /// Data of the monitor's; measured.
    Normal(&'a [u8; PAGE]),
    /// The registers of a processor; measured.
    SaveArea(&'a [u8; PAGE]),
    /// Zeros; that it is there is measured.
    Zero,
    /// Whatever the monitor put there; that it is there is measured.
    Unmeasured,
    /// Filled by the secure processor.
    Secrets,
    /// Checked by the secure processor.
    Cpuid,
}

impl LaunchDigest {
    /// Its length in bytes: SHA-384.
    pub const LEN: usize = 48;

    /// Before the first page.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; Self::LEN])
    }

    /// After pages that somebody measured elsewhere.
    #[must_use]
    pub const fn resume(digest: [u8; Self::LEN]) -> Self {
        Self(digest)
    }

    /// Its value.
    #[must_use]
    pub const fn finish(self) -> [u8; Self::LEN] {
        self.0
    }

    pub(super) fn extend(&mut self, page: Page<'_>) {
        let (kind, contents) = match page.kind {
            PageKind::Normal(data) => (1, sha384(data)),
            PageKind::SaveArea(data) => (2, sha384(data)),
            PageKind::Zero => (3, [0; Self::LEN]),
            PageKind::Unmeasured => (4, [0; Self::LEN]),
            PageKind::Secrets => (5, [0; Self::LEN]),
            PageKind::Cpuid => (6, [0; Self::LEN]),
        };
        let mut info = Vec::with_capacity(PAGE_INFO);
        info.extend_from_slice(&self.0);
        info.extend_from_slice(&contents);
        info.extend_from_slice(&PAGE_INFO_LENGTH.to_le_bytes());
        // Page type; not an initial migration image; no permissions for VMPL 3, 2 and 1; reserved.
        info.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
        info.extend_from_slice(&page.address.to_le_bytes());
        self.0 = sha384(&info);
    }
}

impl Default for LaunchDigest {
    fn default() -> Self {
        Self::new()
    }
}

fn sha384(data: &[u8]) -> [u8; LaunchDigest::LEN] {
    let mut value = [0; LaunchDigest::LEN];
    value.iter_mut().zip(digest(&SHA384, data).as_ref()).for_each(|(to, from)| *to = *from);
    value
}

/// The length of PAGE_INFO, in bytes, which it says of itself.
const PAGE_INFO: usize = 0x70;
const PAGE_INFO_LENGTH: u16 = 0x70;
