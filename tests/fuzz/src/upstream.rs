//! Targets of what comes from upstreams, and of what an operator says about them.

use std::{
    net,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::LazyLock,
};

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::{
    bounded::{Text, decode},
    causes::with_causes,
    credential::{ClientAuthentication, CredentialSettings, Kind, OauthClient},
    limits::{MAX_MASTER, MAX_STORED, MAX_TOKEN},
};
use blindferry_vault::{
    mint::{MAX_EXPIRES_IN, Order, Token, check, mint, revoke},
    upstream::{Dial, DialError},
};
use ring::rand::SystemRandom;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
};

use super::part;

/// All that a server of OAuth 2.0 sends: the bytes of its connection. First byte even: it was asked for a token, odd: to
/// revoke one.
pub fn upstream_answers(data: &[u8]) -> bool {
    let Some((&choice, answer)) = data.split_first() else { return false };
    let random = SystemRandom::new();
    let (secret, host) = (secret(b"a client's secret"), "a-host".parse().expect("a name"));
    let order = Order { audience: None, host: &host, uid: 1, now: NOW, lifetime: LIFETIME };
    let server = Server::that_sends(answer);
    let told = if choice & 1 == 0 {
        RUNTIME.block_on(mint(&secret, &SETTINGS, &order, &server, &random)).map(|token| believed(&token, answer))
    } else {
        RUNTIME.block_on(revoke(&secret, &SETTINGS, &secret, &server, NOW, &random)).map(|_| ())
    };
    if let Err(error) = &told {
        // Whatever an upstream says may be a secret that it echoes.
        let line = with_causes(error);
        assert!(!line.contains("hunter2") && line.len() < 1024, "{line}");
        let _ = (error.code(), error.is_passing(), error.refusal());
    }
    told.is_ok()
}

/// A credential's settings with its master: a part in front with the master, then the settings, in postcard as operators
/// send them. What is accepted mints, or says why not.
pub fn credential_settings(mut data: &[u8]) -> bool {
    let master = part(&mut data);
    let Ok(settings) = decode::<CredentialSettings>(data, MAX_STORED) else { return false };
    if master.is_empty() || master.len() > MAX_MASTER {
        return false;
    }
    let master = secret(master);
    let usable = check(&master, &settings);
    let accepted = usable.is_ok();
    if let Err(error) = usable {
        assert!(!with_causes(&error).contains("hunter2"));
        let _ = (error.code(), error.refusal());
    }
    let audience = match &settings.kind {
        Kind::JwtSigner(signer) => signer.audiences.first().cloned(),
        Kind::Release | Kind::OauthClient(_) => None,
    };
    let host = "a-host".parse().expect("a name");
    let order = Order { audience: audience.as_ref(), host: &host, uid: 1, now: NOW, lifetime: LIFETIME };
    let minted = RUNTIME.block_on(mint(&master, &settings, &order, &Server::that_sends(b""), &SystemRandom::new()));
    match minted {
        Ok(token) => {
            assert!(accepted, "minted from what was refused");
            assert!(token.expires() > NOW && token.expires() - NOW <= u64::from(settings.token_lifetime));
            assert!((1..=MAX_TOKEN).contains(&token.secret().len()));
        }
        Err(error) => assert!(!with_causes(&error).contains("hunter2")),
    }
    accepted
}

/// A token is no longer than its bounds, lives no longer than it may, and was in the answer.
fn believed(token: &Token, answer: &[u8]) {
    assert!((1..=MAX_TOKEN).contains(&token.secret().len()));
    assert!((NOW + 1..=NOW + u64::from(LIFETIME)).contains(&token.expires()));
    assert!(MAX_EXPIRES_IN > u64::from(LIFETIME));
    let escaped = answer.contains(&b'\\') || answer.windows(7).any(|seven| seven.eq_ignore_ascii_case(b"chunked"));
    let length = token.secret().len();
    assert!(escaped || answer.windows(length).any(|bytes| token.secret().ct_eq(bytes)), "a token from nowhere");
}

/// The other end of one connection: answers once it was asked, whatever it was asked.
struct Server(Vec<u8>);

impl Server {
    fn that_sends(answer: &[u8]) -> Self {
        Self(answer.to_vec())
    }
}

impl Dial for Server {
    async fn dial(&self, _: &str, _: u16) -> Result<TcpStream, DialError> {
        let (ours, theirs) = UnixStream::pair().map_err(DialError::Stream)?;
        let mut theirs = tokio::net::UnixStream::from_std(non_blocking(theirs)?).map_err(DialError::Stream)?;
        let answer = self.0.clone();
        // Ends with the connection.
        tokio::spawn(async move {
            let mut asked = [0; 2048];
            let _asked = theirs.read(&mut asked).await;
            let _sent = theirs.write_all(&answer).await;
            let _closed = theirs.shutdown().await;
            while theirs.read(&mut asked).await.is_ok_and(|length| length > 0) {}
        });
        // A stream socket is one, to everybody who only reads and writes.
        TcpStream::from_std(net::TcpStream::from(OwnedFd::from(non_blocking(ours)?))).map_err(DialError::Stream)
    }
}

fn non_blocking(stream: UnixStream) -> Result<UnixStream, DialError> {
    stream.set_nonblocking(true).map_err(DialError::Stream)?;
    Ok(stream)
}

/// 2026-11-21.
const NOW: u64 = 1_795_219_200;
/// Seconds.
const LIFETIME: u32 = 900;

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_and_wipe(&mut bytes.to_vec()).expect("secret memory")
}

static RUNTIME: LazyLock<runtime::Runtime> =
    LazyLock::new(|| runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// Over plain HTTP on this machine: TLS is not ours.
static SETTINGS: LazyLock<CredentialSettings> = LazyLock::new(|| CredentialSettings {
    kind: Kind::OauthClient(OauthClient {
        token_url: Text::cut("http://127.0.0.1:1/token"),
        revocation_url: Some(Text::cut("http://127.0.0.1:1/revoke")),
        client_id: Text::cut("a-client"),
        authentication: ClientAuthentication::ClientSecretBasic,
        scope: None,
        resource: None,
        trust: None,
    }),
    token_lifetime: LIFETIME,
    lease_idle: 60,
    cache_idle: None,
});
