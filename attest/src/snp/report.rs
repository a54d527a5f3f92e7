//! ATTESTATION_REPORT, versions 2 to 5, parsed strictly (SEV Secure Nested Paging Firmware ABI, document 56860).
//!
//! A parsed report is a claim: anybody can write one. What AMD's key signed is an
//! [`Authentic`](super::authentic::Authentic) report.

use std::fmt;

use super::{
    identifier::{ChipId, HostData, KeyDigest, Measurement, ReportData, ReportId},
    question::Question,
    refusal::SnpRefusal,
    tcb::RawTcb,
};
use crate::{reader::Malformed, snp::fields::Fields};

/// A report has exactly this many bytes.
pub const REPORT_LEN: usize = 1184;

/// The signature covers this many bytes, from the first.
pub const SIGNED_LEN: usize = 0x2a0;

/// A report as it parsed. Holding one tells you that the length, version and algorithm are known and that every reserved
/// byte is zero; it tells you nothing about who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    bytes: [u8; REPORT_LEN],
    body: Body,
}

/// What a report says, in the order in which it says it. Plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Body {
    /// VERSION: 2 to 5.
    pub version: u32,
    /// GUEST_SVN: the security version of the guest's image, from its id block.
    pub guest_svn: u32,
    /// POLICY: what the guest's owner lets the host do.
    pub policy: GuestPolicy,
    /// FAMILY_ID, from the id block.
    pub family_id: [u8; 16],
    /// IMAGE_ID, from the id block.
    pub image_id: [u8; 16],
    /// VMPL: the privilege level that asked, 0 the highest; [`VMPL_HOST`] when the host asked.
    pub vmpl: u32,
    /// CURRENT_TCB: what runs.
    pub current_tcb: RawTcb,
    /// PLATFORM_INFO: how the machine is set up.
    pub platform: PlatformInfo,
    /// AUTHOR_KEY_EN: whether `author_key_digest` says anything.
    pub author_key_enabled: bool,
    /// MASK_CHIP_KEY: whether the host forbids signing by the chip's own key.
    pub chip_key_masked: bool,
    /// SIGNING_KEY, 3 bits: 0 VCEK, 1 VLEK, 7 none.
    pub signing_key: u8,
    /// REPORT_DATA.
    pub report_data: ReportData,
    /// MEASUREMENT.
    pub measurement: Measurement,
    /// HOST_DATA.
    pub host_data: HostData,
    /// ID_KEY_DIGEST; zero when the guest was launched without an id block.
    pub id_key_digest: KeyDigest,
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: KeyDigest,
    /// REPORT_ID.
    pub report_id: ReportId,
    /// REPORT_ID_MA: that of the guest's migration agent; all ones when it has none.
    pub report_id_ma: ReportId,
    /// REPORTED_TCB: the one that the signing key was derived for.
    pub reported_tcb: RawTcb,
    /// CPUID_FAM_ID, CPUID_MOD_ID and CPUID_STEP, from version 3 on.
    pub cpu: Option<Cpu>,
    /// CHIP_ID.
    pub chip_id: ChipId,
    /// COMMITTED_TCB: what the host can no longer go back behind.
    pub committed_tcb: RawTcb,
    /// CURRENT_MAJOR, CURRENT_MINOR, CURRENT_BUILD of the SEV firmware.
    pub current_version: FirmwareVersion,
    /// COMMITTED_MAJOR, COMMITTED_MINOR, COMMITTED_BUILD.
    pub committed_version: FirmwareVersion,
    /// LAUNCH_TCB: what ran when the guest was launched or imported.
    pub launch_tcb: RawTcb,
    /// LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR, from version 5 on.
    pub mitigations: Option<Mitigations>,
}

/// What a report says in VMPL when the host asked for it, and not the guest.
pub const VMPL_HOST: u32 = u32::MAX;

/// A processor as CPUID tells it: family and model combined, stepping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Family.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// Version of the SEV firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Vectors of mitigations, a bit each; AMD's bulletins name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mitigations {
    /// Active when the guest was launched.
    pub launch: u64,
    /// Active now.
    pub current: u64,
}

