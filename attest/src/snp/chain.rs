//! From AMD's root to the key that signs reports: the chain, and the value that proves that it held.

use super::{
    anchor::{self, Anchor, Anchors, Root},
    certificate::Certificate,
    crl::{Revocation, look_up},
    evidence::{MAX_CERTIFICATES, MAX_CRLS, SnpEvidence},
    product::Product,
    question::Question,
    refusal::SnpRefusal,
    report::Report,
    tcb::Tcb,
    vek::{Extensions, Holder, KeyKind, p384_key},
};
use crate::moment::rfc3339;
use crate::tpm::algorithm::sha256;

/// A signing key that a pinned root vouches for. Only [`EndorsedVek::endorse`] makes one. Verifying the chain costs more
/// than judging a report, so keep it and judge many: each use looks at the validity anew.
///
/// It cannot be built from certificates that nobody verified:
///
/// ```compile_fail,E0451
/// use blindferry_attest::snp::EndorsedVek;
/// let forged = EndorsedVek { ..panic!() };
/// ```
///
/// Nor forgotten where warnings are errors:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// fn forgotten(vek: fn() -> blindferry_attest::snp::EndorsedVek) {
///     vek();
/// }
/// ```
#[must_use = "an endorsed key that judges no report is wasted work"]
#[derive(Debug, PartialEq, Eq)]
pub struct EndorsedVek {
    kind: KeyKind,
    product: Product,
    product_name: String,
    tcb: Tcb,
    holder: Holder,
    key: [u8; 97],
    root: Root,
    validity: Validity,
    revocation: Revocation,
    /// SHA-256 of each revocation list that it was held against.
    lists: Vec<[u8; 32]>,
    der: Vec<u8>,
}

/// When all certificates of a chain are valid: the latest beginning, the earliest end, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Validity {
    from: (i64, String),
    until: (i64, String),
}

impl EndorsedVek {
    /// Verifies a chain. `certificates` are in DER and in any order; the key's own has to be among them, and a
    /// certificate between it and the root unless AMD's published one fits. `crls` may be empty; whether that is enough is
    /// for the reference values to say.
    ///
    /// `kind` chooses between certificates when there are several; a report says which it needs.
    ///
    /// # Errors
    ///
    /// The first that is wrong: form, root, signatures, extensions, revocation, validity at `now` (seconds since 1970).
    pub fn endorse(
        kind: KeyKind,
        certificates: &[&[u8]],
        crls: &[&[u8]],
        anchors: &Anchors,
        now: u64,
    ) -> Result<Self, SnpRefusal> {
        if certificates.len() > MAX_CERTIFICATES || crls.len() > MAX_CRLS.saturating_mul(2) {
            let found = format!("{} certificates and {} lists", certificates.len(), crls.len());
            return Err(SnpRefusal::new(Question::CertificateForm, found, "fewer"));
        }
        let given = certificates.iter().map(|der| Certificate::parse(der)).collect::<Result<Vec<_>, _>>()?;
        let vek = given.iter().find(|certificate| certificate.name() == kind.common_name());
        let vek = vek.ok_or_else(|| {
            let names: Vec<_> = given.iter().map(Certificate::name).collect();
            let found = if names.is_empty() { "no certificate".to_owned() } else { names.join(", ") };
            SnpRefusal::new(Question::CertificateMissing, found, format!("a {}", kind.name()))
        })?;
        let published = published_for(vek)?;
        let arks = pinned(&given, anchors)?;
        let Authority { certificate: ask, anchor, ark } = path(vek, &given, &published, &arks)?;
        if ask.name() != kind.issuer_name(anchor.product) {
            let wanted = kind.issuer_name(anchor.product);
            return Err(SnpRefusal::new(Question::ChainSignature, format!("signed by {}", ask.name()), wanted));
        }
        // What a root may do was looked at when it was pinned.
        ask.may_sign_certificates()?;
        let Extensions { product_name, tcb, holder } = Extensions::read(vek, kind, anchor.product)?;
        let key = p384_key(vek)?;
        let revocation = look_up(crls, ark, &[ask, vek])?;
        let endorsed = Self {
            kind,
            product: anchor.product,
            product_name,
            tcb,
            holder,
            key,
            root: anchor.root,
            validity: Validity::of(vek, [ask, ark]),
            revocation,
            lists: crls.iter().map(|list| sha256(&[list])).collect(),
            der: vek.der().to_vec(),
        };
        endorsed.valid_at(now)?;
        Ok(endorsed)
    }

