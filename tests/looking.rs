//! Does an operator see how the vault is, who is attested, and what happens while it happens?

use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_tests::command::{Desk, blindferry};
use blindferry_tests::fleet::{ALLOW_ALL, Fleet, HOST, http_get};
use blindferry_tests::operator::settings;
use blindferry_tests::process::{Running, eventually, within};
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn status_names_who_is_attested_until_when_what_ends_soon_and_why_it_is_not_healthy() {
    let Some(mut fleet) = Fleet::start() else { return };
    let desk = Desk::of(&fleet);
    fleet.operator().put("api", settings(Kind::Release), b"for a lease");
    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "api").unwrap(), fleet.enclave.public);
    assert!(worker.says()["lease"].is_string());

    let status = desk.says(&["status"]);
    let attested = status["attested"].as_array().unwrap();
    let host = attested.iter().find(|one| one["peer"]["name"] == HOST).unwrap();
    assert_eq!(host["role"], "broker", "{host}");
    assert!(host["age"].as_u64().unwrap() + host["again_in"].as_u64().unwrap() >= 300, "{host}");
    let lease = &status["ending_leases"][0];
    assert_eq!((lease["credential"].as_str(), lease["host"].as_str()), (Some("api"), Some(HOST)), "{status}");
    assert!(lease["ends_in"].as_u64().is_some_and(|left| left > 0), "{lease}");
    let problems = |status: &Value| status["reasons"].to_string();
    // A software TPM is what this fleet has.
    assert_eq!(status["health"], "degraded", "{status}");
    assert!(problems(&status).contains("software TPM"), "{status}");
    assert!(!problems(&status).contains("without a session"), "positive control: {status}");
    assert_eq!(desk.run(&["status", "--check"]).code, 1);

    fleet.host.stop();
    eventually("the end of its session", || {
        problems(&desk.says(&["status"])).contains("without a session").then_some(())
    });
}

#[test]
fn who_follows_the_audit_sees_what_happens_and_a_restart_of_the_vault_ends_nothing() {
    let Some(mut fleet) = Fleet::start() else { return };
    let [path, log] = ["followed", "follower.log"].map(|name| fleet.directory().join(name));
    let mut command = blindferry(&fleet);
    command.args(["audit", "--follow", "--json-lines", "--event", "operator"]).stdin(Stdio::null());
    command.stdout(File::create(&path).unwrap());
    let mut follower = Running::start(command, &log);
    let text = || fs::read_to_string(&path).unwrap();
    let applied = || {
        let records = text().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
        records.iter().filter(|record| record["event"]["operator"]["action"] == "policy apply").count()
    };
    let shows = |count: usize, what: &str| {
        let shown = within(Duration::from_secs(60), || (applied() >= count).then_some(()));
        assert!(shown.is_some(), "{what}: {} {}", text(), fs::read_to_string(&log).unwrap());
        assert_eq!(applied(), count, "{what}: {}", text());
    };
    // Host and follower. Until it has its session it uses the operator's TPM, which nobody manages here for two at once.
    let following = |fleet: &Fleet| {
        eventually("host and follower", || {
            let (_, metrics) = http_get(fleet.enclave.public, "/metrics")?;
            metrics.lines().any(|line| line == "blindferry_sessions 2").then_some(())
        });
    };
    following(&fleet);
    fleet.operator().apply_policy(ALLOW_ALL);
    let is_one = |event: &Event| matches!(event, Event::Operator { action, .. } if action.as_str() == "policy apply");
    let before = fleet.operator().events().iter().filter(|event| is_one(event)).count();
    shows(before, "what was before");
    fleet.operator().apply_policy(ALLOW_ALL);
    shows(before + 1, "what happens now");
    fleet.enclave.stop();
    fleet.enclave.serve();
    following(&fleet);
    fleet.operator().apply_policy(ALLOW_ALL);
    shows(before + 2, "what happens after the restart");
    assert!(text().lines().all(|line| line.contains("\"kind\":\"operator\"")), "what nobody asked for: {}", text());
    follower.signal(Signal::INT);
    assert_eq!(follower.wait().signal(), Some(Signal::INT.as_raw()), "it ends when told to");
}
