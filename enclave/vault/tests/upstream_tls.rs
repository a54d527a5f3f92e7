//! TLS to an upstream ends in the vault, which believes a certificate of the right name, root and time, and nobody who dials.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/dialler.rs"]
mod dialler;

use authority::{Authority, Identity};
use blindferry_vault::upstream::{Answer, Trust, Upstream, UpstreamError};
use dialler::Dialler;
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

const NAME: &str = "login.example.org";
/// 2026-09-21.
const NOW: u64 = 1_790_000_000;
const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn a_server_of_the_right_name_root_and_time_is_believed() {
    let authority = Authority::new();
    let only = Trust::only(authority.pem()).unwrap();
    for versions in [BOTH, &[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let (port, server) = serve(&authority.certify(NAME, 2026, 2027), versions).await;
        let answer = post(port, &only, NOW).await.unwrap();
        assert_eq!(answer.json(), Some(b"{}".as_slice()));
        assert!(server.await.unwrap(), "the request did not come through");
    }
}

#[tokio::test]
async fn a_server_of_another_name_is_refused_before_anything_is_sent() {
    let authority = Authority::new();
    for name in ["evil.example.org", "example.org", "*.org", "127.0.0.1"] {
        refuse(&authority.certify(name, 2026, 2027), authority.pem(), NOW).await;
    }
}

#[tokio::test]
async fn a_server_of_another_root_is_refused_before_anything_is_sent() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    refuse(&theirs.certify(NAME, 2026, 2027), ours.pem(), NOW).await;
}

#[tokio::test]
async fn own_roots_are_unknown_where_the_public_ones_are_trusted() {
    let authority = Authority::new();
    let (port, server) = serve(&authority.certify(NAME, 2026, 2027), BOTH).await;
    let error = post(port, &Trust::public_roots(), NOW).await.err().unwrap();
    assert_eq!(error.code(), "upstream-untrusted", "{error:?}");
    assert!(!server.await.unwrap());
}

#[tokio::test]
async fn an_expired_certificate_and_a_future_one_are_refused() {
    let authority = Authority::new();
    refuse(&authority.certify(NAME, 2024, 2025), authority.pem(), NOW).await;
    refuse(&authority.certify(NAME, 2027, 2028), authority.pem(), NOW).await;
}

#[tokio::test]
async fn the_time_of_the_order_is_the_time_of_the_certificate() {
    let authority = Authority::new();
    refuse(&authority.certify(NAME, 2026, 2027), authority.pem(), NOW + 366 * 86_400).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_before_anything_is_sent() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}").await.unwrap();
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    });
    let error = post(port, &Trust::only(authority.pem()).unwrap(), NOW).await.err().unwrap();
    assert_eq!((error.code(), error.is_passing()), ("upstream-tls", false), "{error:?}");
    assert!(!server.await.unwrap().windows(6).any(|window| window == b"secret"));
}

#[test]
fn a_text_without_roots_trusts_nobody_by_mistake() {
    let authority = Authority::new();
    for text in ["", "no certificate here", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Trust::only(text).is_err(), "{text}");
    }
    let cut = authority.pem().replace("-----END CERTIFICATE-----", "");
    assert!(Trust::only(&cut).is_err());
    assert!(Trust::only(&authority.pem().repeat(17)).is_err());
    assert!(Trust::only(&authority.pem().repeat(16)).is_ok());
}

async fn refuse(identity: &Identity, root: &str, now: u64) {
    let (port, server) = serve(identity, BOTH).await;
    let error = post(port, &Trust::only(root).unwrap(), now).await.err().expect("accepted");
    assert_eq!((error.code(), error.is_passing()), ("upstream-untrusted", false), "{error:?}");
    assert!(!server.await.unwrap(), "the request was sent all the same");
}

async fn post(port: u16, trust: &Trust, now: u64) -> Result<Answer, UpstreamError> {
    let dialler = Dialler(port);
    let form = Zeroizing::new(b"a=secret".to_vec());
    let address = format!("https://{NAME}/token").parse().unwrap();
    Upstream::new(&dialler, now, Duration::from_secs(5)).post_form(&address, trust, None, form).await
}

/// A server that answers one request with `{}`; says whether it got one.
async fn serve(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> (u16, JoinHandle<bool>) {
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return false };
        let mut heard = [0; 4096];
        if !matches!(stream.read(&mut heard).await, Ok(length) if length > 0) {
            return false;
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            .await
            .unwrap();
        stream.shutdown().await.is_ok()
    });
    (port, server)
}
