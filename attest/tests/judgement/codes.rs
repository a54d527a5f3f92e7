//! Refusal codes are an interface: each means one thing, for ever, and reads the same everywhere.

use std::collections::BTreeSet;

/// The files with a `code()`; its `match` is exhaustive, so every variant of every error has a line here.
const SOURCES: [&str; 7] = [
    include_str!("../../src/binder.rs"),
    include_str!("../../src/evidence.rs"),
    include_str!("../../src/refusal.rs"),
    include_str!("../../src/snp/question.rs"),
    include_str!("../../src/endorsement.rs"),
    include_str!("../../src/endorsement/refusal.rs"),
    include_str!("../../src/reference/refusal.rs"),
];

fn codes() -> Vec<&'static str> {
    SOURCES
        .iter()
        .flat_map(|source| source.lines())
        .filter(|line| line.trim_start().starts_with("Self::"))
        .filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\","))
        .collect()
}

#[test]
fn every_code_is_unique() {
    let codes: Vec<_> = codes().into_iter().filter(|code| code.contains('-')).collect();
    assert!(codes.len() > 60, "only {} codes found: the search is broken", codes.len());
    let mut seen = BTreeSet::new();
    for code in codes {
        assert!(seen.insert(code), "{code} has two meanings");
    }
}

#[test]
fn every_code_is_kebab_case() {
    for code in codes() {
        let words: Vec<_> = code.split('-').collect();
        let fine = |word: &&str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        assert!(words.iter().all(fine), "{code}");
    }
}
