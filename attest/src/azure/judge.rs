//! The road from a blob and a quote to one verdict: the report vouches for the runtime data, they for the vTPM's key, and
//! that key for what was booted and for the session.

use subtle::ConstantTimeEq as _;

use super::{AzureClaims, AzureEvidence, Hcl, Vouched};
use crate::{
    attested::PinnedGuest,
    binder::Binder,
    reference::{ReferenceSet, ReferenceValues},
    refusal::AppraisalError,
    result::vector::TrustVector,
    snp::{EndorsedVek, Report, ReportId, SnpClaims, ask::Wanted},
    tpm::{
        AkName, ClockInfo, QuoteClock,
        clock::in_order,
        events::Logs,
        public::Public,
        quoted::{AuthenticQuote, QuotedPcrs},
    },
};

/// What was found out about a machine of Azure.
pub(crate) struct Judged<'a> {
    pub(crate) ak: AkName,
    pub(crate) clock: ClockInfo,
    pub(crate) firmware: u64,
    pub(crate) values: QuotedPcrs,
    pub(crate) tpm: &'a ReferenceSet,
    pub(crate) report_id: ReportId,
    pub(crate) snp: SnpClaims,
    pub(crate) azure: AzureClaims,
    pub(crate) trust_vector: TrustVector,
}

/// Judges a blob and a quote. Reference values have to accept both the guest that the paravisor is part of and what its
/// vTPM measured.
pub(crate) fn judge<'a>(
    evidence: &AzureEvidence,
    binder: &Binder,
    (pinned_ak, earlier): (Option<&AkName>, Option<&QuoteClock>),
    guest: PinnedGuest<'_>,
    reference: &'a ReferenceValues,
) -> Result<Judged<'a>, AppraisalError> {
    let selection = reference.selection().ok_or(AppraisalError::NoReference { platform: "tpm" })?;
    if reference.guests().is_empty() {
        return Err(AppraisalError::NoReference { platform: "snp" });
    }
    let hcl = Hcl::parse(evidence.blob())?;
    let report = Report::parse(hcl.report())?;
    let beside = evidence.beside_blob();
    let fresh;
    let vek = match guest.endorsed.filter(|vek| vek.serves(&report, beside, guest.crls, reference.anchors())) {
        Some(vek) => vek,
        None => {
            fresh = EndorsedVek::of_evidence(&report, beside, guest.crls, reference.anchors(), guest.now)?;
            &fresh
        }
    };
    let authentic = vek.authenticate(report, guest.now)?;

    // From here on, what the report says is what the firmware said; what the blob says, once it was opened, what the
    // paravisor said. Opening it judges all of REPORT_DATA.
    let vouched = Vouched::open(&hcl, &authentic)?;
    let body = authentic.body();
    let PinnedGuest { machine, report_id, now, .. } = guest;
    let wanted = Wanted { now, report_data: Some(body.report_data), report_id, machine: Some(machine) };
    let paravisor = reference.accepting(&authentic, wanted)?;

    let ak = Public::parse(evidence.tpm().ak_public())
        .map_err(|cause| AppraisalError::parsing(cause, AppraisalError::AkPublic))?;
    if let Some(wanted) = pinned_ak
        && ak.name() != wanted
    {
        return Err(AppraisalError::AkName { found: ak.name().clone(), wanted: wanted.clone() });
    }
    let key = vouched.vtpm_key(ak)?;
    let signed = AuthenticQuote::check(evidence.tpm().attest(), evidence.tpm().signature(), key.public())?;
    let quote = signed.quote();
    if !bool::from(quote.challenge().ct_eq(binder.as_bytes())) {
        return Err(AppraisalError::QuoteChallenge { found: quote.challenge().to_vec(), wanted: *binder.as_bytes() });
    }
    let values = signed.pcrs(evidence.tpm().pcrs(), selection)?;
    let clock = in_order(quote.clock(), earlier)?;
    let logs = Logs::new(&values, evidence.tpm().event_log(), evidence.tpm().ima_log());
    let tpm = reference.matching(&logs, quote.firmware())?;

    let measured = TrustVector::of_machine(tpm);
    let below = TrustVector::of_guest(paravisor.rules(), machine, vek.root());
    Ok(Judged {
        ak: key.public().name().clone(),
        clock,
        firmware: quote.firmware(),
        tpm,
        report_id: body.report_id,
        snp: SnpClaims::of(&authentic),
        azure: vouched.runtime().claims().clone().beside(paravisor.name()),
        trust_vector: TrustVector::of_vtpm(below, measured, pinned_ak.is_some()),
        values,
    })
}
