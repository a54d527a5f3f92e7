//! Which parts of evidence a file has, by its content. A right guess proves nothing; a wrong one can be overruled.

use super::input::{Content, InputError, Named};
use super::pcrs::PcrFile;
use blindferry_attest::evidence::{Evidence, TpmEvidence};
use blindferry_attest::kind::{Kind, recognise as by_form};
use blindferry_attest::snp::SnpEvidence;
use blindferry_attest::snp::report::REPORT_LEN;
use blindferry_attest::snp::table::CertificateTable;
use blindferry_attest::tpm::ima;
use blindferry_attest::tpm::key::Key;
use blindferry_attest::tpm::public::Public;
use blindferry_attest::tpm::signature::Signature;
use std::path::PathBuf;
use x509_parser::pem::Pem;

/// One part of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// ATTESTATION_REPORT, or what should be one.
    Report(Vec<u8>),
    Hcl(Vec<u8>),
    /// TPMS_ATTEST, or what should be one.
    Quote(Vec<u8>),
    /// TPMT_SIGNATURE, or a bare signature.
    Signature(Vec<u8>),
    /// TPMT_PUBLIC.
    Public(Vec<u8>),
    /// A key without the rest of its public area.
    Key(Key),
    Pcrs(PcrFile),
    /// PCR values without a word of which, or a bare RSA signature: the quote tells.
    Bare(Vec<u8>),
    EventLog(Vec<u8>),
    Ima(Vec<u8>),
    /// DER, or what should be.
    Certificate(Vec<u8>),
    /// DER, or what should be.
    Crl(Vec<u8>),
    Tdx(Vec<u8>),
}

/// A file and its parts.
#[derive(Debug)]
pub(super) struct Recognised {
    pub(super) path: PathBuf,
    /// What the file is as a whole, as people call it.
    pub(super) name: &'static str,
    pub(super) parts: Vec<Part>,
}

impl Recognised {
    /// Certificates alone.
    pub(super) fn into_certificates(self) -> impl Iterator<Item = Vec<u8>> {
        self.parts.into_iter().filter_map(|part| match part {
            Part::Certificate(der) => Some(der),
            _ => None,
        })
    }
}

/// Finds out what a file is.
///
/// # Errors
/// [`InputError::Unknown`]; [`InputError::Part`] when it is not what it is said to be, or breaks off.
pub(super) fn recognise(content: &Content) -> Result<Recognised, InputError> {
    match content.part {
        Some(Named::Certificate) => certificates(content),
        Some(Named::Crl) => crls(content),
        Some(part) => named(content, part),
        None => guessed(content),
    }
}

/// A file of certificates, in DER or PEM.
///
/// # Errors
/// [`InputError::Part`] when it has none.
pub(super) fn certificates(content: &Content) -> Result<Recognised, InputError> {
    let wanted = "a certificate in DER or PEM";
    match by_form(&content.bytes) {
        Kind::Pem => {
            let file = pem(content)?;
            let none = !file.parts.iter().any(|part| matches!(part, Part::Certificate(_)));
            if none { Err(not(content, wanted, "no CERTIFICATE in it".to_owned())) } else { Ok(file) }
        }
        // A damaged certificate is a certificate: the chain says what is wrong with it.
        _ if content.bytes.first() == Some(&0x30) => {
            Ok(recognised(content, "certificate", vec![Part::Certificate(content.bytes.clone())]))
        }
        _ => Err(not(content, wanted, "neither of the two".to_owned())),
    }
}

/// A file of revocation lists, in DER or PEM.
///
/// # Errors
/// [`InputError::Part`] when it has none.
pub(super) fn crls(content: &Content) -> Result<Recognised, InputError> {
    match by_form(&content.bytes) {
        Kind::Pem => pem(content),
        _ if content.bytes.first() == Some(&0x30) => {
            Ok(recognised(content, "revocation list", vec![Part::Crl(content.bytes.clone())]))
        }
        _ => Err(not(content, "a revocation list in DER or PEM", "neither of the two".to_owned())),
    }
}

