//! Is it TLS 1.3, ours, new, and with a raw key at each end that signed this very handshake?

use crate::ends::{World, open, peer_tls, pipe, vault_tls};
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::role::Role;
use blindferry_session::channel::{Channel, ChannelError};
use blindferry_session::client::ConnectError;
use blindferry_session::server::{Heard, ServerError, hear};
use blindferry_session::{Identity, tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, HandshakeKind, NamedGroup, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsStream;

#[tokio::test]
async fn a_certificate_in_place_of_a_raw_key_is_refused_by_the_vault() {
    let world = World::new();
    // As an ordinary client would, and as one that announces a raw key and then shows a certificate.
    for announced_raw in [false, true] {
        let client = client_showing(Shows { key: Some(certificate()), raw: announced_raw });
        let error = heard_from(&world, client).await;
        let wanted = if announced_raw {
            matches!(error, Error::InvalidCertificate(CertificateError::BadEncoding))
        } else {
            matches!(error, Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension))
        };
        assert!(wanted, "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_in_place_of_a_raw_key_is_refused_by_the_host() {
    for announced_raw in [false, true] {
        let (host, vault) = connected_to(server_showing(Shows { key: Some(certificate()), raw: announced_raw })).await;
        if announced_raw {
            assert!(matches!(host, Error::InvalidCertificate(CertificateError::BadEncoding)), "{host:?}");
        } else {
            assert!(matches!(host, Error::AlertReceived(_)), "{host:?}");
            let incompatible = Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension);
            assert_eq!(vault.unwrap(), incompatible);
        }
    }
}

/// A client of the web's kind, which looks for a certificate, finds no vault.
#[tokio::test]
async fn a_client_that_wants_a_certificate_gets_no_handshake() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(Arc::new(Shows { key: Some(raw_key()), raw: true }));
    client.alpn_protocols = vec![tls::ALPN.to_vec()];
    let error = heard_from(&World::new(), client).await;
    assert_eq!(error, Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension));
}

#[tokio::test]
async fn a_peer_without_a_key_is_refused() {
    let error = heard_from(&World::new(), client_showing(Shows { key: None, raw: true })).await;
    assert_eq!(error, Error::NoCertificatesPresented);
    let error = heard_from(&World::new(), client_showing(Shows { key: None, raw: false })).await;
    assert_eq!(error, Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension));
}

