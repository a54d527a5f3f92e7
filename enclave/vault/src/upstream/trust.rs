//! Which certificates an upstream may show: the public roots, or exactly those that an operator gave.

use rustls::client::Resumption;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// Roots that a server's certificate must lead to.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// The public roots, compiled in: the vault reads no files.
    #[must_use]
    pub fn public_roots() -> Self {
        Self { roots: Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }) }
    }

    /// These certificates in PEM, and no others.
    ///
    /// # Errors
    /// [`BadTrust`] when the text holds none, more than [`MAX_ROOTS`], or one that cannot be a root.
    pub fn only(pem: &str) -> Result<Self, BadTrust> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            if roots.len() == MAX_ROOTS {
                return Err(BadTrust::TooMany);
            }
            roots.add(certificate.map_err(BadTrust::Pem)?).map_err(BadTrust::Certificate)?;
        }
        if roots.is_empty() {
            return Err(BadTrust::Empty);
        }
        Ok(Self { roots: Arc::new(roots) })
    }

    /// TLS 1.2 or 1.3 with ring, certificates judged at `now` (Unix seconds), nothing remembered between connections.
    pub(super) fn client_config(&self, now: u64) -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(Moment(now)))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Certificates that an operator may give for one upstream.
pub const MAX_ROOTS: usize = 16;

/// A text does not say whom to trust.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// Not PEM.
    #[error("the trusted certificates are not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// Not a certificate.
    #[error("one of the trusted certificates cannot be a root")]
    Certificate(#[source] rustls::Error),
    /// None; that would trust nobody, and was hardly meant.
    #[error("no certificate where trusted certificates should be")]
    Empty,
    /// Over [`MAX_ROOTS`].
    #[error("more than {MAX_ROOTS} trusted certificates")]
    TooMany,
}

/// The one moment at which a handshake takes place.
#[derive(Debug)]
struct Moment(u64);

impl TimeProvider for Moment {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}
