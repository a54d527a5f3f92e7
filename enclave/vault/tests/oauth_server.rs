//! An independent OAuth server, the npm package `oidc-provider`, gives tokens for each way of proving a client, and takes them back.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where it cannot go on")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/clock.rs"]
mod clock;
#[path = "support/credential.rs"]
mod credential;
#[path = "support/dialler.rs"]
mod dialler;
#[path = "support/oauth_client.rs"]
mod oauth_client;
#[path = "support/registry.rs"]
mod registry;

use authority::Authority;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{ClientAuthentication, CredentialSettings, Kind, OauthClient, SigningAlgorithm};
use blindferry_vault::mint::{MintError, Revocation, Token, mint, public_jwk, revoke};
use blindferry_vault::upstream::{DEADLINE, Trust, Upstream};
use dialler::Dialler;
use oauth_client::oauth_client;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use zeroize::Zeroizing;

/// With the characters that the encoding of `client_secret_basic` is there for.
const ID: &str = "client:a b+c%";
const SECRET: &str = "s3cret:with %26 & = + / ? and \"quotes\"";
const RESOURCE: &str = "urn:example:api";
/// Asks the server what it thinks of a token.
const INSPECTOR: &str = "inspector";

#[tokio::test]
async fn a_secret_in_the_header_gives_a_token_that_can_be_revoked() {
    with_each_server(|server| async move {
        let client = server.client(ID, ClientAuthentication::ClientSecretBasic);
        mint_inspect_revoke(&server, SECRET, client, ID).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_in_the_form_gives_a_token_that_can_be_revoked() {
    with_each_server(|server| async move {
        let client = server.client("post", ClientAuthentication::ClientSecretPost);
        mint_inspect_revoke(&server, SECRET, client, "post").await;
    })
    .await;
}

#[tokio::test]
async fn an_assertion_by_a_key_gives_a_token_that_can_be_revoked() {
    with_each_server(|server| async move {
        for (id, algorithm, key) in
            [("es256", SigningAlgorithm::Es256, &server.es256), ("eddsa", SigningAlgorithm::EdDsa, &server.ed25519)]
        {
            let client = server.client(id, ClientAuthentication::PrivateKeyJwt(algorithm));
            mint_inspect_revoke(&server, key, client, id).await;
        }
    })
    .await;
}

#[tokio::test]
async fn scope_and_resource_reach_the_token() {
    let Some(server) = Server::start(None) else { return };
    let mut client = server.client(ID, ClientAuthentication::ClientSecretBasic);
    client.scope = Some(Text::cut("api:read"));
    client.resource = Some(Text::cut(RESOURCE));
    let token = server.mint(SECRET, client).await.unwrap();
    // The server gives tokens for this resource 300 s, which is less than we would.
    assert!(token.expires() <= clock::now() + 300);
    let seen = server.inspect(token.secret()).await;
    assert_eq!((&seen["scope"], &seen["aud"]), (&json!("api:read"), &json!(RESOURCE)));
}

#[tokio::test]
async fn what_the_server_refuses_is_refused_with_its_code() {
    let Some(server) = Server::start(None) else { return };
    let basic = || server.client(ID, ClientAuthentication::ClientSecretBasic);
    let es256 = || server.client("es256", ClientAuthentication::PrivateKeyJwt(SigningAlgorithm::Es256));
    let reader = || OauthClient {
        scope: Some(Text::cut("api:write")),
        ..server.client("reader", ClientAuthentication::ClientSecretPost)
    };
    let other_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    for (what, master, client, expected) in [
        ("another secret", "wrong", basic(), "invalid_client"),
        ("another key", &other_key, es256(), "invalid_client"),
        ("an unknown client", SECRET, OauthClient { client_id: Text::cut("nobody"), ..basic() }, "invalid_client"),
        ("a scope that it has not", SECRET, reader(), "invalid_scope"),
    ] {
        let error = server.mint(master, client).await.err().unwrap_or_else(|| panic!("{what} got a token"));
        assert_eq!((error.code(), error.is_passing()), ("upstream-refused", false), "{what}: {error:?}");
        let MintError::Refused { code: Some(code), .. } = &error else { panic!("{what}: {error:?}") };
        assert_eq!(code.as_str(), expected, "{what}");
        assert!(!format!("{error} {error:?}").contains(SECRET));
    }
}

async fn mint_inspect_revoke(server: &Server, master: &str, client: OauthClient, id: &str) {
    let settings = server.settings(client);
    let token = server.mint_with(master, &settings).await.unwrap();
    assert_eq!((token.token_type().as_str(), token.revocation()), ("Bearer", Some(Revocation::AtUpstream)));
    // The server gives 600 s, which is less than the 900 s of the settings.
    assert!((clock::now() + 590..=clock::now() + 600).contains(&token.expires()));
    let seen = server.inspect(token.secret()).await;
    assert_eq!((&seen["active"], &seen["client_id"]), (&json!(true), &json!(id)));

    let (random, dialler) = (SystemRandom::new(), Dialler(server.port));
    let wrong =
        revoke(&credential::master(&server.ed25519), &settings, token.secret(), &dialler, clock::now(), &random).await;
    if id != "eddsa" {
        assert!(wrong.is_err(), "somebody else revoked the token");
        assert_eq!(server.inspect(token.secret()).await["active"], json!(true));
    }
    let master = credential::master(master);
    revoke(&master, &settings, token.secret(), &dialler, clock::now(), &random).await.unwrap();
    assert_eq!(server.inspect(token.secret()).await["active"], json!(false));
    // A second time is no failure (RFC 7009 section 2.2).
    revoke(&master, &settings, token.secret(), &dialler, clock::now(), &random).await.unwrap();
}

/// Once over TLS with a root of its own, once over loopback without.
async fn with_each_server<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
    for authority in [Some(Authority::new()), None] {
        let Some(server) = Server::start(authority) else { return };
        test(server).await;
    }
}

/// The server's process; it ends with this value.
struct Server {
    process: Child,
    port: u16,
    root: Option<String>,
    es256: String,
    ed25519: String,
}

impl Server {
    fn start(authority: Option<Authority>) -> Option<Self> {
        let place = registry::install(
            "provider.mjs",
            &[&["npm", "install", "--silent", "--prefix", ".", "oidc-provider@9.13.3"]],
        )?;
        let es256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
        let by_secret =
            |id, method| json!({ "client_id": id, "client_secret": SECRET, "token_endpoint_auth_method": method });
        let by_key = |id, pem, algorithm| {
            let jwk = public_jwk(&credential::master(pem), algorithm).unwrap();
            json!({
                "client_id": id, "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": algorithm, "jwks": { "keys": [jwk] },
            })
        };
        let tls = authority.as_ref().map(|authority| {
            let identity = authority.certify("localhost", 2020, 2120);
            json!({ "chain": identity.chain, "key": identity.key })
        });
        let wanted = json!({
            "clients": [
                by_secret(ID, "client_secret_basic"),
                by_secret("post", "client_secret_post"),
                by_secret(INSPECTOR, "client_secret_post"),
                json!({
                    "client_id": "reader", "client_secret": SECRET, "scope": "api:read",
                    "token_endpoint_auth_method": "client_secret_post",
                }),
                by_key("es256", &es256, SigningAlgorithm::Es256),
                by_key("eddsa", &ed25519, SigningAlgorithm::EdDsa),
            ],
            "resource": RESOURCE,
            "tls": tls,
        });

        let mut command = Command::new("node");
        command
            .arg("provider.mjs")
            .current_dir(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        writeln!(process.stdin.as_mut().unwrap(), "{wanted}").unwrap();
        let mut lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        let port = lines.find_map(|line| line.unwrap().parse().ok()).expect("the server did not start");
        Some(Self { process, port, root: authority.map(|authority| authority.pem().to_owned()), es256, ed25519 })
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.root.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.port)
    }

    fn client(&self, id: &str, authentication: ClientAuthentication) -> OauthClient {
        OauthClient {
            revocation_url: Some(Text::new(self.url("/token/revocation")).unwrap()),
            trust: self.root.as_ref().map(|root| Text::new(root.as_str()).unwrap()),
            ..oauth_client(&self.url("/token"), id, authentication)
        }
    }

    fn settings(&self, client: OauthClient) -> CredentialSettings {
        credential::settings(Kind::OauthClient(client))
    }

    async fn mint(&self, master: &str, client: OauthClient) -> Result<Token, MintError> {
        self.mint_with(master, &self.settings(client)).await
    }

    async fn mint_with(&self, master: &str, settings: &CredentialSettings) -> Result<Token, MintError> {
        let host = credential::host();
        let order = credential::order(&host, clock::now());
        mint(&credential::master(master), settings, &order, &Dialler(self.port), &SystemRandom::new()).await
    }

    /// What the server says of a token (RFC 7662).
    async fn inspect(&self, token: &SecretBytes) -> Value {
        let dialler = Dialler(self.port);
        let trust = self.root.as_deref().map_or_else(Trust::public_roots, |root| Trust::only(root).unwrap());
        #[expect(clippy::disallowed_methods, reason = "the server is asked about it")]
        let token = String::from_utf8(token.expose().to_vec()).unwrap();
        let secret = SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let form = Zeroizing::new(format!("token={token}&client_id={INSPECTOR}&client_secret={secret}").into_bytes());
        let address = self.url("/token/introspection").parse().unwrap();
        let upstream = Upstream::new(&dialler, clock::now(), DEADLINE);
        let answer = upstream.post_form(&address, &trust, None, form).await.unwrap();
        assert_eq!(answer.status(), 200);
        serde_json::from_slice(answer.json().unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
