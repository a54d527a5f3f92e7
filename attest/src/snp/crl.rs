//! Revocation lists of AMD's roots: signed by the pinned root, or worth nothing.

use x509_parser::{extensions::ParsedExtension, prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{
    anchor::Anchors, certificate::Certificate, der::SignedDer, evidence::MAX_PART, question::Question,
    refusal::SnpRefusal,
};

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

/// A list that a pinned root signed. Only [`List::check`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    issuer: String,
    from: i64,
    until: i64,
    revoked: Vec<Vec<u8>>,
}

impl List {
    /// Reads a list in DER that one of `anchors` signed.
    ///
    /// # Errors
    ///
    /// [`Question::Crl`] when it is of another form or the signature does not hold, [`Question::Root`] when no pinned root is
    /// its issuer.
    pub fn check(der: &[u8], anchors: &Anchors) -> Result<Self, SnpRefusal> {
        for anchor in anchors.iter() {
            if let Some(list) = Self::by(der, &Certificate::parse(anchor.der)?)? {
                return Ok(list);
            }
        }
        Err(SnpRefusal::new(Question::Root, "a list of another issuer", "a list of a pinned root"))
    }

    /// A list of this root; nothing when it is of another.
    fn by(der: &[u8], ark: &Certificate<'_>) -> Result<Option<Self>, SnpRefusal> {
        if der.len() > MAX_PART {
            return Err(refused(format!("{} bytes, more than {MAX_PART}", der.len())));
        }
        let signed = SignedDer::cut(der).map_err(|what| refused(what.to_owned()))?;
        let parsed = CertificateRevocationList::from_der(der).map_err(|error| refused(error.to_string()))?;
        let (_, list) = parsed;
        if list.issuer().as_raw() != ark.subject() {
            return Ok(None);
        }
        if list.tbs_cert_list.as_ref() != signed.tbs || list.signature_algorithm != list.tbs_cert_list.signature {
            return Err(refused("bytes that two readers read differently".to_owned()));
        }
        // Only the root itself signs lists: an issuer of the same name but another key has no say here.
        if !ark.verify(&signed) {
            let (found, wanted) = ("a signature that does not hold", format!("signed by {}", ark.name()));
            return Err(SnpRefusal::new(Question::Crl, found, wanted));
        }
        understood(&list)?;
        let until = list.next_update().ok_or_else(|| refused("no nextUpdate".to_owned()))?.timestamp();
        let revoked = list.iter_revoked_certificates().map(|entry| entry.raw_serial().to_vec()).collect();
        Ok(Some(Self { issuer: ark.name().to_owned(), from: list.last_update().timestamp(), until, revoked }))
    }

    /// The root whose list it is.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When it was made and when it has to be replaced, in seconds since 1970.
    #[must_use]
    pub fn validity(&self) -> (i64, i64) {
        (self.from, self.until)
    }

    /// The serial numbers that it revokes, as they stand in certificates.
    #[must_use]
    pub fn revoked(&self) -> &[Vec<u8>] {
        &self.revoked
    }
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
        let Some(list) = List::by(der, ark)? else { continue };
        let listed = |certificate: &&&Certificate<'_>| {
            list.revoked.iter().any(|serial| serial == certificate.x509().raw_serial())
        };
        if let Some(certificate) = chain.iter().find(listed) {
            let found =
                format!("{} (serial {}) revoked", certificate.name(), certificate.x509().raw_serial_as_string());
            return Err(SnpRefusal::new(Question::CertificateRevoked, found, "not revoked"));
        }
        let (from, until) = list.validity();
        newest = match newest {
            Revocation::NotRevoked { until: later, .. } if later >= until => newest,
            Revocation::Unknown | Revocation::NotRevoked { .. } => Revocation::NotRevoked { from, until },
        };
    }
    Ok(newest)
}

fn refused(what: String) -> SnpRefusal {
    SnpRefusal::new(Question::Crl, what, "a list in DER as AMD makes it")
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
