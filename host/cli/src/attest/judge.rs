//! Judges what was put together, by the questions of the library.

mod certificates;
mod logs;

use super::gather::Case;
use super::input::InputError;
use crate::exit::Exit;
use blindferry_attest::azure;
use blindferry_attest::checks::{Check, Outcome};
use blindferry_attest::evidence::EvidenceError;
use blindferry_attest::reference::{Danger, ReferenceValues};
use blindferry_attest::snp::{self, ReportData, ReportId, SnpEvidence, Verdict};
use blindferry_attest::tpm::quote::Quote;
use blindferry_attest::tpm::{AkName, examine as quotes};
use serde::Serialize;
use serde_json::{Value, json};
use std::process::ExitCode;

/// What to hold evidence against. What is missing leaves its questions open.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) reference: Option<&'a ReferenceValues>,
    pub(super) now: u64,
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) report_data: Option<ReportData>,
    pub(super) report_id: Option<&'a ReportId>,
    pub(super) challenge: Option<&'a [u8]>,
    pub(super) ak_name: Option<&'a AkName>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Judgement {
    /// What was judged, in a stable word.
    pub(super) kind: &'static str,
    pub(super) verdict: Word,
    pub(super) rows: Vec<Row>,
    /// The reference values that accepted, or came closest.
    pub(super) reference: Option<String>,
    /// What the evidence says, where it is authentic.
    pub(super) claims: Value,
    /// What the reference values accept dangerously.
    pub(super) dangers: Vec<String>,
}

