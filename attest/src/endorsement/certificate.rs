//! EK certificates: a chain to one of our roots, for this very key.
//!
//! Real EK certificates break strict rules of DER and of RFC 5280 in places: sets out of order, an empty subject with a
//! critical subjectAltName, RSA keys named by id-RSAES-OAEP. The parser is lenient about encoding; we take nothing from a
//! certificate before a signature over its raw bytes held, and compare keys by their content.

use std::collections::BTreeSet;

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::{
    certificate::X509Certificate,
    der_parser::{Oid, oid},
    extensions::{GeneralName, ParsedExtension},
    oid_registry as oids,
    prelude::FromDer as _,
};

use super::{EkHash, EndorsementError, MAX_CERTIFICATE, MAX_CHAIN, Manufacturers};
use crate::tpm::key::{Curve, Key};

/// An EK certificate that a root of ours vouches for.
#[derive(Debug)]
pub(super) struct Certified {
    /// The manufacturer that it names, such as `IFX`.
    pub(super) manufacturer: Option<String>,
}

/// Checks that a chain (leaf first) certifies `ek` at `now` under one of `roots`.
pub(super) fn certify(
    ek: &Key,
    ek_hash: EkHash,
    chain: &[Vec<u8>],
    roots: &[Vec<u8>],
    manufacturers: &Manufacturers,
    now: u64,
) -> Result<Certified, EndorsementError> {
    let chain = parse_chain(chain)?;
    let leaf = chain.first().ok_or(EndorsementError::NotAllowed { ek: ek_hash })?;
    // The cheap comparison first: a chain for another key is not worth a signature check.
    if !is_for(leaf, ek) {
        return Err(EndorsementError::CertificateKey { ek: ek_hash });
    }
    for (index, certificate) in chain.iter().enumerate() {
        valid_at(certificate, index, now)?;
        critical_extensions_known(certificate, index)?;
    }
    for (index, (certificate, issuer)) in chain.iter().zip(chain.iter().skip(1)).enumerate() {
        if certificate.issuer().as_raw() != issuer.subject().as_raw() {
            return Err(EndorsementError::Issuer { index });
        }
        may_sign(issuer, index + 1)?;
        signed_by(certificate, issuer, index)?;
    }
    anchored(&chain, ek_hash, roots, now)?;
    for_an_ek(leaf, ek)?;
    let manufacturer = manufacturer(leaf);
    match (manufacturers, &manufacturer) {
        (Manufacturers::Any, _) => {}
        (Manufacturers::Only(accepted), Some(found)) if accepted.contains(found) => {}
        (Manufacturers::Only(_), found) => {
            return Err(EndorsementError::Manufacturer { found: found.clone() });
        }
    }
    Ok(Certified { manufacturer })
}

/// Whether all of these can be read at all.
pub(super) fn readable(roots: &[Vec<u8>]) -> Result<(), EndorsementError> {
    for (index, der) in roots.iter().enumerate() {
        let _certificate = parse(der).map_err(|what| EndorsementError::Root { index, what })?;
    }
    Ok(())
}

fn parse_chain(chain: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, EndorsementError> {
    if chain.len() > MAX_CHAIN {
        return Err(EndorsementError::ChainTooLong { found: chain.len() });
    }
    let mut parsed = Vec::with_capacity(chain.len());
    for (index, der) in chain.iter().enumerate() {
        if der.len() > MAX_CERTIFICATE {
            return Err(EndorsementError::CertificateTooLong { index, found: der.len() });
        }
        parsed.push(parse(der).map_err(|what| EndorsementError::Certificate { index, what })?);
    }
    Ok(parsed)
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow it", rest.len()));
    }
    if certificate.signature_algorithm != certificate.tbs_certificate.signature {
        return Err("it names two signature algorithms".to_owned());
    }
    // Fails when an extension is there twice.
    certificate.extensions_map().map_err(|error| error.to_string())?;
    let broken = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::ParseError { error } => Some(error.to_string()),
        _ => None,
    });
    broken.map_or(Ok(certificate), Err)
}

