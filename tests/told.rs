//! Does the vault decide by what a launcher tells of its launch, say what it wants instead, and record what it was told?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_parent::Ask;
use blindferry_proto::audit::Event;
use blindferry_proto::credential::Kind;
use blindferry_proto::protection::ProtectionLevel;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::WorkerConstraint;
use blindferry_tests::account::USER;
use blindferry_tests::command::{Desk, blindferry};
use blindferry_tests::fleet::{ALLOW_ALL, Fleet};
use blindferry_tests::operator::settings;
use blindferry_tests::program::ours;
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker, ask, ask_for, log_file};
use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;

/// A credential that the parent holds.
const OF_THE_PARENT: &str = "ghp_3f8a0c2d7b91e6450a1d";
const MASTER: &str = "sk-live-5b1e6d03f2c98a7740e1-told";

#[test]
fn a_credential_that_demands_a_level_goes_to_programs_at_that_level_and_the_refusal_names_it() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    for name in ["weak", "strong"] {
        operator.put(name, settings(Kind::Release), MASTER.as_bytes());
    }
    operator.apply_policy(&format!("{ALLOW_ALL}\n{}\n{}", demand("weak", "\"exec-only\", "), demand("strong", "")));

    // What the launcher establishes is what the vault hears: one level is refused and the other is not.
    let refused = launched(&fleet, "weak", &["--protection", "none"], ask_for(&fleet, "weak").unwrap());
    assert_eq!(refused, (Some(124), String::new()));
    let log = fs::read_to_string(log_file(&fleet)).unwrap();
    assert!(log.contains("protection-too-low: weak wants --protection exec-only, here is none"), "{log}");
    let given = launched(&fleet, "weak", &["--protection", "exec-only"], ask_for(&fleet, "weak").unwrap());
    assert_eq!(given, (Some(0), MASTER.to_owned()));

    // A worker that links the library has no level.
    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "weak").unwrap(), fleet.enclave.public);
    let said = worker.says();
    assert_eq!(said["code"], "protection-too-low");
    assert!(said["error"].as_str().unwrap().contains("wants --protection exec-only, here is no level"), "{said}");

    // Where the parent announces a level, the grant is for that level, whatever policy says.
    let announced = WorkerConstraint { protection: Some(ProtectionLevel::OwnGroup), ..WorkerConstraint::default() };
    let grant = ask(&fleet, &Ask { worker: announced, ..Ask::for_credential("weak".parse().unwrap()) }).unwrap();
    assert_eq!(launched(&fleet, "weak", &[], grant), (Some(124), String::new()));

    // The command announces, so that the demand is heard before there is a grant.
    let refused = run(&fleet, "strong");
    assert!(
        refused.1.contains("protection-too-low: strong wants --protection own-group, here is exec-only"),
        "{refused:?}"
    );
    assert_eq!(run(&fleet, "weak").0, MASTER);

    let events = operator.events();
    let levels = events.iter().filter_map(|event| match event {
        Event::Redeemed { worker, .. } => Some(worker.protection),
        _ => None,
    });
    assert_eq!(levels.collect::<Vec<_>>(), [Some(ProtectionLevel::ExecOnly); 2]);
    let denials = events.iter().filter_map(|event| match event {
        Event::Denied { code, .. } => Some(*code),
        _ => None,
    });
    let low = RefusalCode::ProtectionTooLow;
    assert_eq!(denials.collect::<Vec<_>>(), [low, low, RefusalCode::WorkerMismatch, low]);
}

#[test]
fn inherited_credentials_are_in_the_audit_by_name_and_a_policy_forbids_them() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    for name in ["lenient", "strict"] {
        operator.put(name, settings(Kind::Release), MASTER.as_bytes());
    }
    let forbid = "@id(\"nothing-inherited\") forbid (principal, action, resource == Blindferry::Credential::\"strict\")\n\
                  unless { context.inherited.isEmpty() };";
    operator.apply_policy(&format!("{ALLOW_ALL}\n{forbid}"));
    let inherit = ["--inherit-credentials", "GITHUB_TOKEN"];

    let given = launched(&fleet, "lenient", &inherit, ask_for(&fleet, "lenient").unwrap());
    assert_eq!(given, (Some(0), MASTER.to_owned()));
    let refused = launched(&fleet, "strict", &inherit, ask_for(&fleet, "strict").unwrap());
    assert_eq!(refused, (Some(124), String::new()));
    let log = fs::read_to_string(log_file(&fleet)).unwrap();
    assert!(log.contains("denied") && log.contains("nothing-inherited"), "{log}");
    let given = launched(&fleet, "strict", &[], ask_for(&fleet, "strict").unwrap());
    assert_eq!(given, (Some(0), MASTER.to_owned()));

    let events = operator.events();
    let inherited = events.iter().filter_map(|event| match event {
        Event::Redeemed { credential, inherited, .. } => {
            Some((credential.to_string(), inherited.iter().map(ToString::to_string).collect::<Vec<_>>()))
        }
        _ => None,
    });
    let expected = [("lenient".to_owned(), vec!["GITHUB_TOKEN".to_owned()]), ("strict".to_owned(), Vec::new())];
    assert_eq!(inherited.collect::<Vec<_>>(), expected);
    let (records, _head) = operator.records();
    let bytes: Vec<u8> = records.iter().flat_map(|record| record.body.as_slice().to_vec()).collect();
    let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(holds("GITHUB_TOKEN") && !holds(OF_THE_PARENT), "names are in the audit, and no values");

    // What the operator's command shows.
    let shown = Desk::of(&fleet).says(&["audit"]).to_string();
    assert!(shown.contains("GITHUB_TOKEN"), "{shown}");
}

/// A policy that lets `credential` go to programs at one of the two strongest levels, or at those that are named beside.
/// A grant that nobody announced a level for is not refused: whoever redeems it will be.
fn demand(credential: &str, beside: &str) -> String {
    let levels = format!("{beside}\"own-group\", \"own-namespace\"").replace('"', "");
    let levels: Vec<String> = levels.split(", ").map(|level| format!("Blindferry::Protection::\"{level}\"")).collect();
    format!(
        "@id(\"level-of-{credential}\") forbid (principal, action, resource == Blindferry::Credential::\"{credential}\")\n\
         when {{ principal has protection || action != Blindferry::Action::\"grant\" }}\n\
         unless {{ principal has protection && [{}].contains(principal.protection) }};",
        levels.join(", ")
    )
}

/// How a launch of `cat` ended, and what it was given.
fn launched(fleet: &Fleet, credential: &str, options: &[&str], grant: OwnedFd) -> (Option<i32>, String) {
    let mut command = USER.command(&ours("blindferry-launch"));
    command.args(["--grant-fd", &GRANT_FD.to_string(), "--credential-name", credential, "--deliver", "stdin"]);
    command.arg("--workers").arg(fleet.host.workers()).args(options).args(["--", "cat"]);
    command.env("GITHUB_TOKEN", OF_THE_PARENT);
    let mut worker = ScriptedWorker::run(fleet, command, grant);
    let line = worker.line();
    let status = worker.running.wait();
    (status.code(), line)
}

/// What `blindferry run` of `cat` said on both streams.
fn run(fleet: &Fleet, credential: &str) -> (String, String) {
    let mut command: Command = blindferry(fleet);
    command.args(["run", "--credential", credential, "--deliver", "stdin", "--", "cat"]);
    let output = command.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}
