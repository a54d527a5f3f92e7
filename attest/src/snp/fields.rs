//! Reads the fields of a report one after the other, each reserved stretch in its place.

use super::{
    identifier::{ChipId, HostData, KeyDigest, Measurement, ReportData, ReportId},
    question::Question,
    refusal::SnpRefusal,
    report::{Body, Cpu, FirmwareVersion, GuestPolicy, Mitigations, PlatformInfo, REPORT_LEN},
    tcb::RawTcb,
};
use crate::reader::{Malformed, Reader};

/// The reader of a report, with what it found of the bytes that have to be zero.
pub(super) struct Fields<'a> {
    reader: Reader<'a>,
    /// The first reserved field that is not zero.
    reserved: Option<&'static str>,
}

impl<'a> Fields<'a> {
    /// The body of a report; the inner error is the first of: version, algorithm, signature padding, reserved bytes.
    ///
    /// # Errors
    ///
    /// The outer one, when a field ends early.
    pub(super) fn read(bytes: &'a [u8; REPORT_LEN]) -> Result<Result<Body, SnpRefusal>, Malformed> {
        let mut fields = Fields { reader: Reader::new(bytes), reserved: None };
        let version = fields.u32("VERSION")?;
        if !(2..=5).contains(&version) {
            return Ok(Err(SnpRefusal::new(Question::Version, version.to_string(), "2 to 5")));
        }
        let guest_svn = fields.u32("GUEST_SVN")?;
        let policy = GuestPolicy(fields.u64("POLICY")?);
        let family_id = fields.reader.array("FAMILY_ID")?;
        let image_id = fields.reader.array("IMAGE_ID")?;
        let vmpl = fields.u32("VMPL")?;
        let algorithm = fields.u32("SIGNATURE_ALGO")?;
        if algorithm != ECDSA_P384_SHA384 {
            let found = algorithm.to_string();
            return Ok(Err(SnpRefusal::new(Question::SignatureAlgorithm, found, "1 (ECDSA P-384 with SHA-384)")));
        }
        let current_tcb = RawTcb(fields.reader.array("CURRENT_TCB")?);
        let platform = PlatformInfo(fields.u64("PLATFORM_INFO")?);
        let flags = fields.u32("flags of the keys")?;
        fields.zero_if(flags >> 5 == 0, "reserved bits at 0x48");
        fields.zero(4, "reserved bytes at 0x4c")?;
        let report_data = ReportData::new(fields.reader.array("REPORT_DATA")?);
        let measurement = Measurement::new(fields.reader.array("MEASUREMENT")?);
        let host_data = HostData::new(fields.reader.array("HOST_DATA")?);
        let id_key_digest = KeyDigest::new(fields.reader.array("ID_KEY_DIGEST")?);
        let author_key_digest = KeyDigest::new(fields.reader.array("AUTHOR_KEY_DIGEST")?);
        let report_id = ReportId::new(fields.reader.array("REPORT_ID")?);
        let report_id_ma = ReportId::new(fields.reader.array("REPORT_ID_MA")?);
        let reported_tcb = RawTcb(fields.reader.array("REPORTED_TCB")?);
        let cpu = fields.cpu(version)?;
        fields.zero(0x1a0 - 0x18b, "reserved bytes at 0x18b")?;
        let chip_id = ChipId::new(fields.reader.array("CHIP_ID")?);
        let committed_tcb = RawTcb(fields.reader.array("COMMITTED_TCB")?);
        let current_version = fields.firmware_version("CURRENT_BUILD", "reserved byte at 0x1eb")?;
        let committed_version = fields.firmware_version("COMMITTED_BUILD", "reserved byte at 0x1ef")?;
        let launch_tcb = RawTcb(fields.reader.array("LAUNCH_TCB")?);
        let mitigations = fields.mitigations(version)?;
        fields.zero(0x2a0 - 0x208, "reserved bytes at 0x208")?;
        if let Err(refusal) = fields.signature_padding()? {
            return Ok(Err(refusal));
        }
        fields.reader.finish("ATTESTATION_REPORT")?;
        if let Some(field) = fields.reserved {
            return Ok(Err(SnpRefusal::new(Question::Reserved, format!("{field} not zero"), "zero")));
        }
        Ok(Ok(Body {
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            current_tcb,
            platform,
            author_key_enabled: flags & 1 != 0,
            chip_key_masked: flags & 2 != 0,
            signing_key: u8::try_from(flags >> 2 & 7).unwrap_or(u8::MAX),
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpu,
            chip_id,
            committed_tcb,
            current_version,
            committed_version,
            launch_tcb,
            mitigations,
        }))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.reader.array(field)?))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.reader.array(field)?))
    }

    fn zero(&mut self, len: usize, field: &'static str) -> Result<(), Malformed> {
        let zero = self.reader.bytes(len, field)?.iter().all(|byte| *byte == 0);
        self.zero_if(zero, field);
        Ok(())
    }

    fn zero_if(&mut self, zero: bool, field: &'static str) {
        if !zero {
            self.reserved.get_or_insert(field);
        }
    }

    /// The three bytes at 0x188, which are reserved before version 3.
    fn cpu(&mut self, version: u32) -> Result<Option<Cpu>, Malformed> {
        if version < 3 {
            self.zero(3, "reserved bytes at 0x188")?;
            return Ok(None);
        }
        let [family, model, stepping] = self.reader.array("CPUID_FAM_ID")?;
        Ok(Some(Cpu { family, model, stepping }))
    }

    fn firmware_version(&mut self, field: &'static str, reserved: &'static str) -> Result<FirmwareVersion, Malformed> {
        let [build, minor, major] = self.reader.array(field)?;
        self.zero(1, reserved)?;
        Ok(FirmwareVersion { major, minor, build })
    }

    /// The sixteen bytes at 0x1f8, which are reserved before version 5.
    fn mitigations(&mut self, version: u32) -> Result<Option<Mitigations>, Malformed> {
        if version < 5 {
            self.zero(16, "reserved bytes at 0x1f8")?;
            return Ok(None);
        }
        let launch = self.u64("LAUNCH_MIT_VECTOR")?;
        Ok(Some(Mitigations { launch, current: self.u64("CURRENT_MIT_VECTOR")? }))
    }

    /// R and S have 72 bytes each, of which 48 count, and 368 bytes follow them. None of the rest is signed.
    fn signature_padding(&mut self) -> Result<Result<(), SnpRefusal>, Malformed> {
        for (value, padding, name) in
            [(48, 24, "padding of R"), (48, 24, "padding of S"), (0, 0x4a0 - 0x330, "bytes behind the signature")]
        {
            self.reader.bytes(value, "SIGNATURE")?;
            if self.reader.bytes(padding, "SIGNATURE")?.iter().any(|byte| *byte != 0) {
                return Ok(Err(SnpRefusal::new(Question::SignatureEncoding, format!("{name} not zero"), "zero")));
            }
        }
        Ok(Ok(()))
    }
}

/// SIGNATURE_ALGO; 0 is invalid, all else reserved.
const ECDSA_P384_SHA384: u32 = 1;