fn is_for(certificate: &X509Certificate<'_>, ek: &Key) -> bool {
    let spki = certificate.public_key();
    let algorithm = &spki.algorithm.algorithm;
    let kind_fits = match ek {
        Key::Rsa { .. } => *algorithm == oids::OID_PKCS1_RSAENCRYPTION || *algorithm == RSAES_OAEP,
        Key::Ecc { curve, .. } => {
            *algorithm == oids::OID_KEY_TYPE_EC_PUBLIC_KEY && curve_of(certificate) == Some(*curve)
        }
    };
    kind_fits && spki.subject_public_key.unused_bits == 0 && *spki.subject_public_key.data == *ek.bare()
}

pub(super) fn valid_at(certificate: &X509Certificate<'_>, index: usize, now: u64) -> Result<(), EndorsementError> {
    let validity = certificate.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    match i64::try_from(now) {
        Ok(seconds) if (not_before..=not_after).contains(&seconds) => Ok(()),
        _ => Err(EndorsementError::Validity { index, not_before, not_after, now }),
    }
}

pub(super) fn critical_extensions_known(
    certificate: &X509Certificate<'_>,
    index: usize,
) -> Result<(), EndorsementError> {
    let unknown = certificate.extensions().iter().filter(|extension| extension.critical).find(|extension| {
        !matches!(
            extension.parsed_extension(),
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                // Where an EK certificate names the TPM; critical when the subject is empty.
                | ParsedExtension::SubjectAlternativeName(_)
                // We ask for no particular policy, so that every one is as good as any.
                | ParsedExtension::CertificatePolicies(_)
        )
    });
    match unknown {
        None => Ok(()),
        Some(extension) => Err(EndorsementError::CriticalExtension { index, oid: extension.oid.to_id_string() }),
    }
}

/// `index` counts the CA in the chain; between it and the leaf are `index - 1` other CAs.
pub(super) fn may_sign(authority: &X509Certificate<'_>, index: usize) -> Result<(), EndorsementError> {
    let refused = |what| EndorsementError::Authority { index, what };
    let constraints =
        authority.basic_constraints().ok().flatten().ok_or_else(|| refused("it has no basicConstraints"))?;
    if !constraints.value.ca {
        return Err(refused("it is no CA"));
    }
    if let Some(limit) = constraints.value.path_len_constraint
        && usize::try_from(limit).is_ok_and(|limit| index.saturating_sub(1) > limit)
    {
        return Err(refused("its path length is exceeded"));
    }
    match authority.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => Err(refused("its key usage is without keyCertSign")),
        Ok(_) => Ok(()),
        Err(_) => Err(refused("its key usage cannot be read")),
    }
}

pub(super) fn signed_by(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    index: usize,
) -> Result<(), EndorsementError> {
    let refused = || EndorsementError::CertificateSignature { index };
    let algorithm = accepted_algorithm(&certificate.signature_algorithm.algorithm, issuer).ok_or_else(refused)?;
    let value = &certificate.signature_value;
    if value.unused_bits != 0 {
        return Err(refused());
    }
    UnparsedPublicKey::new(algorithm, &*issuer.public_key().subject_public_key.data)
        .verify(certificate.tbs_certificate.as_ref(), &value.data)
        .map_err(|_| refused())
}

/// What CAs of TPM vendors sign with, as far as it is strong: PKCS #1 v1.5 and ECDSA with SHA-2. The key of the issuer,
/// not the certificate, says of which kind it must be.
fn accepted_algorithm(named: &Oid<'_>, issuer: &X509Certificate<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let key = &issuer.public_key().algorithm.algorithm;
    if *key == oids::OID_PKCS1_RSAENCRYPTION {
        let algorithms: [(Oid<'_>, &'static dyn VerificationAlgorithm); 3] = [
            (oids::OID_PKCS1_SHA256WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA256),
            (oids::OID_PKCS1_SHA384WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA384),
            (oids::OID_PKCS1_SHA512WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA512),
        ];
        return algorithms.into_iter().find(|(oid, _)| oid == named).map(|(_, algorithm)| algorithm);
    }
    if *key != oids::OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let sha256 = *named == oids::OID_SIG_ECDSA_WITH_SHA256;
    let sha384 = *named == oids::OID_SIG_ECDSA_WITH_SHA384;
    match curve_of(issuer)? {
        Curve::P256 if sha256 => Some(&signature::ECDSA_P256_SHA256_ASN1),
        Curve::P256 if sha384 => Some(&signature::ECDSA_P256_SHA384_ASN1),
        Curve::P384 if sha256 => Some(&signature::ECDSA_P384_SHA256_ASN1),
        Curve::P384 if sha384 => Some(&signature::ECDSA_P384_SHA384_ASN1),
        Curve::P256 | Curve::P384 => None,
    }
}

