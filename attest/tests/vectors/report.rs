//! Reports: real, altered, and made under another root.

use blindferry_amd::certificate::pem;
use blindferry_attest::{
    kind::{Kind, recognise},
    reference::ReferenceValues,
    snp::{Examination, Report, Request, SnpEvidence, Verdict, examine},
};

use crate::{NOW, Outcome, Vector, same};

/// 2025-06-01: when the one real VLEK was valid.
const MIDDLE_OF_2025: u64 = 1_748_736_000;

pub(crate) fn evidence(vector: &Vector) -> SnpEvidence {
    let certificates = ["vek", "ask", "ark"].into_iter().filter_map(|part| vector.file(part)).collect();
    let crls = vector.file("crl").into_iter().collect();
    SnpEvidence::new(vector.file("report").unwrap(), certificates, crls).unwrap()
}

/// When to judge a case: now, or while its certificate was valid.
pub(crate) fn time_of(vector: &Vector) -> u64 {
    if vector.text("vek_not_after") < "2026-12" && !vector.text("vek_not_after").is_empty() {
        MIDDLE_OF_2025
    } else {
        NOW
    }
}

/// The code of the first refusal, or `accepted`.
pub(crate) fn code(examination: &Examination) -> &'static str {
    match examination.verdict {
        Verdict::Accepted => "accepted",
        Verdict::Refused(code) | Verdict::Unjudged(code) => code,
    }
}

/// A real report says what the manifest says, is authentic, and is refused by the built-in rules for its faults alone.
pub(crate) fn real(vector: &Vector) -> Outcome {
    says_what_it_says(vector)?;
    let request = Request { now: time_of(vector), ..Request::default() };
    let examination = examine(&evidence(vector), &request);
    let product = vector.text("product").split('-').next().unwrap();
    let wanted = match (vector.text("signature"), product) {
        (signature, _) if signature.starts_with("cannot be checked") => "snp-certificate-missing",
        // Some clouds run firmware that they have not committed: told before the policy is looked at.
        _ if runs_uncommitted_firmware(vector)? => "snp-tcb-provisional",
        _ if vector.expected("debug") == true => "snp-policy-debug",
        (_, "Milan") => "snp-product-distrusted",
        (_, "Genoa" | "Turin") => "accepted",
        other => return Err(format!("no rule for {other:?}")),
    };
    same("verdict", code(&examination), wanted)?;
    if wanted == "snp-certificate-missing" {
        return same("verdict", examination.verdict, Verdict::Unjudged(wanted));
    }
    let claims = examination.claims.ok_or("not authentic")?;
    same("product", claims.product.as_str(), vector.text("product"))?;
    same("signed by", claims.signed_by, vector.text("signing_key").to_lowercase().as_str())?;
    if product == "Milan" && wanted != "snp-policy-debug" {
        let trusted = reference("milan", "0", "", vector.text("signing_key"))?;
        let trusting = Request { reference: Some(&trusted), ..request };
        same("with Milan and uncommitted firmware trusted", code(&examine(&evidence(vector), &trusting)), "accepted")?;
    }
    if time_of(vector) != NOW {
        let later = Request { now: NOW, ..request };
        same("later", code(&examine(&evidence(vector), &later)), "snp-certificate-expired")?;
    }
    Ok(())
}

fn runs_uncommitted_firmware(vector: &Vector) -> Result<bool, String> {
    let report = Report::parse(&vector.file("report").unwrap()).map_err(|refusal| refusal.to_string())?;
    Ok(report.body().current_tcb != report.body().committed_tcb)
}

fn says_what_it_says(vector: &Vector) -> Outcome {
    let report = Report::parse(&vector.file("report").unwrap()).map_err(|refusal| refusal.to_string())?;
    let body = report.body();
    same("version", u64::from(body.version), vector.expected("report_version").as_u64().unwrap())?;
    same("policy", format!("{:#x}", body.policy.0).as_str(), vector.text("policy"))?;
    same("vmpl", u64::from(body.vmpl), vector.expected("vmpl").as_u64().unwrap())?;
    same("TCB", body.reported_tcb.to_string().as_str(), vector.text("reported_tcb"))?;
    let cpu = body.cpu.map_or([0; 3], |cpu| [cpu.family, cpu.model, cpu.stepping]);
    same("CPU", cpu.map(|byte| format!("{byte:02x}")).concat().as_str(), vector.text("cpuid_fam_mod_step"))?;
    same("chip", body.chip_id.to_string().get(..16), vector.text("chip_id").get(..16))?;
    same("measurement", body.measurement.to_string().as_str(), vector.text("measurement"))
}

