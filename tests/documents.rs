//! Do the documents hold together: do links lead somewhere, do numbers and functions exist, is each code explained?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_tests::sources::{Source, file, files, has_word};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

#[test]
fn each_link_leads_to_a_file_and_to_a_heading_in_it() {
    let pages = files(&[".md"]);
    let headings: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_str(), anchors(&page.text))).collect();
    let mut followed = 0;
    let mut broken = Vec::new();
    for page in &pages {
        for link in links(&page.text).into_iter().filter(|link| !link.contains("://")) {
            followed += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if path.is_empty() { page.path.clone() } else { beside(&page.path, path) };
            let there = file_or_folder(&target);
            let heading = anchor.is_empty() || headings.get(target.as_str()).is_some_and(|all| all.contains(anchor));
            if !there || !heading {
                broken.push(format!("{}: {link}", page.path));
            }
        }
    }
    assert!(followed > 150, "{followed} links were followed");
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(!headings["docs/threats.md"].contains("made-up") && !file_or_folder("docs/made-up.md"));
}

#[test]
fn each_function_on_the_road_through_the_code_exists() {
    let architecture = file("docs/architecture.md").text;
    let (_, road) = architecture.split_once("\n## The road through the code\n").unwrap();
    let (road, _) = road.split_once("\n## ").unwrap();
    let named: Vec<(&str, &str)> = quoted(road).filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > 100, "{} functions were found", named.len());
    let missing: Vec<_> = named.into_iter().filter(|(path, name)| !has_function(path, name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(!has_function("tests/documents.rs", "a_function_that_nobody_wrote"));
    for step in ["provision", "enrol", "put", "ask", "grant", "redeem", "parcel", "open", "renew", "audit"] {
        assert!(road.contains(&format!("\n| {step} |")), "{step} is a step");
    }
}

#[test]
fn each_number_of_the_threat_model_is_defined_once_and_each_that_is_named_exists() {
    let model = file("docs/threat-model.md").text;
    let threats = file("docs/threats.md").text;
    let mut defined: BTreeSet<String> = BTreeSet::new();
    let rows = model.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let items = threats.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(". "));
    for (number, _) in rows.chain(items).filter(|(number, _)| is_number(number)) {
        assert!(defined.insert(number.to_owned()), "{number} is defined twice");
    }
    for (letter, least) in [('A', 10), ('B', 10), ('M', 20), ('O', 15), ('U', 20)] {
        let count = defined.iter().filter(|number| number.starts_with(letter)).count();
        assert!(count >= least, "{count} of {letter}");
    }
    for undefended in defined.iter().filter(|number| number.starts_with('U')) {
        assert!(has_word(&model, undefended), "{undefended} is left at no boundary");
    }
    for boundary in defined.iter().filter(|number| number.starts_with('B')) {
        assert!(model.contains(&format!("\n### {boundary}: ")), "{boundary} has no threats");
    }
    for page in files(&[".md"]).iter().filter(|page| page.path.starts_with("docs/")) {
        // Elsewhere letter and figure may be something else; a U is always one of ours.
        let ours = |word: &&str| is_number(word) && (page.path == "docs/threat-model.md" || word.starts_with('U'));
        let unknown: Vec<_> = words(&page.text).filter(ours).filter(|number| !defined.contains(*number)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", page.path);
    }
}

#[test]
fn each_code_beside_those_of_judgements_is_on_the_page_of_refusals() {
    let page = file("docs/refusals.md").text;
    let (judgements, beside) = page.split_once("\n## Beside judgements\n").unwrap();
    let rows = |text: &str| -> Vec<(String, bool)> {
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        rows.map(|(code, rest)| (code.to_owned(), rest.trim_matches('|').split('|').all(|c| c.trim().len() > 3)))
            .collect()
    };
    let listed: BTreeSet<String> = rows(beside).iter().map(|(code, _)| code.clone()).collect();
    assert_eq!(listed.len(), rows(beside).len(), "a code stands there twice");
    for (code, says_something) in rows(beside) {
        assert!(says_something, "{code} says nothing");
    }
    let judged: BTreeSet<String> = rows(judgements).into_iter().map(|(code, _)| code).collect();
    let found: BTreeSet<String> = CODES.iter().flat_map(|path| codes_of(&file(path))).collect();
    assert!(found.len() > 120, "{} codes were found", found.len());
    let missing: Vec<_> = found.iter().filter(|code| !listed.contains(*code) && !judged.contains(*code)).collect();
    let made_up: Vec<_> = listed.difference(&found).collect();
    assert!(missing.is_empty() && made_up.is_empty(), "missing: {missing:?}; made up: {made_up:?}");
}

/// Files that say codes, beside the crate `attest`, which compares its own.
const CODES: &[&str] = &[
    "attest/device/src/client/error.rs",
    "attest/device/src/refusal.rs",
    "attest/session/src/asked.rs",
    "attest/session/src/channel.rs",
    "attest/session/src/server/error.rs",
    "attest/src/tpm/examine.rs",
    "attest/src/endorsement/examine.rs",
    "enclave/vault/src/admission.rs",
    "enclave/vault/src/mint.rs",
    "enclave/vault/src/mint/key.rs",
    "enclave/vault/src/mint/oauth/answer.rs",
    "enclave/vault/src/mint/settings.rs",
    "enclave/vault/src/policy.rs",
    "enclave/vault/src/session.rs",
    "enclave/vault/src/session/challenge.rs",
    "enclave/vault/src/upstream.rs",
    "host/cli/src/attest/input.rs",
    "host/cli/src/attest/judge.rs",
    "host/cli/src/attest/judge/logs.rs",
    "proto/src/refusal.rs",
];

/// What stands before a code, wherever one is made.
const BEFORE: &[&str] = &[
    "code: \"",
    "because(\"",
    "with_leases(\"",
    "turn_away(claimed, \"",
    "return Err((\"",
    "|| (\"",
    "|why| (\"",
    "Some(\"",
    "Unjudged(\"",
    "LATE: &str = \"",
];

/// The codes that a file makes: the arms of `fn code` and `fn as_str`, and what stands behind one of [`BEFORE`].
fn codes_of(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut inside = None;
    for line in source.production().lines().filter(|line| !line.trim_start().starts_with("//")) {
        let indent = line.len() - line.trim_start().len();
        if line.contains("fn code(") || line.contains("fn as_str(") {
            inside = Some(indent);
        } else if inside == Some(indent) && line.trim() == "}" {
            inside = None;
        }
        let arm = inside.and_then(|_| line.split_once(" => \"")?.1.strip_suffix("\","));
        let others = BEFORE.iter().filter_map(|before| line.split_once(before)?.1.split('"').next());
        // A count's name is no code.
        let others = others.filter(|word| !word.contains('_'));
        let fits = |word: &&str| {
            !word.is_empty() && word.bytes().all(|b| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        found.extend(arm.into_iter().chain(others).filter(fits).map(str::to_owned));
    }
    found
}

/// Where the links of a page lead, code aside.
fn links(text: &str) -> Vec<String> {
    let prose: String = outside_fences(text).map(|line| format!("{line}\n")).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a page's headings, as they are made from their text.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        outside_fences(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let lower = heading.to_lowercase();
        let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

fn outside_fences(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// A path beside a page, without the steps up in it.
fn beside(page: &str, path: &str) -> String {
    let mut whole = PathBuf::from(page);
    whole.pop();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => assert!(whole.pop(), "{page}: {path} leads out of the project"),
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    whole.to_str().unwrap().to_owned()
}

fn file_or_folder(path: &str) -> bool {
    blindferry_tests::sources::root().join(path).exists()
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn has_function(path: &str, name: &str) -> bool {
    file_or_folder(path)
        && file(path).code().any(|line| {
            line.contains("fn ")
                && [format!("fn {name}("), format!("fn {name}<")].iter().any(|start| line.contains(start))
        })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
}

/// `A1`, `M27`, … A figure, such as the size of a key, is none.
fn is_number(word: &str) -> bool {
    let mut rest = word.chars();
    let letter = rest.next().is_some_and(|first| "ABMOU".contains(first));
    letter && (2..=3).contains(&word.len()) && rest.all(|c| c.is_ascii_digit())
}
