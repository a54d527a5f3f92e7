//! Is the house itself in order: who may depend on whom, where `unsafe` is, what documents and lints promise?

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use blindferry_tests::sources::{Source, TypeDefinition, file, files, has_word, root, rust};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[test]
fn each_package_depends_on_what_the_table_says_and_on_nothing_that_it_forbids() {
    let packages = packages();
    let table = dependency_table();
    let listed: BTreeSet<&str> = table.keys().map(String::as_str).chain(["tests"]).collect();
    assert_eq!(listed, packages.keys().map(String::as_str).collect(), "the table lists the workspace");
    for (folder, row) in &table {
        let package = &packages[folder];
        assert_eq!(package.ours, row.ours, "what {folder} names of ours");
        let tree = tree(&package.name);
        for never in &row.never {
            assert!(!is_in(&tree, never), "{folder} has {never} in its tree");
        }
    }
}

#[test]
fn what_is_dangerous_in_a_tree_is_in_few_trees() {
    // Independent of the table, so that a row that was loosened with its package is noticed.
    let only: [(&str, &[&str]); 5] = [
        ("tss-esapi", &["attest/device/tpm"]),
        ("axum", &["enclave/front"]),
        ("redb", &["enclave/front"]),
        ("cedar-policy", &["enclave/vault"]),
        ("openssl", &[]),
    ];
    let without_runtime = ["proto", "proto/handle", "attest", "host/worker", "host/parent", "host/launch"];
    for (folder, package) in packages().into_iter().filter(|(folder, _)| folder != "tests") {
        let tree = tree(&package.name);
        for (name, allowed) in only {
            assert_eq!(is_in(&tree, name), allowed.contains(&folder.as_str()), "{name} under {folder}");
        }
        assert!(!(without_runtime.contains(&folder.as_str()) && is_in(&tree, "tokio")), "tokio under {folder}");
        assert!(!tree.contains("blindferry-tests"), "{folder} depends on its tests");
    }
}

