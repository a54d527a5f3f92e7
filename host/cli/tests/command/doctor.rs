//! The doctor, on whatever machine this is: its answers fit together, and it speaks where others refuse to start.

use crate::bench::{Bench, Went};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Output;

fn examined(bench: &Bench, more: &[&str]) -> (Value, i32) {
    let went = bench.run(&[&["doctor", "--json"], more].concat(), b"");
    assert!(went.err.is_empty(), "{}", went.err);
    (serde_json::from_str(&went.out).unwrap(), went.code)
}

fn states(document: &Value) -> BTreeMap<&str, &str> {
    let findings = document["findings"].as_array().unwrap();
    findings.iter().map(|one| (one["name"].as_str().unwrap(), one["state"].as_str().unwrap())).collect()
}

#[test]
fn the_end_is_what_the_needed_findings_say() {
    let bench = Bench::new();
    let (whole, _) = examined(&bench, &[]);
    let states = states(&whole);
    assert!(states.len() > 20, "{states:?}");
    // This process got as far as here, so whatever else there is, it could become unreadable.
    assert_eq!(states["unreadable-start"], "good");
    for name in states.keys() {
        let (document, code) = examined(&bench, &["--require", name]);
        let findings = document["findings"].as_array().unwrap();
        let needed: Vec<&Value> = findings.iter().filter(|one| one["needed"] == true).collect();
        assert!(needed.iter().any(|one| one["name"] == *name), "{name}");
        let any = |state: &str| needed.iter().any(|one| one["state"] == state);
        let expected = if any("lacking") {
            (1, "unfit")
        } else if any("unknown") {
            (2, "unclear")
        } else {
            (0, "fit")
        };
        assert_eq!((code, document["verdict"].as_str().unwrap()), expected, "{name}: {needed:?}");
    }
}

#[test]
fn people_see_a_line_for_each_check_and_what_to_do_about_what_is_not_good() {
    let bench = Bench::new();
    let (document, code) = examined(&bench, &[]);
    let Went { code: shown_code, out, err } = bench.run(&["doctor"], b"");
    assert_eq!((shown_code, err.as_str()), (code, ""), "{out}");
    let findings = document["findings"].as_array().unwrap();
    for one in findings {
        let name = one["name"].as_str().unwrap();
        assert!(out.lines().any(|line| line.starts_with(name)), "{name}: {out}");
        let to_do = one["remedy"].as_str().is_none_or(|remedy| out.contains(remedy));
        assert!(to_do && (one["state"] == "good") == one["remedy"].is_null(), "{one}");
    }
    assert!(out.lines().last().unwrap().contains("needed"), "{out}");
}

#[test]
fn a_check_that_is_none_is_refused_and_the_list_is_shown() {
    let bench = Bench::new();
    let went = bench.run(&["doctor", "--require", "yama,luck"], b"");
    assert!(went.code == 2 && went.out.is_empty(), "{}", went.out);
    assert!(went.err.contains("luck") && went.err.contains("secret-memory"), "{}", went.err);
}

#[test]
fn where_no_process_of_ours_starts_the_doctor_says_why() {
    let bench = Bench::new();
    // Tells the entry that this is a second start already, although it can be read like a first one.
    let start = |words: &[&str]| bench.command(words).env("BLINDFERRY_STARTED_FROM", "/nowhere").output().unwrap();
    let Output { status, stdout, .. } = start(&["list"]);
    assert!(status.code() == Some(5) && stdout.is_empty(), "a positive control: the entry refuses");
    let Output { status, stdout, .. } = start(&["doctor", "--json"]);
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((status.code(), states(&document)["unreadable-start"]), (Some(1), "lacking"));
    let found = document["findings"][0]["found"].as_str().unwrap();
    assert!(found.contains("still readable by others"), "{found}");
    // Its name behind another command is not enough.
    let Output { status, stdout, .. } = start(&["read", "doctor"]);
    assert!(status.code() == Some(5) && stdout.is_empty());
}

#[test]
fn a_limit_that_leaves_no_secret_memory_is_found() {
    let bench = Bench::new();
    let limited = |kib: &str| {
        let mut command = std::process::Command::new("setpriv");
        // Root has the capability to go past the limit, others have none to lose.
        command.args([
            "--bounding-set=-ipc_lock",
            "--inh-caps=-ipc_lock",
            "sh",
            "-c",
            &format!("ulimit -l {kib}; exec \"$@\""),
        ]);
        command.arg("sh").arg(bench.command(&[]).get_program()).args([
            "doctor",
            "--json",
            "--require",
            "secret-memory",
        ]);
        command.output().unwrap()
    };
    let [enough, nothing] = ["4096", "0"].map(limited);
    if !enough.status.success() && enough.stdout.is_empty() {
        println!("skipped: setpriv cannot give up capabilities here: {}", String::from_utf8_lossy(&enough.stderr));
        return;
    }
    let [enough, nothing]: [Value; 2] = [enough, nothing].map(|output| serde_json::from_slice(&output.stdout).unwrap());
    if states(&enough)["secret-memory"] != "good" {
        println!("skipped: this kernel has no secret memory");
        return;
    }
    assert_eq!((states(&enough)["locked-memory"], states(&nothing)["secret-memory"]), ("lacking", "lacking"));
}
