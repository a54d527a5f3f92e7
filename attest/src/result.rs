//! The verdict for others: an EAT Attestation Result (EAR) as a signed JWT, made from an [`Attested`].
//!
//! Source: draft-ietf-rats-ear-04 (claims, profile), draft-ietf-rats-ar4si (the trustworthiness vector), RFC 9711
//! (`eat_nonce`, `submods`), RFC 7515 (compact serialisation). There is no way back: whoever reads a result knows what this
//! verifier said at that time, and holds no [`Attested`].

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use blindferry_proto::role::Role;
use ring::{digest, rand::SecureRandom};
use serde::Serialize;

use crate::{
    attested::{Attested, Claims},
    binder::Binder,
};

mod key;
pub(crate) mod vector;

pub use key::{Algorithm, BadSigningKey, SigningKey};
use vector::{Tier, TrustVector};

/// `eat_profile`: the rules that our results follow.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// No result is valid for longer, in seconds: a verdict ages, and whoever needs a newer one asks again.
pub const MAX_LIFETIME: u64 = 3600;

/// What the caller adds to a verdict.
#[derive(Debug)]
pub struct Terms<'a> {
    /// When evidence was judged, in seconds since 1970 (`iat`).
    pub judged: u64,
    /// For how many seconds the result is valid: 1 to [`MAX_LIFETIME`].
    pub lifetime: u64,
    /// A name for the reference values that were judged by (`ear_appraisal_policy_ids`), best a URI: 1 to 200 bytes
    /// without control characters.
    pub policy: &'a str,
    /// The channel that was judged, to name the peer's TLS key in the result; none when nobody needs to know it.
    pub channel: Option<Channel<'a>>,
}

/// What the peer's binder was made of, besides its role.
#[derive(Debug)]
pub struct Channel<'a> {
    /// DER SubjectPublicKeyInfo of the peer's TLS key.
    pub spki: &'a [u8],
    /// What was exported from the channel: see [`Binder::compute`].
    pub exporter: &'a [u8; 32],
}

/// A signed attestation result: header, claims and signature of a JWT. Not a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedResult(String);

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// It would be valid for no time, or for longer than a verdict should be.
    #[error("a result that is valid for {found} seconds: 1 to {MAX_LIFETIME} are possible")]
    Lifetime {
        /// The lifetime that was asked for, in seconds.
        found: u64,
    },
    /// The time at which evidence was judged is none.
    #[error("evidence was judged at {found}, which is no time in seconds since 1970")]
    Time {
        /// The time that was given.
        found: u64,
    },
    /// The name of the policy is empty, too long, or has control characters.
    #[error("the name of the policy is empty, longer than {MAX_POLICY} bytes, or has control characters")]
    Policy,
    /// The channel is not the one that evidence was judged over.
    #[error("the peer's evidence was not made for this TLS key and this channel")]
    Channel,
    /// It cannot be written as JSON.
    #[error("cannot write an attestation result as JSON")]
    Encode,
    /// The key did not sign, for lack of randomness.
    #[error("cannot sign an attestation result: there is no randomness")]
    Sign,
}

impl ResultError {
    /// A stable name for programs, the log and the audit.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Lifetime { .. } => "result-lifetime",
            Self::Time { .. } => "result-time",
            Self::Policy => "result-policy",
            Self::Channel => "result-channel",
            Self::Encode => "result-encode",
            Self::Sign => "result-sign",
        }
    }
}

/// Signs what is known of a peer. `random` is drawn from for ECDSA alone.
///
/// # Errors
///
/// When the terms are out of bounds, the channel is not the one that was judged, or `random` fails.
pub fn sign(
    attested: &Attested,
    terms: &Terms<'_>,
    key: &SigningKey,
    random: &dyn SecureRandom,
) -> Result<SignedResult, ResultError> {
    let claims = attested.claims();
    let result = Ear::new(attested, &claims, terms)?;
    let header = Header { alg: key.algorithm().name(), typ: "JWT", kid: key.thumbprint() };
    let mut text = part(&header)?;
    text.push('.');
    text.push_str(&part(&result)?);
    let signature = key.sign(text.as_bytes(), random).ok_or(ResultError::Sign)?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(SignedResult(text))
}

