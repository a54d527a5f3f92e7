//! Does a worker get to use a credential that its parent never held, and does the audit tell it as it was?

#![expect(clippy::panic, reason = "a test fails by panicking")]

use blindferry_parent::Ask;
use blindferry_proto::audit::{Event, Sight};
use blindferry_proto::credential::{CredentialSettings, Kind, SigningAlgorithm};
use blindferry_proto::identifier::Digest;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::{LeaseEnd, WorkerConstraint};
use blindferry_tests::account::USER;
use blindferry_tests::fleet::{ALLOW_ALL, Fleet, HOST, http_get};
use blindferry_tests::oauth::{OauthServer, Standing};
use blindferry_tests::operator::{Operator, jwt_signer, oauth_client, settings};
use blindferry_tests::process::eventually;
use blindferry_tests::program::{missing, ours};
use blindferry_tests::upstream::Upstream;
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker, ask, ask_for};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::Value;
use std::path::Path;

const MASTER: &str = "sk-live-7d2f9a4c1be8063551f0-crossing";

#[test]
fn a_released_master_reaches_the_upstream_through_the_worker_alone_and_the_audit_says_so() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let upstream = Upstream::for_token(MASTER, fleet.directory());

    let grant = ask_for(&fleet, "api").unwrap();
    let mut worker = ScriptedWorker::start(&fleet, grant, upstream.address);
    let answer = worker.says();
    assert_eq!((&answer["status"], &answer["body"]), (&Value::from(200), &Value::from("welcome")), "{answer}");
    let pid = worker.running.id();
    worker.finish();
    wait_for_lease_end(&operator, LeaseEnd::WorkerGone);

    // `events` verifies signatures, chain and end.
    let story: Vec<Event> = operator.events().into_iter().skip_while(|event| !is_grant(event)).collect();
    let names: Vec<&str> = story.iter().map(step).collect();
    assert_eq!(names, ["granted", "delivered", "fetched", "redeemed", "acknowledged", "lease ended"]);
    for event in &story {
        match event {
            Event::Granted { sight, parent, .. } => {
                assert_eq!((*sight, parent.pid), (Sight::Opaque, std::process::id()));
            }
            Event::GrantDelivered { sight, taken, .. } => assert_eq!((*sight, *taken), (Sight::Opaque, true)),
            Event::Fetched { sight, .. } => assert_eq!(*sight, Sight::Plaintext),
            Event::Redeemed { sight, carried, worker, host, .. } => {
                assert_eq!((*sight, *carried), (Sight::Plaintext, Sight::Opaque));
                assert_eq!((worker.pid, worker.uid, host.as_str()), (pid, USER.uid(), HOST));
            }
            _ => {}
        }
    }
}

#[test]
fn a_parent_in_plain_python_needs_the_socket_and_nothing_else() {
    if missing(&["python3"]) {
        return;
    }
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let upstream = Upstream::for_token(MASTER, fleet.directory());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/parent.py");
    let text = std::fs::read_to_string(&script).unwrap();
    assert!(text.lines().count() < 60);
    let here = fleet.user_directory().join("parent.py");
    std::fs::write(&here, text).unwrap();

    let start = |credential: &str| {
        let mut command = USER.command(Path::new("/usr/bin/env"));
        command.arg("python3").arg(&here).arg(fleet.host.parents()).arg(credential);
        command.arg(ours("blindferry-scripted-worker")).args(["--grant-fd", &GRANT_FD.to_string(), "--workers"]);
        command.arg(fleet.host.workers()).args(["--upstream", &upstream.address.to_string()]);
        // A descriptor that nobody asked for does no harm.
        ScriptedWorker::run(&fleet, command, std::fs::File::open("/dev/null").unwrap().into())
    };
    let mut parent = start("api");
    let saw = parent.says()["parent_saw"].as_str().unwrap().to_owned();
    assert!(saw.len() > 100 && !saw.contains(&hex::encode(MASTER)), "{saw}");
    let answer = parent.says();
    assert_eq!(answer["status"], 200, "{answer}");
    parent.finish();

    let mut refused = start("no-such");
    assert!(!refused.running.wait().success());
    assert!(refused.running.log().contains("refused: unknown"), "{}", refused.running.log());
}

