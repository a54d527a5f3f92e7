//! Attestation results: what they say, what they never say, and who accepts them.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use blindferry_attest::{
    attested::Attested,
    result::{Algorithm, Channel, MAX_LIFETIME, PROFILE, ResultError, SignedResult, SigningKey, Terms, sign},
};
use blindferry_proto::role::Role;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use ring::{digest, rand::SystemRandom};
use serde_json::{Value, json};

use crate::{
    registry,
    synthetic::{Case, REFERENCE, binder},
};

/// 2026-01-01.
const JUDGED: u64 = 1_767_225_600;
const POLICY: &str = "https://policy.example/brokers/7";

fn attested() -> Attested {
    Case::good().judge().unwrap()
}

fn terms() -> Terms<'static> {
    Terms { judged: JUDGED, lifetime: 600, policy: POLICY, channel: None }
}

fn key(algorithm: Algorithm) -> SigningKey {
    let form = match algorithm {
        Algorithm::Es256 => &PKCS_ECDSA_P256_SHA256,
        Algorithm::Es384 => &PKCS_ECDSA_P384_SHA384,
        Algorithm::EdDsa => &PKCS_ED25519,
    };
    let pkcs8 = KeyPair::generate_for(form).unwrap().serialize_der();
    SigningKey::from_pkcs8(algorithm, &pkcs8, &SystemRandom::new()).unwrap()
}

fn signed(attested: &Attested, terms: &Terms<'_>) -> Result<SignedResult, ResultError> {
    sign(attested, terms, &key(Algorithm::Es256), &SystemRandom::new())
}

