//! What cannot be minted from is refused when it is stored, and nothing is mended on the way.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/credential.rs"]
mod credential;
#[path = "support/dialler.rs"]
mod dialler;
#[path = "support/oauth_client.rs"]
mod oauth_client;

use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{
    ClientAuthentication, CredentialSettings, JwtSigner, Kind, OauthClient, SigningAlgorithm,
};
use blindferry_proto::limits::MAX_TOKEN;
use blindferry_vault::mint::{check, mint, public_jwk, revoke};
use dialler::Dialler;
use oauth_client::oauth_client;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use ring::rand::SystemRandom;

const NOW: u64 = 1_790_000_000;
/// Something that a test does to good settings.
type Change<S> = fn(&mut S);

/// Nobody is dialled in these tests: a port that refuses.
const NOBODY: Dialler = Dialler(1);

#[tokio::test]
async fn a_released_master_is_the_token_byte_for_byte() {
    let settings = credential::settings(Kind::Release);
    let host = credential::host();
    let master = credential::master("with a line's end\n");
    let token = mint(&master, &settings, &credential::order(&host, NOW), &NOBODY, &SystemRandom::new()).await.unwrap();
    assert!(token.secret().ct_eq(b"with a line's end\n"));
    assert_eq!((token.expires(), token.token_type().as_str()), (NOW + 900, "opaque"));
    let error = check(&credential::master(&"x".repeat(MAX_TOKEN + 1)), &settings).unwrap_err();
    assert_eq!(error.code(), "master-too-long");
}

#[tokio::test]
async fn an_audience_that_cannot_be_kept_is_refused() {
    let host = credential::host();
    let audience = "https://api.example.org".parse().unwrap();
    let mut order = credential::order(&host, NOW);
    order.audience = Some(&audience);
    let other = Some(Text::new("https://other.example.org").unwrap());
    for kind in
        [Kind::Release, Kind::OauthClient(oauth()), Kind::OauthClient(OauthClient { resource: other, ..oauth() })]
    {
        let settings = credential::settings(kind);
        let error =
            mint(&credential::master("m"), &settings, &order, &NOBODY, &SystemRandom::new()).await.err().unwrap();
        assert_eq!(error.code(), "audience");
    }
}

#[tokio::test]
async fn the_shorter_of_order_and_settings_is_the_life_of_a_token() {
    let host = credential::host();
    let (master, settings) = (credential::master("m"), credential::settings(Kind::Release));
    let random = SystemRandom::new();
    let mut order = credential::order(&host, NOW);
    order.lifetime = 30;
    assert_eq!(mint(&master, &settings, &order, &NOBODY, &random).await.unwrap().expires(), NOW + 30);
    order.lifetime = 0;
    assert_eq!(mint(&master, &settings, &order, &NOBODY, &random).await.err().unwrap().code(), "lifetime");
    order = credential::order(&host, u64::MAX);
    assert_eq!(mint(&master, &settings, &order, &NOBODY, &random).await.err().unwrap().code(), "clock");
}

#[test]
fn minting_and_revoking_can_be_waited_for_on_any_thread() {
    fn is_send(_: impl Send) {}
    let host = credential::host();
    let (master, settings) = (credential::master("m"), credential::settings(Kind::Release));
    let (order, random) = (credential::order(&host, NOW), SystemRandom::new());
    is_send(mint(&master, &settings, &order, &NOBODY, &random));
    is_send(revoke(&master, &settings, &master, &NOBODY, NOW, &random));
}

#[tokio::test]
async fn what_cannot_be_revoked_says_so() {
    let random = SystemRandom::new();
    let (master, token) = (credential::master("m"), credential::master("t"));
    for kind in [Kind::Release, Kind::OauthClient(oauth())] {
        let settings = credential::settings(kind);
        let error = revoke(&master, &settings, &token, &NOBODY, NOW, &random).await.unwrap_err();
        assert_eq!(error.code(), "not-revocable");
    }
}

#[test]
fn times_out_of_bounds_are_refused() {
    let good = credential::settings(Kind::Release);
    let with = |change: Change<CredentialSettings>| {
        let mut settings = good.clone();
        change(&mut settings);
        code(&settings, "m")
    };
    assert_eq!(with(|s| s.token_lifetime = 86_400), None);
    assert_eq!(with(|s| s.lease_idle = 5), None);
    assert_eq!(with(|s| s.cache_idle = Some(3_600)), None);
    let changes: [Change<CredentialSettings>; 6] = [
        |s| s.token_lifetime = 0,
        |s| s.token_lifetime = 86_401,
        |s| s.lease_idle = 4,
        |s| s.lease_idle = 3_601,
        |s| s.cache_idle = Some(0),
        |s| s.cache_idle = Some(3_601),
    ];
    for change in changes {
        assert_eq!(with(change), Some("settings-time"));
    }
}