#[test]
fn a_program_that_knows_nothing_of_us_gets_its_token_from_the_launcher() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    let token = |delivery: &str, script: &str| {
        let mut command = USER.command(&ours("blindferry-launch"));
        command.args(["--grant-fd", &GRANT_FD.to_string(), "--credential-name", "api", "--deliver", delivery]);
        command.arg("--workers").arg(fleet.host.workers()).args(["--", "sh", "-c", script]);
        command.env("AWS_SECRET_ACCESS_KEY", "of the parent");
        let mut worker = ScriptedWorker::run(&fleet, command, ask_for(&fleet, "api").unwrap());
        let line = worker.line();
        worker.finish();
        line
    };
    assert_eq!(token("pipe", "cat $API_FILE; echo :$AWS_SECRET_ACCESS_KEY"), format!("{MASTER}:"));
    assert_eq!(token("memfd", "cat $API_FILE >/dev/null; cat $API_FILE; echo"), MASTER);
    assert_eq!(token("stdin", "cat; echo"), MASTER);
    assert_eq!(token("env:API_KEY", "echo $API_KEY"), MASTER);
}

#[test]
fn a_minted_jwt_verifies_by_the_keys_that_the_front_publishes_and_is_renewed_with_another() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let issuer = "https://tokens.example.org";
    let audience = "https://api.example.org";
    for (name, algorithm, keys) in
        [("es", SigningAlgorithm::Es256, &PKCS_ECDSA_P256_SHA256), ("ed", SigningAlgorithm::EdDsa, &PKCS_ED25519)]
    {
        let pem = KeyPair::generate_for(keys).unwrap().serialize_pem();
        operator.put(name, settings(jwt_signer(algorithm, issuer, audience)), pem.as_bytes());
    }
    let jwks = format!("{}/jwks/tokens.example.org", fleet.enclave.public);
    let upstream = Upstream::for_jwt(issuer, audience, &jwks, fleet.directory());
    for name in ["es", "ed"] {
        let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, name).unwrap(), upstream.address);
        let answer = worker.says();
        assert_eq!(answer["status"], 200, "{answer}");
        assert_eq!(answer["body"], format!("welcome {HOST}/{}", USER.uid()));
        let renewed = worker.tell("renew");
        assert_eq!((&renewed["status"], &renewed["lease"]), (&answer["status"], &answer["lease"]), "{renewed}");
        assert_eq!(worker.tell("end")["ended"], true);
        worker.finish();
    }
    wait_for_lease_end(&operator, LeaseEnd::Returned);
    assert!(operator.events().iter().any(|event| matches!(event, Event::Renewed { sight: Sight::Plaintext, .. })));

    // A verifier elsewhere finds the keys by the issuer's own discovery document.
    let mut request = std::net::TcpStream::connect(fleet.enclave.public).unwrap();
    std::io::Write::write_all(
        &mut request,
        b"GET /.well-known/openid-configuration HTTP/1.1\r\nHost: tokens.example.org\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let discovery = std::io::read_to_string(request).unwrap();
    assert!(discovery.contains("https://tokens.example.org/.well-known/jwks.json"), "{discovery}");
    let (status, keys) = http_get(fleet.enclave.public, "/jwks/tokens.example.org").unwrap();
    assert_eq!((status, keys.matches("\"kid\"").count()), (200, 2));
    assert!(!keys.contains("\"d\""), "no private member is published");
}

#[test]
fn a_lease_ends_with_its_worker_and_what_was_minted_is_revoked_upstream() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let secret = "an-oauth-client-secret-of-the-crossing";
    let server = OauthServer::start(secret);
    operator.put("oauth", settings(oauth_client(server.address)), secret.as_bytes());

    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "oauth").unwrap(), fleet.enclave.public);
    assert_eq!(worker.says()["token_type"], "Bearer");
    worker.tell("renew");
    assert_eq!(server.tokens().len(), 2);
    assert_eq!(operator.status().leases, 1);
    worker.running.kill();
    wait_for_lease_end(&operator, LeaseEnd::WorkerGone);
    assert_eq!(operator.status().leases, 0);
    eventually("revocation", || server.tokens().values().all(|token| *token == Standing::Revoked).then_some(()));
    let revoked = operator.events().iter().any(|event| matches!(event, Event::LeaseEnded { revoked: Some(true), .. }));
    assert!(revoked);
}

