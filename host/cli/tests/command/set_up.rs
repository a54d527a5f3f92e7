//! `init` and `recover` against a played enclave, a shell script that speaks the set-up protocol.

use crate::bench::{Bench, Went, reference, vault_reference};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const KEY: &str = "RECOVERY-KEY-1234";

/// Says `reply` and the key, keeps what it was asked and told, and ends with `status`.
fn enclave(bench: &Bench, reply: &str, key: &str, status: u8) -> String {
    let (asked, told) = (bench.path("asked"), bench.path("told"));
    let reply = bench.file("reply", &format!("{reply}\n{key}"));
    let script =
        format!("echo \"$@\" > '{}'\ncat > '{}'\ncat '{reply}'\nexit {status}\n", asked.display(), told.display());
    bench.script("enclave", &script)
}

fn done() -> String {
    serde_json::json!({"done": {"vault_reference": vault_reference()}}).to_string()
}

fn refused(code: &str) -> String {
    serde_json::json!({"refused": {"code": code, "detail": "there is a vault already"}}).to_string()
}

fn init(bench: &Bench, enclave: &str, more: &[&str]) -> Went {
    let operator = format!("desk={}", "ab".repeat(32));
    let reference = bench.file("operators.toml", &reference("operator"));
    let (out, recovery) = (bench.path("out.toml"), bench.path("recovery"));
    let words = [
        &["init", "--enclave", "/etc/enclave.toml", "--enclave-program", enclave][..],
        &["--operator", &operator, "--operator-reference", &reference, "--pcrs", "0,7"],
        &["--reference-out", out.to_str().unwrap(), "--recovery-out", recovery.to_str().unwrap()],
        more,
    ];
    bench.run(&words.concat(), b"")
}

