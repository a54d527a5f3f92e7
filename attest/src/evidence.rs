//! What a peer claims about itself, as bytes within bounds: parsed, not believed.

use blindferry_proto::{limits, logs::WantedLogs};

use crate::{
    azure::AzureEvidence,
    reader::{Malformed, Reader},
    snp::SnpEvidence,
};

/// No evidence is larger, in bytes. Without logs it has less than 16 KiB.
pub const MAX_EVIDENCE: usize = limits::MAX_EVIDENCE_WITH_LOGS;

/// The longest event log that evidence can have, in bytes: twice the longest that we have seen of a real machine.
pub const MAX_EVENT_LOG: usize = limits::MAX_EVENT_LOG;

/// The longest IMA list that evidence can have, in bytes: about 3000 files.
pub const MAX_IMA_LOG: usize = limits::MAX_IMA_LOG;

/// What a peer claims about itself. Holding one tells you:
/// - the bytes were within bounds, of a known version and platform, and none were left over;
/// - nothing else. To learn more, see [`appraise`](crate::attested::appraise).
#[derive(Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A quote by a TPM 2.0.
    Tpm(TpmEvidence),
    /// A report by the firmware of AMD SEV-SNP.
    Snp(SnpEvidence),
    /// A quote by the vTPM of a confidential machine of Azure, and the report that vouches for that vTPM.
    Azure(AzureEvidence),
}

/// A TPM 2.0 quote and what is needed to judge it. Holding one tells you that every part is within bounds and that the PCR
/// values are in order; it tells you nothing about who made it.
#[derive(Debug, PartialEq, Eq)]
pub struct TpmEvidence {
    attest: Vec<u8>,
    signature: Vec<u8>,
    ak_public: Vec<u8>,
    pcrs: Vec<(u8, [u8; 32])>,
    /// Empty when there is none, as is the next.
    event_log: Vec<u8>,
    ima_log: Vec<u8>,
}

/// Why bytes are not evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// More bytes than any evidence has; nothing was parsed.
    #[error("evidence has {found} bytes, more than {MAX_EVIDENCE}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Evidence of a version that this verifier does not know.
    #[error("evidence has version {found}, this verifier knows version {VERSION}")]
    Version {
        /// The version it claims.
        found: u8,
    },
    /// Evidence of a platform that this verifier does not know.
    #[error("evidence is of platform {found}, which this verifier does not know")]
    Platform {
        /// The platform it claims.
        found: u8,
    },
    /// A part is empty or has more bytes than its kind can have.
    #[error("{part} has {found} bytes: none, or more than it can have")]
    Part {
        /// The part.
        part: &'static str,
        /// Its length in bytes.
        found: usize,
    },
    /// A log has more bytes than evidence can carry.
    #[error("{log} has {found} bytes, more than the {limit} that evidence can carry")]
    Log {
        /// Which.
        log: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The most it can have, in bytes.
        limit: usize,
    },
    /// There are more of a kind than can be needed.
    #[error("evidence has {found} {part}, more than {limit}")]
    TooMany {
        /// The kind.
        part: &'static str,
        /// How many there are.
        found: usize,
        /// How many there can be.
        limit: usize,
    },
    /// PCR values must be of indices 0 to 23, each once, in ascending order.
    #[error("PCR values are not of indices 0 to 23, each once, in ascending order")]
    PcrOrder,
    /// The bytes do not have the form of evidence.
    #[error("cannot parse evidence")]
    Malformed(#[source] Malformed),
}

impl EvidenceError {
    /// A stable name for programs and for the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "evidence-too-long",
            Self::Version { .. } => "evidence-version",
            Self::Platform { .. } => "evidence-platform",
            Self::Part { .. } => "evidence-part",
            Self::Log { .. } => "evidence-log",
            Self::TooMany { .. } => "evidence-too-many",
            Self::PcrOrder => "evidence-pcr-order",
            Self::Malformed(_) => "evidence-malformed",
        }
    }
}

