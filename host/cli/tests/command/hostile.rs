//! Files of an attacker: they steer no terminal, take no memory, and end with 2 where they are nothing.

use crate::bench::{Bench, Went};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::Value;
use std::fs;

const EVIL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}gpj.exe\u{200b}";

fn file(bench: &Bench, name: &str, bytes: &[u8]) -> String {
    fs::write(bench.path(name), bytes).unwrap();
    bench.path(name).to_str().unwrap().to_owned()
}

/// An IMA list with a file of this name.
fn ima(path: &str) -> Vec<u8> {
    let mut template = Vec::new();
    for field in [[&b"sha256:\0"[..], &[1; 32]].concat(), [path.as_bytes(), &[0]].concat()] {
        template.extend(u32::try_from(field.len()).unwrap().to_le_bytes());
        template.extend(field);
    }
    let mut out = 10u32.to_le_bytes().to_vec();
    out.extend(digest(&SHA1_FOR_LEGACY_USE_ONLY, &template).as_ref());
    for part in [b"ima-ng".as_slice(), &template] {
        out.extend(u32::try_from(part.len()).unwrap().to_le_bytes());
        out.extend(part);
    }
    out
}

/// A crypto-agile log whose loader measured this text.
fn event_log(text: &str) -> Vec<u8> {
    log_with(text.as_bytes(), digest(&SHA256, text.as_bytes()).as_ref())
}

/// A crypto-agile log with one event of a loader in PCR 8: this data, and this digest.
pub(crate) fn log_with(data: &[u8], sha256: &[u8]) -> Vec<u8> {
    let spec = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]].concat();
    let mut out = [&[0, 0, 0, 0, 3, 0, 0, 0][..], &[0; 20]].concat();
    out.extend(u32::try_from(spec.len()).unwrap().to_le_bytes());
    out.extend(spec);
    out.extend([8, 0, 0, 0, 0x0d, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0]);
    out.extend(sha256);
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

fn harmless(went: &Went) {
    for shown in [&went.out, &went.err] {
        let steering = shown.chars().find(|character| {
            (character.is_control() && *character != '\n') || matches!(character, '\u{200b}' | '\u{202e}')
        });
        assert_eq!(steering, None, "{shown:?}");
    }
}

#[test]
fn nothing_in_evidence_steers_the_terminal() {
    let bench = Bench::new();
    let files = [
        file(&bench, "ima", &ima(&format!("/usr/bin/{EVIL}"))),
        file(&bench, "log", &event_log(EVIL)),
        file(&bench, EVIL, &ima(EVIL)),
        file(&bench, "junk", EVIL.as_bytes()),
        file(&bench, "pem", format!("-----BEGIN CERTIFICATE-----\n{EVIL}\n-----END CERTIFICATE-----\n").as_bytes()),
        file(&bench, "policy", format!("version = \"{EVIL}\"").as_bytes()),
    ];
    for path in &files {
        for words in [&["verify"][..], &["explain"], &["verify", "--json"], &["explain", "--json"]] {
            harmless(&bench.run(&[&["attest"], words, &[path.as_str()]].concat(), b""));
        }
    }
    harmless(&bench.run(&["attest", "verify", "--policy", &files[5], &files[0]], b""));
    let told = bench.run(&["attest", "explain", &files[0]], b"");
    assert!(told.out.contains("\\u{1b}[2J"), "shown as an escape: {}", told.out);
    let told = bench.run(&["attest", "explain", "--json", &files[0]], b"");
    let document: Value = serde_json::from_str(&told.out).unwrap();
    let entry = document["files"][0]["says"][0]["says"]["first_entries"][0].as_str().unwrap();
    assert!(entry.ends_with(EVIL), "and whole for programs: {entry:?}");
}

#[test]
fn what_cannot_be_read_ends_with_2_and_says_why_and_what_to_do() {
    let bench = Bench::new();
    let long = bench.path("long");
    fs::File::create(&long).unwrap().set_len(8 * 1024 * 1024 + 1).unwrap();
    let cases = [
        (bench.path("nowhere").to_str().unwrap().to_owned(), "input-unreadable"),
        (bench.path("").to_str().unwrap().to_owned(), "input-unreadable"),
        (file(&bench, "empty", b""), "input-empty"),
        (file(&bench, "junk", b"what is this?"), "input-unknown"),
        (long.to_str().unwrap().to_owned(), "input-too-long"),
        ("/dev/zero".to_owned(), "input-too-long"),
        (format!("certificate={}", file(&bench, "text", b"plain")), "input-part"),
        (format!("evidence={}", file(&bench, "text", b"plain")), "input-part"),
        (file(&bench, "pcrs", &[7; 64]), "input-incomplete"),
    ];
    for (path, code) in cases {
        let went = bench.run(&["attest", "verify", &path], b"");
        assert_eq!((went.code, went.out.as_str()), (2, ""), "{path}");
        assert!(went.err.starts_with("blindferry: cannot judge") && went.err.contains("\ntry: "), "{}", went.err);
        let went = bench.run(&["attest", "verify", "--json", &path], b"");
        let document: Value = serde_json::from_str(&went.out).unwrap();
        assert_eq!(
            (went.code, &document["verdict"], &document["code"]),
            (2, &"unjudged".into(), &code.into()),
            "{path}"
        );
        assert_eq!((&document["kind"], &document["claims"]), (&Value::Null, &Value::Null));
    }
    let policy = file(&bench, "policy", b"nonsense = 1");
    let went = bench.run(&["attest", "verify", "--json", "--policy", &policy, "/dev/null"], b"");
    let document: Value = serde_json::from_str(&went.out).unwrap();
    assert_eq!((went.code, &document["code"]), (2, &"input-policy".into()));
}

#[test]
fn two_machines_in_one_judgement_are_told_apart() {
    let bench = Bench::new();
    let mut report = vec![0; 1184];
    (report[0], report[0x34]) = (2, 1);
    let report = file(&bench, "report", &report);
    let code = |words: &[&str]| {
        let went = bench.run(&[&["attest", "verify", "--json"], words].concat(), b"");
        let document: Value = serde_json::from_str(&went.out).unwrap();
        (went.code, document["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(code(&[&report, &report]), (2, "input-twice".to_owned()));
    let quote = file(&bench, "quote", &[b"\xffTCG\x80\x18".as_slice(), &[0; 60]].concat());
    assert_eq!(code(&[&report, &quote]), (2, "input-several".to_owned()));
}

#[test]
fn a_log_with_a_lie_in_its_data_is_refused_and_one_without_is_nobodys() {
    let bench = Bench::new();
    let judged = |bytes: &[u8]| {
        let path = file(&bench, "log", bytes);
        let went = bench.run(&["attest", "verify", "--json", &path], b"");
        let document: Value = serde_json::from_str(&went.out).unwrap();
        (went.code, document["code"].as_str().unwrap().to_owned())
    };
    // GRUB's word is not hashed, the rest is.
    let mut log = log_with(b"grub_cmd: boot\0", digest(&SHA256, b"boot").as_ref());
    assert_eq!(judged(&log), (2, "tpm-quote-missing".to_owned()));
    let last = log.len() - 2;
    log[last] ^= 1;
    assert_eq!(judged(&log), (1, "event-log-data".to_owned()));
    assert_eq!(judged(&log[..last]), (1, "event-log-truncated".to_owned()));
    let mut list = ima("/usr/bin/true");
    let last = list.len() - 3;
    list[last] ^= 1;
    assert_eq!(judged(&list), (1, "ima-log-template-digest".to_owned()));
}