    /// The chain of the key that is said to have signed a report, as it comes with the report.
    pub(crate) fn of_evidence(
        report: &Report,
        evidence: &SnpEvidence,
        crls: &[Vec<u8>],
        anchors: &Anchors,
        now: u64,
    ) -> Result<Self, SnpRefusal> {
        let certificates: Vec<_> = evidence.certificates().iter().map(Vec::as_slice).collect();
        let crls: Vec<_> = evidence.crls().iter().chain(crls).map(Vec::as_slice).collect();
        Self::endorse(claimed_kind(report), &certificates, &crls, anchors, now)
    }

    /// Whether this is the key whose certificate came with a report, under a root that is pinned still, and no revocation
    /// list is there that it was not held against: a newer one may revoke it.
    pub(crate) fn serves(&self, report: &Report, evidence: &SnpEvidence, crls: &[Vec<u8>], anchors: &Anchors) -> bool {
        self.kind == claimed_kind(report)
            && evidence.certificates().contains(&self.der)
            && anchors.iter().any(|anchor| anchor.root == self.root)
            && evidence.crls().iter().chain(crls).all(|list| self.lists.contains(&sha256(&[list])))
    }

    /// Refuses outside of the validity of any certificate of the chain.
    pub(super) fn valid_at(&self, now: u64) -> Result<(), SnpRefusal> {
        let seconds = i64::try_from(now).unwrap_or(i64::MAX);
        let (from, until) = (&self.validity.from, &self.validity.until);
        let refused = |question, what, at: &(i64, String)| {
            Err(SnpRefusal::new(
                question,
                format!("now {}", rfc3339(seconds)),
                format!("{} {what} {}", at.1, rfc3339(at.0)),
            ))
        };
        if seconds < from.0 {
            return refused(Question::CertificateNotYetValid, "valid from", from);
        }
        if seconds > until.0 {
            return refused(Question::CertificateExpired, "valid until", until);
        }
        Ok(())
    }

    /// What kind of key it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The product line whose root vouches for it.
    #[must_use]
    pub fn product(&self) -> Product {
        self.product
    }

    /// The product name in the certificate, which may have a stepping (`Milan-B0`).
    #[must_use]
    pub fn product_name(&self) -> &str {
        &self.product_name
    }

    /// The firmware that the key was derived for.
    #[must_use]
    pub fn tcb(&self) -> Tcb {
        self.tcb
    }

    /// The chip or the cloud provider that the key is of.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The root of its chain.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root
    }

    /// What revocation lists said when it was endorsed.
    #[must_use]
    pub fn revocation(&self) -> Revocation {
        self.revocation
    }

    /// First and last second at which every certificate of the chain is valid, since 1970.
    #[must_use]
    pub fn validity(&self) -> (i64, i64) {
        (self.validity.from.0, self.validity.until.0)
    }

    /// The key's certificate in DER: what a cache is looked up by.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(super) fn key(&self) -> &[u8; 97] {
        &self.key
    }
}

/// Which certificate to try, by what the report claims; whether it is the one is asked when the report is authentic.
fn claimed_kind(report: &Report) -> KeyKind {
    KeyKind::of_signing_key(report.body().signing_key).unwrap_or(KeyKind::Vcek)
}

impl Validity {
    fn of(vek: &Certificate<'_>, above: [&Certificate<'_>; 2]) -> Self {
        let named = |certificate: &Certificate<'_>| {
            let (from, until) = certificate.validity();
            ((from, certificate.name().to_owned()), (until, certificate.name().to_owned()))
        };
        let (mut from, mut until) = named(vek);
        for (begins, ends) in above.map(named) {
            if begins.0 > from.0 {
                from = begins;
            }
            if ends.0 < until.0 {
                until = ends;
            }
        }
        Self { from, until }
    }
}