#[test]
fn a_denial_names_its_policy_and_what_does_not_fit_is_refused_by_code() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    operator.put("other", CredentialSettings { lease_idle: 5, ..settings(Kind::Release) }, b"another master");
    let forbid = "@id(\"not-the-other\") forbid (principal, action, resource == Blindferry::Credential::\"other\");";
    operator.apply_policy(&format!("{ALLOW_ALL}\n{forbid}"));

    let denied = ask_for(&fleet, "other").unwrap_err();
    assert_eq!(denied.code, RefusalCode::Denied);
    assert!(denied.detail.as_str().contains("not-the-other"), "{denied}");
    assert_eq!(ask_for(&fleet, "nothing-of-that-name").unwrap_err().code, RefusalCode::Unknown);

    let for_another = WorkerConstraint { uid: Some(USER.uid() + 1), ..WorkerConstraint::default() };
    let grant = ask(&fleet, &Ask { worker: for_another, ..Ask::for_credential("api".parse().unwrap()) }).unwrap();
    let mut worker = ScriptedWorker::start(&fleet, grant, fleet.enclave.public);
    assert_eq!(worker.says()["code"], "worker-mismatch");

    let measured = WorkerConstraint { executable: Some(Digest([7; 32])), ..WorkerConstraint::default() };
    let grant = ask(&fleet, &Ask { worker: measured, ..Ask::for_credential("api".parse().unwrap()) }).unwrap();
    let mut worker = ScriptedWorker::start(&fleet, grant, fleet.enclave.public);
    assert_eq!(worker.says()["code"], "worker-mismatch");

    // Policy is asked again at redemption: what changed meanwhile counts.
    let grant = ask_for(&fleet, "api").unwrap();
    operator.apply_policy(&format!("{ALLOW_ALL}\n@id(\"no-more\") forbid (principal, action, resource);"));
    let mut worker = ScriptedWorker::start(&fleet, grant, fleet.enclave.public);
    let refused = worker.says();
    assert_eq!(refused["code"], "denied");
    assert!(refused["error"].as_str().unwrap().contains("no-more"), "{refused}");

    let events = operator.events();
    let denials = events.iter().filter_map(|event| match event {
        Event::Denied { code, detail, .. } => Some((*code, detail.as_str().to_owned())),
        _ => None,
    });
    let denials: Vec<_> = denials.collect();
    let codes: Vec<RefusalCode> = denials.iter().map(|(code, _)| *code).collect();
    let mismatch = RefusalCode::WorkerMismatch;
    assert_eq!(
        codes,
        [RefusalCode::Denied, RefusalCode::Unknown, mismatch, mismatch, RefusalCode::Denied],
        "{denials:?}"
    );
    assert!(!events.iter().any(|event| matches!(event, Event::Redeemed { .. } | Event::Fetched { .. })));
}

fn wait_for_lease_end(operator: &Operator, why: LeaseEnd) {
    let ended = |event: &Event| matches!(event, Event::LeaseEnded { why: found, .. } if *found == why);
    eventually("the end of a lease", || operator.events().iter().any(ended).then_some(()));
}

fn is_grant(event: &Event) -> bool {
    matches!(event, Event::Granted { .. })
}

fn step(event: &Event) -> &'static str {
    match event {
        Event::Granted { .. } => "granted",
        Event::GrantDelivered { .. } => "delivered",
        Event::Fetched { .. } => "fetched",
        Event::Redeemed { .. } => "redeemed",
        Event::Acknowledged { .. } => "acknowledged",
        Event::LeaseEnded { .. } => "lease ended",
        other => panic!("no step of a crossing: {other:?}"),
    }
}