/// The verdict, and the code of what decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Accepted,
    Refused(&'static str),
    Unjudged(&'static str),
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// `None` where it is open.
    pub(super) ok: Option<bool>,
    pub(super) found: String,
    pub(super) wanted: String,
    pub(super) code: Option<&'static str>,
    #[serde(skip)]
    pub(super) advice: Option<&'static str>,
}

/// Judges.
///
/// # Errors
/// [`InputError`], when there is nothing to judge.
pub(super) fn judge(mut case: Case, question: &Question<'_>) -> Result<Judgement, InputError> {
    let pcrs = case.settle();
    let pcrs = pcrs.as_deref();
    if case.tdx.is_some() {
        return Ok(tdx());
    }
    match (&case.hcl, &case.report, &case.quote) {
        (Some(_), Some(_), _) => Err(InputError::Several { one: "an SEV-SNP report", other: "an Azure HCL report" }),
        (None, Some(_), Some(_)) => Err(InputError::Several { one: "an SEV-SNP report", other: "a TPM quote" }),
        (Some(blob), None, _) => Ok(azure(&case, blob, pcrs, question)),
        (None, Some(report), None) => snp(&case, report, question),
        (None, None, Some(attest)) => Ok(tpm(&case, attest, pcrs, question)),
        (None, None, None) if case.event_log.is_some() || case.ima.is_some() => Ok(logs::judge(&case, pcrs)),
        (None, None, None) if !case.certificates.is_empty() => Ok(certificates::judge(&case, question)),
        (None, None, None) if !case.crls.is_empty() => Ok(certificates::judge_lists(&case, question)),
        (None, None, None) => Err(InputError::Nothing { found: case.left_over() }),
    }
}

fn snp(case: &Case, report: &[u8], question: &Question<'_>) -> Result<Judgement, InputError> {
    let Question { reference, now, report_data, report_id, .. } = *question;
    let evidence = SnpEvidence::new(report.to_vec(), case.certificates.clone(), case.crls.clone());
    // A report of an impossible length is judged without its certificates: its length is what is wrong.
    let evidence = match evidence {
        Err(EvidenceError::Part { part: "report", found }) => {
            let row = Row::refused("report length", format!("{found} bytes"), "1184 bytes", "snp-length");
            return Ok(Judgement::new("snp-report", Word::Refused("snp-length"), vec![row]));
        }
        other => other.map_err(|error| InputError::Bounds { what: error.to_string() })?,
    };
    let request = snp::Request { now, reference, crls: &[], report_data, report_id, machine: None };
    let examination = snp::examine(&evidence, &request);
    let claims = examination.claims.as_ref().map_or(Value::Null, value);
    let judgement = Judgement::new("snp-report", examination.verdict.into(), rows(examination.checks));
    Ok(Judgement { claims, reference: examination.reference, ..judgement })
}

fn azure(case: &Case, blob: &[u8], pcrs: Option<&[(u8, [u8; 32])]>, question: &Question<'_>) -> Judgement {
    let Question { reference, now, report_id, challenge, .. } = *question;
    let signature = case.bare_signature().unwrap_or_default();
    let quote = case.quote.as_deref().map(|attest| files(case, attest, signature, pcrs));
    let files = azure::Files { blob, certificates: &case.certificates, quote };
    let request = azure::Request { now, reference, crls: &case.crls, report_id, machine: None, challenge };
    let azure::Examination { checks, verdict, snp, claims, .. } = azure::examine(&files, &request);
    let claims = match (snp, claims) {
        (None, None) => Value::Null,
        (snp, azure) => json!({ "snp": snp, "azure": azure }),
    };
    Judgement { claims, ..Judgement::new("azure-hcl", verdict.into(), rows(checks)) }
}

fn tpm(case: &Case, attest: &[u8], pcrs: Option<&[(u8, [u8; 32])]>, question: &Question<'_>) -> Judgement {
    let Some(_given) = case.bare_signature() else {
        let row = Row::open("signature", "none", "the signature of the quote (TPMT_SIGNATURE)");
        return Judgement::new("tpm-quote", Word::Unjudged("tpm-signature-missing"), vec![row]);
    };
    let signature = case.tpm_signature();
    let certified = certificates::key_of_leaf(&case.certificates);
    let mut files = files(case, attest, &signature, pcrs);
    if files.ak_public.is_none() && files.ak_key.is_none() {
        files.ak_key = certified.as_ref();
    }
    let request =
        quotes::Request { reference: question.reference, ak_name: question.ak_name, challenge: question.challenge };
    let quotes::Examination { checks, verdict, reference, .. } = quotes::examine(&files, &request);
    let mut rows = rows(checks);
    rows.extend(certificates::beside_quote(case));
    let signed = rows.iter().any(|row| row.name == "signature" && row.ok == Some(true));
    let values = rows.iter().any(|row| row.name == "PCR values" && row.ok == Some(true));
    let claims = match Quote::parse(attest) {
        Ok(quote) if signed => quote_claims(&quote, pcrs.filter(|_| values)),
        _ => Value::Null,
    };
    // A certificate of another key is the one refusal that the library did not see.
    let verdict = match (Word::from(verdict), rows.iter().find_map(|row| row.code)) {
        (Word::Refused(code), _) | (_, Some(code)) => Word::Refused(code),
        (other, None) => other,
    };
    Judgement { claims, reference, ..Judgement::new("tpm-quote", verdict, rows) }
}

fn files<'a>(
    case: &'a Case,
    attest: &'a [u8],
    signature: &'a [u8],
    pcrs: Option<&'a [(u8, [u8; 32])]>,
) -> quotes::Files<'a> {
    quotes::Files {
        attest,
        signature,
        ak_public: case.public.as_deref(),
        ak_key: case.key.as_ref(),
        pcrs,
        event_log: case.event_log.as_deref(),
        ima_log: case.ima.as_deref(),
    }
}

fn quote_claims(quote: &Quote, pcrs: Option<&[(u8, [u8; 32])]>) -> Value {
    let clock = quote.clock();
    let pcrs: Option<serde_json::Map<String, Value>> =
        pcrs.map(|pcrs| pcrs.iter().map(|(pcr, value)| (pcr.to_string(), hex::encode(value).into())).collect());
    json!({
        "challenge": hex::encode(quote.challenge()),
        "firmware": format!("{:016x}", quote.firmware()),
        "clock_ms": clock.clock,
        "resets": clock.reset_count,
        "restarts": clock.restart_count,
        "clock_safe": clock.safe,
        "pcrs": pcrs,
    })
}

/// Intel's are recognised, so that nobody takes "unknown file" for a hint that something is broken.
fn tdx() -> Judgement {
    let row = Row::open("platform", "Intel TDX", "AMD SEV-SNP or TPM 2.0: TDX is not supported");
    Judgement::new("tdx-quote", Word::Unjudged("tdx-unsupported"), vec![row])
}