#[test]
fn texts_that_the_standards_do_not_allow_are_refused() {
    let with = |change: Change<OauthClient>| {
        let mut oauth = oauth();
        change(&mut oauth);
        code(&credential::settings(Kind::OauthClient(oauth)), "m")
    };
    assert_eq!(with(|_| ()), None);
    assert_eq!(with(|c| c.scope = Some(Text::cut("api:read openid"))), None);
    assert_eq!(with(|c| c.resource = Some(Text::cut("urn:example:api"))), None);
    let refused: [(Change<OauthClient>, &str); 14] = [
        (|c| c.client_id = Text::cut(""), "settings-text"),
        (|c| c.client_id = Text::cut("a\n"), "settings-text"),
        (|c| c.scope = Some(Text::cut("")), "settings-text"),
        (|c| c.scope = Some(Text::cut("a  b")), "settings-text"),
        (|c| c.scope = Some(Text::cut("a\"b")), "settings-text"),
        (|c| c.resource = Some(Text::cut("api")), "settings-text"),
        (|c| c.resource = Some(Text::cut(":api")), "settings-text"),
        (|c| c.resource = Some(Text::cut("https://a/#b")), "settings-text"),
        (|c| c.token_url = Text::cut("http://login.example.org/token"), "settings-url"),
        (|c| c.token_url = Text::cut("https://user:pass@login.example.org/"), "settings-url"),
        (|c| c.token_url = Text::cut(""), "settings-url"),
        (|c| c.revocation_url = Some(Text::cut("ftp://login.example.org/")), "settings-url"),
        (|c| c.trust = Some(Text::cut("")), "settings-trust"),
        (
            |c| c.trust = Some(Text::cut("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")),
            "settings-trust",
        ),
    ];
    for (number, (change, expected)) in refused.into_iter().enumerate() {
        assert_eq!(with(change), Some(expected), "change {number}");
    }
}

#[test]
fn a_client_secret_with_a_line_s_end_is_refused_rather_than_trimmed() {
    let settings = credential::settings(Kind::OauthClient(oauth()));
    for secret in ["s3cret\n", "s3cret\r\n", "\u{feff}s3cret", "s\0"] {
        assert_eq!(code(&settings, secret), Some("master-not-a-client-secret"), "{secret:?}");
    }
    assert_eq!(code(&settings, " !~"), None);
}

#[test]
fn a_key_of_another_algorithm_is_refused() {
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    for (algorithm, good, bad) in
        [(SigningAlgorithm::Es256, &p256, [&p384, &ed25519]), (SigningAlgorithm::EdDsa, &ed25519, [&p384, &p256])]
    {
        for kind in [
            Kind::JwtSigner(signer(algorithm)),
            Kind::OauthClient(OauthClient {
                authentication: ClientAuthentication::PrivateKeyJwt(algorithm),
                ..oauth()
            }),
        ] {
            let settings = credential::settings(kind);
            assert_eq!(code(&settings, good), None);
            for bad in bad {
                assert_eq!(code(&settings, bad), Some("master-not-a-key"));
            }
            assert_eq!(code(&settings, "s3cret"), Some("master-not-pem"));
        }
        assert!(public_jwk(&credential::master(good), algorithm).is_ok());
    }
}

#[test]
fn a_jwt_signer_needs_an_issuer_a_subject_and_an_audience() {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    let with = |change: Change<JwtSigner>| {
        let mut signer = signer(SigningAlgorithm::EdDsa);
        change(&mut signer);
        code(&credential::settings(Kind::JwtSigner(signer)), &key)
    };
    assert_eq!(with(|_| ()), None);
    let refused: [(Change<JwtSigner>, &str); 6] = [
        (|s| s.issuer = Text::cut("issuer"), "settings-url"),
        (|s| s.issuer = Text::cut("http://issuer.example.org"), "settings-url"),
        (|s| s.issuer = Text::cut("https://issuer.example.org/?a=b"), "settings-text"),
        (|s| s.subject = Text::cut("{user}"), "settings-subject"),
        (|s| s.audiences.clear(), "settings-audiences"),
        (|s| s.audiences = vec!["a".parse().unwrap(); 65], "settings-audiences"),
    ];
    for (number, (change, expected)) in refused.into_iter().enumerate() {
        assert_eq!(with(change), Some(expected), "change {number}");
    }
}

/// The code that storing this is refused with.
fn code(settings: &CredentialSettings, master: &str) -> Option<&'static str> {
    check(&credential::master(master), settings).err().map(|error| error.code())
}

fn oauth() -> OauthClient {
    oauth_client("https://login.example.org/token", "client", ClientAuthentication::ClientSecretBasic)
}

fn signer(algorithm: SigningAlgorithm) -> JwtSigner {
    JwtSigner {
        algorithm,
        issuer: Text::cut("https://front.example.org"),
        subject: Text::cut("{host}:{uid}"),
        audiences: vec!["https://api.example.org".parse().unwrap()],
    }
}