#[test]
fn unsafe_code_is_in_one_crate() {
    let token = file("host/worker/src/token.rs");
    assert!(token.text.contains("pub struct Token") && token.text.contains("pub fn expose<R>(&self"));
    for folder in packages().into_keys() {
        let manifest: toml::Table = file(&format!("{folder}/Cargo.toml")).text.parse().unwrap();
        let inherits = manifest["lints"].get("workspace").is_some_and(|inherited| inherited.as_bool() == Some(true));
        assert_eq!(inherits, folder != "proto/handle", "the lints of {folder}");
    }
    let workspace: toml::Table = file("Cargo.toml").text.parse().unwrap();
    assert_eq!(workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    let has = |source: &Source| source.code().any(|line| words.iter().any(|word| line.contains(word)));
    let (inside, outside): (Vec<Source>, Vec<Source>) = rust()
        .into_iter()
        .filter(|source| source.path != "tests/house.rs")
        .partition(|s| s.path.starts_with("proto/handle/"));
    assert!(inside.iter().any(has), "the search finds what there is");
    for source in outside {
        assert!(!has(&source), "{} has unsafe code", source.path);
    }
}

#[test]
fn each_threat_and_each_promise_names_a_test_that_exists() {
    let sources: BTreeMap<String, Source> = rust().into_iter().map(|source| (source.path.clone(), source)).collect();
    let exists = |(path, name): &(String, String)| sources.get(path).is_some_and(|source| source.has_test(name));
    let mut promises = BTreeSet::new();
    let mut rows = 0;
    for cells in rows_of(&file("docs/threats.md").text, "| threat | defence | test |") {
        rows += 1;
        let [threat, _, tests] = cells.as_slice() else { panic!("a row of {} cells: {cells:?}", cells.len()) };
        let named = tests_named_in(tests);
        assert!(!named.is_empty(), "no test keeps: {threat}");
        let missing: Vec<_> = named.iter().filter(|test| !exists(test)).collect();
        assert!(missing.is_empty(), "{missing:?} of: {threat}");
        promises.extend(threat.split_once(". ").and_then(|(number, _)| number.parse::<u8>().ok()));
    }
    assert!(rows > 60, "{rows} rows were found");
    assert_eq!(promises, (1..=10).collect(), "each promise has a row");
    let [made_up, no_test] =
        ["a_test_that_nobody_wrote", "tree"].map(|name| ("tests/house.rs".to_owned(), name.to_owned()));
    assert!(!exists(&made_up) && !exists(&no_test), "a name that is none is noticed");
}

#[test]
fn what_holds_a_secret_is_neither_copied_nor_compared_nor_serialised_nor_printed() {
    let mut crates: BTreeMap<String, Vec<(String, TypeDefinition)>> = BTreeMap::new();
    for source in rust() {
        let (krate, _) = source.path.split_once("/src/").unwrap_or(("", ""));
        let types = source.types().into_iter().map(|one| (source.path.clone(), one));
        crates.entry(krate.to_owned()).or_default().extend(types);
    }
    let mut holders = BTreeSet::new();
    for types in crates.values() {
        let mut secret: BTreeSet<String> = SECRET.iter().map(|name| (*name).to_owned()).collect();
        loop {
            let holds = |one: &TypeDefinition| secret.iter().any(|name| owns(&one.body, name));
            let more: Vec<&String> = types.iter().filter(|(_, one)| holds(one)).map(|(_, one)| &one.name).collect();
            let before = secret.len();
            let found: Vec<String> = more.into_iter().cloned().collect();
            secret.extend(found);
            if secret.len() == before {
                break;
            }
        }
        for (path, one) in types.iter().filter(|(_, one)| secret.iter().any(|name| owns(&one.body, name))) {
            holders.insert(one.name.clone());
            let excused = |derive: &str| READ_INTO_SECRETS.contains(&one.name.as_str()) && derive == "Deserialize";
            let forbidden: Vec<_> =
                FORBIDDEN.iter().filter(|derive| one.derives.contains(**derive) && !excused(derive)).collect();
            assert!(forbidden.is_empty(), "{path}: {} derives {forbidden:?}", one.name);
            // Prints what it wipes.
            let printed = owns(&one.body, "Zeroizing") && one.derives.contains("Debug");
            assert!(!printed, "{path}: {} derives Debug", one.name);
            for derive in FORBIDDEN.iter().filter(|derive| !excused(derive)) {
                let by_hand = format!("{derive} for {}", one.name);
                assert!(!file(path).production().contains(&by_hand), "{path}: {by_hand}");
            }
        }
    }
    for known in ["KeyEncryptionKey", "RecoveryKey", "RecordKey", "Token", "PolicyAuthority", "AccessToken"] {
        assert!(holders.contains(known), "{known} is known to hold a secret; found {holders:?}");
    }
}

#[test]
fn the_lint_against_exposing_secrets_speaks_of_what_exists() {
    // A path that leads nowhere would be accepted in silence.
    let clippy: toml::Table = file("clippy.toml").text.parse().unwrap();
    let listed = clippy["disallowed-methods"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap());
    let listed: BTreeSet<&str> = listed.collect();
    assert!(listed.contains("blindferry_handle::secret::SecretBytes::expose"), "{listed:?}");
    assert!(listed.contains("blindferry_worker::token::Token::expose"), "{listed:?}");
    assert!(listed.contains("std::time::SystemTime::now"), "{listed:?}");
    let secret = file("proto/handle/src/secret.rs");
    assert!(secret.text.contains("pub struct SecretBytes") && secret.text.contains("pub fn expose(&self)"));
    for folder in packages().into_keys() {
        let manifest = file(&format!("{folder}/Cargo.toml")).text;
        let denied =
            manifest.contains("[lints]\nworkspace = true") || manifest.contains("disallowed_methods = \"deny\"");
        assert!(denied, "{folder} may expose secrets unseen");
    }
    // And each exposure has its reason within sight.
    for source in rust() {
        let lines: Vec<&str> = source.production().lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(".expose(")) {
            let above = &lines[at.saturating_sub(EXPECTED_WITHIN)..at];
            let expected = above.iter().any(|line| line.contains("clippy::disallowed_methods"));
            let documents = line.trim_start().starts_with("//");
            assert!(expected || documents, "{}: {line}", source.path);
        }
    }
}

