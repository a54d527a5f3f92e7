//! Does what watches the fleet learn the truth, and no secret: health, readiness, metrics, logs?

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use blindferry_parent::Ask;
use blindferry_proto::credential::Kind;
use blindferry_proto::operator::Approvee;
use blindferry_tests::account::USER;
use blindferry_tests::attack::{Found, forms, needle, search};
use blindferry_tests::collector::{Answers, Collector};
use blindferry_tests::fleet::{Fleet, HOST, Plan, http_get};
use blindferry_tests::oauth::OauthServer;
use blindferry_tests::operator::{oauth_client, settings};
use blindferry_tests::process::{eventually, send};
use blindferry_tests::program::{missing, ours};
use blindferry_tests::secrets::Secrets;
use blindferry_tests::tpm::{PCRS, adjacent_ports};
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker, ask, ask_for};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

const RELEASED: &str = "sk-live-watched-74be1f09c2ad583360e1";
const CLIENT_SECRET: &str = "oauth-client-secret-watched-2d90aa17";
const WRONG_SECRET: &str = "another-client-secret-watched-77b0c4e1";

#[test]
fn health_and_readiness_follow_a_vault_that_is_held_and_one_that_is_gone() {
    let Some((mut fleet, broker)) = watched(&[]) else { return };
    let (public, vault) = (fleet.enclave.public, fleet.enclave.vault());
    for address in [public, broker] {
        assert_eq!((status(address, "/healthz"), status(address, "/readyz")), (200, 200));
    }
    assert!(metrics(public).contains("\nblindferry_ready 1\n"));

    send(vault, Signal::STOP);
    eventually("the front to notice", || (status(public, "/healthz") == 503).then_some(()));
    let (code, why) = http_get(public, "/readyz").unwrap();
    assert_eq!(code, 503);
    assert!(why.contains("the vault has not answered for "), "{why}");
    let held = metrics(public);
    assert!(held.contains("\nblindferry_ready 0\n") && held.contains("\nblindferry_front_vault_answers 0\n"), "{held}");

    send(vault, Signal::CONT);
    eventually("the vault to be well again", || (status(public, "/readyz") == 200).then_some(()));
    assert_eq!(status(public, "/healthz"), 200);

    // A broker without a vault is well, and of no use.
    fleet.enclave.stop();
    eventually("the broker to notice", || (status(broker, "/readyz") == 503).then_some(()));
    assert_eq!(status(broker, "/healthz"), 200);
    assert!(metrics(broker).contains(concat!("\nblindferry_broker_session", " 0\n")));
    fleet.enclave.serve();
    eventually("the next session", || (status(broker, "/readyz") == 200).then_some(()));
}

