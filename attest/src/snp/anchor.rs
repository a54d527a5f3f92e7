//! The roots: AMD's, as AMD publishes them, and those that reference values name in words that start with `dangerously`.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};
use x509_parser::pem::parse_x509_pem;

use super::{certificate::Certificate, product::Product, question::Question, refusal::SnpRefusal};

/// Roots that chains may end in. A root is pinned as a whole certificate; what comes with evidence is never trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchors {
    dangerous: Vec<DangerousRoot>,
}

/// A root that is not AMD's: whoever holds its key can forge every report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DangerousRoot {
    product: Product,
    der: Vec<u8>,
    reason: String,
}

/// The root that a chain ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// AMD's root of this product line.
    Amd(Product),
    /// One that the reference values name dangerously; the SHA-256 of its certificate.
    Dangerous([u8; 32]),
}

/// A pinned root while a chain is verified.
#[derive(Clone, Copy)]
pub(super) struct Anchor<'a> {
    pub(super) product: Product,
    pub(super) der: &'a [u8],
    pub(super) root: Root,
}

impl Anchors {
    /// AMD's roots and no others.
    #[must_use]
    pub fn amd() -> Self {
        Self { dangerous: Vec::new() }
    }

    /// AMD's roots and these. Everything that was judged under one says so ([`Root::Dangerous`]).
    #[must_use]
    pub fn dangerously_with(roots: Vec<DangerousRoot>) -> Self {
        Self { dangerous: roots }
    }

    /// The roots that are not AMD's.
    #[must_use]
    pub fn dangerous(&self) -> &[DangerousRoot] {
        &self.dangerous
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Anchor<'_>> {
        let amd = PUBLISHED.iter().map(|published| Anchor {
            product: published.product,
            der: &published.ark,
            root: Root::Amd(published.product),
        });
        let dangerous = self.dangerous.iter().map(|root| Anchor {
            product: root.product,
            der: &root.der,
            root: Root::Dangerous(root.fingerprint()),
        });
        amd.chain(dangerous)
    }
}

impl DangerousRoot {
    /// A root for chips of this product line, in PEM, and why it is trusted.
    ///
    /// # Errors
    ///
    /// When it is not one self-signed CA of the form of AMD's roots.
    pub fn new(product: Product, pem: &str, reason: String) -> Result<Self, SnpRefusal> {
        let der =
            der_of(pem).map_err(|what| SnpRefusal::new(Question::CertificateForm, what, "one certificate in PEM"))?;
        let certificate = Certificate::parse(&der)?;
        certificate.may_sign_certificates()?;
        if !certificate.is_signed_by(&certificate) {
            return Err(SnpRefusal::new(Question::ChainSignature, "a certificate that another signed", "a root"));
        }
        Ok(Self { product, der, reason })
    }

    /// The product line that it stands for.
    #[must_use]
    pub fn product(&self) -> Product {
        self.product
    }

    /// Why it is trusted.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM, in the one form that this program writes.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        // 48 bytes are a line of 64 characters.
        for line in self.der.chunks(48) {
            BASE64.encode_string(line, &mut text);
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
        text
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }
}

/// A certificate of AMD's that is part of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedCertificate {
    /// Its common name, such as `ARK-Genoa` or `SEV-VLEK-Turin`.
    pub name: String,
    /// The certificate in DER.
    pub der: &'static [u8],
}

/// AMD's roots and the certificates under them that sign VCEKs (`SEV-…`) and VLEKs (`SEV-VLEK-…`).
pub fn published() -> impl Iterator<Item = PublishedCertificate> {
    PUBLISHED.iter().flat_map(|Published { product, ark, ask, asvk }| {
        [
            PublishedCertificate { name: format!("ARK-{product}"), der: ark },
            PublishedCertificate { name: format!("SEV-{product}"), der: ask },
            PublishedCertificate { name: format!("SEV-VLEK-{product}"), der: asvk },
        ]
    })
}

struct Published {
    product: Product,
    ark: Vec<u8>,
    ask: Vec<u8>,
    asvk: Vec<u8>,
}

static PUBLISHED: LazyLock<[Published; 3]> = LazyLock::new(|| {
    let published = |product, ark, ask, asvk| Published { product, ark: der(ark), ask: der(ask), asvk: der(asvk) };
    [
        published(
            Product::Milan,
            include_str!("roots/ARK-Milan.pem"),
            include_str!("roots/SEV-Milan.pem"),
            include_str!("roots/SEV-VLEK-Milan.pem"),
        ),
        published(
            Product::Genoa,
            include_str!("roots/ARK-Genoa.pem"),
            include_str!("roots/SEV-Genoa.pem"),
            include_str!("roots/SEV-VLEK-Genoa.pem"),
        ),
        published(
            Product::Turin,
            include_str!("roots/ARK-Turin.pem"),
            include_str!("roots/SEV-Turin.pem"),
            include_str!("roots/SEV-VLEK-Turin.pem"),
        ),
    ]
});

#[expect(clippy::expect_used, reason = "certificates that are part of this program: each test of a chain would fail")]
fn der(pem: &str) -> Vec<u8> {
    der_of(pem).expect("one certificate in PEM")
}

fn der_of(pem: &str) -> Result<Vec<u8>, String> {
    let (rest, pem) = parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
    if pem.label != "CERTIFICATE" {
        return Err(format!("a {}", pem.label.chars().take(40).collect::<String>()));
    }
    if !rest.iter().all(u8::is_ascii_whitespace) {
        return Err("something behind the certificate".to_owned());
    }
    Ok(pem.contents)
}

#[cfg(test)]
mod tests {
    use super::{Anchors, Certificate, published};

    #[test]
    fn every_root_signed_itself_and_both_authorities_of_its_product() {
        let certificates: Vec<_> = published().map(|one| (one.name, Certificate::parse(one.der).unwrap())).collect();
        assert_eq!(certificates.len(), 9);
        for line in certificates.chunks(3) {
            let ark = &line[0].1;
            for (name, certificate) in line {
                assert_eq!(certificate.name(), name);
                certificate.may_sign_certificates().unwrap();
                assert!(certificate.is_signed_by(ark), "{name}");
            }
        }
        // No root vouches for another's.
        assert!(!certificates[1].1.is_signed_by(&certificates[3].1));
        assert_eq!(Anchors::amd().iter().count(), 3);
    }
}