#[test]
fn a_new_vault_leaves_its_reference_and_its_recovery_key() {
    let bench = Bench::new();
    let enclave = enclave(&bench, &done(), &format!("{KEY}\n"), 0);
    let went = init(&bench, &enclave, &[]);
    assert_eq!(went.code, 0, "{}", went.err);
    assert_eq!(fs::read_to_string(bench.path("asked")).unwrap(), "init --config /etc/enclave.toml\n");
    let order: serde_json::Value = serde_json::from_slice(&fs::read(bench.path("told")).unwrap()).unwrap();
    assert_eq!(order["operator"]["name"], "desk");
    assert_eq!(order["pcrs"], serde_json::json!([0, 7]));
    assert_eq!(fs::read_to_string(bench.path("out.toml")).unwrap(), vault_reference());
    assert_eq!(fs::read_to_string(bench.path("recovery")).unwrap(), format!("{KEY}\n"));
    assert_eq!(fs::metadata(bench.path("recovery")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(went.err.contains("shows it again") || went.err.contains("show it again"), "{}", went.err);
    assert!(!went.out.contains(KEY) && !went.err.contains(KEY));
}

#[test]
fn with_json_there_is_one_document_and_no_key_in_it() {
    let bench = Bench::new();
    let enclave = enclave(&bench, &done(), &format!("{KEY}\n"), 0);
    let went = init(&bench, &enclave, &["--json"]);
    let document: serde_json::Value = serde_json::from_str(&went.out).unwrap();
    assert_eq!(document["initialised"], true);
    assert_eq!(document["recovery_key_file"], bench.path("recovery").to_str().unwrap());
    assert!(!went.out.contains(KEY));
}

#[test]
fn a_vault_that_exists_is_said_and_nothing_changes() {
    let bench = Bench::new();
    bench.file("out.toml", &vault_reference());
    let enclave = enclave(&bench, &refused("exists"), "", 1);
    let went = init(&bench, &enclave, &[]);
    assert_eq!(went.code, 1, "{}", went.err);
    assert!(went.err.contains("there is a vault already") && went.err.contains("nothing was changed"), "{}", went.err);
    assert_eq!(fs::read_to_string(bench.path("out.toml")).unwrap(), vault_reference());
    for gone in ["recovery", "recovery.new", "out.toml.new"] {
        assert!(!bench.path(gone).exists(), "{gone}");
    }
}

#[test]
fn a_success_that_is_said_and_not_meant_does_not_count() {
    let bench = Bench::new();
    for (reply, key, status) in [
        (done(), format!("{KEY}\n"), 1),
        (done(), String::new(), 0),
        (String::new(), String::new(), 0),
        ("nonsense".to_owned(), String::new(), 0),
    ] {
        let enclave = enclave(&bench, &reply, &key, status);
        let went = init(&bench, &enclave, &[]);
        assert_eq!(went.code, 5, "{reply} {status}: {}", went.err);
        assert!(!bench.path("out.toml").exists() && !bench.path("recovery").exists());
        assert!(!went.err.contains(KEY));
    }
}

#[test]
fn a_key_that_nobody_would_see_is_not_made() {
    let bench = Bench::new();
    let enclave = enclave(&bench, &done(), &format!("{KEY}\n"), 0);
    let reference = bench.file("operators.toml", &reference("operator"));
    let (operator, out) = (format!("desk={}", "ab".repeat(32)), bench.path("out.toml"));
    let words = [
        &["init", "--enclave", "/x", "--enclave-program", &enclave, "--operator", &operator][..],
        &["--operator-reference", &reference, "--reference-out", out.to_str().unwrap()],
    ];
    let went = bench.run(&words.concat(), b"");
    assert_eq!(went.code, 2, "{}", went.err);
    assert!(went.err.contains("--recovery-out") && !bench.path("asked").exists(), "{}", went.err);
}

#[test]
fn starting_over_is_confirmed_and_passed_on() {
    let bench = Bench::new();
    let enclave = enclave(&bench, &done(), &format!("{KEY}\n"), 0);
    let went = init(&bench, &enclave, &["--force"]);
    assert_eq!(went.code, 2, "{}", went.err);
    assert!(!bench.path("asked").exists());
    let went = init(&bench, &enclave, &["--force", "--yes"]);
    assert_eq!(went.code, 0, "{}", went.err);
    assert_eq!(fs::read_to_string(bench.path("asked")).unwrap(), "init --config /etc/enclave.toml --force\n");
}

#[test]
fn an_earlier_recovery_key_is_not_overwritten() {
    let bench = Bench::new();
    bench.file("recovery", "the old one\n");
    let enclave = enclave(&bench, &done(), &format!("{KEY}\n"), 0);
    let went = init(&bench, &enclave, &[]);
    assert_eq!(went.code, 0, "{}", went.err);
    assert_eq!(fs::read_to_string(bench.path("recovery")).unwrap(), "the old one\n");
    assert_eq!(fs::read_to_string(bench.path("recovery.new")).unwrap(), format!("{KEY}\n"));
    assert!(went.err.contains("recovery.new"), "{}", went.err);
}

#[test]
fn reference_values_for_the_wrong_role_are_found_before_anything_is_made() {
    let bench = Bench::new();
    let enclave = enclave(&bench, &done(), &format!("{KEY}\n"), 0);
    let wrong = bench.file("brokers.toml", &reference("operator"));
    let went = init(&bench, &enclave, &["--broker-reference", &wrong]);
    assert_eq!(went.code, 5, "{}", went.err);
    assert!(went.err.contains("broker") && !bench.path("asked").exists(), "{}", went.err);
}

#[test]
fn recovering_sends_the_key_and_the_order_and_keeps_the_new_reference() {
    let bench = Bench::new();
    let enclave = enclave(&bench, &done(), "", 0);
    let out = bench.path("out.toml");
    let words = ["recover", "--enclave", "/x", "--enclave-program", &enclave, "--reference-out", out.to_str().unwrap()];
    let went = bench.run(&words, format!("{KEY}\n").as_bytes());
    assert_eq!(went.code, 0, "{}", went.err);
    let told = fs::read_to_string(bench.path("told")).unwrap();
    let (key, order) = told.split_once('\n').unwrap();
    assert_eq!(key, KEY);
    let order: serde_json::Value = serde_json::from_str(order).unwrap();
    assert_eq!(order["pcrs"], serde_json::json!([0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(fs::read_to_string(&out).unwrap(), vault_reference());
    assert!(!went.out.contains(KEY) && !went.err.contains(KEY));
    let went = bench.run(&words, b"");
    assert_eq!(went.code, 5, "{}", went.err);
    assert!(went.err.contains("cannot take the recovery key"), "{}", went.err);
}