/// The pinned roots that may end this chain: where the evidence brings a root, only that very one, and only if it is pinned.
fn pinned<'a>(
    given: &[Certificate<'a>],
    anchors: &'a Anchors,
) -> Result<Vec<(Anchor<'a>, Certificate<'a>)>, SnpRefusal> {
    let brought = given.iter().filter(|certificate| certificate.is_self_issued()).collect::<Vec<_>>();
    for root in &brought {
        if !anchors.iter().any(|anchor| anchor.der == root.der()) {
            return Err(SnpRefusal::new(
                Question::Root,
                format!("{} that is not pinned", root.name()),
                "a pinned root",
            ));
        }
    }
    let usable =
        anchors.iter().filter(|anchor| brought.is_empty() || brought.iter().any(|root| root.der() == anchor.der));
    usable.map(|anchor| Ok((anchor, Certificate::parse(anchor.der)?))).collect()
}

/// AMD's published certificates with the name of the issuer of a key.
fn published_for(vek: &Certificate<'_>) -> Result<Vec<Certificate<'static>>, SnpRefusal> {
    let named = anchor::published().filter(|one| vek.issuer_name() == Some(one.name.as_str()));
    named.map(|one| Certificate::parse(one.der)).collect()
}

/// A certificate between a root and the keys of chips, and the pinned root that signed it.
struct Authority<'c, 'a> {
    certificate: &'c Certificate<'a>,
    anchor: Anchor<'a>,
    ark: &'c Certificate<'a>,
}

/// The path from the key to a pinned root on which every signature holds. Each authority that the evidence brings has to
/// be signed by a pinned root, used or not; where it brings none that fits, AMD's published ones are tried.
fn path<'c, 'a>(
    vek: &Certificate<'_>,
    given: &'c [Certificate<'a>],
    published: &'c [Certificate<'a>],
    arks: &'c [(Anchor<'a>, Certificate<'a>)],
) -> Result<Authority<'c, 'a>, SnpRefusal> {
    let rooted = |certificate: &'c Certificate<'a>| {
        let (anchor, ark) = arks.iter().find(|(_, ark)| certificate.is_signed_by(ark))?;
        Some(Authority { certificate, anchor: *anchor, ark })
    };
    let is_key = |certificate: &Certificate<'_>| {
        [KeyKind::Vcek, KeyKind::Vlek].iter().any(|kind| certificate.name() == kind.common_name())
    };
    let mut candidates = Vec::new();
    for certificate in given.iter().filter(|certificate| !certificate.is_self_issued() && !is_key(certificate)) {
        let authority = rooted(certificate).ok_or_else(|| {
            let found = format!("{} that no pinned root signed", certificate.name());
            SnpRefusal::new(Question::Root, found, "a certificate signed by a pinned root")
        })?;
        candidates.push(authority);
    }
    let issued = |authority: &Authority<'_, '_>| authority.certificate.subject() == vek.issuer();
    candidates.retain(issued);
    if candidates.is_empty() {
        candidates.extend(published.iter().filter(|one| one.subject() == vek.issuer()).filter_map(rooted));
    }
    // A root that signs keys itself is no authority, and told by its name.
    if candidates.is_empty() && arks.iter().any(|(_, ark)| ark.subject() == vek.issuer()) {
        let found = format!("{} issued by a root", vek.name());
        return Err(SnpRefusal::new(Question::ChainSignature, found, "issued by an ASK or ASVK"));
    }
    if candidates.is_empty() {
        let found = format!("nothing between {} and a pinned root", vek.name());
        return Err(SnpRefusal::new(Question::CertificateMissing, found, "the ASK or ASVK that signed it"));
    }
    candidates.into_iter().find(|authority| vek.is_signed_by(authority.certificate)).ok_or_else(|| {
        let found = format!("{} whose signature does not hold", vek.name());
        SnpRefusal::new(Question::ChainSignature, found, "signed by the certificate above it")
    })
}
