//! What are these bytes? A guess for a command that is given files; a right guess proves nothing.

use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, revocation_list::CertificateRevocationList};

use crate::snp::{
    report::{REPORT_LEN, Report},
    table::CertificateTable,
};

/// Kinds of files that evidence comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// ATTESTATION_REPORT of SEV-SNP.
    SnpReport,
    /// The same with a certificate table behind it, as an extended guest request gives it.
    SnpExtendedReport,
    /// A certificate table alone, as configfs-tsm gives it in `auxblob`.
    SnpCertificateTable,
    /// A blob of Azure's HCL, with a report inside.
    Hcl,
    /// TPMS_ATTEST of a quote.
    TpmQuote,
    /// A quote of Intel TDX: known, and not supported.
    TdxQuote,
    /// A log of firmware events, TCG PC Client.
    EventLog,
    /// One certificate in DER.
    Certificate,
    /// One revocation list in DER.
    Crl,
    /// Text in PEM.
    Pem,
    /// Nothing that this program knows.
    Unknown,
}

/// The kind of file that these bytes look like.
///
/// ```
/// use blindferry_attest::kind::{Kind, recognise};
///
/// assert_eq!(recognise(b"-----BEGIN CERTIFICATE-----\n"), Kind::Pem);
/// assert_eq!(recognise(b"\xffTCG\x80\x18"), Kind::TpmQuote);
/// assert_eq!(recognise(b"what is this?"), Kind::Unknown);
/// ```
#[must_use]
pub fn recognise(bytes: &[u8]) -> Kind {
    if bytes.starts_with(b"HCLA") {
        return Kind::Hcl;
    }
    if bytes.starts_with(b"\xffTCG\x80\x18") {
        return Kind::TpmQuote;
    }
    if bytes.trim_ascii_start().starts_with(b"-----BEGIN ") {
        return Kind::Pem;
    }
    if is_tdx_quote(bytes) {
        return Kind::TdxQuote;
    }
    if let Some((report, rest)) = bytes.split_at_checked(REPORT_LEN)
        && is_report(report)
    {
        return match rest {
            [] => Kind::SnpReport,
            table if CertificateTable::parse(table).is_ok() => Kind::SnpExtendedReport,
            _ => Kind::Unknown,
        };
    }
    if bytes.first() == Some(&0x30) {
        if X509Certificate::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty()) {
            return Kind::Certificate;
        }
        if CertificateRevocationList::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty()) {
            return Kind::Crl;
        }
    }
    if CertificateTable::parse(bytes).is_ok_and(|table| !table.is_empty()) {
        return Kind::SnpCertificateTable;
    }
    if is_event_log(bytes) {
        return Kind::EventLog;
    }
    Kind::Unknown
}

impl Kind {
    /// The kind as people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SnpReport => "SEV-SNP report",
            Self::SnpExtendedReport => "SEV-SNP report with certificate table",
            Self::SnpCertificateTable => "SEV-SNP certificate table",
            Self::Hcl => "Azure HCL report",
            Self::TpmQuote => "TPM 2.0 quote",
            Self::TdxQuote => "Intel TDX quote (not supported)",
            Self::EventLog => "event log",
            Self::Certificate => "certificate",
            Self::Crl => "revocation list",
            Self::Pem => "PEM",
            Self::Unknown => "unknown",
        }
    }
}

/// A version that is known, and reserved bytes that make chance improbable: a report with a fault is a report.
fn is_report(bytes: &[u8]) -> bool {
    let version = matches!(bytes, [2..=5, 0, 0, 0, ..]);
    version
        && bytes.get(0x4c..0x50) == Some(&[0; 4])
        && (Report::parse(bytes).is_ok()
            || bytes.get(0x208..0x2a0).is_some_and(|reserved| reserved.iter().all(|byte| *byte == 0)))
}

/// Version 4 or 5, attestation key ECDSA P-256, TEE type 0x81 (Intel TDX DCAP quoting library API, appendix A).
fn is_tdx_quote(bytes: &[u8]) -> bool {
    matches!(bytes, [4 | 5, 0, 2, 0, 0x81, 0, 0, 0, ..])
}

/// The first event, which has the form of TCG_PCR_EVENT in every log: a PCR, a type of event, a SHA-1 digest, data that
/// fits (TCG PC Client Platform Firmware Profile, section on event logs).
fn is_event_log(bytes: &[u8]) -> bool {
    let Some((header, rest)) = bytes.split_first_chunk::<32>() else { return false };
    let field = |at: usize| {
        let bytes = header.get(at..at.saturating_add(4))?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (Some(pcr), Some(kind), Some(len)) = (field(0), field(4), field(28)) else { return false };
    let known = matches!(kind, 1..=0x12) || kind >> 16 == 0x8000;
    pcr < 24 && known && usize::try_from(len).is_ok_and(|len| (1..=rest.len()).contains(&len))
}