#[test]
fn no_file_is_long_without_a_reason() {
    let mut unexplained = Vec::new();
    for source in rust() {
        let lines = source.before_tests().lines().count();
        let reason = LONG.iter().find(|(path, _)| *path == source.path);
        match reason {
            Some((path, reason)) => {
                println!("{lines} lines: {path}: {reason}");
                assert!(lines > LONGEST, "{path} is no longer long: take it off the list");
            }
            None if lines > LONGEST => unexplained.push(format!("{}: {lines} lines", source.path)),
            None => {}
        }
    }
    assert!(unexplained.is_empty(), "{unexplained:#?}");
}

#[test]
fn each_file_opens_with_its_one_job_and_none_is_called_after_nothing() {
    let banned = ["utils", "common", "helpers", "types", "manager", "handler", "misc", "mod"];
    for source in rust() {
        let name = Path::new(&source.path).file_stem().unwrap().to_str().unwrap();
        assert!(!banned.contains(&name), "{}", source.path);
        // A `tests.rs` is the lower half of the file that names it.
        assert!(name == "tests" || source.text.starts_with("//! "), "{} does not say what it is for", source.path);
    }
}

#[test]
fn each_dependency_has_its_reason() {
    let manifest = file("Cargo.toml").text;
    let (_, section) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let (section, _) = section.split_once("\n[").unwrap();
    let dependencies = section.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
    let foreign: Vec<&str> = dependencies.filter(|line| !line.contains("path = ")).collect();
    assert!(foreign.len() > 40, "{} dependencies were found", foreign.len());
    for line in foreign {
        let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason);
        assert!(reason.len() > 3, "no reason: {line}");
    }
    for folder in packages().into_keys() {
        let manifest: toml::Table = file(&format!("{folder}/Cargo.toml")).text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, how) in manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let inherited = how.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(inherited, "{folder} has its own version of {name}");
            }
        }
    }
}

#[test]
fn nothing_speaks_of_the_machine_or_the_days_on_which_it_was_written() {
    let elsewhere = [concat!("/wo", "rk/"), concat!("../sha", "red")];
    let tracker = [concat!("sess", "ion "), concat!("iss", "ue ")];
    let vectors = "attest/tests/judgement/real_evidence.rs";
    let all = files(&[".rs", ".md", ".toml", ".py", ".sh", ".mjs", ".cedar", ".cedarschema", "/run", "/quickstart"]);
    assert!(all.iter().any(|source| source.path == "deploy/quickstart") && all.iter().any(|s| s.path == "tests/run"));
    for source in all.iter().filter(|source| source.path != vectors) {
        for line in source.text.lines() {
            // Part of a path below a directory of one's own, as in `"$state/work/…"`.
            let own = line.contains(concat!("$state/wo", "rk/"));
            let found: Vec<_> = elsewhere.iter().filter(|word| !own && line.contains(**word)).collect();
            assert!(found.is_empty(), "{}: {line}", source.path);
            let lower = line.to_lowercase();
            for word in tracker {
                let numbered = lower.match_indices(word).any(|(at, _)| {
                    let number = lower[at + word.len()..].trim_start_matches('#');
                    number.starts_with(|c: char| c.is_ascii_digit())
                });
                assert!(!numbered, "{}: {line}", source.path);
            }
        }
    }
}

/// A package of the workspace.
#[derive(Debug)]
struct Package {
    name: String,
    /// The folders of those of ours that it names, development dependencies aside.
    ours: BTreeSet<String>,
}

