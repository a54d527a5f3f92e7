//! Reports, byte for byte as the firmware makes them.

use crate::certificate::{HWID, Vek};

/// What a report says. The layout is that of the ABI; nothing here is checked.
#[derive(Clone, Debug)]
pub struct ReportSpec {
    /// VERSION.
    pub version: u32,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// POLICY.
    pub policy: u64,
    /// FAMILY_ID.
    pub family_id: [u8; 16],
    /// IMAGE_ID.
    pub image_id: [u8; 16],
    /// VMPL.
    pub vmpl: u32,
    /// SIGNATURE_ALGO.
    pub algorithm: u32,
    /// CURRENT_TCB.
    pub current_tcb: [u8; 8],
    /// PLATFORM_INFO.
    pub platform: u64,
    /// The flags at 0x48: AUTHOR_KEY_EN, MASK_CHIP_KEY, SIGNING_KEY from bit 2 on.
    pub flags: u32,
    /// REPORT_DATA.
    pub report_data: [u8; 64],
    /// MEASUREMENT.
    pub measurement: [u8; 48],
    /// HOST_DATA.
    pub host_data: [u8; 32],
    /// ID_KEY_DIGEST.
    pub id_key_digest: [u8; 48],
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: [u8; 48],
    /// REPORT_ID.
    pub report_id: [u8; 32],
    /// REPORTED_TCB.
    pub reported_tcb: [u8; 8],
    /// CPUID_FAM_ID, CPUID_MOD_ID, CPUID_STEP.
    pub cpu: [u8; 3],
    /// CHIP_ID.
    pub chip_id: [u8; 64],
    /// COMMITTED_TCB.
    pub committed_tcb: [u8; 8],
    /// CURRENT_BUILD, _MINOR, _MAJOR.
    pub current_version: [u8; 3],
    /// COMMITTED_BUILD, _MINOR, _MAJOR.
    pub committed_version: [u8; 3],
    /// LAUNCH_TCB.
    pub launch_tcb: [u8; 8],
    /// LAUNCH_MIT_VECTOR, CURRENT_MIT_VECTOR; written from version 5 on.
    pub mitigations: (u64, u64),
    /// Bytes to put at offsets after everything else and before signing.
    pub patches: Vec<(usize, u8)>,
}

impl ReportSpec {
    /// A good report of a Genoa chip, version 3, whose key is that of [`VekSpec::genoa`](crate::VekSpec::genoa).
    #[must_use]
    pub fn genoa() -> Self {
        let tcb = [10, 0, 0, 0, 0, 0, 23, 84];
        Self {
            version: 3,
            guest_svn: 0,
            policy: 0x3_0000,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            algorithm: 1,
            current_tcb: tcb,
            platform: 0x25,
            flags: 0,
            report_data: [0; 64],
            measurement: [0x5f; 48],
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [0x1d; 32],
            reported_tcb: tcb,
            cpu: [0x19, 0x11, 1],
            chip_id: HWID,
            committed_tcb: tcb,
            current_version: [40, 55, 1],
            committed_version: [40, 55, 1],
            launch_tcb: tcb,
            mitigations: (1, 1),
            patches: vec![],
        }
    }

    /// A good report of a Milan chip.
    #[must_use]
    pub fn milan() -> Self {
        Self { cpu: [0x19, 0x01, 1], ..Self::genoa() }.under([4, 0, 0, 0, 0, 0, 24, 219])
    }

    /// A good report of a Turin chip, version 5.
    #[must_use]
    pub fn turin() -> Self {
        let mut chip_id = [0; 64];
        chip_id.iter_mut().zip(HWID.iter().take(8)).for_each(|(to, from)| *to = *from);
        Self { version: 5, cpu: [0x1a, 0x02, 1], chip_id, ..Self::genoa() }.under([1, 1, 1, 4, 0, 0, 0, 81])
    }

    /// The same report under this firmware, throughout.
    #[must_use]
    pub fn under(self, tcb: [u8; 8]) -> Self {
        Self { current_tcb: tcb, reported_tcb: tcb, committed_tcb: tcb, launch_tcb: tcb, ..self }
    }

    /// The same report as a VLEK's: the key named, the chip not told.
    #[must_use]
    pub fn loaded(self) -> Self {
        Self { flags: self.flags | 1 << 2, chip_id: [0; 64], ..self }
    }

    /// The 672 bytes that are signed.
    #[must_use]
    pub fn signed_part(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(0x2a0);
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        put(&self.version.to_le_bytes());
        put(&self.guest_svn.to_le_bytes());
        put(&self.policy.to_le_bytes());
        put(&self.family_id);
        put(&self.image_id);
        put(&self.vmpl.to_le_bytes());
        put(&self.algorithm.to_le_bytes());
        put(&self.current_tcb);
        put(&self.platform.to_le_bytes());
        put(&self.flags.to_le_bytes());
        put(&[0; 4]);
        put(&self.report_data);
        put(&self.measurement);
        put(&self.host_data);
        put(&self.id_key_digest);
        put(&self.author_key_digest);
        put(&self.report_id);
        put(&[0xff; 32]);
        put(&self.reported_tcb);
        put(if self.version < 3 { &[0; 3] } else { &self.cpu });
        put(&[0; 21]);
        put(&self.chip_id);
        put(&self.committed_tcb);
        put(&self.current_version);
        put(&[0]);
        put(&self.committed_version);
        put(&[0]);
        put(&self.launch_tcb);
        let (launch, current) = if self.version < 5 { (0, 0) } else { self.mitigations };
        put(&launch.to_le_bytes());
        put(&current.to_le_bytes());
        put(&[0; 0x2a0 - 0x208]);
        for (offset, byte) in &self.patches {
            *out.get_mut(*offset).expect("inside of the signed part") = *byte;
        }
        out
    }
}

impl Vek {
    /// Makes the report and signs it: 1184 bytes.
    #[must_use]
    pub fn sign(&self, spec: &ReportSpec) -> Vec<u8> {
        let mut report = spec.signed_part();
        let signature = self.sign_bytes(&report);
        for number in signature.chunks(48) {
            report.extend(number.iter().rev());
            report.extend_from_slice(&[0; 24]);
        }
        report.resize(1184, 0);
        report
    }
}