fn rows(checks: Vec<Check>) -> Vec<Row> {
    let row = |check: Check| {
        let (ok, code) = match check.outcome() {
            Outcome::Passed => (Some(true), None),
            Outcome::Refused(code) => (Some(false), Some(code)),
            Outcome::Open => (None, None),
        };
        let (found, wanted) = (check.found().to_owned(), check.wanted().to_owned());
        Row { name: check.name(), ok, found, wanted, code, advice: check.advice() }
    };
    checks.into_iter().map(row).collect()
}

fn value(claims: &impl Serialize) -> Value {
    // Plain data: it has no map whose keys are no text.
    serde_json::to_value(claims).unwrap_or(Value::Null)
}

impl Judgement {
    fn new(kind: &'static str, verdict: Word, rows: Vec<Row>) -> Self {
        Self { kind, verdict, rows, reference: None, claims: Value::Null, dangers: Vec::new() }
    }

    pub(super) fn with_dangers(self, dangers: Vec<Danger<'_>>) -> Self {
        let told = |danger: Danger<'_>| format!("{} of {:?}: {}", danger.key, danger.name, danger.reason);
        Self { dangers: dangers.into_iter().map(told).collect(), ..self }
    }

    /// The question that decided, where one did.
    pub(super) fn decisive(&self) -> Option<&Row> {
        match self.verdict {
            Word::Accepted => None,
            Word::Refused(code) => self.rows.iter().find(|row| row.code == Some(code)),
            Word::Unjudged(_) => self.rows.iter().rev().find(|row| row.ok.is_none()),
        }
    }

    /// What can be done about it.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self.verdict {
            Word::Accepted => None,
            Word::Refused(_) => self.decisive().and_then(|row| row.advice),
            Word::Unjudged(code) => Some(advice_for_missing(code)),
        }
    }
}

/// What to give where something is missing.
fn advice_for_missing(code: &str) -> &'static str {
    match code {
        "snp-certificate-missing" => {
            "give the VCEK or VLEK of this chip and TCB with --cert: the host has it (`snpguest certificates`), and AMD's key \
             distribution service; `attest explain` shows chip id and TCB"
        }
        "tpm-ak-missing" => "give the public area of the attestation key (tpm2_readpublic -f tss, or tpm2_createak -u)",
        "tpm-pcrs-missing" => "give the PCR values that were quoted (tpm2_quote -o)",
        "tpm-signature-missing" => "give the signature that came with the quote (tpm2_quote -s)",
        "tpm-quote-missing" => "give the quote, its signature, the attestation key and the PCR values too",
        "reference-missing" | "reference-other-platform" => {
            "give reference values for this platform: [[snp]] for SEV-SNP, [[tpm]] for a TPM"
        }
        "ek-root-missing" => {
            "give the manufacturer's root with --root; take it from the manufacturer, not from the machine"
        }
        "tdx-unsupported" | "azure-tdx" => "use a tool for Intel TDX; this one knows AMD SEV-SNP and TPM 2.0",
        _ => "give what is missing",
    }
}

impl Word {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused(_) => "refused",
            Self::Unjudged(_) => "unjudged",
        }
    }

    pub(super) fn code(self) -> Option<&'static str> {
        match self {
            Self::Accepted => None,
            Self::Refused(code) | Self::Unjudged(code) => Some(code),
        }
    }

    pub(super) fn exit(self) -> ExitCode {
        match self {
            Self::Accepted => ExitCode::SUCCESS,
            Self::Refused(_) => Exit::Refused.into(),
            Self::Unjudged(_) => Exit::Unjudged.into(),
        }
    }
}

impl From<Verdict> for Word {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accepted => Self::Accepted,
            Verdict::Refused(code) => Self::Refused(code),
            Verdict::Unjudged(code) => Self::Unjudged(code),
        }
    }
}

impl Row {
    fn passed(name: &'static str, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { name, ok: Some(true), found: found.into(), wanted: wanted.into(), code: None, advice: None }
    }

    fn open(name: &'static str, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { ok: None, ..Self::passed(name, found, wanted) }
    }

    fn refused(name: &'static str, found: impl Into<String>, wanted: impl Into<String>, code: &'static str) -> Self {
        Self { ok: Some(false), code: Some(code), ..Self::passed(name, found, wanted) }
    }

    fn advised(self, advice: &'static str) -> Self {
        Self { advice: Some(advice), ..self }
    }
}
