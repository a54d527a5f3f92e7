//! What real programs see of an environment that the policy made.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use blindferry_environment::{Policy, Switch};
use std::collections::BTreeSet;
use std::process::{Command, Output};

/// Runs a program in what the policy makes of this environment.
fn run(policy: &Policy, present: &[(&str, &str)], program: &str, arguments: &[&str]) -> Output {
    let selection = policy.select(present.iter().map(|(name, value)| (name.into(), value.into()))).unwrap();
    let pairs = selection.into_environment().into_pairs();
    Command::new(program).args(arguments).env_clear().envs(pairs).output().unwrap()
}

const PRESENT: &[(&str, &str)] = &[
    ("PATH", "/usr/bin:/bin"),
    ("HOME", "/"),
    ("GITHUB_TOKEN", "the parent's"),
    ("AWS_PROFILE", "work"),
    ("AWS_SECRET_ACCESS_KEY", "the parent's"),
    ("BASH_ENV", "/nowhere"),
    ("MINE", "1"),
];

fn env(policy: &Policy) -> BTreeSet<String> {
    let output = String::from_utf8(run(policy, PRESENT, "/usr/bin/env", &[]).stdout).unwrap();
    output.lines().map(str::to_owned).collect()
}

#[test]
fn env_sees_the_list_and_what_was_asked_for() {
    let mut policy = Policy::default();
    assert_eq!(env(&policy), ["HOME=/", "PATH=/usr/bin:/bin"].map(String::from).into());
    policy.ask("MINE").unwrap();
    policy.ask("GIVEN=2").unwrap();
    policy.pass(Switch::Aws);
    let expected = ["AWS_PROFILE=work", "GIVEN=2", "HOME=/", "MINE=1", "PATH=/usr/bin:/bin"];
    assert_eq!(env(&policy), expected.map(String::from).into());
    policy.inherit_credential("GITHUB_TOKEN").unwrap();
    assert!(env(&policy).contains("GITHUB_TOKEN=the parent's"));
}

#[test]
fn a_shell_does_not_run_what_a_variable_says() {
    let directory = std::env::temp_dir().join(format!("blindferry-environment-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let script = directory.join("env.sh");
    std::fs::write(&script, "echo from BASH_ENV\n").unwrap();
    let script = script.to_str().unwrap();
    let present = [
        ("PATH", "/usr/bin:/bin"),
        ("BASH_ENV", script),
        ("BASH_FUNC_true%%", "() { echo from a function; }"),
        ("SHELLOPTS", "xtrace"),
    ];
    let said = |policy: &Policy| {
        let output = run(policy, &present, "/bin/bash", &["-c", "true"]);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert_eq!(said(&Policy::default()), "");
    let mut control = Policy::default();
    control.pass(Switch::ShellCode);
    let control = said(&control);
    for from in ["from BASH_ENV", "from a function", "+ true"] {
        assert!(control.contains(from), "with the switch it does: {control}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_dynamic_linker_does_not_hear_of_libraries_or_tunables() {
    let present = [("PATH", "/usr/bin:/bin"), ("LD_DEBUG", "help"), ("LD_PRELOAD", "/nowhere/lib.so")];
    let said = |policy: &Policy| {
        let output = run(policy, &present, "/usr/bin/env", &[]);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    assert_eq!(said(&Policy::default()), "PATH=/usr/bin:/bin\n");
    let mut control = Policy::default();
    control.pass(Switch::Preload);
    assert!(
        said(&control).contains("/nowhere/lib.so") || said(&control).contains("LD_DEBUG"),
        "with the switch it does"
    );
}
