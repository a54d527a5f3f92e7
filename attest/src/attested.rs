//! What we know of a peer after appraisal: the type, and the one function that makes it.
//!
//! They share a file because the file is the lock: nothing else can reach the private fields of [`Attested`].

use std::collections::BTreeMap;

use blindferry_proto::role::Role;
use serde::Serialize;
use subtle::ConstantTimeEq as _;

pub use crate::refusal::AppraisalError;
use crate::{
    binder::Binder,
    evidence::{Evidence, TpmEvidence},
    reference::ReferenceValues,
    tpm::{AkName, ClockInfo, QuoteClock, events::Logs, public::Public, quoted::AuthenticQuote},
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
    ak_name: AkName,
    reference_name: String,
    pcr_digest: Vec<u8>,
    clock: ClockInfo,
    claims: Claims,
}

/// What evidence must show to be this peer's, now, over this channel.
#[derive(Debug)]
pub struct Expected<'a> {
    /// What the quote's qualifying data must equal.
    pub binder: Binder,
    /// The end of the session that the peer must be.
    pub role: Role,
    /// The Name of the key that must have signed: from enrolment, or from provisioning.
    pub pinned_ak: &'a AkName,
    /// The clock of the last quote by this key, if there was one.
    pub earlier: Option<&'a QuoteClock>,
}

/// Facts about an attested peer, as plain data for a policy to look at. Having these proves nothing; having the
/// [`Attested`] that they came from does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The platform: `"tpm"`.
    pub platform: &'static str,
    /// The TPM's firmware version as 16 hexadecimal digits; its meaning is the manufacturer's.
    pub firmware: String,
    /// The name of the reference values that matched.
    pub reference: String,
    /// The Name of the attestation key, in hexadecimal.
    pub ak_name: String,
    /// The quoted PCRs, SHA-256 bank, in hexadecimal.
    pub pcrs: BTreeMap<u8, String>,
}

/// Judges evidence. Every check of the TPM 2.0 quote must pass, in this order: the key is the pinned one, its attributes
/// keep it inside the TPM and let it sign only what the TPM made, the signature holds over the bytes; and only then is
/// what the bytes say looked at.
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
    match evidence {
        Evidence::Tpm(evidence) => appraise_tpm(evidence, expected, reference),
    }
}

impl Attested {
    /// The end of the session that the peer is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The Name of the key that signed.
    #[must_use]
    pub fn ak_name(&self) -> AkName {
        self.ak_name.clone()
    }

    /// The name of the reference values that matched.
    #[must_use]
    pub fn reference_name(&self) -> &str {
        &self.reference_name
    }

    /// The digest over the quoted PCRs, by the hash of the signature's scheme: 32 or 48 bytes.
    #[must_use]
    pub fn pcr_digest(&self) -> &[u8] {
        &self.pcr_digest
    }

    /// The TPM's clock in this quote. Keep it (as [`QuoteClock`]) for the next appraisal.
    #[must_use]
    pub fn clock(&self) -> ClockInfo {
        self.clock
    }

    /// The facts for a policy to look at.
    #[must_use]
    pub fn claims(&self) -> Claims {
        self.claims.clone()
    }
}

fn appraise_tpm(
    evidence: TpmEvidence,
    expected: Expected<'_>,
    reference: &ReferenceValues,
) -> Result<Attested, AppraisalError> {
    let Expected { binder, role, pinned_ak, earlier } = expected;
    if reference.role() != role {
        return Err(AppraisalError::Role { found: reference.role(), wanted: role });
    }
    let ak = pinned(evidence.ak_public(), pinned_ak)?;
    let authentic = AuthenticQuote::check(evidence.attest(), evidence.signature(), &ak)?;

    // From here on, what the quote says is what the TPM said.
    let quote = authentic.quote();
    if !bool::from(quote.challenge().ct_eq(binder.as_bytes())) {
        return Err(AppraisalError::QuoteChallenge { found: quote.challenge().to_vec(), wanted: *binder.as_bytes() });
    }
    let values = authentic.pcrs(evidence.pcrs(), reference.selection())?;
    let clock = in_order(quote.clock(), earlier)?;
    let logs = Logs::new(&values, evidence.event_log(), evidence.ima_log());
    let accepted = reference.matching(&logs, quote.firmware())?;

    Ok(Attested {
        role,
        ak_name: ak.name().clone(),
        reference_name: accepted.name().to_owned(),
        pcr_digest: quote.pcr_digest().to_vec(),
        clock,
        claims: Claims {
            platform: "tpm",
            firmware: format!("{:016x}", quote.firmware()),
            reference: accepted.name().to_owned(),
            ak_name: ak.name().to_string(),
            pcrs: values.values().iter().map(|(index, value)| (index, hex::encode(value))).collect(),
        },
    })
}

/// The key in the evidence, when it is the pinned one.
fn pinned(ak_public: &[u8], wanted: &AkName) -> Result<Public, AppraisalError> {
    let ak = Public::parse(ak_public).map_err(|cause| AppraisalError::parsing(cause, AppraisalError::AkPublic))?;
    if ak.name() != wanted {
        return Err(AppraisalError::AkName { found: ak.name().clone(), wanted: wanted.clone() });
    }
    Ok(ak)
}

/// The clock, when the TPM vouches for it and it is not behind an earlier quote.
fn in_order(now: ClockInfo, earlier: Option<&QuoteClock>) -> Result<ClockInfo, AppraisalError> {
    let went_back = |counter, found, earlier| AppraisalError::ClockReset { counter, found, earlier };
    if let Some(earlier) = earlier {
        if now.reset_count < earlier.reset_count {
            return Err(went_back("resetCount", now.reset_count.into(), earlier.reset_count.into()));
        }
        // A reset sets restartCount to zero.
        if now.reset_count == earlier.reset_count && now.restart_count < earlier.restart_count {
            return Err(went_back("restartCount", now.restart_count.into(), earlier.restart_count.into()));
        }
    }
    // Before the clock itself: after a loss of power it may honestly be a little behind, and then it is not safe.
    if !now.safe {
        return Err(AppraisalError::ClockUnsafe);
    }
    match earlier {
        Some(earlier) if now.clock < earlier.clock => Err(went_back("clock", now.clock, earlier.clock)),
        _ => Ok(now),
    }
}