/// The workspace's packages by folder.
fn packages() -> BTreeMap<String, Package> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let folder = |path: &str| Path::new(path).strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let package = |package: &Value| {
        let manifest = package["manifest_path"].as_str().unwrap();
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|one| one["kind"] != "dev");
        let ours = normal.filter_map(|one| one["path"].as_str()).map(folder).collect();
        let name = package["name"].as_str().unwrap().to_owned();
        (folder(manifest.strip_suffix("/Cargo.toml").unwrap()), Package { name, ours })
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// The names of everything under a package, built alone, development dependencies aside.
fn tree(package: &str) -> BTreeSet<String> {
    let tree = cargo(&["tree", "-p", package, "-e", "normal,build", "--prefix", "none", "--format", "{p}"]);
    let names: BTreeSet<String> = tree.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    assert!(names.contains(package), "{tree}");
    names
}

/// Whether a crate, or its half that binds the C library, is in a tree.
fn is_in(tree: &BTreeSet<String>, name: &str) -> bool {
    tree.contains(name) || tree.contains(&format!("{name}-sys"))
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A row of the dependency table.
struct Row {
    ours: BTreeSet<String>,
    never: BTreeSet<String>,
}

fn dependency_table() -> BTreeMap<String, Row> {
    let rows = rows_of(&file("docs/architecture.md").text, "| crate | ours | never |");
    let list = |cell: &str| -> BTreeSet<String> {
        cell.split(", ").map(|name| name.trim_matches('`').to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let row = |cells: Vec<String>| match cells.as_slice() {
        [folder, ours, never] => (folder.trim_matches('`').to_owned(), Row { ours: list(ours), never: list(never) }),
        other => panic!("a row of {} cells: {other:?}", other.len()),
    };
    rows.into_iter().map(row).collect()
}

/// The rows of all tables with this heading, as cells.
fn rows_of(text: &str, heading: &str) -> Vec<Vec<String>> {
    let mut lines = text.lines();
    let mut rows = Vec::new();
    while lines.by_ref().any(|line| line == heading) {
        let table = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
        rows.extend(table.map(|line| {
            let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
            inner.split('|').map(|cell| cell.trim().to_owned()).collect()
        }));
    }
    assert!(!rows.is_empty(), "no table {heading}");
    rows
}

/// What is named as `` `path.rs::name` ``.
fn tests_named_in(cell: &str) -> Vec<(String, String)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    let named = quoted.map(|test| test.split_once("::").unwrap_or_else(|| panic!("not a test: {test}")));
    named.map(|(path, name)| (path.to_owned(), name.to_owned())).collect()
}

/// Whether a value of this type is in a type's body, and not merely lent to it or shared by it.
fn owns(body: &str, name: &str) -> bool {
    body.lines().any(|line| {
        let owned = line.replace(&format!("Arc<{name}"), "").replace(&format!("Rc<{name}"), "");
        // A variant of that name holds nothing.
        let bare = line.trim().trim_end_matches(',') == name;
        !bare && has_word(&owned, name) && !line.contains('&') && !line.contains("FnOnce") && !line.contains("Arc<")
    })
}

/// What every other secret is made of.
const SECRET: &[&str] = &["SecretBytes", "SharedSecret", "Zeroizing"];
const FORBIDDEN: &[&str] = &["Clone", "Copy", "PartialEq", "Serialize", "Deserialize"];
/// What an upstream answers, whose token is read into secret memory as it is parsed.
const READ_INTO_SECRETS: &[&str] = &["Wire", "AccessToken"];
/// Lines between `#[expect]` and the exposure that it excuses.
const EXPECTED_WITHIN: usize = 14;

/// Lines before the unit tests.
const LONGEST: usize = 400;
/// Files that are longer, and why they are one file.
const LONG: &[(&str, &str)] = &[
    ("enclave/vault/tests/powers.rs", "a list of powers, each tried from inside"),
    ("tests/support/fleet.rs", "enclave, host and operator are set up together"),
];
