//! The form in which the evidence of a machine of Azure crosses a session: bytes within bounds, not parsed further.

use crate::{
    evidence::{EvidenceError, TpmEvidence},
    reader::Reader,
    snp::SnpEvidence,
};

/// The paravisor's blob, AMD's certificates, and a quote by the vTPM. Holding one tells you that every part is within
/// bounds; it tells you nothing about who made it.
#[derive(Debug, PartialEq, Eq)]
pub struct AzureEvidence {
    // With the blob in the place of the report: bounds and form are the same.
    snp: SnpEvidence,
    tpm: TpmEvidence,
}

impl AzureEvidence {
    /// Puts together: the blob as NV index 0x01400001 has it, at most 4096 bytes; certificates and revocation lists as for
    /// [`SnpEvidence::new`]; a quote by the vTPM's own key (handle 0x81000003).
    ///
    /// # Errors
    ///
    /// When a part is empty, too long, or there are too many.
    pub fn new(
        blob: Vec<u8>,
        certificates: Vec<Vec<u8>>,
        crls: Vec<Vec<u8>>,
        tpm: TpmEvidence,
    ) -> Result<Self, EvidenceError> {
        Ok(Self { snp: SnpEvidence::new(blob, certificates, crls)?, tpm })
    }

    /// The blob.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        self.snp.report()
    }

    /// The blob, with the certificates and revocation lists beside it.
    #[must_use]
    pub fn beside_blob(&self) -> &SnpEvidence {
        &self.snp
    }

    /// The vTPM's quote.
    #[must_use]
    pub fn tpm(&self) -> &TpmEvidence {
        &self.tpm
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, EvidenceError> {
        Ok(Self { snp: SnpEvidence::read(reader)?, tpm: TpmEvidence::read(reader)? })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.snp.write(out);
        self.tpm.write(out);
    }
}
