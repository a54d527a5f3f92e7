//! Does the library do nothing but judge? What it asks of the standard library is in its symbols: no files, no network, no
//! clock, no randomness, no process, and nothing of OpenSSL.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What no symbol that the library needs from elsewhere may name.
const FORBIDDEN: &[&str] = &[
    "std::fs",
    "std::sys::fs",
    "std::net",
    "std::sys::net",
    "std::os::unix::net",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::process::Command",
    "std::env::",
    "std::io::stdio",
    "SystemRandom",
    "hashmap_random_keys",
    "getrandom",
    "openssl",
    "EVP_",
];

/// A crate that does all of it, so that a search that finds nothing is known to be one that would.
const IMPURE: &str = r#"
#[inline(never)] pub fn file() -> usize { std::fs::read("/proc/self/stat").map_or(0, |bytes| bytes.len()) }
#[inline(never)] pub fn network() -> bool { std::net::TcpStream::connect("127.0.0.1:9").is_ok() }
#[inline(never)] pub fn socket() -> bool { std::os::unix::net::UnixStream::connect("/nowhere").is_ok() }
#[inline(never)] pub fn clock() -> std::time::SystemTime { std::time::SystemTime::now() }
#[inline(never)] pub fn stopwatch() -> std::time::Instant { std::time::Instant::now() }
#[inline(never)] pub fn program() -> bool { std::process::Command::new("true").status().is_ok() }
#[inline(never)] pub fn variable() -> bool { std::env::var_os("HOME").is_some() }
#[inline(never)] pub fn print(text: &str) { println!("{text}"); }
#[inline(never)] pub fn random() -> std::collections::HashMap<u8, u8> { std::collections::HashMap::new() }
"#;

/// The symbols that an archive needs and does not have, demangled.
fn needed(archive: &Path) -> BTreeSet<String> {
    let output = Command::new("nm").args(["--undefined-only", "--demangle"]).arg(archive).output().unwrap();
    let symbols = String::from_utf8(output.stdout).unwrap();
    let names = symbols.lines().filter_map(|line| Some(line.trim_start().strip_prefix("U ")?.to_owned()));
    names.collect()
}

fn found(symbols: &BTreeSet<String>) -> Vec<(&'static str, &str)> {
    let of =
        |word: &'static str| symbols.iter().filter(move |name| name.contains(word)).map(move |name| (word, &**name));
    FORBIDDEN.iter().flat_map(|word| of(word)).collect()
}

/// Builds the library for a target, and says where the archive is.
fn library(arguments: &[&str]) -> Result<PathBuf, String> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "blindferry-attest", "--lib", "--offline", "--locked", "--message-format", "json"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut files = messages
        .filter(|message| message["target"]["name"] == "blindferry_attest")
        .filter_map(|message| message["filenames"][0].as_str().map(PathBuf::from));
    files.next().ok_or_else(|| "cargo names no archive".to_owned())
}

#[test]
fn the_library_needs_no_file_no_network_no_clock_and_no_randomness() {
    if Command::new("nm").arg("--version").output().is_err() {
        println!("skipped: nm is not installed (package binutils)");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("impure.rs"), IMPURE).unwrap();
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "rlib", "--emit", "obj", "-o", "impure.o", "impure.rs"])
        .current_dir(place.path())
        .status()
        .unwrap();
    assert!(compiled.success());
    let impure = needed(&place.path().join("impure.o"));
    let words: BTreeSet<_> = found(&impure).into_iter().map(|(word, _)| word).collect();
    for word in ["std::fs", "std::net", "std::os::unix::net", "SystemTime", "Instant", "Command", "std::env::", "stdio"]
    {
        assert!(words.iter().any(|found| found.contains(word)), "the search does not find {word}: {impure:#?}");
    }

    let ours = needed(&library(&[]).unwrap());
    assert!(ours.len() > 100, "{} symbols: the search is broken", ours.len());
    assert_eq!(found(&ours), []);
}

/// There is neither file nor network nor clock nor randomness to be had on that target.
#[test]
fn the_library_builds_for_a_target_that_has_no_system() {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", WASM]).output().unwrap();
    let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    if !folder.is_dir() {
        println!("skipped: the standard library of {WASM} is not here (rustup target add {WASM})");
        return;
    }
    if Command::new("clang").arg("--version").output().is_err() {
        println!("skipped: clang is not installed, which compiles ring for {WASM}");
        return;
    }
    library(&["--target", WASM]).unwrap();
}

const WASM: &str = "wasm32-unknown-unknown";