/// POLICY (ABI, structure GUEST_POLICY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

/// PLATFORM_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

impl Report {
    /// Parses a report.
    ///
    /// # Errors
    ///
    /// Length, version, signature algorithm, padding of the signature, reserved bytes: the first that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnpRefusal> {
        let exactly: &[u8; REPORT_LEN] = bytes.try_into().map_err(|_| {
            SnpRefusal::new(Question::Length, format!("{} bytes", bytes.len()), format!("{REPORT_LEN} bytes"))
        })?;
        let body = Fields::read(exactly).unwrap_or_else(|malformed| Err(unreachable_length(malformed)))?;
        Ok(Self { bytes: *exactly, body })
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The whole report.
    #[must_use]
    pub fn bytes(&self) -> &[u8; REPORT_LEN] {
        &self.bytes
    }

    /// The bytes that the signature covers.
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        self.bytes.split_at(SIGNED_LEN).0
    }

    /// The signature as `R ‖ S`, 48 bytes each, most significant byte first. The report has them the other way round,
    /// in 72 bytes each, of which [`Report::parse`] found the last 24 to be zero.
    #[must_use]
    pub fn signature(&self) -> [u8; 96] {
        let tail = self.bytes.split_at(SIGNED_LEN).1;
        let (r, s) = (tail.iter().take(48).rev(), tail.iter().skip(72).take(48).rev());
        let mut signature = [0; 96];
        for (to, from) in signature.iter_mut().zip(r.chain(s)) {
            *to = *from;
        }
        signature
    }
}

impl GuestPolicy {
    /// The ABI that the guest needs at least: major, minor.
    #[must_use]
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    /// SMT may be on.
    pub const SMT: u64 = 1 << 16;
    /// Has to be one.
    pub const RESERVED_ONE: u64 = 1 << 17;
    /// A migration agent may be bound to the guest.
    pub const MIGRATE_MA: u64 = 1 << 18;
    /// The host may debug the guest.
    pub const DEBUG: u64 = 1 << 19;
    /// The guest may run on one socket alone.
    pub const SINGLE_SOCKET: u64 = 1 << 20;
    /// CXL devices and memory may be there.
    pub const CXL_ALLOW: u64 = 1 << 21;
    /// Memory has to be encrypted by AES-256-XTS.
    pub const MEM_AES_256_XTS: u64 = 1 << 22;
    /// RAPL has to be off.
    pub const RAPL_DIS: u64 = 1 << 23;
    /// Ciphertext of DRAM has to be hidden.
    pub const CIPHERTEXT_HIDING: u64 = 1 << 24;
    /// Pages may not be swapped or moved by the host.
    pub const PAGE_SWAP_DISABLE: u64 = 1 << 25;
    /// The bits that have a meaning.
    pub const KNOWN: u64 = 0x03ff_ffff;
}

impl PlatformInfo {
    /// SMT is on.
    pub const SMT: u64 = 1;
    /// Transparent memory encryption is on.
    pub const TSME: u64 = 1 << 1;
    /// The memory has error correction.
    pub const ECC: u64 = 1 << 2;
    /// RAPL is off.
    pub const RAPL_DIS: u64 = 1 << 3;
    /// Ciphertext of DRAM is hidden.
    pub const CIPHERTEXT_HIDING: u64 = 1 << 4;
    /// The memory was checked for aliases since the last reset.
    pub const ALIAS_CHECK: u64 = 1 << 5;
    /// Writes that the IOMMU makes are safe.
    pub const IOMMU_WRITE_SAFE: u64 = 1 << 6;
    /// SEV-TIO is on.
    pub const TIO: u64 = 1 << 7;
    /// The bits that have a meaning.
    pub const KNOWN: u64 = 0xff;
}

/// The length was checked, so a field cannot end early; were it to, the length is what is wrong.
fn unreachable_length(malformed: Malformed) -> SnpRefusal {
    SnpRefusal::new(Question::Length, malformed.to_string(), format!("{REPORT_LEN} bytes"))
}
