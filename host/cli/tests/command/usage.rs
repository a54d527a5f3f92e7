//! The command line: help, ends, and what is never repeated.

use crate::bench::{Bench, Went};
use serde_json::Value;
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

/// Commands whose output is another program's, so that there is no document of this one but of what it would do.
const PROGRAMS: &[&[&str]] = &[&["run"], &["env"], &["read"]];

/// Every command that has none below it, as the help lists them.
fn leaves(bench: &Bench, words: &[String]) -> Vec<Vec<String>> {
    let asked: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let help = bench.run(&asked, b"").out;
    let Some((_, listed)) = help.split_once("\nCommands:\n") else {
        assert!(help.contains("--json"), "{words:?}");
        return vec![words.to_vec()];
    };
    let names = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next()?;
        (name != "help").then(|| [words, &[name.to_owned()]].concat())
    });
    names.flat_map(|below| leaves(bench, &below)).collect()
}

#[test]
fn with_json_every_command_answers_by_a_document_however_it_ends() {
    let bench = Bench::new();
    let leaves = leaves(&bench, &[]);
    assert!(leaves.len() > 40, "{leaves:?}");
    let configuration = bench.configured();
    bench.script("device", "exit 1\n"); // rather than wait for what it never says
    for leaf in &leaves {
        let words: Vec<&str> = leaf.iter().map(String::as_str).collect();
        // As it is, and with words that mean nothing to it: most of these fail, each in its own way.
        for further in [&[][..], &["nothing-of-that-name", "--", "true"]] {
            let asked = [&["--json", "--config", &configuration], &words[..], further].concat();
            let mut command = bench.command(&asked);
            let output = command.current_dir(bench.path(".")).stdin(Stdio::null()).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            let went = Went { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
            let is_program = PROGRAMS.contains(&words.as_slice());
            if went.code == 0 {
                assert!(is_program || whole(&went.out), "{words:?} {further:?}: {}", went.out);
                continue;
            }
            let error = went.err.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
            match error {
                Some(error) => {
                    let error = &error["error"];
                    assert_eq!(error["exit"], went.code, "{words:?} {further:?}: {error}");
                    assert!(error["problem"].as_str().is_some_and(|problem| problem.len() > 3), "{words:?}: {error}");
                }
                // A verdict: the document is on standard output, and what it says is not good.
                None => assert!(whole(&went.out), "{words:?} {further:?}: {} {}", went.out, went.err),
            }
            assert!(went.out.is_empty() || whole(&went.out) || is_program, "{words:?} {further:?}: {}", went.out);
        }
    }
}

fn whole(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok()
}

#[test]
fn without_json_a_failure_is_lines_for_people() {
    let bench = Bench::new();
    let went = bench.run(&["status", "--config", "/nonexistent/operator.toml"], b"");
    assert!(went.err.starts_with("blindferry: ") && went.err.contains("\ntry: "), "{}", went.err);
    let went = bench.run(&["status", "--json", "--config", "/nonexistent/operator.toml"], b"");
    let told: Value = serde_json::from_str(&went.err).unwrap();
    assert_eq!(told["error"]["problem"], "cannot use the configuration");
    assert!(told["error"]["fix"].as_str().unwrap().contains("check-config"), "{told}");
}