fn guessed(content: &Content) -> Result<Recognised, InputError> {
    let bytes = content.bytes.as_slice();
    let whole = |name, part: fn(Vec<u8>) -> Part| Ok(recognised(content, name, vec![part(bytes.to_vec())]));
    match by_form(bytes) {
        Kind::SnpReport => return whole(Kind::SnpReport.name(), Part::Report),
        Kind::SnpExtendedReport => return extended(content),
        Kind::Hcl => return whole(Kind::Hcl.name(), Part::Hcl),
        Kind::TpmQuote => return whole(Kind::TpmQuote.name(), Part::Quote),
        Kind::TdxQuote => return whole(Kind::TdxQuote.name(), Part::Tdx),
        Kind::Certificate => return whole(Kind::Certificate.name(), Part::Certificate),
        Kind::Crl => return whole(Kind::Crl.name(), Part::Crl),
        Kind::Pem => return pem(content),
        // What follows is told apart better here.
        _ => {}
    }
    if let Ok(evidence) = Evidence::decode(bytes) {
        return Ok(recognised(content, "evidence of a session", of_evidence(evidence)));
    }
    if by_form(bytes) == Kind::SnpCertificateTable {
        return table(content);
    }
    if let Some(part) = public(bytes) {
        return Ok(recognised(content, "TPM public area", vec![part]));
    }
    if Signature::parse(bytes).is_ok() {
        return whole("TPM signature", Part::Signature);
    }
    if let Some(key) = Key::from_spki(bytes) {
        return Ok(recognised(content, "public key", vec![Part::Key(key)]));
    }
    if let Some(values) = PcrFile::read(bytes) {
        return Ok(recognised(content, "PCR values", vec![Part::Pcrs(values)]));
    }
    if is_ima(bytes) {
        return whole("IMA list", Part::Ima);
    }
    if by_form(bytes) == Kind::EventLog || looks_like_event_log(bytes) {
        return whole(Kind::EventLog.name(), Part::EventLog);
    }
    if looks_like_report(bytes) {
        return whole("SEV-SNP report, damaged", Part::Report);
    }
    if looks_like_quote(bytes) {
        return whole("TPM 2.0 quote, damaged", Part::Quote);
    }
    if looks_bare(bytes) {
        return whole("bare PCR values or signature", Part::Bare);
    }
    Err(InputError::Unknown { path: content.path.clone(), length: bytes.len() })
}

fn named(content: &Content, part: Named) -> Result<Recognised, InputError> {
    let bytes = content.bytes.as_slice();
    let whole = |name, part: fn(Vec<u8>) -> Part| Ok(recognised(content, name, vec![part(bytes.to_vec())]));
    match part {
        Named::Report if bytes.len() > REPORT_LEN => extended(content),
        Named::Report => whole(Kind::SnpReport.name(), Part::Report),
        Named::Table => table(content),
        Named::Hcl => whole(Kind::Hcl.name(), Part::Hcl),
        Named::Quote => whole(Kind::TpmQuote.name(), Part::Quote),
        Named::Signature => whole("TPM signature", Part::Signature),
        Named::EventLog => whole(Kind::EventLog.name(), Part::EventLog),
        Named::Ima => whole("IMA list", Part::Ima),
        Named::Pcrs => match PcrFile::read(bytes) {
            Some(values) => Ok(recognised(content, "PCR values", vec![Part::Pcrs(values)])),
            None if bytes.len().is_multiple_of(32) && bytes.len() <= 24 * 32 => whole("PCR values", Part::Bare),
            None => Err(not(content, "PCR values", "neither a form of tpm2-tools nor SHA-256 digests".to_owned())),
        },
        Named::Public => match public(bytes).or_else(|| Key::from_spki(bytes).map(Part::Key)) {
            Some(part) => Ok(recognised(content, "TPM public area", vec![part])),
            None if by_form(bytes) == Kind::Pem => pem(content),
            None => whole("TPM public area", Part::Public),
        },
        Named::Evidence => match Evidence::decode(bytes) {
            Ok(evidence) => Ok(recognised(content, "evidence of a session", of_evidence(evidence))),
            Err(error) => Err(not(content, "evidence of a session", error.to_string())),
        },
        Named::Certificate => certificates(content),
        Named::Crl => crls(content),
    }
}

