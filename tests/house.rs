//! Does the house keep its own rules: who depends on whom, where `unsafe` is, which types are mute, which tests exist?

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn each_crate_depends_on_what_the_architecture_allows_and_on_nothing_else() {
    let workspace = Workspace::read();
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows = table(&text, "| crate | ours | never |");
    let named: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    let there: BTreeSet<&str> =
        workspace.directories.values().map(String::as_str).filter(|path| *path != "tests").collect();
    assert_eq!(named, there, "the table has a row for each crate");
    for row in &rows {
        let [directory, ours, never] = row.as_slice() else { continue };
        let package = workspace.package_in(directory);
        let allowed: BTreeSet<&str> = list(ours).collect();
        let found: BTreeSet<&str> = workspace.own_dependencies(package).collect();
        assert_eq!(found, allowed, "{directory} may depend on exactly these of ours");
        let tree = workspace.tree(package);
        for forbidden in list(never) {
            let bad: Vec<&String> = tree
                .iter()
                .filter(|name| *name == forbidden || name.starts_with(&format!("{forbidden}-sys")))
                .collect();
            assert!(bad.is_empty(), "{directory} has {bad:?} in its tree");
        }
    }
}

#[test]
fn libtss2_openssl_and_axum_are_in_one_process_each() {
    let workspace = Workspace::read();
    for (dependency, only) in [("tss-esapi", "attest/device/tpm"), ("axum", "enclave/front"), ("redb", "enclave/front")]
    {
        // The tests link the front's store, to play a front that lies about it.
        for (package, directory) in workspace.directories.iter().filter(|(_, directory)| *directory != "tests") {
            let is_there = workspace.tree(package).contains(dependency);
            assert_eq!(is_there, directory == only, "{dependency} in {directory}");
        }
    }
    for package in workspace.directories.keys() {
        for foreign in ["openssl", "openssl-sys", "native-tls", "aws-lc-rs"] {
            assert!(!workspace.tree(package).contains(foreign), "{foreign} in {package}");
        }
    }
}

#[test]
fn unsafe_has_one_address() {
    for (path, text) in sources() {
        let is_handle = path.starts_with("proto/handle");
        let uses = text.lines().filter(|line| {
            let code = line.split("//").next().unwrap_or_default();
            ["{", "fn", "impl", "extern"].iter().any(|next| code.contains(&format!("{} {next}", "unsafe")))
        });
        assert!(is_handle || uses.count() == 0, "{} holds unsafe code", path.display());
        assert!(is_handle || !text.contains(&format!("({}_code", "unsafe")), "{}", path.display());
    }
    for manifest in files("Cargo.toml") {
        let text = fs::read_to_string(root().join(&manifest)).unwrap();
        if !manifest.starts_with("proto/handle") && text.contains("[package]") {
            let lints = text.contains("[lints]\nworkspace = true");
            assert!(lints, "{} does not take the workspace's lints, which forbid unsafe code", manifest.display());
        }
    }
}

/// Types that hold plaintext or keys, wherever they are: none may be printed, copied or serialised by derivation.
const MUTE: &[&str] = &[
    "SecretBytes",
    "SharedSecret",
    "Token",
    "KeyEncryptionKey",
    "PolicyAuthority",
    "RecoveryKey",
    "RecordKey",
    "ParcelKeyPair",
    "DepositKeyPair",
    "KeyPair",
    "GrantKeys",
    "Master",
    "MasterCache",
    "Signer",
    "Leased",
    "Worker",
];

/// Where a key or a token might lie outside secret pages.
const RAW: &[&str] = &["[u8", "Vec<u8", "Zeroizing", "Box<[", "PrivateKey", ": String"];

#[test]
fn no_type_that_holds_plaintext_can_be_printed_copied_or_serialised() {
    let mut seen = BTreeSet::new();
    for (path, text) in sources() {
        if !path.components().any(|part| part.as_os_str() == "src") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let Some(name) = defined(line) else { continue };
            if !MUTE.contains(&name) {
                continue;
            }
            seen.insert(name.to_owned());
            let attributes =
                lines[..number].iter().rev().take_while(|line| line.starts_with('#') || line.starts_with("//"));
            for derived in attributes.filter(|line| line.starts_with("#[derive")) {
                for banned in ["Clone", "Copy", "Serialize", "PartialEq", "Hash"] {
                    assert!(!derived.contains(banned), "{}: {name} derives {banned}", path.display());
                }
                // Derived, it prints what the fields print; secret pages print that they are redacted.
                let end = lines[number..].iter().position(|line| *line == "}" || line.ends_with(");")).unwrap_or(0);
                let body = lines[number..=number + end].iter().filter(|line| !line.starts_with("public"));
                let is_raw = body.into_iter().any(|line| RAW.iter().any(|raw| line.contains(raw)));
                assert!(!derived.contains("Debug") || !is_raw, "{}: {name} prints bytes", path.display());
            }
        }
        for name in MUTE {
            for banned in ["Clone", "Copy", "Display", "Serialize", "PartialEq"] {
                let by_hand = format!("{banned} for {name} ");
                assert!(!code.contains(&by_hand), "{}: {name} is {banned}", path.display());
            }
        }
    }
    let gone: Vec<_> = MUTE.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(gone.is_empty(), "not there any more, so not looked at: {gone:?}");
}

