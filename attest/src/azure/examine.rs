//! The command's road for a blob and what lies beside it: all questions and all answers, for a person to read. Opens
//! nothing.

use std::borrow::Cow;

use super::{AzureClaims, AzureRefusal, Hcl, Question, RuntimeData, Vouched};
use crate::{
    attested::PinnedMachine,
    checks::{Check, Outcome},
    reference::ReferenceValues,
    snp::{self, EndorsedVek, Report, ReportId, SnpClaims, SnpEvidence, Verdict},
    tpm::{self, algorithm::HashAlg, attestation_key, key::Key, public::Scheme},
};

/// A blob and what was found beside it, as bytes of files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// What NV index 0x01400001 has.
    pub blob: &'a [u8],
    /// AMD's certificates in DER, in any order.
    pub certificates: &'a [Vec<u8>],
    /// The vTPM's quote. Where it has no public area, that of the key in the blob is taken, by Azure's template; its
    /// signature may be a TPMT_SIGNATURE, or bare as some tools write it.
    pub quote: Option<tpm::examine::Files<'a>>,
}

/// What to hold a blob against. What is `None` leaves its questions open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The time at which certificates and lists must be valid, in seconds since 1970.
    pub now: u64,
    /// Reference values with `[[snp]]` for the paravisor, and `[[tpm]]` for what it booted.
    pub reference: Option<&'a ReferenceValues>,
    /// Revocation lists in DER.
    pub crls: &'a [Vec<u8>],
    /// The guest that it has to be.
    pub report_id: Option<&'a ReportId>,
    /// The machine that it has to run on.
    pub machine: Option<PinnedMachine<'a>>,
    /// What the quote has to answer.
    pub challenge: Option<&'a [u8]>,
}

/// Questions, answers, and what comes of them. Plain data: it proves nothing to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// All questions that were asked, in order.
    pub checks: Vec<Check>,
    /// What comes of them.
    pub verdict: Verdict,
    /// What the report says, if it is authentic.
    pub snp: Option<SnpClaims>,
    /// What the paravisor says, if the report vouches for it.
    pub claims: Option<AzureClaims>,
}

/// Asks a blob everything.
///
/// ```
/// use blindferry_attest::{azure::{Files, Request, examine}, snp::Verdict};
///
/// let examination = examine(&Files { blob: b"HCLB", ..Files::default() }, &Request::default());
/// assert_eq!(examination.verdict, Verdict::Refused("azure-length"));
/// ```
#[must_use]
pub fn examine(files: &Files<'_>, request: &Request<'_>) -> Examination {
    let mut checks = Vec::new();
    let hcl = match Hcl::parse(files.blob) {
        Ok(hcl) => hcl,
        Err(refusal) => {
            let code = refusal.code();
            // TDX is no fault of the evidence, but a lack of this verifier.
            let (check, verdict) = match refusal.question() {
                Question::Tdx => (open(&refusal), Verdict::Unjudged(code)),
                _ => (refused(&refusal), Verdict::Refused(code)),
            };
            return Examination { checks: vec![check], verdict, snp: None, claims: None };
        }
    };
    let form = format!("version {}, AMD SEV-SNP, SHA-256", hcl.version());
    checks.push(Check::new("blob", form, "version 1 or 2, AMD SEV-SNP, SHA-256", Outcome::Passed));

    let vouched = vouched(&hcl, files, request);
    let runtime = match &vouched {
        Some(Ok((vouched, _))) => {
            let found = "SHA-256 in REPORT_DATA, from VMPL 0";
            checks.push(Check::new(Question::Binding.name(), found, found, Outcome::Passed));
            Some(vouched.runtime())
        }
        Some(Err(refusal)) => {
            checks.push(refused(refusal));
            None
        }
        // The list of the report, which follows, says why.
        None => None,
    };
    let report_data = match &vouched {
        Some(Ok((_, data))) => Some(*data),
        _ => None,
    };
    let snp = SnpEvidence::new(hcl.report().to_vec(), files.certificates.to_vec(), vec![]).ok().map(|evidence| {
        let Request { now, reference, crls, report_id, machine, .. } = *request;
        snp::examine(&evidence, &snp::Request { now, reference, crls, report_data, report_id, machine })
    });
    let binding = vouched.as_ref().and_then(|vouched| vouched.as_ref().err());
    let mut verdicts: Vec<_> = binding.map(|refusal| Verdict::Refused(refusal.code())).into_iter().collect();
    verdicts.push(snp.as_ref().map_or(Verdict::Unjudged("evidence-part"), |snp| snp.verdict));
    if let Some(snp) = &snp {
        checks.extend(snp.checks.iter().cloned());
    }
    match (runtime, files.quote) {
        (Some(runtime), Some(quote)) => verdicts.push(quoted(&mut checks, runtime, &quote, request, Outcome::Passed)),
        // Nothing vouches for the blob, so a quote by its key says nothing; but one by another key is wrong all the same.
        (None, Some(quote)) if vouched.is_none() => {
            if let Ok(runtime) = RuntimeData::parse(hcl.runtime())
                && let refused @ Verdict::Refused(_) = quoted(&mut checks, &runtime, &quote, request, Outcome::Open)
            {
                verdicts.push(refused);
            }
        }
        (Some(_), None) => {
            let wanted = "a quote by the key in the blob: without, nothing says what was booted, or when";
            checks.push(Check::new(Question::Ak.name(), "no quote", wanted, Outcome::Open));
        }
        (None, _) => {}
    }
    let verdict = worst(&verdicts).unwrap_or(Verdict::Accepted);
    let claims = runtime.map(|runtime| runtime.claims().clone());
    Examination { checks, verdict, snp: snp.and_then(|snp| snp.claims), claims }
}