impl Evidence {
    /// Parses the form that [`Evidence::encode`] writes.
    ///
    /// # Errors
    ///
    /// Over-long input is refused before anything is parsed; unknown versions and platforms before their content is.
    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_EVIDENCE {
            return Err(EvidenceError::TooLong { found: bytes.len() });
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8("version").map_err(EvidenceError::Malformed)?;
        if version != VERSION {
            return Err(EvidenceError::Version { found: version });
        }
        let evidence = match reader.u8("platform").map_err(EvidenceError::Malformed)? {
            PLATFORM_TPM => Self::Tpm(TpmEvidence::read(&mut reader)?),
            PLATFORM_SNP => Self::Snp(SnpEvidence::read(&mut reader)?),
            PLATFORM_AZURE => Self::Azure(AzureEvidence::read(&mut reader)?),
            found => return Err(EvidenceError::Platform { found }),
        };
        reader.finish("evidence").map_err(EvidenceError::Malformed)?;
        Ok(evidence)
    }

    /// The logs that are in it.
    #[must_use]
    pub fn logs(&self) -> WantedLogs {
        match self {
            Self::Tpm(evidence) => evidence.logs(),
            Self::Snp(_) => WantedLogs::NONE,
            Self::Azure(evidence) => evidence.tpm().logs(),
        }
    }

    /// The platform, as claims name it.
    #[must_use]
    pub fn platform(&self) -> &'static str {
        match self {
            Self::Tpm(_) => "tpm",
            Self::Snp(_) => "snp",
            Self::Azure(_) => "azure",
        }
    }

    /// Version (1 byte), platform (1 byte), then the platform's parts. For a TPM: TPMS_ATTEST, TPMT_SIGNATURE and
    /// TPMT_PUBLIC, each with a big-endian 16-bit length before it; the number of PCR values (1 byte); for each, index
    /// (1 byte) and value (32 bytes). When there are logs, event log and IMA list follow, each with a big-endian 32-bit
    /// length before it, zero for one that is missing.
    /// For SEV-SNP: the report with a 16-bit length before it; the number of certificates
    /// (1 byte), each with a 16-bit length before it; the number of revocation lists, and each, in the same way.
    /// For Azure: as for SEV-SNP, with the paravisor's blob in the place of the report; then as for a TPM.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::Tpm(evidence) => {
                out.push(PLATFORM_TPM);
                evidence.write(&mut out);
            }
            Self::Snp(evidence) => {
                out.push(PLATFORM_SNP);
                evidence.write(&mut out);
            }
            Self::Azure(evidence) => {
                out.push(PLATFORM_AZURE);
                evidence.write(&mut out);
            }
        }
        out
    }
}

impl TpmEvidence {
    /// Puts the answers of a TPM together: TPMS_ATTEST and TPMT_SIGNATURE of TPM2_Quote, TPMT_PUBLIC of the attestation
    /// key, and the values of the quoted PCRs in the SHA-256 bank, in ascending order.
    ///
    /// # Errors
    ///
    /// When a part is empty or too long, or the PCR values are not in order.
    pub fn new(
        attest: Vec<u8>,
        signature: Vec<u8>,
        ak_public: Vec<u8>,
        pcrs: Vec<(u8, [u8; 32])>,
    ) -> Result<Self, EvidenceError> {
        for (part, bytes) in [("TPMS_ATTEST", &attest), ("TPMT_SIGNATURE", &signature), ("TPMT_PUBLIC", &ak_public)] {
            if bytes.is_empty() || bytes.len() > MAX_PART {
                return Err(EvidenceError::Part { part, found: bytes.len() });
            }
        }
        let ascending = pcrs.iter().zip(pcrs.iter().skip(1)).all(|((this, _), (next, _))| this < next);
        if !ascending || pcrs.iter().any(|(index, _)| *index > 23) {
            return Err(EvidenceError::PcrOrder);
        }
        Ok(Self { attest, signature, ak_public, pcrs, event_log: vec![], ima_log: vec![] })
    }

    /// Adds what Linux keeps of the events behind the PCR values: `binary_bios_measurements`, and
    /// `ascii_runtime_measurements` or one of its binary forms. An empty log is none.
    ///
    /// # Errors
    ///
    /// When one is too long.
    pub fn with_logs(self, event_log: Vec<u8>, ima_log: Vec<u8>) -> Result<Self, EvidenceError> {
        for (log, bytes, limit) in
            [("the event log", &event_log, MAX_EVENT_LOG), ("the IMA list", &ima_log, MAX_IMA_LOG)]
        {
            if bytes.len() > limit {
                return Err(EvidenceError::Log { log, found: bytes.len(), limit });
            }
        }
        Ok(Self { event_log, ima_log, ..self })
    }

