//! The command's road for a certificate of a TPM's key: all questions and all answers, for a person to read. Opens nothing.

use x509_parser::{certificate::X509Certificate, der_parser::oid};

use super::{
    EkHash, EndorsementError, MAX_CHAIN,
    certificate::{anchored, critical_extensions_known, for_an_ek, manufacturer, may_sign, parse, signed_by, valid_at},
};
use crate::{
    checks::{Check, Outcome},
    moment::rfc3339,
    snp::Verdict,
    tpm::{algorithm::sha256, key::Key},
};

/// Questions, answers, and what comes of them. Plain data: it proves nothing to a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// All questions that were asked, in order, until one refused.
    pub checks: Vec<Check>,
    /// What comes of them.
    pub verdict: Verdict,
    /// What the certificate is for, where that is known: `endorsement-key`, `attestation-key` or `authority`.
    pub purpose: Option<&'static str>,
    /// The manufacturer that an EK certificate names, such as `IFX`.
    pub manufacturer: Option<String>,
}

/// Asks certificates of which one is a TPM key's, and the others those above it, in any order. `roots` are the CAs that
/// are trusted, in DER; without one, nothing is known of who vouches. `now` is in seconds since 1970.
#[must_use]
pub fn examine(certificates: &[Vec<u8>], roots: &[Vec<u8>], now: u64) -> Examination {
    let mut examination = Examination { checks: vec![], verdict: Verdict::Accepted, purpose: None, manufacturer: None };
    match questions(certificates, roots, now, &mut examination) {
        Ok(()) if roots.is_empty() => {
            let wanted = "a CA that is trusted: without, anybody could have made it";
            examination.checks.push(Check::new("root", "none was given", wanted, Outcome::Open));
            examination.verdict = Verdict::Unjudged("ek-root-missing");
        }
        Ok(()) => {}
        Err((name, refusal)) => {
            let check = Check::new(name, refusal.to_string(), wanted(name), Outcome::Refused(refusal.code()));
            examination.checks.push(check.advised(advice(&refusal)));
            examination.verdict = Verdict::Refused(refusal.code());
        }
    }
    examination
}

type Refused = (&'static str, EndorsementError);

fn questions(
    certificates: &[Vec<u8>],
    roots: &[Vec<u8>],
    now: u64,
    examination: &mut Examination,
) -> Result<(), Refused> {
    let mut passed = |name: &'static str, found: String| {
        examination.checks.push(Check::new(name, found, wanted(name), Outcome::Passed));
    };
    let chain = chain(certificates).map_err(|error| ("certificate form", error))?;
    let Some(leaf) = chain.first() else { return Ok(()) };
    passed("certificate form", format!("{} of {}", chain.len(), certificates.len()));

    for (index, certificate) in chain.iter().enumerate() {
        valid_at(certificate, index, now).map_err(|error| ("certificate validity", error))?;
        critical_extensions_known(certificate, index).map_err(|error| ("critical extensions", error))?;
    }
    let until = chain.iter().map(|certificate| certificate.validity().not_after.timestamp()).min().unwrap_or_default();
    passed("certificate validity", format!("valid until {}", rfc3339(until)));
    passed("critical extensions", "all known".to_owned());

    for (index, (certificate, issuer)) in chain.iter().zip(chain.iter().skip(1)).enumerate() {
        let link = may_sign(issuer, index + 1).and_then(|()| signed_by(certificate, issuer, index));
        link.map_err(|error| ("certificate chain", error))?;
    }
    if chain.len() > 1 {
        passed("certificate chain", format!("{} signatures hold", chain.len() - 1));
    }
    let key = Key::from_spki(leaf.public_key().raw);
    let hash = EkHash::from_bytes(sha256(&[leaf.public_key().raw]));
    if !roots.is_empty() {
        let is_root = chain.len() == 1 && roots.iter().any(|root| root.as_slice() == leaf.as_raw());
        if !is_root {
            anchored(&chain, hash, roots, now).map_err(|error| ("root", error))?;
        }
        passed("root", "one that was given".to_owned());
    }
    let purpose = purpose(leaf, key.as_ref()).map_err(|error| ("purpose", error))?;
    passed("purpose", purpose.replace('-', " "));
    examination.purpose = Some(purpose);
    examination.manufacturer = manufacturer(leaf);
    Ok(())
}