/// A report and the table behind it. Fewer bytes than the end of a table are no table, but a report that is too long.
fn extended(content: &Content) -> Result<Recognised, InputError> {
    let (report, rest) = content.bytes.split_at_checked(REPORT_LEN).unwrap_or((&content.bytes, &[]));
    if rest.len() < 24 {
        return Ok(recognised(content, Kind::SnpReport.name(), vec![Part::Report(content.bytes.clone())]));
    }
    let table = CertificateTable::parse(rest)
        .map_err(|error| not(content, "a report with a certificate table", error.to_string()))?;
    let mut parts = vec![Part::Report(report.to_vec())];
    parts.extend(of_table(table));
    Ok(recognised(content, Kind::SnpExtendedReport.name(), parts))
}

fn table(content: &Content) -> Result<Recognised, InputError> {
    let table = CertificateTable::parse(&content.bytes)
        .map_err(|error| not(content, "a certificate table", error.to_string()))?;
    Ok(recognised(content, Kind::SnpCertificateTable.name(), of_table(table).collect()))
}

fn of_table(table: CertificateTable) -> impl Iterator<Item = Part> {
    let (certificates, crls) = table.into_parts();
    certificates.into_iter().map(Part::Certificate).chain(crls.into_iter().map(Part::Crl))
}

/// All that a text in PEM has. Keys that are private, and what else there may be, is passed over.
fn pem(content: &Content) -> Result<Recognised, InputError> {
    let mut parts = Vec::new();
    for block in Pem::iter_from_buffer(&content.bytes).take(MAX_BLOCKS) {
        let block = block.map_err(|error| not(content, "text in PEM", error.to_string()))?;
        match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => parts.push(Part::Certificate(block.contents)),
            "X509 CRL" => parts.push(Part::Crl(block.contents)),
            "PUBLIC KEY" => match Key::from_spki(&block.contents) {
                Some(key) => parts.push(Part::Key(key)),
                None => {
                    let what = "a key that is neither RSA of 2048 to 4096 bits, nor P-256 or P-384";
                    return Err(not(content, "a public key that is known", what.to_owned()));
                }
            },
            _ => {}
        }
    }
    if parts.is_empty() {
        return Err(not(content, "of use", "no certificate, revocation list or public key in it".to_owned()));
    }
    let name = match parts.as_slice() {
        [Part::Certificate(_)] => Kind::Certificate.name(),
        [Part::Crl(_)] => Kind::Crl.name(),
        [Part::Key(_)] => "public key",
        _ => "certificates in PEM",
    };
    Ok(recognised(content, name, parts))
}

fn of_evidence(evidence: Evidence) -> Vec<Part> {
    match evidence {
        Evidence::Tpm(tpm) => of_tpm(&tpm),
        Evidence::Snp(snp) => {
            let mut parts = vec![Part::Report(snp.report().to_vec())];
            parts.extend(of_snp(&snp));
            parts
        }
        Evidence::Azure(azure) => {
            let mut parts = vec![Part::Hcl(azure.blob().to_vec())];
            parts.extend(of_snp(azure.beside_blob()));
            parts.extend(of_tpm(azure.tpm()));
            parts
        }
    }
}

fn of_snp(snp: &SnpEvidence) -> impl Iterator<Item = Part> {
    let certificates = snp.certificates().iter().cloned().map(Part::Certificate);
    certificates.chain(snp.crls().iter().cloned().map(Part::Crl))
}

