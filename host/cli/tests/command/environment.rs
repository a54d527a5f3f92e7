//! `env`, and what `run` and `env` show of an environment without running anything.

use crate::bench::{Bench, Went};
use std::process::Output;

/// Runs the command in this environment and no other.
fn run(words: &[&str], present: &[(&str, &str)]) -> Went {
    let mut command = Bench::new().command(words);
    let Output { status, stdout, stderr } = command.env_clear().envs(present.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Went { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

const PRESENT: &[(&str, &str)] = &[
    ("PATH", "/usr/bin:/bin"),
    ("HOME", "/"),
    ("MINE", "my value"),
    ("GITHUB_TOKEN", "hunter2"),
    ("npm_config_//registry.npmjs.org/:_authToken", "hunter2"),
    ("BASH_ENV", "/nowhere"),
    ("AWS_PROFILE", "work"),
    ("https_proxy", "http://user:hunter2@proxy/"),
];

#[test]
fn env_runs_a_program_with_the_list_and_what_was_asked_for() {
    let lines = |words: &[&str]| {
        let went = run(&[&["env"], words, &["--", "env"]].concat(), PRESENT);
        assert_eq!(went.code, 0, "{}", went.err);
        let mut lines: Vec<String> = went.out.lines().map(str::to_owned).collect();
        lines.sort();
        (lines, went.err)
    };
    assert_eq!(lines(&[]), (["HOME=/", "PATH=/usr/bin:/bin"].map(String::from).to_vec(), String::new()));
    let (asked, _) = lines(&["--env", "MINE", "--env=GIVEN=-x", "--pass", "aws,proxy"]);
    assert_eq!(asked, ["AWS_PROFILE=work", "GIVEN=-x", "HOME=/", "MINE=my value", "PATH=/usr/bin:/bin"]);
    let (inherited, told) = lines(&["--inherit-credentials", "GITHUB_TOKEN"]);
    assert!(inherited.contains(&"GITHUB_TOKEN=hunter2".to_owned()), "{inherited:?}");
    assert_eq!(told.trim(), "blindferry: warning: inherits credentials of its parent: GITHUB_TOKEN");
}

#[test]
fn env_ends_as_the_program_ends() {
    let end = |program: &[&str]| run(&[&["env", "--"], program].concat(), PRESENT).code;
    assert_eq!(end(&["bash", "-c", "exit 7"]), 7);
    assert_eq!(end(&["no-such-program"]), 127);
    assert_eq!(end(&["/etc/passwd"]), 126);
}

#[test]
fn what_is_behind_a_lock_is_refused_before_anything_runs() {
    for (words, told) in [
        (&["--env", "GITHUB_TOKEN"][..], "--inherit-credentials GITHUB_TOKEN"),
        (&["--env", "BASH_ENV"], "--pass shell-code"),
        (&["--env", "LD_PRELOAD=/tmp/hunter2.so"], "--pass preload"),
        (&["--env", "GITHUB_TOKEN=hunter2"], "command line is no place"),
        (&["--env", "=hunter2"], "not the name of a variable"),
        (&["--pass", "nonsense"], "no such switch"),
    ] {
        for command in [&["env"][..], &["run", "--credential", "deploy"]] {
            let went = run(&[command, words, &["--", "echo", "ran"]].concat(), PRESENT);
            assert_eq!((went.code, went.out.as_str()), (2, ""), "{words:?}: {}", went.err);
            assert!(went.err.contains(told) && !went.err.contains("hunter2"), "{words:?}: {}", went.err);
        }
    }
}

#[test]
fn a_dry_run_shows_names_and_reasons_and_no_value_and_runs_nothing() {
    let words =
        ["run", "--credential", "deploy-key", "--env", "MINE", "--env", "ABSENT", "--dry-run", "--", "echo", "ran"];
    let went = run(&words, PRESENT);
    assert_eq!(went.code, 0, "{}", went.err);
    for value in ["hunter2", "my value", "/nowhere", "ran\n"] {
        assert!(!went.out.contains(value), "{value}: {}", went.out);
    }
    let row = |name: &str| went.out.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_default();
    assert!(row("PATH ").ends_with("ordinary"));
    assert!(row("MINE ").ends_with("--env NAME"));
    assert!(row("DEPLOY_KEY_FILE ").ends_with("the token"));
    assert!(row("GITHUB_TOKEN ").ends_with("--inherit-credentials GITHUB_TOKEN"));
    assert!(row("BASH_ENV ").ends_with("--pass shell-code"));
    assert!(row("AWS_PROFILE ").ends_with("--pass aws"));
    assert!(row("npm_config_").contains("--pass node-code --inherit-credentials npm_config_//"), "{}", went.out);
    assert!(row("ABSENT ").contains("not there"), "{}", went.out);
}

#[test]
fn a_dry_run_in_json_says_the_same() {
    let words = ["--json", "env", "--pass", "aws", "--dry-run", "--", "true"];
    let went = run(&words, PRESENT);
    let document: serde_json::Value = serde_json::from_str(&went.out).unwrap();
    let from = |name: &str| {
        let passes = document["passes"].as_array().unwrap();
        passes.iter().find(|passed| passed["name"] == name).map(|passed| passed["from"].clone())
    };
    assert_eq!(from("AWS_PROFILE").unwrap(), "--pass aws");
    assert_eq!(from("GITHUB_TOKEN"), None);
    let left_out = document["left_out"].as_array().unwrap();
    let token = left_out.iter().find(|left_out| left_out["name"] == "GITHUB_TOKEN").unwrap();
    assert_eq!(token["let_in_by"], "--inherit-credentials GITHUB_TOKEN");
    assert!(!went.out.contains("hunter2") && document["malformed"] == 0);
}