fn part(result: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(result.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

#[test]
fn a_result_says_what_was_judged_and_for_how_long_it_holds() {
    let key = key(Algorithm::EdDsa);
    let result = sign(&attested(), &terms(), &key, &SystemRandom::new()).unwrap();
    assert_eq!(part(result.as_str(), 0), json!({ "alg": "EdDSA", "typ": "JWT", "kid": key.thumbprint() }));
    let claims = part(result.as_str(), 1);
    assert_eq!(claims["eat_profile"], PROFILE);
    assert_eq!((claims["iat"].as_u64(), claims["exp"].as_u64()), (Some(JUDGED), Some(JUDGED + 600)));
    assert_eq!(claims["eat_nonce"], URL_SAFE_NO_PAD.encode(binder(Role::Broker).as_bytes()));
    assert_eq!(claims["ear_status"], "affirming");
    assert_eq!(claims["submods"].as_object().unwrap().len(), 1);
    let tpm = &claims["submods"]["tpm"];
    assert_eq!(tpm["ear_status"], "affirming");
    assert_eq!(tpm["ear_appraisal_policy_ids"], json!([POLICY]));
    assert_eq!(tpm["ear_attester_claims"]["reference"], "this month");
    assert_eq!(tpm["ear_attester_claims"]["pcrs"]["4"], "44".repeat(32));
    assert_eq!(tpm["ear_verifier_claims"], json!({ "role": "broker" }));
}

#[test]
fn a_result_affirms_nothing_that_was_not_looked_at() {
    let claims = part(signed(&attested(), &terms()).unwrap().as_str(), 1);
    // PCRs 4 and 7 alone say neither what else was loaded nor how all of it was configured.
    assert_eq!(claims["submods"]["tpm"]["ear_trustworthiness_vector"], json!({ "instance-identity": 2 }));
}

#[test]
fn a_result_for_anything_goes_is_a_warning() {
    let all: Vec<(u8, [u8; 32])> = (0..8).map(|pcr| (pcr, [pcr; 32])).collect();
    let dangerous = Case {
        pcrs: all,
        selection: vec![0, 0, 0, 1, 0x00, 0x0b, 3, 0xff, 0, 0],
        reference: "version = 1\nrole = \"broker\"\n[[tpm]]\nname = \"any\"\nfirmware = \"any\"\n\
                    dangerously_accept_any_pcrs = \"lab bench\"\n"
            .to_owned(),
        ..Case::good()
    };
    let claims = part(signed(&dangerous.judge().unwrap(), &terms()).unwrap().as_str(), 1);
    assert_eq!(
        (&claims["ear_status"], &claims["submods"]["tpm"]["ear_status"]),
        (&json!("warning"), &json!("warning"))
    );
    let vector = &claims["submods"]["tpm"]["ear_trustworthiness_vector"];
    assert_eq!(*vector, json!({ "instance-identity": 2, "executables": 33 }));
    assert!(!REFERENCE.contains("dangerously"));
}

#[test]
fn a_result_names_the_tls_key_only_when_the_verdict_was_over_it() {
    let over = |spki, exporter| Terms { channel: Some(Channel { spki, exporter }), ..terms() };
    let claims = part(signed(&attested(), &over(b"a TLS key", &[7; 32])).unwrap().as_str(), 1);
    let hash = hex::encode(digest::digest(&digest::SHA256, b"a TLS key"));
    assert_eq!(claims["submods"]["tpm"]["ear_verifier_claims"]["tls_key_sha256"], hash);
    for other in [over(b"another key", &[7; 32]), over(b"a TLS key", &[8; 32]), over(b"", &[7; 32])] {
        assert_eq!(signed(&attested(), &other).unwrap_err().code(), "result-channel");
    }
}

#[test]
fn no_result_outlives_its_bound() {
    for (lifetime, accepted) in
        [(0, false), (1, true), (MAX_LIFETIME, true), (MAX_LIFETIME + 1, false), (u64::MAX, false)]
    {
        let outcome = signed(&attested(), &Terms { lifetime, ..terms() });
        assert_eq!(outcome.as_ref().err().map(ResultError::code), (!accepted).then_some("result-lifetime"));
    }
    for judged in [0, u64::MAX] {
        assert_eq!(signed(&attested(), &Terms { judged, ..terms() }).unwrap_err().code(), "result-time");
    }
}

#[test]
fn a_policy_has_a_name() {
    let long = "p".repeat(201);
    for policy in ["", "two\nlines", &long] {
        assert_eq!(signed(&attested(), &Terms { policy, ..terms() }).unwrap_err().code(), "result-policy");
    }
}

#[test]
fn pyjwt_accepts_our_results_and_no_others() {
    let pip = ["venv/bin/pip", "install", "--quiet", "pyjwt[crypto]==2.15.1"];
    let Some(place) = registry::install("ear.py", &[&["python3", "-m", "venv", "venv"], &pip]) else { return };
    accepts_our_results_and_no_others(|| {
        let mut command = Command::new(place.join("venv/bin/python"));
        command.arg(place.join("ear.py"));
        command
    });
}

/// The verifier is built outside the workspace: the tree of `ear` has OpenSSL, which is in no tree of ours.
#[test]
fn the_crate_ear_accepts_our_results_and_no_others() {
    let Some(program) = build_ear_verifier() else { return };
    accepts_our_results_and_no_others(|| Command::new(&program));
}

fn accepts_our_results_and_no_others(verifier: impl Fn() -> Command) {
    // Verifiers look at their own clock.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let current = Terms { judged: now - 5, ..terms() };
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa] {
        let (own, other) = (key(algorithm), key(algorithm));
        let made = |terms: &Terms<'_>, key| sign(&attested(), terms, key, &SystemRandom::new()).unwrap();
        let ask = |token: &str| {
            let jwk: Value = serde_json::from_str(&own.public_jwk()).unwrap();
            ask(verifier(), &json!({ "alg": algorithm.name(), "jwk": jwk, "token": token }))
        };
        let good = made(&current, &own);
        let accepted = ask(good.as_str()).unwrap();
        assert_eq!(accepted["profile"], PROFILE);
        assert_eq!(accepted["nonce"], URL_SAFE_NO_PAD.encode(binder(Role::Broker).as_bytes()));
        assert_eq!((&accepted["status"], &accepted["identity"]), (&json!("affirming"), &json!(2)));
        assert_eq!(accepted["reference"], "this month");

        let [header, _, signature] = parts(good.as_str());
        let mut forged = part(good.as_str(), 1);
        forged["submods"]["tpm"]["ear_trustworthiness_vector"]["hardware"] = json!(2);
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(forged.to_string()));
        let lapsed = made(&Terms { judged: now - 4000, ..terms() }, &own);
        for (what, token) in [
            ("forged claims", forged.as_str()),
            ("another verifier's result", made(&current, &other).as_str()),
            ("a lapsed result", lapsed.as_str()),
        ] {
            assert!(ask(token).is_err(), "{what} was accepted");
        }
    }
}

fn parts(result: &str) -> [&str; 3] {
    result.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn ask(mut verifier: Command, asked: &Value) -> Result<Value, String> {
    let verifier = verifier.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = verifier.spawn().unwrap();
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    // A verifier that broke has refused nothing.
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("refused: "), "the verifier broke: {said}");
    Err(said)
}

/// A program around the crate `ear`, in a workspace of its own under the target directory.
fn build_ear_verifier() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ear-verifier");
    fs::create_dir_all(place.join("src")).unwrap();
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    fs::write(place.join("Cargo.toml"), EAR_MANIFEST).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/ear.rs");
    fs::copy(source, place.join("src/main.rs")).unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet"])
        .env("CARGO_TARGET_DIR", place.join("target"))
        .current_dir(&place)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !built.status.success() {
        println!("skipped: cannot build a verifier with the crate ear: {}", String::from_utf8_lossy(&built.stderr));
        return None;
    }
    Some(place.join("target/debug/ear-verifier"))
}

const EAR_MANIFEST: &str = r#"
[package]
name = "ear-verifier"
version = "0.0.0"
edition = "2024"

[dependencies]
ear = { version = "=0.6.0", default-features = false, features = ["jwt"] }
serde_json = "1"

[profile.dev]
debug = false

[workspace]
"#;
