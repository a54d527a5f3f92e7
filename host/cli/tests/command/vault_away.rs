//! What happens when vault, broker or file are not as they should be.

use crate::bench::{Bench, reference};

#[test]
fn a_vault_that_is_not_there_ends_with_3_and_shows_no_secret() {
    let bench = Bench::new();
    let config = bench.configured();
    for words in [&["status"][..], &["list"], &["put", "deploy", "--kind", "release"]] {
        let went = bench.run(&[&["--config", &config], words].concat(), b"hunter2\n");
        assert_eq!((went.code, went.out.as_str()), (3, ""), "{words:?}: {}", went.err);
        assert!(
            went.err.contains("cannot reach the vault at 127.0.0.1:") && went.err.contains("try: "),
            "{}",
            went.err
        );
        assert!(!went.err.contains("hunter2"));
    }
}

#[test]
fn an_empty_or_too_long_master_is_refused_before_anything_is_sent() {
    let bench = Bench::new();
    let config = bench.configured();
    let words = ["--config", &config, "put", "deploy", "--kind", "release"];
    for (input, why) in [(Vec::new(), "empty"), (b"\n".to_vec(), "empty"), (vec![b'x'; 16 * 1024 + 1], "longer than")] {
        let went = bench.run(&words, &input);
        assert_eq!(went.code, 5, "{}", went.err);
        assert!(went.err.contains("cannot take the master") && went.err.contains(why), "{}", went.err);
    }
}

#[test]
fn a_master_comes_from_an_inherited_descriptor_or_not_at_all() {
    let bench = Bench::new();
    let config = bench.configured();
    let words = ["--config", &config, "put", "deploy", "--kind", "release", "--from-fd", "9"];
    let went = bench.run(&words, b"not this one\n");
    assert_eq!(went.code, 5, "{}", went.err);
    assert!(went.err.contains("no descriptor 9 was inherited"), "{}", went.err);
    // With one, it gets as far as the vault.
    let secret = bench.file("secret", "hunter2");
    let shell = format!("exec \"$0\" \"$@\" 9<'{secret}'");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &shell, env!("CARGO_BIN_EXE_blindferry")]).args(words);
    let went = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(went.status.code(), Some(3), "{}", String::from_utf8_lossy(&went.stderr));
}

#[test]
fn reference_values_with_a_mistake_never_reach_the_vault() {
    let bench = Bench::new();
    let config = bench.configured();
    let file = bench.file("wrong.toml", &reference("broker").replace("firmware", "fermware"));
    let went = bench.run(&["--config", &config, "reference", "apply", &file], b"");
    assert_eq!(went.code, 5, "{}", went.err);
    assert!(went.err.contains("fermware") || went.err.contains("firmware"), "{}", went.err);
}

#[test]
fn a_broker_that_is_not_there_ends_with_3() {
    let bench = Bench::new();
    for words in [&["run", "--credential", "a", "--", "true"][..], &["read", "a"]] {
        let mut command = bench.command(words);
        command.env("BLINDFERRY_PARENTS", bench.path("parents.sock"));
        let went = command.output().unwrap();
        let told = String::from_utf8(went.stderr).unwrap();
        assert_eq!(went.status.code(), Some(3), "{told}");
        assert!(told.contains("cannot get a grant from the broker") && told.contains("BLINDFERRY_PARENTS"), "{told}");
        assert!(went.stdout.is_empty());
    }
}

#[test]
fn an_export_that_is_none_does_not_verify() {
    let bench = Bench::new();
    let config = bench.configured();
    let file = bench.file("audit.jsonl", "{\"body\":\"00\",\"path\":[],\"signature\":\"00\"}\n");
    let went = bench.run(&["--config", &config, "audit", "verify", &file], b"");
    assert_eq!(went.code, 6, "{}", went.err);
    let went = bench.run(&["--config", &config, "--json", "audit", "verify", &file], b"");
    assert_eq!(went.code, 6, "{}", went.err);
    assert!(went.out.contains("\"verified\": false"), "{}", went.out);
    let empty = bench.file("empty.jsonl", "");
    assert_eq!(bench.run(&["--config", &config, "audit", "verify", &empty], b"").code, 5);
}