#[test]
fn every_test_that_the_threat_table_names_exists() {
    let text = fs::read_to_string(root().join("docs/threats.md")).unwrap();
    let rows = table(&text, "| threat | defence | test |");
    assert!(rows.len() > 40, "{} rows", rows.len());
    let promises: Vec<&str> = (1..=10)
        .filter_map(|number| {
            rows.iter().map(|row| row[0].as_str()).find(|threat| threat.starts_with(&format!("{number}. ")))
        })
        .collect();
    assert_eq!(promises.len(), 10, "each promise is a row: {promises:?}");
    for row in &rows {
        let tests: Vec<&str> = row.last().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test for: {}", row[0]);
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            assert!(is_a_test(&source, name), "{test} does not exist; it is to keep: {}", row[0]);
        }
    }
}

#[test]
fn every_file_opens_with_its_one_job_and_no_file_is_called_after_none() {
    let banned = ["utils", "common", "helpers", "types", "manager", "handler", "misc", "mod"];
    for (path, text) in sources() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!banned.contains(&name), "{}", path.display());
        // A `tests.rs` is the lower half of the file that names it.
        assert!(name == "tests" || text.starts_with("//!"), "{} does not say what it is for", path.display());
    }
}

/// `#[test]`, or a test of tokio or proptest: an attribute above, or the macro around it; or a row in the list of a test
/// that is its own harness.
fn is_a_test(source: &str, name: &str) -> bool {
    if source.contains(&format!("(\"{name}\", ")) {
        return true;
    }
    let Some(at) = source.find(&format!("fn {name}(")) else { return false };
    let before: Vec<&str> = source[..at].lines().rev().take(8).collect();
    before.iter().any(|line| line.contains("test]") || line.contains("test(")) || source.contains("proptest!")
}

fn defined(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("pub ")
        .or(line.strip_prefix("pub(crate) "))
        .or(line.strip_prefix("pub(super) "))
        .unwrap_or(line);
    let rest = rest.strip_prefix("struct ").or(rest.strip_prefix("enum "))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The rows of the tables with this head, as cells without backquotes around a whole.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        inside = line == head || (inside && line.starts_with('|'));
        if !inside || line == head || line.starts_with("|---") {
            continue;
        }
        let cells = line.trim_matches('|').split('|').map(str::trim);
        rows.push(cells.map(str::to_owned).collect::<Vec<_>>());
    }
    for row in &mut rows {
        row[0] = row[0].trim_matches('`').to_owned();
    }
    rows
}

fn list(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(',').map(|one| one.trim().trim_matches('`')).filter(|one| !one.is_empty())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources() -> Vec<(PathBuf, String)> {
    let rust = git(&["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]);
    rust.lines()
        .map(PathBuf::from)
        .filter_map(|path| Some((path.clone(), fs::read_to_string(root().join(path)).ok()?)))
        .collect()
}

fn files(name: &str) -> Vec<PathBuf> {
    git(&["ls-files", name, &format!("*/{name}")]).lines().map(PathBuf::from).collect()
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// What `cargo metadata` knows.
struct Workspace {
    /// Where each of our packages is, from the root.
    directories: BTreeMap<String, String>,
    /// Ordinary dependencies by package id; build scripts' and tests' aside.
    edges: BTreeMap<String, BTreeSet<String>>,
    names: BTreeMap<String, String>,
}

impl Workspace {
    fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", TARGET])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let data: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let packages = data["packages"].as_array().unwrap();
        let names = packages.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let directories = packages.iter().filter(|package| package["source"].is_null()).map(|package| {
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            let directory = manifest.parent().unwrap().strip_prefix(root().canonicalize().unwrap()).unwrap();
            (text(&package["name"]), directory.to_str().unwrap().to_owned())
        });
        let edges = data["resolve"]["nodes"].as_array().unwrap().iter().map(|node| {
            let ordinary = node["deps"].as_array().unwrap().iter().filter(|dependency| {
                dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
            });
            (text(&node["id"]), ordinary.map(|dependency| text(&dependency["pkg"])).collect())
        });
        Self { directories: directories.collect(), edges: edges.collect(), names }
    }

    fn package_in(&self, directory: &str) -> &str {
        self.directories.iter().find(|(_, found)| *found == directory).unwrap().0
    }

    fn id(&self, package: &str) -> &str {
        self.names.iter().find(|(_, name)| *name == package).unwrap().0
    }

    fn own_dependencies(&self, package: &str) -> impl Iterator<Item = &str> {
        let direct = self.edges[self.id(package)].iter().map(|id| self.names[id].as_str());
        direct.filter_map(|name| self.directories.get(name).map(String::as_str))
    }

    /// The names of all that a package is built from.
    fn tree(&self, package: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![self.id(package).to_owned()];
        while let Some(id) = waiting.pop() {
            for next in &self.edges[&id] {
                if seen.insert(next.clone()) {
                    waiting.push(next.clone());
                }
            }
        }
        seen.iter().map(|id| self.names[id].clone()).collect()
    }
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