#[tokio::test]
async fn a_second_key_behind_the_first_is_refused() {
    let key = raw_key();
    let two = CertifiedKey::new([key.cert.clone(), raw_key().cert.clone()].concat(), Arc::clone(&key.key));
    let two = Shows { key: Some(Arc::new(two)), raw: true };
    let (host, _) = connected_to(server_showing(two.clone())).await;
    let vault = heard_from(&World::new(), client_showing(two)).await;
    for error in [host, vault] {
        assert!(matches!(error, Error::InvalidCertificate(_) | Error::PeerMisbehaved(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_key_whose_holder_did_not_sign_the_handshake_is_refused() {
    let stolen = CertifiedKey::new(raw_key().cert.clone(), Arc::clone(&raw_key().key));
    let stolen = Shows { key: Some(Arc::new(stolen)), raw: true };
    let (host, _) = connected_to(server_showing(stolen.clone())).await;
    let vault = heard_from(&World::new(), client_showing(stolen)).await;
    for error in [host, vault] {
        assert!(matches!(error, Error::InvalidCertificate(CertificateError::BadSignature)), "{error:?}");
    }
}

#[tokio::test]
async fn another_application_protocol_or_none_is_refused() {
    let world = World::new();
    let mut client = client_showing(Shows { key: Some(raw_key()), raw: true });
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert_eq!(heard_from(&world, client.clone()).await, Error::NoApplicationProtocol);
    client.alpn_protocols = Vec::new();
    let (heard, _) = hear_from(&world, client).await;
    assert_eq!(heard.unwrap_err().code(), "tls-protocol");

    for protocols in [vec![], vec![b"blindferry/2".to_vec()]] {
        let mut server = server_showing(Shows { key: Some(raw_key()), raw: true });
        server.alpn_protocols.clone_from(&protocols);
        let (ours, theirs) = pipe();
        let (established, _) = tokio::join!(world.connect(ours), vault_tls(theirs, Arc::new(server)));
        match established.unwrap_err() {
            ConnectError::Channel(error) if protocols.is_empty() => assert_eq!(error.code(), "tls-protocol"),
            ConnectError::Tls { .. } if !protocols.is_empty() => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_peer_of_tls_1_2_is_refused_by_the_vault() {
    let world = World::new();
    let (mut ours, theirs) = pipe();
    ours.write_all(&tls_1_2(1, &CLIENT_HELLO)).await.unwrap();
    let error = tls_error(hear(theirs, &world.tls, &world.identity).await.unwrap_err());
    assert_eq!(error, Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired));
    let mut alert = [0; 7];
    ours.read_exact(&mut alert).await.unwrap();
    // RFC 8446 section 6: a fatal alert, protocol_version.
    assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 70]);
}

#[tokio::test]
async fn a_vault_of_tls_1_2_is_refused_by_the_host() {
    let (ours, mut theirs) = pipe();
    theirs.write_all(&tls_1_2(2, &SERVER_HELLO)).await.unwrap();
    let error = World::new().connect(ours).await.unwrap_err();
    let ConnectError::Tls { source } = error else { panic!("{error}") };
    let error = inner(&source);
    assert_eq!(error, Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig));
}

#[tokio::test]
async fn the_vault_sends_no_ticket_and_a_client_that_would_resume_finds_nothing_to_resume() {
    let world = World::new();
    let mut lax = (*world.tls).clone();
    lax.send_tls13_tickets = 2;
    lax.session_storage = ServerSessionMemoryCache::new(8);
    // The second server shows that the first one's silence can be heard.
    for (server, tickets) in [(Arc::clone(&world.tls), 0), (Arc::new(lax), 2)] {
        let kept = Arc::new(Tickets::default());
        let mut client = client_showing(Shows { key: Some(raw_key()), raw: true });
        client.resumption = Resumption::store(Arc::clone(&kept) as Arc<dyn ClientSessionStore>);
        let client = Arc::new(client);
        for _ in 0..2 {
            let (host, _vault) = talk(&client, &server).await;
            assert_eq!(host.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
        assert_eq!(kept.0.load(Ordering::Relaxed), tickets * 2);
    }
}

#[tokio::test]
async fn a_resumed_connection_is_no_channel_at_either_end() {
    let world = World::new();
    let mut server = (*world.tls).clone();
    server.send_tls13_tickets = 2;
    server.session_storage = ServerSessionMemoryCache::new(8);
    let server = Arc::new(server);
    let identity = Identity::generate().unwrap();
    let mut client = (*tls::client(&identity).unwrap()).clone();
    client.resumption = Resumption::in_memory_sessions(8);
    let client = Arc::new(client);
    talk(&client, &server).await;
    let (host, vault) = talk(&client, &server).await;
    assert_eq!(host.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let host = Channel::new(TlsStream::Client(host), identity.spki()).unwrap_err();
    let vault = Channel::new(TlsStream::Server(vault), world.identity.spki()).unwrap_err();
    assert!(matches!((host, vault), (ChannelError::Resumed, ChannelError::Resumed)));

    talk(&client, &server).await;
    let (ours, theirs) = pipe();
    let (_host, heard) = tokio::join!(peer_tls(ours, client), hear(theirs, &server, &world.identity));
    assert_eq!(heard.unwrap_err().code(), "tls-resumed");
}

/// A handshake, and a byte from the vault, behind which tickets would have come.
async fn talk(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (tokio_rustls::client::TlsStream<DuplexStream>, tokio_rustls::server::TlsStream<DuplexStream>) {
    let (ours, theirs) = pipe();
    let (host, vault) = tokio::join!(peer_tls(ours, Arc::clone(client)), vault_tls(theirs, Arc::clone(server)));
    let (mut host, mut vault) = (host.unwrap(), vault.unwrap());
    vault.write_all(&[1]).await.unwrap();
    vault.flush().await.unwrap();
    host.read_exact(&mut [0]).await.unwrap();
    (host, vault)
}

/// What the vault makes of a peer with these settings, which greets as it should.
async fn hear_from(world: &World, client: ClientConfig) -> (Result<Heard<DuplexStream>, ServerError>, io::Result<()>) {
    let (ours, theirs) = pipe();
    let host = async {
        let mut stream = peer_tls(ours, Arc::new(client)).await?;
        let body = blindferry_proto::bounded::encode(&open(Role::Broker), MAX_FRAME_UNATTESTED).unwrap();
        stream.write_all(&u32::try_from(body.len()).unwrap().to_be_bytes()).await?;
        stream.write_all(&body).await?;
        stream.flush().await
    };
    tokio::join!(hear(theirs, &world.tls, &world.identity), host)
}

async fn heard_from(world: &World, client: ClientConfig) -> Error {
    tls_error(hear_from(world, client).await.0.unwrap_err())
}

/// What a host makes of a vault with these settings, and what that vault says.
async fn connected_to(server: ServerConfig) -> (Error, Option<Error>) {
    let (ours, theirs) = pipe();
    let world = World::new();
    let (established, vault) = tokio::join!(world.connect(ours), vault_tls(theirs, Arc::new(server)));
    match established.unwrap_err() {
        ConnectError::Tls { source } => (inner(&source), vault.err().map(|error| inner(&error))),
        other => panic!("{other:?}"),
    }
}

fn tls_error(error: ServerError) -> Error {
    match error {
        ServerError::Tls { source } => inner(&source),
        other => panic!("{other:?}"),
    }
}

fn inner(error: &io::Error) -> Error {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).unwrap_or_else(|| panic!("{error:?}")).clone()
}

/// Our own settings of a host, but for what it shows.
fn client_showing(shows: Shows) -> ClientConfig {
    let mut config = (*tls::client(&Identity::generate().unwrap()).unwrap()).clone();
    config.client_auth_cert_resolver = Arc::new(shows);
    config
}

/// Our own settings of a vault, but for what it shows.
fn server_showing(shows: Shows) -> ServerConfig {
    let mut config = (*tls::server(&Identity::generate().unwrap()).unwrap()).clone();
    config.cert_resolver = Arc::new(shows);
    config
}

/// Shows this, as a raw key or not.
#[derive(Clone, Debug)]
struct Shows {
    key: Option<Arc<CertifiedKey>>,
    raw: bool,
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key.clone()
    }
    fn only_raw_public_keys(&self) -> bool {
        self.raw
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key.clone()
    }
    fn only_raw_public_keys(&self) -> bool {
        self.raw
    }
}

fn certificate() -> Arc<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed(["vault.invalid".to_owned()]).unwrap();
    Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], signer(&made.signing_key)))
}

fn raw_key() -> Arc<CertifiedKey> {
    let signer = signer(&rcgen::KeyPair::generate().unwrap());
    let spki = signer.public_key().unwrap().to_vec();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signer))
}

fn signer(key: &rcgen::KeyPair) -> Arc<dyn rustls::sign::SigningKey> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    rustls::crypto::ring::sign::any_ecdsa_type(&der).unwrap()
}

/// Accepts every certificate.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Counts tickets and forgets them.
#[derive(Debug, Default)]
struct Tickets(AtomicUsize);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// A handshake message of TLS 1.2 (RFC 5246 section 7.4) in a record: version 3.3, a random of sevens, `rest`.
fn tls_1_2(kind: u8, rest: &[u8]) -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], rest].concat();
    let message = [&[kind, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    [&[0x16, 3, 3][..], &u16::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
}

/// No session, two suites, no compression; P-256, uncompressed points, ECDSA with SHA-256.
const CLIENT_HELLO: [u8; 33] = [
    0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0, 22, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3,
];

/// No session, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression, no extensions.
const SERVER_HELLO: [u8; 4] = [0, 0xc0, 0x2b, 0];