/// What the report vouches for; nothing where it is not authentic.
fn vouched(
    hcl: &Hcl<'_>,
    files: &Files<'_>,
    request: &Request<'_>,
) -> Option<Result<(Vouched, snp::ReportData), AzureRefusal>> {
    let amd = snp::Anchors::amd();
    let anchors = request.reference.map_or(&amd, ReferenceValues::anchors);
    let report = Report::parse(hcl.report()).ok()?;
    let beside = SnpEvidence::new(hcl.report().to_vec(), files.certificates.to_vec(), vec![]).ok()?;
    let vek = EndorsedVek::of_evidence(&report, &beside, request.crls, anchors, request.now).ok()?;
    let authentic = vek.authenticate(report, request.now).ok()?;
    let data = authentic.body().report_data;
    Some(Vouched::open(hcl, &authentic).map(|vouched| (vouched, data)))
}

fn quoted(
    checks: &mut Vec<Check>,
    runtime: &RuntimeData,
    quote: &tpm::examine::Files<'_>,
    request: &Request<'_>,
    vouched: Outcome,
) -> Verdict {
    let scheme = Scheme::RsaSsa(HashAlg::Sha256);
    let template = attestation_key::template(runtime.ak(), scheme);
    let told = quote.ak_public.map(tpm::public::Public::parse);
    if let Some(Ok(other)) = &told
        && other.key() != runtime.ak()
    {
        let refusal = AzureRefusal::new(Question::Ak, "another key's public area", "that of HCLAkPub");
        checks.push(refused(&refusal));
        return Verdict::Refused(refusal.code());
    }
    checks.push(Check::new(Question::Ak.name(), "HCLAkPub", "the key in a blob that is vouched for", vouched));
    let signature = tpmt_signature(quote.signature, runtime.ak());
    let files = tpm::examine::Files { ak_public: quote.ak_public.or(Some(&template)), signature: &signature, ..*quote };
    let request = tpm::examine::Request { reference: request.reference, ak_name: None, challenge: request.challenge };
    let examination = tpm::examine::examine(&files, &request);
    checks.extend(examination.checks);
    examination.verdict
}

/// A signature as long as the key is bare: without its algorithm and length in front.
fn tpmt_signature<'a>(signature: &'a [u8], ak: &Key) -> Cow<'a, [u8]> {
    match ak {
        Key::Rsa { modulus, .. } if modulus.len() == signature.len() => {
            let mut out = vec![0x00, 0x14, 0x00, 0x0b];
            sized(&mut out, signature);
            Cow::Owned(out)
        }
        _ => Cow::Borrowed(signature),
    }
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn refused(refusal: &AzureRefusal) -> Check {
    let code = refusal.code();
    let check = Check::new(refusal.question().name(), refusal.found(), refusal.wanted(), Outcome::Refused(code));
    check.advised(refusal.question().advice())
}

fn open(refusal: &AzureRefusal) -> Check {
    Check::new(refusal.question().name(), refusal.found(), refusal.wanted(), Outcome::Open)
}

/// A refusal before what could not be judged, and that before what was accepted.
fn worst(verdicts: &[Verdict]) -> Option<Verdict> {
    let refused = verdicts.iter().find(|verdict| matches!(verdict, Verdict::Refused(_)));
    refused.or_else(|| verdicts.iter().find(|verdict| matches!(verdict, Verdict::Unjudged(_)))).copied()
}
