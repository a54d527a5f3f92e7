//! Refusal codes are an interface: each means one thing, for ever, reads the same everywhere, and is documented.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use blindferry_attest::{azure, snp};

/// The codes of every `code()` under `src`, where each is the arm of a `match`.
fn codes() -> Vec<String> {
    let mut sources = Vec::new();
    read_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let with_codes = sources.iter().filter_map(|source| source.split_once("fn code("));
    let lines = with_codes.flat_map(|(_, after)| after.lines()).filter(|line| line.trim_start().starts_with("Self::"));
    let codes = lines.filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\","));
    codes.filter(|code| code.contains('-')).map(str::to_owned).collect()
}

fn read_below(folder: &Path, sources: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            read_below(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// The rows of the page of refusals that are about judgements: code, what it is about, what to do.
fn documented() -> Vec<(String, String, String)> {
    let (page, _) = include_str!("../../../docs/refusals.md").split_once("\n## Beside judgements\n").unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let row = |cells: Vec<&str>| match cells.as_slice() {
        [code, about, remedy] => (code.trim_matches('`').to_owned(), (*about).to_owned(), (*remedy).to_owned()),
        other => panic!("a row of {} cells: {other:?}", other.len()),
    };
    cells.map(row).collect()
}

#[test]
fn every_code_is_unique() {
    let codes = codes();
    assert!(codes.len() > 200, "only {} codes found: the search is broken", codes.len());
    let mut seen = BTreeSet::new();
    for code in codes {
        assert!(seen.insert(code.clone()), "{code} has two meanings");
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

#[test]
fn every_code_is_on_the_page_of_refusals_with_what_it_means_and_what_to_do() {
    let rows = documented();
    let listed: BTreeSet<String> = rows.iter().map(|(code, ..)| code.clone()).collect();
    assert_eq!(listed.len(), rows.len(), "a code stands on the page twice");
    let codes: BTreeSet<String> = codes().into_iter().collect();
    let missing: Vec<_> = codes.difference(&listed).collect();
    let made_up: Vec<_> = listed.difference(&codes).collect();
    assert!(missing.is_empty() && made_up.is_empty(), "missing: {missing:?}; made up: {made_up:?}");
    for (code, about, remedy) in rows {
        assert!(about.len() > 3 && remedy.len() > 3, "{code} says nothing");
    }
}

#[test]
fn the_page_of_refusals_says_what_the_program_says() {
    let rows = documented();
    let page: BTreeMap<&str, (&str, &str)> =
        rows.iter().map(|(code, about, remedy)| (code.as_str(), (about.as_str(), remedy.as_str()))).collect();
    let of_snp = snp::Question::ALL.map(|question| (question.code(), (question.name(), question.advice())));
    let of_azure = azure::Question::ALL.map(|question| (question.code(), (question.name(), question.advice())));
    for (code, words) in of_snp.into_iter().chain(of_azure) {
        assert_eq!(page.get(code), Some(&words), "{code}");
    }
    // None is left out of `ALL`, and they stand on the page in the order in which they are asked.
    let order = |prefix: &str| codes().into_iter().filter(|code| code.starts_with(prefix)).count();
    assert_eq!((order("snp-") - order("snp-table-"), order("azure-")), (of_snp.len(), of_azure.len()));
    let on_page: Vec<_> = rows.iter().map(|(code, ..)| code.as_str()).collect();
    let asked: Vec<_> = of_snp.iter().map(|(code, _)| *code).collect();
    assert!(on_page.windows(asked.len()).any(|window| window == asked));
}
