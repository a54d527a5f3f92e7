//! The command line: help, ends, and what is never repeated.

use crate::bench::Bench;
use std::process::Stdio;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["init"],
    &["recover"],
    &["put"],
    &["list"],
    &["remove"],
    &["host"],
    &["host", "list"],
    &["host", "approve"],
    &["host", "remove"],
    &["roots", "apply"],
    &["policy", "check"],
    &["policy", "show"],
    &["policy", "apply"],
    &["reference", "show"],
    &["reference", "capture"],
    &["reference", "apply"],
    &["reference", "compute"],
    &["reference", "compute", "snp"],
    &["reference", "compute", "uki"],
    &["reference", "diff"],
    &["reference", "sign"],
    &["enclave", "approve"],
    &["enclave", "revoke-old"],
    &["attest"],
    &["attest", "verify"],
    &["attest", "explain"],
    &["tpm"],
    &["status"],
    &["doctor"],
    &["check-config"],
    &["completions"],
    &["man"],
    &["audit"],
    &["audit", "verify"],
    &["run"],
    &["env"],
    &["read"],
];

#[test]
fn every_command_explains_itself() {
    let bench = Bench::new();
    for command in COMMANDS {
        let went = bench.run(&[command, &["--help"][..]].concat(), b"");
        assert_eq!(went.code, 0, "{command:?}: {}", went.err);
        assert!(went.out.contains("Usage: blindferry") && went.err.is_empty(), "{command:?}: {}", went.out);
    }
    let whole = bench.run(&["--help"], b"").out;
    assert!(whole.contains("Exit status: 0 done"), "{whole}");
    assert!(bench.run(&["read", "--help"], b"").out.contains("plaintext"));
}

#[test]
fn wrong_usage_ends_with_2() {
    let bench = Bench::new();
    for words in [
        &["nonsense"][..],
        &["host", "approve", "a"],
        &["run", "--credential", "a"],
        &["run", "--", "true"],
        &["audit", "--from", "x"],
    ] {
        let went = bench.run(words, b"");
        assert_eq!((went.code, went.out.as_str()), (2, ""), "{words:?}");
        assert!(!went.err.is_empty());
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    let bench = Bench::new();
    let config = bench.configured();
    for words in [
        &["put", "deploy=hunter2", "--kind", "release"][..],
        &["put", "deploy", "hunter2", "--kind", "release"],
        &["put", "deploy", "--secret", "hunter2", "--kind", "release"],
        &["put", "Hunter2", "--kind", "release"],
        &["put", "deploy", "--kind", "release", "--token-lifetime", "hunter2"],
    ] {
        let went = bench.run(&[&["--config", &config], words].concat(), b"right\n");
        assert_eq!(went.code, 2, "{words:?}: {}", went.err);
        assert!(!went.err.contains("unter2") && !went.out.contains("unter2"), "{words:?}: {}", went.err);
        assert!(went.err.contains("standard input") || went.err.contains("put NAME"), "{words:?}: {}", went.err);
    }
}

#[test]
fn what_cannot_be_undone_is_not_done_unasked() {
    let bench = Bench::new();
    let config = bench.configured();
    for words in [&["remove", "a"][..], &["host", "remove", "a"], &["enclave", "revoke-old"]] {
        let went = bench.run(&[&["--config", &config], words].concat(), b"yes\n");
        assert_eq!(went.code, 2, "{words:?}: {}", went.err);
        assert!(went.err.contains("--yes"), "{}", went.err);
    }
}

#[test]
fn a_closed_standard_output_is_no_panic() {
    let bench = Bench::new();
    for words in [&["--help"][..], &["--version"], &["put", "--help"]] {
        let mut child = bench.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let went = child.wait_with_output().unwrap();
        let told = String::from_utf8(went.stderr).unwrap();
        assert!(went.status.code().is_some() && !told.contains("panicked"), "{words:?}: {told}");
    }
}

#[test]
fn a_wrong_configuration_is_named_with_its_place() {
    let bench = Bench::new();
    let config = bench.configured();
    let text = std::fs::read_to_string(&config).unwrap();
    bench.file("operator.toml", &format!("{text}colour = \"red\"\n"));
    let went = bench.run(&["--config", &config, "status"], b"");
    assert_eq!(went.code, 5, "{}", went.err);
    assert!(went.err.contains("line 7, column 1") && went.err.contains("colour"), "{}", went.err);
    assert!(went.err.contains("\ntry: "), "{}", went.err);
}

#[test]
fn a_missing_configuration_says_what_belongs_into_it() {
    let bench = Bench::new();
    let went = bench.run(&["--config", bench.path("none.toml").to_str().unwrap(), "list"], b"");
    assert_eq!(went.code, 5);
    assert!(went.err.contains("none.toml") && went.err.contains("write operator.toml"), "{}", went.err);
}
