//! Independent verifiers, PyJWT and jose, accept the JWTs that we sign, and refuse them when anything is changed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where it cannot go on")]

#[path = "support/clock.rs"]
mod clock;
#[path = "support/credential.rs"]
mod credential;
#[path = "support/dialler.rs"]
mod dialler;
#[path = "support/registry.rs"]
mod registry;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{JwtSigner, Kind, SigningAlgorithm};
use blindferry_proto::name::Audience;
use blindferry_vault::mint::{Order, mint, public_jwk};
use dialler::Dialler;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

const ISSUER: &str = "https://front.example.org";
const AUDIENCES: [&str; 2] = ["https://api.example.org", "other-service"];

#[tokio::test]
async fn pyjwt_accepts_what_we_sign_and_nothing_else() {
    let pip = ["venv/bin/pip", "install", "--quiet", "pyjwt[crypto]==2.15.1"];
    let installed = registry::install("verify.py", &[&["python3", "-m", "venv", "venv"], &pip]);
    let Some(place) = installed else { return };
    accepts_what_we_sign_and_nothing_else(|| {
        let mut command = Command::new(place.join("venv/bin/python"));
        command.arg(place.join("verify.py"));
        command
    })
    .await;
}

#[tokio::test]
async fn jose_accepts_what_we_sign_and_nothing_else() {
    let installed = registry::install("verify.mjs", &[&["npm", "install", "--silent", "--prefix", ".", "jose@6.2.17"]]);
    let Some(place) = installed else { return };
    accepts_what_we_sign_and_nothing_else(|| {
        let mut command = Command::new("node");
        command.arg(place.join("verify.mjs"));
        command
    })
    .await;
}

async fn accepts_what_we_sign_and_nothing_else(verifier: impl Fn() -> Command) {
    for (algorithm, keys) in
        [(SigningAlgorithm::Es256, &PKCS_ECDSA_P256_SHA256), (SigningAlgorithm::EdDsa, &PKCS_ED25519)]
    {
        let pem = KeyPair::generate_for(keys).unwrap().serialize_pem();
        let other = KeyPair::generate_for(keys).unwrap().serialize_pem();
        let jwks = jwks(&pem, algorithm);
        let verify = |jwks: &Value, token: &str, audience: &str, issuer: &str| {
            let asked = json!({ "jwks": jwks, "token": token, "audience": audience, "issuer": issuer });
            ask(verifier(), &asked)
        };

        let token = sign(&pem, algorithm, None, clock::now()).await;
        let claims = verify(&jwks, &token, AUDIENCES[0], ISSUER).unwrap();
        assert_eq!((&claims["sub"], &claims["aud"]), (&json!("web-1.example/1000"), &json!(AUDIENCES[0])));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 900);
        assert_eq!(claims["nbf"], claims["iat"]);
        let second = sign(&pem, algorithm, Some(AUDIENCES[1]), clock::now()).await;
        let claims_of_second = verify(&jwks, &second, AUDIENCES[1], ISSUER).unwrap();
        assert_ne!(claims["jti"], claims_of_second["jti"]);

        let forged_claims = {
            let [header, claims, signature] = parts(&token);
            let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
            assert!(claims.contains("/1000"));
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.replace("/1000", "/0")))
        };
        let unsigned = {
            let [header, claims, _] = parts(&token);
            let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
            let name = if algorithm == SigningAlgorithm::Es256 { "ES256" } else { "EdDSA" };
            assert!(header.contains(name));
            format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header.replace(name, "none")))
        };
        let forged_signature = {
            let [header, claims, signature] = parts(&token);
            let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            signature[20] ^= 1;
            format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
        };
        let lapsed = sign(&pem, algorithm, None, clock::now() - 2_000).await;
        let early = sign(&pem, algorithm, None, clock::now() + 2_000).await;
        let of_another_key = sign(&other, algorithm, None, clock::now()).await;
        for (what, token) in [
            ("changed claims", &forged_claims),
            ("no signature", &unsigned),
            ("a changed signature", &forged_signature),
            ("a lapsed token", &lapsed),
            ("an early token", &early),
            ("another key's token", &of_another_key),
            ("a token for another audience", &second),
        ] {
            assert!(verify(&jwks, token, AUDIENCES[0], ISSUER).is_err(), "{what} was accepted");
        }
        assert!(verify(&jwks, &token, AUDIENCES[0], "https://evil.example.org").is_err());
    }
}

#[tokio::test]
async fn an_audience_that_the_settings_do_not_list_is_not_signed() {
    let pem = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    let settings = credential::settings(Kind::JwtSigner(signer(SigningAlgorithm::EdDsa)));
    let host = credential::host();
    let audience: Audience = "https://api.example.org/".parse().unwrap();
    let order = Order { audience: Some(&audience), ..credential::order(&host, 1_790_000_000) };
    let refused = mint(&credential::master(&pem), &settings, &order, &Dialler(1), &SystemRandom::new()).await;
    assert_eq!(refused.err().unwrap().code(), "audience");
}

fn ask(mut verifier: Command, asked: &Value) -> Result<Value, String> {
    let verifier = verifier.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = verifier.spawn().unwrap();
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    // A verifier that broke has refused nothing.
    assert!(!said.contains("Traceback") && !said.contains("node:"), "the verifier broke: {said}");
    Err(said)
}

async fn sign(pem: &str, algorithm: SigningAlgorithm, audience: Option<&str>, now: u64) -> String {
    let settings = credential::settings(Kind::JwtSigner(signer(algorithm)));
    let host = credential::host();
    let audience = audience.map(|audience| audience.parse().unwrap());
    let order = Order { audience: audience.as_ref(), ..credential::order(&host, now) };
    let token = mint(&credential::master(pem), &settings, &order, &Dialler(1), &SystemRandom::new()).await.unwrap();
    assert_eq!((token.expires(), token.token_type().as_str()), (now + 900, "Bearer"));
    text(token.secret())
}

fn signer(algorithm: SigningAlgorithm) -> JwtSigner {
    JwtSigner {
        algorithm,
        issuer: Text::cut(ISSUER),
        subject: Text::cut("{host}/{uid}"),
        audiences: AUDIENCES.iter().map(|audience| audience.parse().unwrap()).collect(),
    }
}

fn jwks(pem: &str, algorithm: SigningAlgorithm) -> Value {
    json!({ "keys": [public_jwk(&credential::master(pem), algorithm).unwrap()] })
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn text(secret: &SecretBytes) -> String {
    #[expect(clippy::disallowed_methods, reason = "the verifier needs the token")]
    String::from_utf8(secret.expose().to_vec()).unwrap()
}
