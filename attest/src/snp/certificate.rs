//! One certificate of AMD's: parsed, its outermost layer without a free byte, and what each may do.

use ring::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, oid_registry as oids, prelude::FromDer as _,
};

use super::{der::SignedDer, evidence::MAX_PART, question::Question, refusal::SnpRefusal};

/// A certificate that parsed. It is a claim until [`Certificate::signed_by`] held.
pub(super) struct Certificate<'a> {
    der: &'a [u8],
    signed: SignedDer<'a>,
    x509: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// Parses DER.
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, SnpRefusal> {
        let refused =
            |what: String| SnpRefusal::new(Question::CertificateForm, what, "a certificate in DER as AMD makes it");
        if der.len() > MAX_PART {
            return Err(refused(format!("{} bytes, more than {MAX_PART}", der.len())));
        }
        let signed = SignedDer::cut(der).map_err(|what| refused(what.to_owned()))?;
        let (rest, x509) = X509Certificate::from_der(der).map_err(|error| refused(error.to_string()))?;
        if !rest.is_empty() || x509.tbs_certificate.as_ref() != signed.tbs {
            return Err(refused("bytes that two readers read differently".to_owned()));
        }
        if x509.signature_algorithm != x509.tbs_certificate.signature {
            return Err(refused("two signature algorithms".to_owned()));
        }
        if x509.tbs_certificate.version.0 != 2 {
            return Err(refused("a version other than 3".to_owned()));
        }
        Ok(Self { der, signed, x509 })
    }

    pub(super) fn der(&self) -> &'a [u8] {
        self.der
    }

    pub(super) fn x509(&self) -> &X509Certificate<'a> {
        &self.x509
    }

    /// The last common name of its subject, for choosing and for telling; what counts are names as raw bytes and signatures.
    pub(super) fn name(&self) -> &str {
        self.x509.subject().iter_common_name().last().and_then(|name| name.as_str().ok()).unwrap_or("without a name")
    }

    /// The same of its issuer.
    pub(super) fn issuer_name(&self) -> Option<&str> {
        self.x509.issuer().iter_common_name().last()?.as_str().ok()
    }

    pub(super) fn subject(&self) -> &[u8] {
        self.x509.subject().as_raw()
    }

    pub(super) fn issuer(&self) -> &[u8] {
        self.x509.issuer().as_raw()
    }

    /// Whether it calls itself its own issuer, as a root does.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject() == self.issuer()
    }

    /// First and last second of its validity, since 1970.
    pub(super) fn validity(&self) -> (i64, i64) {
        let validity = self.x509.validity();
        (validity.not_before.timestamp(), validity.not_after.timestamp())
    }

    /// Whether `authority` signed it. Says nothing about what the authority may do.
    pub(super) fn is_signed_by(&self, authority: &Certificate<'_>) -> bool {
        self.issuer() == authority.subject() && authority.verify(&self.signed)
    }

    /// Whether the RSA key of this certificate made the signature.
    pub(super) fn verify(&self, signed: &SignedDer<'_>) -> bool {
        let key = self.x509.public_key();
        key.algorithm.algorithm == oids::OID_PKCS1_RSAENCRYPTION
            && UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, &key.subject_public_key.data)
                .verify(signed.tbs, signed.signature)
                .is_ok()
    }

    /// What an ARK, ASK or ASVK has to be: a CA that may sign certificates.
    pub(super) fn may_sign_certificates(&self) -> Result<(), SnpRefusal> {
        let refused = |what: &str| {
            let found = format!("{}: {what}", self.name());
            SnpRefusal::new(Question::CertificateExtension, found, "a CA that may sign certificates")
        };
        self.extensions_are_known()?;
        let constraints = self.x509.basic_constraints().ok().flatten();
        if !constraints.is_some_and(|constraints| constraints.value.ca) {
            return Err(refused("no CA"));
        }
        match self.x509.key_usage().ok().flatten() {
            Some(usage) if usage.value.key_cert_sign() => Ok(()),
            _ => Err(refused("may not sign certificates")),
        }
    }

    /// No extension twice, none broken, none critical that is not understood here.
    pub(super) fn extensions_are_known(&self) -> Result<(), SnpRefusal> {
        let refused = |what: String| {
            let found = format!("{}: {what}", self.name());
            SnpRefusal::new(Question::CertificateExtension, found, "extensions as AMD specifies them, each once")
        };
        self.x509.extensions_map().map_err(|error| refused(error.to_string()))?;
        for extension in self.x509.extensions() {
            let understood = match extension.parsed_extension() {
                ParsedExtension::ParseError { error } => return Err(refused(error.to_string())),
                ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_) => true,
                _ => false,
            };
            if extension.critical && !understood {
                return Err(refused(format!("unknown critical extension {}", extension.oid)));
            }
        }
        Ok(())
    }
}
