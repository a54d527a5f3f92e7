//! Sizes of the executables, and how many crates are linked into the vault.

use crate::Extent;
use crate::bao;
use crate::figure::Figure;
use blindferry_tests::program::ours;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) fn section(_: Extent) -> Vec<Figure> {
    let mut figures: Vec<Figure> = EXECUTABLES
        .iter()
        .map(|name| Figure::new(format!("executable {name}"), megabytes(&ours(name)), "MB"))
        .collect();
    let all: f64 = EXECUTABLES.iter().map(|name| megabytes(&ours(name))).sum();
    let all = Figure::new("executables, all of them", all, "MB");
    figures.push(match bao::executable() {
        Some(server) => all.beside("OpenBao", megabytes(&server)),
        None => all,
    });
    let crates = linked("blindferry-vault");
    figures.push(Figure::new("crates linked into the vault, ours among them", crates, "crates"));
    figures
}

fn megabytes(path: &Path) -> f64 {
    let length = u32::try_from(fs::metadata(path).unwrap().len()).unwrap();
    f64::from(length) / 1e6
}

/// Names and versions in the tree of what is compiled for the target; what only builds is not linked.
fn linked(package: &str) -> f64 {
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--locked",
        "--offline",
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "-p",
    ]);
    let output = tree.arg(package).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    f64::from(u32::try_from(names.len()).unwrap())
}

const EXECUTABLES: [&str; 9] = [
    "blindferry-vault",
    "blindferry-enclave",
    "blindferry-device",
    "blindferry-device-snp",
    "blindferryd",
    "blindferry-launch",
    "blindferry-starter",
    "blindferry-sandbox",
    "blindferry",
];