/// An altered report is refused by AMD's roots, for the reason that the manifest gives.
pub(crate) fn negative(vector: &Vector) -> Outcome {
    let found = examine(&evidence(vector), &Request { now: NOW, ..Request::default() });
    let verdict = vector.text("verdict").strip_prefix("reject: ").ok_or("no verdict")?;
    let wanted = match verdict.split(" (").next().unwrap() {
        "length" => "snp-length",
        "unknown version" => "snp-version",
        "unknown algorithm" => "snp-signature-algorithm",
        "signature encoding" | "reserved bytes must be zero" => "snp-signature-encoding",
        "chain" => "snp-chain-signature",
        // Nothing is asked of what a report says before its signature held.
        "signature" | "chip id and signature" | "product, chip id and signature" => "snp-signature",
        other => return Err(format!("no code for {other:?}")),
    };
    same("verdict", code(&found), wanted)?;
    same("claims of what is not authentic", found.claims, None)
}

pub(crate) fn under_amd_roots(vector: &Vector) -> Outcome {
    let found = examine(&evidence(vector), &Request { now: NOW, ..Request::default() });
    same("verdict of the manifest", vector.text("with_amd_roots"), "reject: root is not AMD's")?;
    // The form of a report is looked at before its chain.
    let by_form = vector.text("with_this_root_pinned") == "reject: algorithm";
    same("verdict", code(&found), if by_form { "snp-signature-algorithm" } else { "snp-root" })?;
    same("claims of what is not authentic", found.claims, None)
}

pub(crate) fn under_own_root(vector: &Vector) -> Outcome {
    let ark = pem(&vector.file("ark").unwrap());
    let root = format!(
        "[[dangerously_trusted_root]]\nproduct = \"milan\"\nreason = \"a test\"\ncertificate = \"\"\"\n{ark}\"\"\"\n"
    );
    let reference = reference("milan", "0", &root, "VCEK")?;
    let found = examine(&evidence(vector), &Request { now: NOW, reference: Some(&reference), ..Request::default() });
    let wanted = match vector.text("with_this_root_pinned") {
        "accept" => "accepted",
        "reject: debug policy" => "snp-policy-debug",
        "reject: TCB differs from the certificate" => "snp-tcb-certificate",
        "reject: chip id" => "snp-chip-id",
        "reject: certificate expired" => "snp-certificate-expired",
        "reject: product" => "snp-product",
        "reject: chain" => "snp-chain-signature",
        "reject: ASK revoked" => "snp-certificate-revoked",
        "reject: VMPL above the allowed one" => "snp-vmpl",
        "reject: algorithm" => "snp-signature-algorithm",
        other => return Err(format!("no code for {other:?}")),
    };
    same("verdict", code(&found), wanted)?;
    let dangerous = found.claims.is_none_or(|claims| claims.dangerous_root.is_some());
    same("a claim tells of the dangerous root", dangerous, true)
}

/// Reference values for any image on one product.
fn reference(product: &str, vmpl: &str, root: &str, key: &str) -> Result<ReferenceValues, String> {
    let machine = match key {
        "VLEK" => "signed_by = \"vlek\"\nproviders = [\"CN=cc-us-east-2.amazonaws.com\"]",
        _ => "signed_by = \"vcek\"\nchips = \"any\"",
    };
    // The real VLEK's guest asked from VMPL 1.
    let vmpl = if key == "VLEK" { "1" } else { vmpl };
    let text = format!(
        "version = 2\nrole = \"vault\"\n[[snp]]\nname = \"test\"\nproducts = [\"{product}\"]\n{machine}\nvmpl = [{vmpl}]\n\
         crl = \"optional\"\ndangerously_trust_milan = \"a test\"\ndangerously_accept_any_measurement = \"a test\"\n\
         dangerously_accept_provisional_firmware = \"a test\"\ndangerously_accept_no_alias_check = \"a test\"\n\
         [snp.floor.{product}]\nbootloader = 0\ntee = 0\nsnp = 0\nmicrocode = 0\n{root}"
    );
    ReferenceValues::parse(&text).map_err(|error| format!("{error:?}"))
}

/// The command knows what it is given.
pub(crate) fn is_recognised(vector: &Vector) -> Outcome {
    for (path, bytes) in vector.files() {
        let wanted = match (vector.kind(), path.rsplit('.').next().unwrap()) {
            (_, _) if path.contains(".crl") => Kind::Crl,
            (_, "der") if path.contains(".spki.") => Kind::Unknown,
            (_, "der") => Kind::Certificate,
            (_, "bin") if path.contains(".hcl.") => Kind::Hcl,
            // The two of another length are no reports at all.
            (_, "bin") if path.contains(".report.") && bytes.len() != 1184 => Kind::Unknown,
            (_, "bin") if path.contains(".report.") && path.contains("version-bump") => Kind::Unknown,
            (_, "bin") if path.contains(".report.") => Kind::SnpReport,
            ("tdx-quote" | "tdx-quote-negative", _) => Kind::TdxQuote,
            (_, "msg") => Kind::TpmQuote,
            (_, "bin") if path.contains("attest.bin") && path.contains("-magic") => Kind::Unknown,
            (_, "bin") if path.contains("attest.bin") => Kind::TpmQuote,
            (_, "bin") if path.contains("hugelen") => Kind::Unknown,
            (_, "bin") if path.contains("eventlog") => Kind::EventLog,
            _ => continue,
        };
        same(&path, recognise(&bytes), wanted)?;
    }
    Ok(())
}
