//! Does each service say of its configuration what `check-config` says, and nothing that is a secret?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_tests::program::ours;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A service that starts, by its file's name: executable and words.
const SERVICES: [(&str, &str, &[&str]); 2] =
    [("enclave.toml", "blindferry-enclave", &["serve"]), ("broker.toml", "blindferryd", &[])];

fn run(executable: &str, words: &[&str], path: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(ours(executable));
    let Output { status, stdout, stderr } = command.args(words).arg(path).stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn what_a_service_does_not_start_with_is_what_check_config_names() {
    let directory = tempfile::tempdir().unwrap();
    for (name, service, words) in SERVICES {
        let path = directory.path().join(name);
        fs::write(&path, "colour = \"blue\"\n").unwrap();
        let (code, checked) = run("blindferry", &["check-config"], &path);
        assert_eq!(code, Some(5), "{checked}");
        let (code, started) = run(service, &[words, &["--config"]].concat(), &path);
        assert_eq!(code, Some(1), "{started}");
        for line in
            ["error: unknown key `colour`", "line 1, column 1", " 1 | colour = \"blue\"", "= cause: the keys here are"]
        {
            assert!(checked.contains(line), "{name}: {line}: {checked}");
            assert!(started.contains(line), "{service}: {line}: {started}");
        }
    }
}

#[test]
fn no_service_repeats_a_secret_that_stands_in_its_configuration() {
    let directory = tempfile::tempdir().unwrap();
    for (name, service, words) in SERVICES {
        let path = directory.path().join(name);
        fs::write(&path, "api_key = \"hunter2\"\n# ghp_0123456789hunter2abcd\n").unwrap();
        for (executable, words) in
            [("blindferry", ["check-config"].to_vec()), (service, [words, &["--config"]].concat())]
        {
            let (code, told) = run(executable, &words, &path);
            assert!(code.is_some_and(|code| code != 0), "{executable}");
            assert!(told.contains("a secret, or what looks like one"), "{executable}: {told}");
            assert!(!told.contains("hunter2"), "{executable}: {told}");
        }
    }
}

#[test]
fn each_example_is_checked_by_its_service_and_only_what_is_not_on_this_machine_is_wrong_with_it() {
    let examples = blindferry_tests::sources::root().join("deploy/configuration");
    for name in ["enclave.toml", "broker.toml", "operator.toml"] {
        let (_, said) = run("blindferry", &["--json", "check-config"], &examples.join(name));
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{name}: {error}: {said}"));
        let faults = said[0]["faults"].as_array().unwrap();
        for fault in faults.iter().filter(|fault| fault["severity"] == "error") {
            let problem = fault["problem"].as_str().unwrap();
            let absent = problem.contains("is not there") || problem.contains("cannot be looked at");
            assert!(absent, "{name}: {problem}");
            assert!(fault["fix"].is_string(), "{name}: {problem}");
        }
    }
}
