//! After a mint and a revocation, neither master nor token is in this process's ordinary memory: not on the heap, not on a stack.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/credential.rs"]
mod credential;
#[path = "support/dialler.rs"]
mod dialler;
#[path = "support/oauth_client.rs"]
mod oauth_client;

use authority::Authority;
use blindferry_handle::wiping::WipingAllocator;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{ClientAuthentication, Kind, OauthClient};
use blindferry_vault::mint::{mint, revoke};
use dialler::Dialler;
use oauth_client::oauth_client;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// As in the vault's executable: what the libraries below us free is wiped by this alone.
#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

/// 2026-09-21.
const NOW: u64 = 1_790_000_000;

#[tokio::test]
async fn a_mint_and_a_revocation_leave_neither_master_nor_token_behind() {
    let (master, token) = (Needle::new(), Needle::new());
    let control = master.plain();
    assert!(master.is_in_memory(), "the search cannot find what is there");
    drop(control);
    assert!(!master.is_in_memory(), "the control itself was not wiped");

    let authority = Authority::new();
    let port = serve(&authority, token).await;
    let client = OauthClient {
        revocation_url: Some(Text::cut("https://localhost/revoke")),
        trust: Some(Text::new(authority.pem()).unwrap()),
        ..oauth_client("https://localhost/token", "client", ClientAuthentication::ClientSecretPost)
    };
    let settings = credential::settings(Kind::OauthClient(client));
    let secret = credential::master(str::from_utf8(&master.plain()).unwrap());
    let (host, dialler, random) = (credential::host(), Dialler(port), SystemRandom::new());
    let order = credential::order(&host, NOW);
    let minted = mint(&secret, &settings, &order, &dialler, &random).await.unwrap();
    assert!(minted.secret().ct_eq(&token.plain()), "this is not the token that the server gave");
    assert!(!master.is_in_memory(), "minting left the master in ordinary memory");
    assert!(!token.is_in_memory(), "minting left the token in ordinary memory");

    revoke(&secret, &settings, minted.secret(), &dialler, NOW, &random).await.unwrap();
    assert!(!master.is_in_memory(), "revoking left the master in ordinary memory");
    assert!(!token.is_in_memory(), "revoking left the token in ordinary memory");
}

/// A server in this very process, so it has to be as clean: over TLS, it gives the token and revokes whatever it is told.
async fn serve(authority: &Authority, token: Needle) -> u16 {
    let identity = authority.certify("localhost", 2026, 2027);
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut heard = Zeroizing::new(vec![0; 8192]);
            let mut length = 0;
            // Both requests end with the client's secret, the last field of the form.
            while !heard.windows(14).any(|window| window == b"client_secret=") {
                length += stream.read(heard.get_mut(length..).unwrap()).await.unwrap();
            }
            let mut answer = Zeroizing::new(Vec::with_capacity(1024));
            answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n");
            answer.extend_from_slice(br#"{"token_type":"Bearer","access_token":""#);
            answer.extend_from_slice(&token.plain());
            answer.extend_from_slice(br#""}"#);
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    port
}

/// A secret of 32 letters that this process knows only in disguise, so that the search does not find the searcher.
#[derive(Clone, Copy)]
struct Needle([u8; 32]);

impl Needle {
    const DISGUISE: u8 = 0x80;

    fn new() -> Self {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).unwrap();
        Self(bytes.map(|byte| (b'a' + byte % 26) ^ Self::DISGUISE))
    }

    fn plain(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(32));
        plain.extend(self.0.iter().map(|byte| byte ^ Self::DISGUISE));
        plain
    }

    /// Whether one of its halves lies in memory that this process can write and /proc/self/mem can read.
    fn is_in_memory(&self) -> bool {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut searched = 0;
        let mut found = false;
        for map in maps.lines().filter(|map| map.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
            let (start, end) = map.split(' ').next().unwrap().split_once('-').unwrap();
            let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
            let mut piece = Zeroizing::new(vec![0; usize::try_from(end - start).unwrap()]);
            // Secret memory cannot be read this way, and that is its point.
            let Ok(length) = memory.read_at(&mut piece, start) else { continue };
            searched += length;
            found |= self.is_in(piece.get(..length).unwrap());
        }
        assert!(searched > 100_000, "only {searched} bytes could be searched");
        found
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let halves = [self.0.first_chunk::<16>().unwrap(), self.0.last_chunk::<16>().unwrap()];
        let same = |window: &[u8], half: &[u8]| window.iter().zip(half).all(|(one, two)| *one == two ^ Self::DISGUISE);
        halves.iter().any(|half| bytes.windows(16).any(|window| same(window, *half)))
    }
}
