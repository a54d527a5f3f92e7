//! What certificates and revocation lists say.

use super::unreadable;
use crate::attest::said::Said;
use crate::output::moment;
use blindferry_attest::tpm::key::Key;
use ring::digest::{SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::{Oid, oid};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

pub(super) fn certificate(der: &[u8]) -> Said {
    let certificate = match X509Certificate::from_der(der) {
        Ok((_, certificate)) => certificate,
        Err(error) => return unreadable("certificate", &error),
    };
    let spki = certificate.public_key().raw;
    let key = Key::from_spki(spki).map_or_else(|| "of another kind".into(), |key| super::tpm::key(&key));
    let mut fields = vec![
        ("subject", Said::from(named(&certificate.subject().to_string()))),
        ("issuer", named(&certificate.issuer().to_string()).into()),
        ("serial number", certificate.raw_serial_as_string().into()),
        ("valid from", time(certificate.validity().not_before)),
        ("valid until", time(certificate.validity().not_after)),
        ("key", key),
        ("SHA-256 of the key", Said::hex(digest(&SHA256, spki).as_ref())),
        ("SHA-256", Said::hex(digest(&SHA256, der).as_ref())),
        ("CA", Said::Flag(certificate.is_ca())),
    ];
    if let Some(usage) = certificate.key_usage().ok().flatten() {
        fields.push(("key usage", usage.value.to_string().into()));
    }
    if let Some(uses) = certificate.extended_key_usage().ok().flatten() {
        let other = uses.value.other.iter().map(|oid| purpose(oid));
        fields.push(("extended key usage", Said::lines(other)));
    }
    let amd = amd(&certificate);
    if !amd.is_empty() {
        fields.push(("AMD", Said::fields(amd)));
    }
    let tpm = tpm(&certificate);
    if !tpm.is_empty() {
        fields.push(("TPM", Said::fields(tpm)));
    }
    Said::fields(fields)
}

pub(super) fn crl(der: &[u8]) -> Said {
    let list = match CertificateRevocationList::from_der(der) {
        Ok((_, list)) => list,
        Err(error) => return unreadable("revocation list", &error),
    };
    let serials = list.iter_revoked_certificates().map(|entry| entry.raw_serial_as_string());
    Said::fields([
        ("issuer", Said::from(list.issuer().to_string())),
        ("made at", time(list.last_update())),
        ("to be replaced by", list.next_update().map_or("not told".into(), time)),
        ("revoked", Said::lines(serials.take(MAX_SERIALS))),
    ])
}

/// The extensions of VCEKs and VLEKs (AMD document 57230).
fn amd(certificate: &X509Certificate<'_>) -> Vec<(&'static str, Said)> {
    let known: [(&'static str, Oid<'static>); 10] = [
        ("structure version", oid!(1.3.6.1.4.1.3704.1.1)),
        ("product", oid!(1.3.6.1.4.1.3704.1.2)),
        ("bootloader", oid!(1.3.6.1.4.1.3704.1.3.1)),
        ("tee", oid!(1.3.6.1.4.1.3704.1.3.2)),
        ("snp", oid!(1.3.6.1.4.1.3704.1.3.3)),
        ("microcode", oid!(1.3.6.1.4.1.3704.1.3.8)),
        ("fmc", oid!(1.3.6.1.4.1.3704.1.3.9)),
        ("chip id", oid!(1.3.6.1.4.1.3704.1.4)),
        ("provider", oid!(1.3.6.1.4.1.3704.1.5)),
        ("reserved SPL 4", oid!(1.3.6.1.4.1.3704.1.3.4)),
    ];
    let found = known.into_iter().filter_map(|(name, oid)| {
        let value = certificate.extensions().iter().find(|extension| extension.oid == oid)?.value;
        Some((name, of_der(value)))
    });
    found.collect()
}

/// An INTEGER, an IA5String, or the bytes as they are: hwID has no type.
fn of_der(value: &[u8]) -> Said {
    match value {
        [0x02, 1, number] => Said::Number((*number).into()),
        [0x02, 2, 0, number] => Said::Number((*number).into()),
        [0x16, len, text @ ..] if usize::from(*len) == text.len() => {
            Said::from(String::from_utf8_lossy(text).into_owned())
        }
        bytes => Said::hex(bytes),
    }
}

/// Where an EK certificate names its TPM (TCG EK Credential Profile).
fn tpm(certificate: &X509Certificate<'_>) -> Vec<(&'static str, Said)> {
    let Some(names) = certificate.subject_alternative_name().ok().flatten() else { return Vec::new() };
    let attributes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DirectoryName(directory) => Some(directory),
        _ => None,
    });
    let known: [(&'static str, Oid<'static>); 3] =
        [("manufacturer", oid!(2.23.133.2.1)), ("model", oid!(2.23.133.2.2)), ("version", oid!(2.23.133.2.3))];
    let told = attributes.flat_map(|directory| directory.iter_attributes()).filter_map(|attribute| {
        let (name, _) = known.iter().find(|(_, oid)| attribute.attr_type() == oid)?;
        let text = attribute.as_str().ok()?;
        Some((*name, Said::from(manufacturer(text).unwrap_or_else(|| text.to_owned()))))
    });
    told.collect()
}

/// `id:` and four letters in hexadecimal.
fn manufacturer(text: &str) -> Option<String> {
    let letters = hex::decode(text.strip_prefix("id:")?).ok().filter(|letters| letters.len() == 4)?;
    let name = String::from_utf8(letters).ok()?;
    Some(format!("{} ({text})", name.trim_end_matches(['\0', ' '])))
}

fn purpose(oid: &Oid<'_>) -> String {
    match oid.to_id_string().as_str() {
        "2.23.133.8.1" => "endorsement key of a TPM".to_owned(),
        "2.23.133.8.3" => "attestation key of a TPM".to_owned(),
        other => other.to_owned(),
    }
}

fn named(name: &str) -> String {
    if name.is_empty() { "none".to_owned() } else { name.to_owned() }
}

fn time(time: ASN1Time) -> Said {
    u64::try_from(time.timestamp()).map_or_else(|_| "before 1970".to_owned(), moment).into()
}

/// More revoked serial numbers of a list are not shown.
const MAX_SERIALS: usize = 100;
