//! The form in which a guest's report and certificates cross a session: bytes within bounds, not parsed further.

use crate::{
    evidence::EvidenceError,
    reader::{Malformed, Reader},
};

/// A report and the certificates and revocation lists beside it. Holding one tells you that every part is within bounds;
/// it tells you nothing about who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpEvidence {
    report: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

impl SnpEvidence {
    /// Puts together: the report as the firmware gave it; certificates in DER, in any order, of which the VCEK or VLEK is
    /// needed and others (ASK, ASVK, ARK) may be there; revocation lists in DER, which may be there.
    ///
    /// # Errors
    ///
    /// When a part is empty, too long, or there are too many.
    pub fn new(report: Vec<u8>, certificates: Vec<Vec<u8>>, crls: Vec<Vec<u8>>) -> Result<Self, EvidenceError> {
        let certificate_parts = certificates.iter().map(|bytes| ("certificate", bytes));
        let crl_parts = crls.iter().map(|bytes| ("revocation list", bytes));
        for (part, bytes) in [("report", &report)].into_iter().chain(certificate_parts).chain(crl_parts) {
            if bytes.is_empty() || bytes.len() > MAX_PART {
                return Err(EvidenceError::Part { part, found: bytes.len() });
            }
        }
        for (part, found, limit) in
            [("certificates", certificates.len(), MAX_CERTIFICATES), ("revocation lists", crls.len(), MAX_CRLS)]
        {
            if found > limit {
                return Err(EvidenceError::TooMany { part, found, limit });
            }
        }
        Ok(Self { report, certificates, crls })
    }

    /// ATTESTATION_REPORT.
    #[must_use]
    pub fn report(&self) -> &[u8] {
        &self.report
    }

    /// Certificates in DER.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// Revocation lists in DER.
    #[must_use]
    pub fn crls(&self) -> &[Vec<u8>] {
        &self.crls
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, EvidenceError> {
        let report = reader.sized(MAX_PART, "report").map_err(EvidenceError::Malformed)?.to_vec();
        let certificates = list(reader, "certificates", MAX_CERTIFICATES, "certificate")?;
        let crls = list(reader, "revocation lists", MAX_CRLS, "revocation list")?;
        Self::new(report, certificates, crls)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        sized(out, &self.report);
        for list in [&self.certificates, &self.crls] {
            // `new` keeps the lists and each part below limits that fit.
            out.push(u8::try_from(list.len()).unwrap_or(u8::MAX));
            list.iter().for_each(|bytes| sized(out, bytes));
        }
    }
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn list(
    reader: &mut Reader<'_>,
    part: &'static str,
    limit: usize,
    one: &'static str,
) -> Result<Vec<Vec<u8>>, EvidenceError> {
    let count = usize::from(reader.u8(part).map_err(EvidenceError::Malformed)?);
    if count > limit {
        return Err(EvidenceError::TooMany { part, found: count, limit });
    }
    let read = (0..count).map(|_| Ok(reader.sized(MAX_PART, one)?.to_vec()));
    read.collect::<Result<_, Malformed>>().map_err(EvidenceError::Malformed)
}

/// The most bytes of one certificate or list: AMD's take 1.3 to 1.7 KiB, and its lists under 1 KiB.
pub(crate) const MAX_PART: usize = 4096;

/// The most certificates: a VCEK, a VLEK, what is above them, and room for one to spare.
pub(crate) const MAX_CERTIFICATES: usize = 8;

/// The most revocation lists: one for each root.
pub(crate) const MAX_CRLS: usize = 3;
