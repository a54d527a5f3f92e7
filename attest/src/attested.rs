//! What we know of a peer after appraisal: the type, and the one function that makes it.
//!
//! They share a file because the file is the lock: nothing else can reach the private fields of [`Attested`].

use std::collections::BTreeMap;

use blindferry_proto::role::Role;
use serde::Serialize;
use subtle::ConstantTimeEq as _;

pub use crate::refusal::AppraisalError;
use crate::{
    azure::{self, AzureClaims},
    binder::Binder,
    evidence::{Evidence, TpmEvidence},
    reference::ReferenceValues,
    result::vector::TrustVector,
    snp::{
        ChipId, EndorsedVek, Report, ReportId, SnpClaims, SnpEvidence,
        ask::{Wanted, report_data},
        vek::Holder,
    },
    tpm::{AkName, ClockInfo, QuoteClock, clock::in_order, events::Logs, public::Public, quoted::AuthenticQuote},
};

/// A peer whose evidence was judged and found good, over this very channel. Only [`appraise`] makes one; it is spent where
/// it is used.
///
/// It cannot be built:
///
/// ```compile_fail,E0451
/// use blindferry_attest::attested::Attested;
/// let forged = Attested { ..panic!() };
/// ```
///
/// It cannot be cloned, so it lets one session in, not two:
///
/// ```compile_fail,E0382
/// fn spend(_: blindferry_attest::attested::Attested) {}
/// fn twice(attested: blindferry_attest::attested::Attested) {
///     spend(attested);
///     spend(attested);
/// }
/// ```
///
/// It cannot be read from bytes that claim to be one:
///
/// ```compile_fail,E0277
/// fn from_json(text: &str) -> blindferry_attest::attested::Attested {
///     toml::from_str(text).unwrap()
/// }
/// ```
///
/// And a verdict that nobody looks at is an error where warnings are:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn forgotten(attested: fn() -> blindferry_attest::attested::Attested) {
///     attested();
/// }
/// ```
#[must_use = "a verdict that nobody uses protects nothing"]
#[derive(Debug)]
pub struct Attested {
    role: Role,
    identity: Identity,
    clock: Option<ClockInfo>,
    report_id: Option<ReportId>,
    claims: Claims,
    binder: [u8; Binder::LEN],
    trust_vector: TrustVector,
}

/// What evidence must show to be this peer's, now, over this channel.
#[derive(Debug)]
pub struct Expected<'a> {
    /// What the quote's qualifying data must equal.
    pub binder: Binder,
    /// The end of the session that the peer must be.
    pub role: Role,
    /// Who it must be. This chooses the platform too: evidence of another one is refused.
    pub pinned: Pinned<'a>,
}

/// Who a peer must be.
#[derive(Clone, Copy, Debug)]
pub enum Pinned<'a> {
    /// The holder of a TPM's attestation key.
    Ak {
        /// The Name of the key that must have signed: from enrolment, or from provisioning.
        name: &'a AkName,
        /// The clock of the last quote by this key, if there was one.
        earlier: Option<&'a QuoteClock>,
    },
    /// A guest of SEV-SNP.
    Guest(PinnedGuest<'a>),
    /// A confidential machine of Azure, whose vTPM its paravisor keeps.
    Vtpm {
        /// The Name of the vTPM's attestation key; none before the first evidence, for which the report vouches.
        name: Option<&'a AkName>,
        /// The clock of the last quote by this key, if there was one.
        earlier: Option<&'a QuoteClock>,
        /// The guest that the paravisor is part of. A machine of Azure may move to another processor when it is stopped.
        guest: PinnedGuest<'a>,
    },
}

/// Which guest of SEV-SNP a peer must be, and what is needed to judge its certificates.
#[derive(Clone, Copy, Debug)]
pub struct PinnedGuest<'a> {
    /// The machine that it must run on.
    pub machine: PinnedMachine<'a>,
    /// REPORT_ID of this session's first evidence; none when this is the first.
    pub report_id: Option<&'a ReportId>,
    /// The time at which certificates and lists must be valid, in seconds since 1970.
    pub now: u64,
    /// Revocation lists in DER that the judge has, beside those that come with the evidence.
    pub crls: &'a [Vec<u8>],
    /// A signing key that was endorsed before. Its chain is not verified again when the evidence has the same certificate,
    /// and every revocation list is one that it was held against.
    pub endorsed: Option<&'a EndorsedVek>,
}