#[test]
fn metrics_count_what_happened_in_a_form_that_prometheus_takes() {
    let Some((fleet, broker)) = watched(&[]) else { return };
    let public = fleet.enclave.public;
    fleet.operator().put("released", settings(Kind::Release), RELEASED.as_bytes());
    assert_eq!(given(&fleet, "released", ask_for(&fleet, "released").unwrap()), RELEASED);
    assert!(ask_for(&fleet, "unheard-of").is_err());
    // Figures of the vault come every two seconds.
    let enclave = eventually("the vault's figures", || {
        let text = metrics(public);
        text.contains("\nblindferry_redemptions_total 1\n").then_some(text)
    });
    let host = metrics(broker);
    for (text, line) in [
        (&enclave, "blindferry_grants_total 1"),
        (&enclave, "blindferry_refusals_total{kind=\"unknown\"} 1"),
        (&enclave, "blindferry_step_seconds_count{kind=\"redeem\"} 1"),
        (&enclave, "blindferry_step_seconds_count{kind=\"mint\"} 1"),
        (&enclave, "blindferry_step_seconds_count{kind=\"upstream\"} 0"),
        (&enclave, "blindferry_alarms_total 0"),
        (&host, concat!("blindferry_broker_session", " 1")),
        (&host, "blindferry_broker_step_seconds_count{kind=\"ask\"} 2"),
        (&host, "blindferry_broker_step_seconds_count{kind=\"redeem\"} 1"),
        (&host, "blindferry_broker_refusals_total{kind=\"unknown\"} 1"),
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    for (text, name) in [
        (&enclave, "blindferry_step_seconds_count{kind=\"tpm\"}"),
        (&enclave, "blindferry_step_seconds_count{kind=\"evidence\"}"),
        (&enclave, "blindferry_step_seconds_count{kind=\"session\"}"),
        (&enclave, "blindferry_front_step_seconds_count{kind=\"store-commit\"}"),
        (&enclave, "blindferry_front_step_seconds_count{kind=\"vault-answer\"}"),
        (&enclave, "blindferry_front_store_bytes"),
        (&enclave, "blindferry_audit_records"),
        (&enclave, "blindferry_resident_bytes{kind=\"vault\"}"),
        (&enclave, "blindferry_resident_bytes{kind=\"device\"}"),
        (&host, "blindferry_broker_step_seconds_count{kind=\"tpm\"}"),
        (&host, "blindferry_broker_step_seconds_count{kind=\"session\"}"),
        (&host, "blindferry_broker_resident_bytes{kind=\"broker\"}"),
    ] {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        assert!(value.is_some_and(|value| value > 0), "{name}: {text}");
    }
    if missing(&["promtool"]) {
        return;
    }
    for text in [&enclave, &host] {
        assert_eq!(promtool(text), (true, String::new()));
    }
    assert!(!promtool("# TYPE x counter\nx 1\n").0, "a name that is no counter's is noticed");
}

#[test]
fn no_secret_is_in_anything_that_is_watched_at_any_level() {
    let loud = [("BLINDFERRY_LOG", "trace"), ("BLINDFERRY_LOG_FORM", "json")];
    let plan = Plan::default();
    let Some(mut fleet) = Fleet::set_up(&plan) else { return };
    fleet.init(&plan);
    let secrets =
        Secrets::of(&fleet, &[RELEASED, CLIENT_SECRET, WRONG_SECRET, INHERITED], OauthServer::start(CLIENT_SECRET));
    let of_init = fleet.enclave.log().len();
    let collector = Collector::start(Answers::Ok);
    fleet.enclave.configure_with(&plan, &collector.configured());
    let Some(broker) = serve_with(&mut fleet, &loud, &collector.configured()) else { return };
    let operator = fleet.operator();
    operator.put("released", settings(Kind::Release), RELEASED.as_bytes());
    operator.put("minted", settings(oauth_client(secrets.server.address)), CLIENT_SECRET.as_bytes());
    operator.put(PLANTED, settings(Kind::Release), RELEASED.as_bytes());
    let mut grants = Vec::new();
    for credential in ["released", "minted", PLANTED] {
        let grant = ask_for(&fleet, credential).unwrap();
        grants.push(format!("hex:{}", hex::encode(contents(&grant))));
        assert!(!given(&fleet, credential, grant).is_empty());
    }
    // What fails is what a log would be tempted to quote.
    operator.put("wrong", settings(oauth_client(secrets.server.address)), WRONG_SECRET.as_bytes());
    assert_eq!(given(&fleet, "wrong", ask_for(&fleet, "wrong").unwrap()), "");
    assert!(ask(&fleet, &Ask::for_credential("unheard-of".parse().unwrap())).is_err());
    eventually("the vault's figures", || metrics(fleet.enclave.public).contains("mint_failures_total{").then_some(()));

    let pages: Vec<String> = [fleet.enclave.public, broker]
        .into_iter()
        .flat_map(|address| ["/healthz", "/readyz", "/metrics"].map(|path| http_get(address, path).unwrap().1))
        .collect();
    let logs = [fleet.enclave.log(), fleet.host.log()];
    // Those of the last redemption come last.
    eventually("the spans", || collector.bodies().concat().contains("\"upstream\"").then_some(()));
    let everything = [pages.concat(), logs.concat(), collector.bodies().concat()].concat();
    let all: Vec<String> = secrets.needles().into_iter().chain(grants).collect();
    assert!(secrets.server.tokens().len() == 1 && all.len() > 8, "{} needles", all.len());
    let found = found(&everything, &all);
    assert!(found.is_empty(), "{found:?}");

    // What is in a line is found there, in each form in which it could be: the name of a credential, and what is planted.
    assert!(!self::found(&logs[1], &[PLANTED.to_owned()]).is_empty(), "the broker's log names credentials");
    assert!(logs[0].contains("\"mint-failed\"") && logs[1].contains("\"grant-delivered\""), "{logs:?}");
    for (form, bytes) in forms(&needle(&all[0])) {
        let line = format!("{everything}{{\"message\":\"{}\"}}\n", String::from_utf8_lossy(&bytes));
        assert!(!self::found(&line, &all).is_empty(), "{form}");
    }
    // And each line is what it is documented to be.
    let since = [&logs[0][of_init..], &logs[1]].concat();
    let processes: BTreeSet<String> = since.lines().filter_map(process).collect();
    let expected = ["blindferry-enclave", "blindferry-vault", "blindferryd"].map(str::to_owned);
    assert_eq!(processes, BTreeSet::from(expected));
}

/// In the environment of a launcher.
const INHERITED: &str = "ghp_watched_51f0c9d2e76ba8430d";
/// The name of a credential, which is no secret.
const PLANTED: &str = "planted-3c07e9d15ab86f24";

/// A fleet whose broker is watched too, and where.
fn watched(environment: &[(&'static str, &'static str)]) -> Option<(Fleet, SocketAddr)> {
    let plan = Plan::default();
    let mut fleet = Fleet::set_up(&plan)?;
    fleet.init(&plan);
    let broker = serve(&mut fleet, environment)?;
    Some((fleet, broker))
}

fn serve(fleet: &mut Fleet, environment: &[(&'static str, &'static str)]) -> Option<SocketAddr> {
    serve_with(fleet, environment, "")
}

/// The same, with more lines in the broker's configuration.
fn serve_with(fleet: &mut Fleet, environment: &[(&'static str, &'static str)], more: &str) -> Option<SocketAddr> {
    let broker = SocketAddr::from((Ipv4Addr::LOCALHOST, adjacent_ports()));
    fleet.enclave.environment = environment.to_vec();
    fleet.host.environment = environment.to_vec();
    fleet.host.configure_with(HOST, &PCRS, &format!("public = \"{broker}\"\n{more}"));
    fleet.enclave.serve();
    fleet.operator().approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    fleet.host.serve();
    Some(broker)
}

fn status(address: SocketAddr, path: &str) -> u16 {
    http_get(address, path).unwrap().0
}

fn metrics(address: SocketAddr) -> String {
    let (status, text) = http_get(address, "/metrics").unwrap();
    assert_eq!(status, 200);
    text
}

/// What the launcher gave to `cat`; nothing where it was refused.
fn given(fleet: &Fleet, credential: &str, grant: OwnedFd) -> String {
    let mut command = USER.command(&ours("blindferry-launch"));
    command.args(["--grant-fd", &GRANT_FD.to_string(), "--credential-name", credential, "--deliver", "stdin"]);
    command.arg("--workers").arg(fleet.host.workers()).args(["--", "cat"]).env("GITHUB_TOKEN", INHERITED);
    let mut worker = ScriptedWorker::run(fleet, command, grant);
    let line = worker.line();
    worker.finish();
    line
}

/// The bytes in a handle.
fn contents(grant: &OwnedFd) -> Vec<u8> {
    let file = std::fs::File::from(grant.try_clone().unwrap());
    let mut bytes = vec![0; 65536];
    let length = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(length);
    assert!(length > 32, "a grant has {length} bytes");
    bytes
}

fn found(text: &str, needles: &[String]) -> Vec<Found> {
    let forms: Vec<_> = needles.iter().map(|line| forms(&needle(line))).collect();
    search(text.as_bytes(), &forms, "what is watched")
}

/// Which process wrote a line; `None` for a device process, whose lines are plain.
fn process(line: &str) -> Option<String> {
    if line.starts_with("blindferry-device: ") {
        return None;
    }
    let said: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not a line of JSON: {line}"));
    assert!(said["event"].is_string() && said["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    said["process"].as_str().map(str::to_owned)
}

fn promtool(metrics: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