    /// TPMS_ATTEST as the TPM marshalled it.
    #[must_use]
    pub fn attest(&self) -> &[u8] {
        &self.attest
    }

    /// TPMT_SIGNATURE over it.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// TPMT_PUBLIC of the key that is said to have signed.
    #[must_use]
    pub fn ak_public(&self) -> &[u8] {
        &self.ak_public
    }

    /// The PCR values that are said to be behind the quoted digest: SHA-256 bank, ascending.
    #[must_use]
    pub fn pcrs(&self) -> &[(u8, [u8; 32])] {
        &self.pcrs
    }

    /// The firmware's event log, when there is one.
    #[must_use]
    pub fn event_log(&self) -> Option<&[u8]> {
        Some(self.event_log.as_slice()).filter(|log| !log.is_empty())
    }

    /// The list of files that Linux measured, when there is one.
    #[must_use]
    pub fn ima_log(&self) -> Option<&[u8]> {
        Some(self.ima_log.as_slice()).filter(|log| !log.is_empty())
    }

    /// The logs that are in it.
    #[must_use]
    pub fn logs(&self) -> WantedLogs {
        WantedLogs { events: self.event_log().is_some(), ima: self.ima_log().is_some() }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, EvidenceError> {
        let malformed = EvidenceError::Malformed;
        let attest = reader.sized(MAX_PART, "TPMS_ATTEST").map_err(malformed)?.to_vec();
        let signature = reader.sized(MAX_PART, "TPMT_SIGNATURE").map_err(malformed)?.to_vec();
        let ak_public = reader.sized(MAX_PART, "TPMT_PUBLIC").map_err(malformed)?.to_vec();
        let count = reader.u8("PCR count").map_err(malformed)?;
        if count > 24 {
            return Err(EvidenceError::PcrOrder);
        }
        let mut pcrs = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let index = reader.u8("PCR index").map_err(malformed)?;
            pcrs.push((index, reader.array("PCR value").map_err(malformed)?));
        }
        let evidence = Self::new(attest, signature, ak_public, pcrs)?;
        if reader.is_empty() {
            return Ok(evidence);
        }
        let event_log = read_log(reader, MAX_EVENT_LOG, "event log").map_err(malformed)?;
        let ima_log = read_log(reader, MAX_IMA_LOG, "IMA list").map_err(malformed)?;
        if event_log.is_empty() && ima_log.is_empty() {
            // One way to write each evidence.
            return Err(malformed(Malformed::Value { field: "logs", found: 0 }));
        }
        evidence.with_logs(event_log.to_vec(), ima_log.to_vec())
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for part in [&self.attest, &self.signature, &self.ak_public] {
            // `new` keeps each part below MAX_PART, which fits.
            out.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
        out.push(u8::try_from(self.pcrs.len()).unwrap_or(u8::MAX));
        for (index, value) in &self.pcrs {
            out.push(*index);
            out.extend_from_slice(value);
        }
        if self.event_log().is_some() || self.ima_log().is_some() {
            for log in [&self.event_log, &self.ima_log] {
                out.extend_from_slice(&u32::try_from(log.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(log);
            }
        }
    }
}

fn read_log<'a>(reader: &mut Reader<'a>, limit: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
    match usize::try_from(reader.u32(field)?) {
        Ok(len) if len <= limit => reader.bytes(len, field),
        len => Err(Malformed::TooLong { field, found: len.unwrap_or(usize::MAX), limit }),
    }
}

/// The version that this verifier reads and writes.
const VERSION: u8 = 1;

/// The platform byte of a TPM 2.0.
const PLATFORM_TPM: u8 = 1;

/// The platform byte of AMD SEV-SNP.
const PLATFORM_SNP: u8 = 2;

/// The platform byte of Azure's confidential machines.
const PLATFORM_AZURE: u8 = 3;

/// The most bytes of one TPM structure: a signature by, and the public area of, an RSA key of 4096 bits take under 600.
const MAX_PART: usize = 1024;
