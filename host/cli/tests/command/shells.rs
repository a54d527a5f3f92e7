//! Completions in real shells, and manual pages under the tools that read them.

use crate::bench::Bench;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether a tool is missing; a line says so, and that the test shows nothing.
fn missing(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
    let missing = !found.unwrap().success();
    if missing {
        println!("skipped: {tool} is not installed");
    }
    missing
}

#[test]
fn bash_completes_commands_and_options() {
    let bench = Bench::new();
    let script = bench.file("completions.bash", &bench.run(&["completions", "bash"], b"").out);
    let completed = |line: &str, word: &str, before: &str| {
        let words = line.split(' ').count();
        let ask = format!(
            ". {script}; COMP_WORDS=({line} {word}); COMP_CWORD={words}; _blindferry blindferry '{word}' {before}; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed("blindferry", "che", "blindferry"), ["check-config"]);
    assert_eq!(completed("blindferry host", "ap", "host"), ["approve"]);
    assert_eq!(completed("blindferry completions", "f", "completions"), ["fish"]);
    assert!(completed("blindferry host approve", "--cert", "approve").contains(&"--certified".to_owned()));
    assert_eq!(completed("blindferry", "nothing-begins-so", "blindferry"), [""], "positive control");
}

#[test]
fn zsh_and_fish_accept_their_completions() {
    let bench = Bench::new();
    for shell in ["zsh", "fish"] {
        let script = bench.file(&format!("completions.{shell}"), &bench.run(&["completions", shell], b"").out);
        assert!(bench.run(&["completions", shell, "--json"], b"").out.contains("\"script\""));
        if missing(shell) {
            continue;
        }
        let parses =
            |path: &str| Command::new(shell).args(["-n", path]).stderr(Stdio::null()).status().unwrap().success();
        assert!(parses(&script), "{shell}");
        let broken = bench.file("broken", "if true\n");
        assert!(!parses(&broken), "positive control: {shell} tells");
    }
}

#[test]
fn every_command_has_a_manual_page_without_a_fault() {
    let bench = Bench::new();
    let directory = bench.path("man1");
    let went = bench.run(&["man", directory.to_str().unwrap()], b"");
    assert_eq!(went.code, 0, "{}", went.err);
    let pages: Vec<_> = went.out.lines().collect();
    for page in ["blindferry.1", "blindferry-check-config.1", "blindferry-host-approve.1", "blindferry-audit-verify.1"]
    {
        assert!(pages.contains(&page), "{page}: {pages:?}");
    }
    if missing("mandoc") {
        return;
    }
    let faults = |path: &Path| {
        let output = Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for page in pages {
        assert_eq!(faults(&directory.join(page)), "", "{page}");
    }
    let broken = bench.file("broken.1", ".TH broken 1\n.nosuch macro\n");
    assert!(!faults(Path::new(&broken)).is_empty(), "positive control: the tool tells");
}