/// The certificate that vouches for no other, and from there upwards, as far as there are issuers.
fn chain(certificates: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, EndorsementError> {
    if certificates.len() > MAX_GIVEN {
        return Err(EndorsementError::ChainTooLong { found: certificates.len() });
    }
    let mut rest = Vec::new();
    for (index, der) in certificates.iter().enumerate() {
        rest.push(parse(der).map_err(|what| EndorsementError::Certificate { index, what })?);
    }
    let issues = |one: &X509Certificate<'_>, other: &X509Certificate<'_>| {
        one.as_raw() != other.as_raw() && other.issuer().as_raw() == one.subject().as_raw()
    };
    let is_leaf = |one: &X509Certificate<'_>| !rest.iter().any(|other| issues(one, other));
    let mut next = rest.iter().position(|one| !one.is_ca() && is_leaf(one)).or(rest.iter().position(is_leaf));
    let mut chain: Vec<X509Certificate<'_>> = Vec::new();
    while let Some(index) = next {
        let certificate = rest.swap_remove(index);
        next = rest.iter().position(|other| issues(other, &certificate));
        chain.push(certificate);
        if chain.len() == MAX_CHAIN {
            break;
        }
    }
    Ok(chain)
}

fn purpose(leaf: &X509Certificate<'_>, key: Option<&Key>) -> Result<&'static str, EndorsementError> {
    if leaf.is_ca() {
        return Ok("authority");
    }
    let no_key =
        EndorsementError::CertificateUse { what: "its key is neither RSA of 2048 bits or more, nor P-256 or P-384" };
    let for_ek = for_an_ek(leaf, key.ok_or(no_key)?);
    let uses = leaf.extended_key_usage().ok().flatten();
    let for_ak = uses.as_ref().is_some_and(|uses| uses.value.other.contains(&TCG_KP_AIK_CERTIFICATE));
    let signs = leaf.key_usage().ok().flatten().is_some_and(|usage| usage.value.digital_signature());
    match for_ek {
        Ok(()) if !for_ak => Ok("endorsement-key"),
        Err(_) | Ok(()) if for_ak || signs => Ok("attestation-key"),
        Ok(()) => Ok("endorsement-key"),
        Err(refusal) => Err(refusal),
    }
}

fn wanted(name: &str) -> &'static str {
    match name {
        "certificate form" => "one of a TPM's key, and those above it",
        "certificate validity" => "all valid at the time of the judgement",
        "critical extensions" => "none that this program does not process",
        "certificate chain" => "each signed by the next, which may sign certificates",
        "root" => "a CA that was given as trusted",
        _ => "an endorsement key's, an attestation key's or a CA's",
    }
}

fn advice(refusal: &EndorsementError) -> &'static str {
    match refusal {
        EndorsementError::Validity { .. } => {
            "judge with the time at which it was used (--at), or get a certificate that is valid now"
        }
        EndorsementError::NoRoot { .. } => {
            "give the manufacturer's root, from the manufacturer and not from the machine, or the certificates in between"
        }
        EndorsementError::CertificateUse { .. } => {
            "give the certificate of the TPM's endorsement key or of its attestation key"
        }
        EndorsementError::Authority { .. }
        | EndorsementError::CertificateSignature { .. }
        | EndorsementError::Issuer { .. } => {
            "the certificates do not belong together, or were altered: read them from the TPM and its manufacturer anew"
        }
        _ => "give certificates as the TPM and its manufacturer give them",
    }
}

/// The most certificates that are looked at.
const MAX_GIVEN: usize = 8;

const TCG_KP_AIK_CERTIFICATE: x509_parser::der_parser::Oid<'static> = oid!(2.23.133.8.3);
