//! Revocation lists of AMD's roots: signed by the pinned root, or worth nothing.

use x509_parser::{extensions::ParsedExtension, prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{certificate::Certificate, der::SignedDer, evidence::MAX_PART, question::Question, refusal::SnpRefusal};

/// What the lists said about a chain: which span of time they answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// There was no list of this root.
    Unknown,
    /// A list of this root does not name the chain.
    NotRevoked {
        /// When the list was made, in seconds since 1970.
        from: i64,
        /// When it has to be replaced.
        until: i64,
    },
}

/// Looks the certificates of a chain up in the lists. A list of another root is passed over; one that calls itself this
/// root's and is not signed by it, or does not parse, is refused.
pub(super) fn look_up(
    crls: &[&[u8]],
    ark: &Certificate<'_>,
    chain: &[&Certificate<'_>],
) -> Result<Revocation, SnpRefusal> {
    let mut newest = Revocation::Unknown;
    for der in crls {
        let refused = |what: String| SnpRefusal::new(Question::Crl, what, "a list in DER as AMD makes it");
        if der.len() > MAX_PART {
            return Err(refused(format!("{} bytes, more than {MAX_PART}", der.len())));
        }
        let signed = SignedDer::cut(der).map_err(|what| refused(what.to_owned()))?;
        let parsed = CertificateRevocationList::from_der(der).map_err(|error| refused(error.to_string()))?;
        let (_, list) = parsed;
        if list.issuer().as_raw() != ark.subject() {
            continue;
        }
        if list.tbs_cert_list.as_ref() != signed.tbs || list.signature_algorithm != list.tbs_cert_list.signature {
            return Err(refused("bytes that two readers read differently".to_owned()));
        }
        // Only the root itself signs lists: an issuer of the same name but another key has no say here.
        if !ark.verify(&signed) {
            return Err(SnpRefusal::new(
                Question::Crl,
                "a signature that does not hold",
                format!("signed by {}", ark.name()),
            ));
        }
        understood(&list)?;
        for entry in list.iter_revoked_certificates() {
            let revoked = chain.iter().find(|certificate| certificate.x509().raw_serial() == entry.raw_serial());
            if let Some(certificate) = revoked {
                let found =
                    format!("{} (serial {}) revoked", certificate.name(), certificate.x509().raw_serial_as_string());
                return Err(SnpRefusal::new(Question::CertificateRevoked, found, "not revoked"));
            }
        }
        let until = list.next_update().ok_or_else(|| refused("no nextUpdate".to_owned()))?.timestamp();
        let from = list.last_update().timestamp();
        newest = match newest {
            Revocation::NotRevoked { until: later, .. } if later >= until => newest,
            Revocation::Unknown | Revocation::NotRevoked { .. } => Revocation::NotRevoked { from, until },
        };
    }
    Ok(newest)
}

/// A critical extension can turn the meaning of a list or an entry around (delta lists, indirect lists): we know none.
fn understood(list: &CertificateRevocationList<'_>) -> Result<(), SnpRefusal> {
    let entries = list.iter_revoked_certificates().flat_map(|entry| entry.extensions().iter());
    for extension in list.extensions().iter().chain(entries) {
        if extension.critical || matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. }) {
            let found = format!("extension {} that is critical or broken", extension.oid);
            return Err(SnpRefusal::new(Question::Crl, found, "a plain, complete list"));
        }
    }
    Ok(())
}