/// The machine that a guest must run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedMachine<'a> {
    /// The processor that was seen first, or provisioned: the one that the VCEK is of.
    Chip(&'a ChipId),
    /// Any of this cloud provider, for which the VLEK was issued (csp_id): its reports do not tell the chip.
    Provider(&'a str),
    /// Whichever the reference values allow: the peer's first evidence.
    ByReference,
}

/// Who a peer turned out to be: what to pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The holder of the attestation key with this Name.
    Ak(AkName),
    /// A guest on this processor.
    Chip(ChipId),
    /// A guest at this cloud provider.
    Provider(String),
    /// A confidential machine of Azure, by the Name of its vTPM's attestation key. Not [`Identity::Ak`]: without the
    /// report, that key is worth nothing.
    Vtpm(AkName),
}

/// Facts about an attested peer, as plain data for a policy to look at. Having these proves nothing; having the
/// [`Attested`] that they came from does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The platform: `"tpm"`, `"snp"` or `"azure"`.
    pub platform: &'static str,
    /// The firmware version: of a TPM (and of Azure's vTPM) 16 hexadecimal digits, whose meaning is the manufacturer's; of
    /// SEV-SNP `major.minor.build`.
    pub firmware: String,
    /// The name of the reference values that matched; of Azure, those for the vTPM.
    pub reference: String,
    /// Of a TPM, the Name of the attestation key, in hexadecimal.
    pub ak_name: Option<String>,
    /// Of a TPM, the quoted PCRs, SHA-256 bank, in hexadecimal.
    pub pcrs: BTreeMap<u8, String>,
    /// Of SEV-SNP, what the report says.
    pub snp: Option<SnpClaims>,
    /// Of Azure, what the paravisor says.
    pub azure: Option<AzureClaims>,
}

/// Judges evidence. Of a TPM 2.0 quote, in this order: the key is the pinned one, its attributes keep it inside the TPM
/// and let it sign only what the TPM made, the signature holds over the bytes; and only then is what the bytes say looked
/// at. Of an SEV-SNP report: its form, the chain of the key that signed to a pinned root, the signature; and only then
/// every [`Question`](crate::snp::Question) about what it says.
///
/// # Errors
///
/// The first check that failed, with what was found and what was wanted. It is for our log: the peer learns only that
/// it was refused.
pub fn appraise(
    evidence: Evidence,
    expected: Expected<'_>,
    reference: &ReferenceValues,
) -> Result<Attested, AppraisalError> {
    let Expected { binder, role, pinned } = expected;
    if reference.role() != role {
        return Err(AppraisalError::Role { found: reference.role(), wanted: role });
    }
    match (evidence, pinned) {
        (Evidence::Tpm(evidence), Pinned::Ak { name, earlier }) => {
            appraise_tpm(&evidence, &binder, role, name, earlier, reference)
        }
        (Evidence::Snp(evidence), Pinned::Guest(guest)) => appraise_snp(&evidence, &binder, role, guest, reference),
        (Evidence::Azure(evidence), Pinned::Vtpm { name, earlier, guest }) => {
            let judged = azure::judge(&evidence, &binder, (name, earlier), guest, reference)?;
            Ok(attested_azure(judged, &binder, role))
        }
        (evidence, pinned) => Err(AppraisalError::Platform { found: evidence.platform(), wanted: pinned.platform() }),
    }
}

impl Pinned<'_> {
    fn platform(&self) -> &'static str {
        match self {
            Self::Ak { .. } => "tpm",
            Self::Guest(_) => "snp",
            Self::Vtpm { .. } => "azure",
        }
    }
}

impl Attested {
    /// The end of the session that the peer is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Who it is: what to pin.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The Name of the key that signed, if a TPM holds it.
    #[must_use]
    pub fn ak_name(&self) -> Option<&AkName> {
        match &self.identity {
            Identity::Ak(name) | Identity::Vtpm(name) => Some(name),
            Identity::Chip(_) | Identity::Provider(_) => None,
        }
    }

    /// The guest of SEV-SNP that answered: what the rest of the session is pinned to ([`PinnedGuest::report_id`]).
    #[must_use]
    pub fn report_id(&self) -> Option<ReportId> {
        self.report_id
    }

    /// The name of the reference values that matched.
    #[must_use]
    pub fn reference_name(&self) -> &str {
        &self.claims.reference
    }

    /// The TPM's clock in this quote, if it is one. Keep it (as [`QuoteClock`]) for the next appraisal.
    #[must_use]
    pub fn clock(&self) -> Option<ClockInfo> {
        self.clock
    }

    /// The facts for a policy to look at.
    #[must_use]
    pub fn claims(&self) -> Claims {
        self.claims.clone()
    }

    /// The binder that the evidence answered: what ties the verdict to one channel.
    #[must_use]
    pub fn binder(&self) -> &[u8; Binder::LEN] {
        &self.binder
    }

    pub(crate) fn trust_vector(&self) -> TrustVector {
        self.trust_vector
    }
}

