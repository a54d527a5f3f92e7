//! `check-config` for the command's own configuration; what the services say of theirs is asked of the whole.

use crate::bench::Bench;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_configuration_in_order_says_so_and_ends_with_0() {
    let bench = Bench::new();
    let config = bench.configured();
    bench.file("pins.toml", "");
    let went = bench.run(&["check-config", &config], b"");
    assert_eq!((went.code, went.err.as_str()), (0, ""), "{}", went.out);
    assert!(went.out.contains("in order"), "{}", went.out);
}

#[test]
fn what_is_wrong_has_a_place_a_cause_and_a_fix_in_both_forms() {
    let bench = Bench::new();
    let config = bench.configured();
    let text = fs::read_to_string(&config).unwrap();
    bench.file("operator.toml", &text.replace("vault_reference", "vault_refrence"));
    let went = bench.run(&["check-config", &config], b"");
    assert_eq!(went.code, 5);
    assert!(
        went.out.contains("line 3, column 1") && went.out.contains("= fix: write `vault_reference`"),
        "{}",
        went.out
    );
    let went = bench.run(&["--json", "check-config", &config], b"");
    let said: serde_json::Value = serde_json::from_str(&went.out).unwrap();
    assert_eq!(went.code, 5);
    let fault = &said[0]["faults"][0];
    assert_eq!((fault["line"].as_u64(), fault["column"].as_u64()), (Some(3), Some(1)), "{said}");
    assert_eq!(fault["severity"], "error");
    assert!(fault["cause"].as_str().unwrap().contains("`pins`"), "{said}");
}

#[test]
fn what_it_names_must_be_there_and_nobody_else_may_change_it() {
    let bench = Bench::new();
    let config = bench.configured();
    let went = bench.run(&["check-config", &config], b"");
    assert_eq!(went.code, 5);
    assert!(went.out.contains("pins.toml is not there") && went.out.contains("provision"), "{}", went.out);
    bench.file("pins.toml", "");
    fs::set_permissions(bench.path("pins.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let went = bench.run(&["check-config", &config], b"");
    assert_eq!(went.code, 0, "a warning: {}", went.out);
    assert!(went.out.contains("warning: others can change"), "{}", went.out);
}

#[test]
fn a_secret_in_a_configuration_is_refused_by_every_command_and_never_shown() {
    let bench = Bench::new();
    let config = bench.configured();
    let text = fs::read_to_string(&config).unwrap();
    for secret in ["password = \"hunter2\"", "# token = hunter2", "colour = \"ghp_0123456789hunter2abcd\""] {
        bench.file("operator.toml", &format!("{text}{secret}\n"));
        for words in [&["check-config", &config][..], &["--config", &config, "status"]] {
            let went = bench.run(words, b"");
            let told = went.out + &went.err;
            assert_eq!(went.code, 5, "{told}");
            assert!(told.contains("a secret, or what looks like one") && !told.contains("hunter2"), "{told}");
        }
    }
}

#[test]
fn a_file_of_another_name_needs_its_service_said() {
    let bench = Bench::new();
    let config = bench.configured();
    bench.file("pins.toml", "");
    fs::rename(&config, bench.path("mine.toml")).unwrap();
    let mine = bench.path("mine.toml");
    let went = bench.run(&["check-config", mine.to_str().unwrap()], b"");
    assert!(went.code == 2 && went.err.contains("try: say --service"), "{}", went.err);
    assert_eq!(bench.run(&["check-config", "--service", "operator", mine.to_str().unwrap()], b"").code, 0);
}