fn curve_of(certificate: &X509Certificate<'_>) -> Option<Curve> {
    let parameters = certificate.public_key().algorithm.parameters.as_ref()?.as_oid().ok()?;
    if parameters == oids::OID_EC_P256 {
        Some(Curve::P256)
    } else if parameters == oids::OID_NIST_EC_P384 {
        Some(Curve::P384)
    } else {
        None
    }
}

/// The end of the chain must be signed by a root, or be one (but for the EK's own certificate, which cannot).
pub(super) fn anchored(
    chain: &[X509Certificate<'_>],
    ek: EkHash,
    roots: &[Vec<u8>],
    now: u64,
) -> Result<(), EndorsementError> {
    let end = chain.len().saturating_sub(1);
    let last = chain.get(end).ok_or(EndorsementError::NotAllowed { ek })?;
    let mut refusal = None;
    for (index, der) in roots.iter().enumerate() {
        let root = parse(der).map_err(|what| EndorsementError::Root { index, what })?;
        if end > 0 && root.as_raw() == last.as_raw() {
            return Ok(());
        }
        if root.subject().as_raw() != last.issuer().as_raw() {
            continue;
        }
        // Several roots may have one name (a vendor renews its key), so a failure is not yet the end.
        let outcome = valid_at(&root, end + 1, now)
            .and_then(|()| critical_extensions_known(&root, end + 1))
            .and_then(|()| may_sign(&root, end + 1))
            .and_then(|()| signed_by(last, &root, end));
        match outcome {
            Ok(()) => return Ok(()),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| EndorsementError::NoRoot { ek, issuer: last.issuer().to_string() }))
}

/// Section 3.2 of the EK Credential Profile: not a CA, for encryption or key agreement, and, where it lists uses, for EKs.
pub(super) fn for_an_ek(leaf: &X509Certificate<'_>, ek: &Key) -> Result<(), EndorsementError> {
    let refused = |what| EndorsementError::CertificateUse { what };
    if leaf.is_ca() {
        return Err(refused("it is a CA's"));
    }
    let usage = leaf.key_usage().map_err(|_| refused("its key usage cannot be read"))?;
    let fits = match (usage, ek) {
        (None, _) => true,
        (Some(usage), Key::Rsa { .. }) => usage.value.key_encipherment(),
        (Some(usage), Key::Ecc { .. }) => usage.value.key_agreement(),
    };
    if !fits {
        return Err(refused("its key usage is not that of an EK"));
    }
    let uses = leaf.extended_key_usage().map_err(|_| refused("its extended key usage cannot be read"))?;
    match uses {
        Some(uses) if !uses.value.any && !uses.value.other.contains(&TCG_KP_EK_CERTIFICATE) => {
            Err(refused("its extended key usage is without tcg-kp-EKCertificate"))
        }
        _ => Ok(()),
    }
}

/// tpmManufacturer in the subjectAltName: `id:` and the four bytes of the TCG vendor identifier in hexadecimal.
pub(super) fn manufacturer(leaf: &X509Certificate<'_>) -> Option<String> {
    let names = leaf.subject_alternative_name().ok().flatten()?;
    let found: BTreeSet<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DirectoryName(directory) => Some(directory),
            _ => None,
        })
        .flat_map(|directory| directory.iter_attributes())
        .filter(|attribute| *attribute.attr_type() == TCG_AT_TPM_MANUFACTURER)
        .filter_map(|attribute| attribute.as_str().ok())
        .collect();
    // A certificate that names two manufacturers names none.
    let (first, rest) = (found.first()?, found.len() - 1);
    let mut id = [0; 4];
    hex::decode_to_slice(first.strip_prefix("id:")?, &mut id).ok()?;
    let text = str::from_utf8(&id).ok()?.trim_end_matches(['\0', ' ']);
    (rest == 0 && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

// id-RSAES-OAEP, which early Infineon certificates name the key by (RFC 4055).
const RSAES_OAEP: Oid<'static> = oid!(1.2.840.113549.1.1.7);
const TCG_KP_EK_CERTIFICATE: Oid<'static> = oid!(2.23.133.8.1);
const TCG_AT_TPM_MANUFACTURER: Oid<'static> = oid!(2.23.133.2.1);