impl SignedResult {
    /// The JWT in compact form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

/// Section 3 of the draft.
#[derive(Serialize)]
struct Ear<'a> {
    eat_profile: &'static str,
    iat: u64,
    exp: u64,
    ear_verifier_id: VerifierId,
    eat_nonce: String,
    ear_status: Tier,
    submods: Submods<'a>,
}

#[derive(Serialize)]
struct VerifierId {
    developer: &'static str,
    build: &'static str,
}

/// One attester, named for its platform.
struct Submods<'a> {
    name: &'static str,
    appraisal: Appraisal<'a>,
}

/// Section 3.1 of the draft.
#[derive(Serialize)]
struct Appraisal<'a> {
    ear_status: Tier,
    ear_trustworthiness_vector: TrustVector,
    ear_appraisal_policy_ids: [&'a str; 1],
    /// What the peer's evidence says.
    ear_attester_claims: &'a Claims,
    /// What we say.
    ear_verifier_claims: VerifierClaims,
}

#[derive(Serialize)]
struct VerifierClaims {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key_sha256: Option<String>,
}

impl<'a> Ear<'a> {
    fn new(attested: &Attested, claims: &'a Claims, terms: &Terms<'a>) -> Result<Self, ResultError> {
        let Terms { judged, lifetime, policy, channel } = terms;
        if !(1..=MAX_LIFETIME).contains(lifetime) {
            return Err(ResultError::Lifetime { found: *lifetime });
        }
        let exp = judged.checked_add(*lifetime).filter(|_| *judged > 0);
        let exp = exp.ok_or(ResultError::Time { found: *judged })?;
        if policy.is_empty() || policy.len() > MAX_POLICY || policy.chars().any(char::is_control) {
            return Err(ResultError::Policy);
        }
        let tls_key_sha256 = channel.as_ref().map(|channel| bound_key(attested, channel)).transpose()?;
        let vector = attested.trust_vector();
        let appraisal = Appraisal {
            ear_status: vector.tier(),
            ear_trustworthiness_vector: vector,
            ear_appraisal_policy_ids: [policy],
            ear_attester_claims: claims,
            ear_verifier_claims: VerifierClaims { role: role(attested.role()), tls_key_sha256 },
        };
        Ok(Self {
            eat_profile: PROFILE,
            iat: *judged,
            exp,
            ear_verifier_id: VerifierId {
                developer: "Blindferry",
                build: concat!("blindferry-attest ", env!("CARGO_PKG_VERSION")),
            },
            eat_nonce: URL_SAFE_NO_PAD.encode(attested.binder()),
            ear_status: vector.tier(),
            submods: Submods { name: claims.platform, appraisal },
        })
    }
}

impl Serialize for Submods<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.name, &self.appraisal)])
    }
}

/// The hash of the key that the judged binder was over.
fn bound_key(attested: &Attested, channel: &Channel<'_>) -> Result<String, ResultError> {
    let binder = Binder::compute(attested.role(), channel.spki, channel.exporter).map_err(|_| ResultError::Channel)?;
    if binder.as_bytes() != attested.binder() {
        return Err(ResultError::Channel);
    }
    Ok(hex::encode(digest::digest(&digest::SHA256, channel.spki)))
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Vault => "vault",
        Role::Broker => "broker",
        Role::Operator => "operator",
        Role::Successor => "successor",
    }
}

fn part(value: &impl Serialize) -> Result<String, ResultError> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).map_err(|_| ResultError::Encode)?))
}

/// The longest name of a policy, in bytes.
const MAX_POLICY: usize = 200;
