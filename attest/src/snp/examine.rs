//! The command's road: all questions and all answers, for a person to read. Opens nothing.

use super::{
    anchor::{Anchors, Root},
    ask::{Case, Wanted},
    authentic::Authentic,
    chain::EndorsedVek,
    claims::SnpClaims,
    crl::Revocation,
    evidence::SnpEvidence,
    identifier::{ReportData, ReportId},
    question::Question,
    refusal::SnpRefusal,
    report::Report,
    rules::Rules,
    vek::Holder,
};
use crate::{
    attested::PinnedMachine,
    checks::{Check, Outcome},
    moment::rfc3339,
    reference::ReferenceValues,
};

/// What to hold evidence against. What is `None` leaves its questions open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The time at which certificates and lists must be valid, in seconds since 1970.
    pub now: u64,
    /// Without, the built-in rules: all that needs no reference value.
    pub reference: Option<&'a ReferenceValues>,
    /// Revocation lists in DER, beside those of the evidence.
    pub crls: &'a [Vec<u8>],
    /// What the guest has to have asked for.
    pub report_data: Option<ReportData>,
    /// The guest that it has to be.
    pub report_id: Option<&'a ReportId>,
    /// The machine that it has to run on.
    pub machine: Option<PinnedMachine<'a>>,
}

/// Questions, answers, and what comes of them. Plain data: it proves nothing to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// All questions that were asked, in order. Where form, chain or signature fail, nothing further is asked.
    pub checks: Vec<Check>,
    /// What comes of them.
    pub verdict: Verdict,
    /// The name of the reference values that accepted, or that came closest.
    pub reference: Option<String>,
    /// What the report says, if it is authentic.
    pub claims: Option<SnpClaims>,
}

/// What comes of an examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No question was answered wrongly. Some may be open.
    Accepted,
    /// The code of the first question that was.
    Refused(&'static str),
    /// There was not enough to judge by; the code of what is missing.
    Unjudged(&'static str),
}

/// Asks a report everything.
///
/// ```
/// use blindferry_attest::snp::{Request, SnpEvidence, Verdict, examine};
///
/// let evidence = SnpEvidence::new(vec![2; 1184], vec![], vec![]).unwrap();
/// let examination = examine(&evidence, &Request { now: 1_790_000_000, ..Request::default() });
/// assert_eq!(examination.verdict, Verdict::Refused("snp-version"));
/// ```
#[must_use]
pub fn examine(evidence: &SnpEvidence, request: &Request<'_>) -> Examination {
    let mut checks = Vec::new();
    let stop = |mut checks: Vec<Check>, refusal: &SnpRefusal| {
        let (question, code) = (refusal.question(), refusal.code());
        // What is missing leaves a question open: nothing was found that is wrong.
        let (outcome, verdict) = match question {
            Question::CertificateMissing => (Outcome::Open, Verdict::Unjudged(code)),
            _ => (Outcome::Refused(code), Verdict::Refused(code)),
        };
        let check = Check::new(question.name(), refusal.found(), refusal.wanted(), outcome);
        checks.push(check.advised(question.advice()));
        Examination { checks, verdict, reference: None, claims: None }
    };
    let report = match Report::parse(evidence.report()) {
        Ok(report) => report,
        Err(refusal) => return stop(checks, &refusal),
    };
    checks.extend(form(&report));
    let amd = Anchors::amd();
    let anchors = request.reference.map_or(&amd, ReferenceValues::anchors);
    let vek = match EndorsedVek::of_evidence(&report, evidence, request.crls, anchors, request.now) {
        Ok(vek) => vek,
        Err(refusal) => return stop(checks, &refusal),
    };
    checks.extend(chain(&vek, request.now));
    let authentic = match vek.authenticate(report, request.now) {
        Ok(authentic) => authentic,
        Err(refusal) => return stop(checks, &refusal),
    };
    let signed = format!("signed by the {} of {}", vek.kind().name(), holder(vek.holder()));
    checks.push(passed(Question::Signature, signed, "signed by the certified key"));
    let claims = Some(SnpClaims::of(&authentic));
    let (mut asked, refused, reference) = ask(&authentic, request);
    checks.append(&mut asked);
    let verdict = match refused {
        Some(code) => Verdict::Refused(code),
        // Reference values for other platforms alone say nothing about this one.
        None if request.reference.is_some() && reference.is_none() => Verdict::Unjudged("reference-other-platform"),
        None => Verdict::Accepted,
    };
    Examination { checks, verdict, reference, claims }
}

/// The answers of the set that accepts, or else of the one that got farthest; of the built-in rules where there is none.
fn ask(authentic: &Authentic<'_>, request: &Request<'_>) -> (Vec<Check>, Option<&'static str>, Option<String>) {
    let Request { now, report_data, report_id, machine, .. } = *request;
    let wanted = Wanted { now, report_data, report_id, machine };
    let built_in = Rules::default();
    let nearest = request.reference.and_then(|reference| reference.nearest_guest(authentic, wanted));
    let (rules, refusal, name) = match nearest {
        Some((set, refusal)) => (set.rules(), refusal, Some(set.name().to_owned())),
        None => (&built_in, Case { authentic, rules: &built_in, wanted }.first_refusal(), None),
    };
    let checks = Case { authentic, rules, wanted }.checks();
    (checks, refusal.map(|refusal| refusal.code()), name)
}

fn form(report: &Report) -> [Check; 5] {
    [
        passed(Question::Length, format!("{} bytes", report.bytes().len()), "1184 bytes"),
        passed(Question::Version, report.body().version.to_string(), "2 to 5"),
        passed(Question::SignatureAlgorithm, "1 (ECDSA P-384 with SHA-384)", "1 (ECDSA P-384 with SHA-384)"),
        passed(Question::SignatureEncoding, "zero", "zero"),
        passed(Question::Reserved, "zero", "zero"),
    ]
}

fn chain(vek: &EndorsedVek, now: u64) -> [Check; 6] {
    let root = match vek.root() {
        Root::Amd(product) => format!("AMD's root of {product}"),
        Root::Dangerous(fingerprint) => format!("trusted dangerously, not AMD's: {}", hex::encode(fingerprint)),
    };
    let (from, until) = vek.validity();
    let now = rfc3339(i64::try_from(now).unwrap_or(i64::MAX));
    let revocation = match vek.revocation() {
        Revocation::NotRevoked { .. } => passed(Question::CertificateRevoked, "not revoked", "not revoked"),
        Revocation::Unknown => {
            let name = Question::CertificateRevoked.name();
            Check::new(name, "no list of this root", "not judged: no revocation list was given", Outcome::Open)
        }
    };
    [
        passed(Question::Root, root, "a pinned root"),
        passed(Question::ChainSignature, "all signatures hold", "all signatures hold"),
        passed(
            Question::CertificateExtension,
            format!("{} {}", vek.product_name(), vek.tcb()),
            "as AMD specifies them",
        ),
        revocation,
        passed(Question::CertificateNotYetValid, format!("valid from {}", rfc3339(from)), format!("before {now}")),
        passed(Question::CertificateExpired, format!("valid until {}", rfc3339(until)), format!("after {now}")),
    ]
}

fn passed(question: Question, found: impl Into<String>, wanted: impl Into<String>) -> Check {
    Check::new(question.name(), found, wanted, Outcome::Passed)
}

fn holder(holder: &Holder) -> String {
    match holder {
        Holder::Chip(chip) => format!("chip {chip}"),
        Holder::Provider(provider) => format!("provider {provider:?}"),
    }
}