fn appraise_tpm(
    evidence: &TpmEvidence,
    binder: &Binder,
    role: Role,
    pinned_ak: &AkName,
    earlier: Option<&QuoteClock>,
    reference: &ReferenceValues,
) -> Result<Attested, AppraisalError> {
    let selection = reference.selection().ok_or(AppraisalError::NoReference { platform: "tpm" })?;
    let ak = pinned(evidence.ak_public(), pinned_ak)?;
    let authentic = AuthenticQuote::check(evidence.attest(), evidence.signature(), &ak)?;

    // From here on, what the quote says is what the TPM said.
    let quote = authentic.quote();
    if !bool::from(quote.challenge().ct_eq(binder.as_bytes())) {
        return Err(AppraisalError::QuoteChallenge { found: quote.challenge().to_vec(), wanted: *binder.as_bytes() });
    }
    let values = authentic.pcrs(evidence.pcrs(), selection)?;
    let clock = in_order(quote.clock(), earlier)?;
    let logs = Logs::new(&values, evidence.event_log(), evidence.ima_log());
    let accepted = reference.matching(&logs, quote.firmware())?;

    Ok(Attested {
        role,
        identity: Identity::Ak(ak.name().clone()),
        clock: Some(clock),
        report_id: None,
        claims: Claims {
            platform: "tpm",
            firmware: format!("{:016x}", quote.firmware()),
            reference: accepted.name().to_owned(),
            ak_name: Some(ak.name().to_string()),
            pcrs: values.values().iter().map(|(index, value)| (index, hex::encode(value))).collect(),
            snp: None,
            azure: None,
        },
        binder: *binder.as_bytes(),
        trust_vector: TrustVector::of_machine(accepted),
    })
}

fn appraise_snp(
    evidence: &SnpEvidence,
    binder: &Binder,
    role: Role,
    guest: PinnedGuest<'_>,
    reference: &ReferenceValues,
) -> Result<Attested, AppraisalError> {
    let PinnedGuest { machine, report_id, now, crls, endorsed } = guest;
    if reference.guests().is_empty() {
        return Err(AppraisalError::NoReference { platform: "snp" });
    }
    let report = Report::parse(evidence.report())?;
    let fresh;
    let vek = match endorsed.filter(|vek| vek.serves(&report, evidence, crls, reference.anchors())) {
        Some(vek) => vek,
        None => {
            fresh = EndorsedVek::of_evidence(&report, evidence, crls, reference.anchors(), now)?;
            &fresh
        }
    };
    let authentic = vek.authenticate(report, now)?;

    // From here on, what the report says is what the firmware said.
    let report_data = Some(report_data(binder));
    let wanted = Wanted { now, report_data, report_id, machine: Some(machine) };
    let accepted = reference.accepting(&authentic, wanted)?;
    let body = authentic.body();
    Ok(Attested {
        role,
        identity: match vek.holder() {
            Holder::Chip(chip) => Identity::Chip(*chip),
            Holder::Provider(provider) => Identity::Provider(provider.clone()),
        },
        clock: None,
        report_id: Some(body.report_id),
        claims: Claims {
            platform: "snp",
            firmware: body.current_version.to_string(),
            reference: accepted.name().to_owned(),
            ak_name: None,
            pcrs: BTreeMap::new(),
            snp: Some(SnpClaims::of(&authentic)),
            azure: None,
        },
        binder: *binder.as_bytes(),
        trust_vector: TrustVector::of_guest(accepted.rules(), machine, vek.root()),
    })
}

fn attested_azure(judged: azure::Judged<'_>, binder: &Binder, role: Role) -> Attested {
    let azure::Judged { ak, clock, firmware, values, tpm, report_id, snp, azure, trust_vector } = judged;
    Attested {
        role,
        identity: Identity::Vtpm(ak.clone()),
        clock: Some(clock),
        report_id: Some(report_id),
        claims: Claims {
            platform: "azure",
            firmware: format!("{firmware:016x}"),
            reference: tpm.name().to_owned(),
            ak_name: Some(ak.to_string()),
            pcrs: values.values().iter().map(|(index, value)| (index, hex::encode(value))).collect(),
            snp: Some(snp),
            azure: Some(azure),
        },
        binder: *binder.as_bytes(),
        trust_vector,
    }
}

/// The key in the evidence, when it is the pinned one.
fn pinned(ak_public: &[u8], wanted: &AkName) -> Result<Public, AppraisalError> {
    let ak = Public::parse(ak_public).map_err(|cause| AppraisalError::parsing(cause, AppraisalError::AkPublic))?;
    if ak.name() != wanted {
        return Err(AppraisalError::AkName { found: ak.name().clone(), wanted: wanted.clone() });
    }
    Ok(ak)
}