fn of_tpm(tpm: &TpmEvidence) -> Vec<Part> {
    let mut parts = vec![
        Part::Quote(tpm.attest().to_vec()),
        Part::Signature(tpm.signature().to_vec()),
        Part::Public(tpm.ak_public().to_vec()),
        Part::Pcrs(PcrFile::of_sha256(tpm.pcrs())),
    ];
    parts.extend(tpm.event_log().map(|log| Part::EventLog(log.to_vec())));
    parts.extend(tpm.ima_log().map(|log| Part::Ima(log.to_vec())));
    parts
}

/// TPMT_PUBLIC, alone or with its length in front (TPM2B_PUBLIC).
fn public(bytes: &[u8]) -> Option<Part> {
    if Public::parse(bytes).is_ok() {
        return Some(Part::Public(bytes.to_vec()));
    }
    let (len, area) = bytes.split_first_chunk::<2>()?;
    let whole = usize::from(u16::from_be_bytes(*len)) == area.len() && Public::parse(area).is_ok();
    whole.then(|| Part::Public(area.to_vec()))
}

/// A list that parses, or one that begins as lists do: PCR 10, a digest, the name of a template.
fn is_ima(bytes: &[u8]) -> bool {
    let text = bytes.starts_with(b"10 ") || bytes.starts_with(b" 10 ");
    let binary = bytes.starts_with(&[10, 0, 0, 0])
        && bytes.get(..64).is_some_and(|head| head.windows(4).any(|word| word == b"ima-"));
    (text && bytes.get(..256).unwrap_or(bytes).windows(5).any(|word| word == b" ima-"))
        || binary
        || (bytes.starts_with(&[10, 0, 0, 0]) && ima::Log::parse(bytes).is_ok())
}

/// The first event extends nothing and has a digest of zeros, or its data has the name that opens newer logs: whatever the
/// lengths behind it say.
fn looks_like_event_log(bytes: &[u8]) -> bool {
    let no_action = bytes
        .get(..28)
        .is_some_and(|head| head.starts_with(&[0, 0, 0, 0, 3, 0, 0, 0]) && head.iter().skip(8).all(|byte| *byte == 0));
    no_action && bytes.len() > 32
}

/// Of the right length, or with a version and an algorithm where a report has them.
fn looks_like_report(bytes: &[u8]) -> bool {
    let versioned = matches!(bytes, [2..=5, 0, 0, 0, ..]) && bytes.get(0x34..0x38) == Some(&[1, 0, 0, 0]);
    bytes.len() == REPORT_LEN || (versioned && bytes.len() >= 0x2a0)
}

/// The type of a quote in its place, with a magic number before it that has at most a few bits of another.
fn looks_like_quote(bytes: &[u8]) -> bool {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else { return false };
    let differs = u32::from_be_bytes(*magic) ^ 0xff54_4347;
    rest.starts_with(&[0x80, 0x18]) && differs.count_ones() <= 8 && (40..=1024).contains(&bytes.len())
}

/// Digests of one bank, or an RSA or ECDSA signature by itself.
fn looks_bare(bytes: &[u8]) -> bool {
    let digests = [20, 32, 48].iter().any(|len| bytes.len().is_multiple_of(*len) && bytes.len() / len <= 24);
    let ecdsa = matches!(bytes, [0x30, len, 0x02, ..] if usize::from(*len) + 2 == bytes.len());
    digests || ecdsa || matches!(bytes.len(), 256 | 384 | 512)
}

fn recognised(content: &Content, name: &'static str, parts: Vec<Part>) -> Recognised {
    Recognised { path: content.path.clone(), name, parts }
}

fn not(content: &Content, wanted: &'static str, what: String) -> InputError {
    InputError::Part { path: content.path.clone(), wanted, what }
}

/// More blocks of PEM in a file are not looked at.
const MAX_BLOCKS: usize = 32;
