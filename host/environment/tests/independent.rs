//! Would the names that other people's packages treat as secrets be left out?
//!
//! `data/independent.txt` was taken out of two packages by `data/independent.py`: from how they use a variable, not from
//! what it is called. The words below are those of the scanner detect-secrets 1.5.0 (Apache-2.0), its `KeywordDetector`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use blindferry_environment::{Listed, Policy, standing};

const INDEPENDENT: &str = include_str!("data/independent.txt");

/// What these packages treat as a secret and is none by itself: identifiers of accounts, addresses, names of users.
/// Nobody listed them either, so they are left out; but they pass by `--env`, without being called credentials.
const IDENTIFIERS: &[&str] =
    &["CLOVA_EMB_APP_ID", "SPARK_APP_ID", "WATSONX_INSTANCE_ID", "WATSONX_URL", "WATSONX_USERNAME"];

fn names() -> impl Iterator<Item = &'static str> {
    INDEPENDENT.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once("  ").unwrap().0)
}

#[test]
fn what_others_treat_as_secrets_are_credentials_here() {
    assert!(names().count() > 150);
    let missed: Vec<&str> = names().filter(|name| standing(name.as_bytes()).credential.is_none()).collect();
    assert_eq!(missed, IDENTIFIERS);
}

#[test]
fn none_of_them_passes_unasked_nor_with_everything_harmless() {
    let present = || names().map(|name| (name.into(), "x".into()));
    assert_eq!(Policy::default().select(present()).unwrap().environment().names().count(), 0);
    let mut policy = Policy::default();
    policy.pass_everything_harmless();
    let passed = policy.select(present()).unwrap();
    assert_eq!(passed.environment().names().collect::<Vec<_>>(), IDENTIFIERS);
}

#[test]
fn the_words_of_a_scanner_are_found() {
    let scanner = "API_KEY AUTH_KEY SERVICE_KEY ACCOUNT_KEY DB_KEY DATABASE_KEY PRIV_KEY PRIVATE_KEY CLIENT_KEY DB_PASS \
                   DATABASE_PASS KEY_PASS PASSWORD PASSWD SECRET";
    for word in scanner.split(' ') {
        for name in [word.to_owned(), word.replace('_', ""), format!("MY_{word}"), format!("{word}_2").to_lowercase()] {
            assert!(standing(name.as_bytes()).credential.is_some(), "{name}");
        }
    }
    // The scanner's `pwd` is the one word that every shell sets for something else.
    assert_eq!(standing(b"PWD").listed, Listed::Ordinary);
    assert!(standing(b"DB_PWD").credential.is_some());
}
