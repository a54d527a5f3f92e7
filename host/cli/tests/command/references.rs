//! Reference values at rest: computed from files, compared, signed.

use crate::bench::{Bench, Went, reference};
use crate::firmware::amd_sev;
use crate::image::{image, kernel};
use blindferry_attest::reference::ReferenceValues;
use std::fs;
use std::process::Command;

const MAGIC: &[u8] = b"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\0";

fn binary(bench: &Bench, name: &str, bytes: &[u8]) -> String {
    fs::write(bench.path(name), bytes).unwrap();
    bench.path(name).to_str().unwrap().to_owned()
}

fn json(went: &Went) -> serde_json::Value {
    assert_eq!(went.code, 0, "{}", went.err);
    serde_json::from_str(&went.out).unwrap()
}

fn uki(bench: &Bench, cmdline: &[u8]) -> String {
    let linux = kernel("6.12.1");
    let sections: [(&str, &[u8]); 4] =
        [(".sdmagic", MAGIC), (".cmdline", cmdline), (".linux", &linux), (".initrd", b"initrd")];
    binary(bench, "uki.efi", &image(&sections))
}

#[test]
fn the_values_of_an_image_are_reference_values() {
    let bench = Bench::new();
    let file = uki(&bench, b"quiet");
    let went = bench.run(&["reference", "compute", "uki", &file, "--phase", ":", "--phase", "enter-initrd"], b"");
    assert_eq!((went.code, went.err.as_str()), (0, ""));
    let values = ReferenceValues::parse(&went.out).unwrap();
    assert_eq!(values.to_toml(), went.out, "what is printed is canonical");
    assert_eq!(values.selection().unwrap().indices().collect::<Vec<_>>(), [4, 9, 11, 12]);
    assert_eq!(values.sets()[0].name(), "uki.efi");
    let shown = json(&bench.run(&["reference", "compute", "uki", &file, "--json", "--pcrs", "4,12"], b""));
    assert_eq!((shown["stub"].as_str(), shown["cmdline"].as_str()), (Some("252"), Some("quiet")));
    assert_eq!(shown["pcrs"]["12"], serde_json::json!(["00".repeat(32)]));
    assert_eq!(shown["pcrs"]["4"].as_array().unwrap().len(), 2, "with Secure Boot and without");
    assert!(shown["pcrs"].get("9").is_none());
}

#[test]
fn values_that_any_command_line_meets_are_warned_of() {
    let bench = Bench::new();
    let went = bench.run(&["reference", "compute", "uki", &uki(&bench, b"quiet"), "--pcrs", "4,11"], b"");
    assert_eq!(went.code, 0);
    assert!(went.err.contains("any command line"), "{}", went.err);
}

#[test]
fn what_cannot_be_told_of_an_image_is_said_and_not_guessed() {
    let bench = Bench::new();
    let file = uki(&bench, b"");
    let went = bench.run(&["reference", "compute", "uki", &file], b"");
    assert_eq!(went.code, 0, "{}", went.err);
    assert!(went.err.contains("without PCR 9") && went.err.contains(".cmdline"), "{}", went.err);
    let asked = bench.run(&["reference", "compute", "uki", &file, "--pcrs", "9"], b"");
    assert_eq!((asked.code, asked.out.as_str()), (5, ""));
    assert_eq!(bench.run(&["reference", "compute", "uki", &file, "--pcrs", "7"], b"").code, 2);
    let loader = binary(&bench, "loader.efi", &image(&[(".text", b"loader")]));
    let by_loader = bench.run(&["reference", "compute", "uki", &file, "--through", &loader], b"");
    assert!(
        by_loader.err.contains("without PCR 12") && by_loader.err.contains("any command line"),
        "{}",
        by_loader.err
    );
    let no_image = binary(&bench, "text", b"MZ");
    assert_eq!(bench.run(&["reference", "compute", "uki", &no_image], b"").code, 5);
}

#[test]
fn a_launch_lacks_nothing_but_the_floors() {
    let bench = Bench::new();
    let (firmware, kernel) = (binary(&bench, "OVMF.fd", &amd_sev()), binary(&bench, "vmlinuz", b"kernel"));
    let words = ["reference", "compute", "snp", "--firmware", &firmware, "--vcpus", "2", "--product", "genoa,turin"];
    let missing = bench.run(&words, b"");
    assert_eq!((missing.code, missing.out.as_str()), (2, ""), "QEMU's measurement has the processor in it");
    let words = [&words[..], &["--vcpu-type", "EPYC-Genoa", "--kernel", &kernel, "--append", "quiet"]].concat();
    let went = bench.run(&words, b"");
    assert_eq!(went.code, 0, "{}", went.err);
    assert!(went.err.contains("floors"), "{}", went.err);
    assert!(ReferenceValues::parse(&went.out).is_err(), "a floor that nobody chose accepts nothing");
    let filled = went.out.replace("# fmc =", "fmc = 1").replace("# tee =", "tee = 0").replace("# snp =", "snp = 23");
    let filled = filled.replace("# bootloader =", "bootloader = 10").replace("# microcode =", "microcode = 84");
    let values = ReferenceValues::parse(&filled).unwrap();
    assert_eq!(values.guests()[0].name(), "OVMF.fd, 2 vcpus");
    let measurement = json(&bench.run(&[&words[..], &["--json"]].concat(), b""))["measurement"].clone();
    assert!(filled.contains(measurement.as_str().unwrap()));
}

#[test]
fn a_difference_is_a_line_and_order_is_none() {
    let bench = Bench::new();
    let before = bench.file("before", &reference("broker"));
    let after = bench.file("after", &format!("# checked\n{}", reference("broker").replace("33", "44")));
    let went = bench.run(&["reference", "diff", &before, &after], b"");
    let lines =
        [("-", "33"), ("+", "44")].map(|(sign, byte)| format!("{sign} [[tpm]] \"a\" pcrs.7 = \"{}\"", byte.repeat(32)));
    assert_eq!((went.code, went.out.lines().collect::<Vec<_>>()), (0, lines.iter().map(String::as_str).collect()));
    let equal = json(&bench.run(&["reference", "diff", &before, &before, "--json"], b""));
    assert_eq!(equal, serde_json::json!({"equal": true, "differences": []}));
}

#[test]
fn only_values_that_the_trusted_key_signed_are_applied() {
    let bench = Bench::new();
    let configuration = bench.configured();
    let (key, other) = (openssl_key(&bench, "key"), openssl_key(&bench, "other"));
    let file = bench.file("host.ref", &reference("broker"));
    let signed = bench.run(&["reference", "sign", &file, "--key", &key.0], b"");
    assert_eq!(signed.code, 0, "{}", signed.err);
    let apply = |trusted: &str| {
        bench.run(&["--config", &configuration, "reference", "apply", &file, "--signed-by", trusted], b"")
    };
    // The signature holds, and nobody serves the vault.
    assert_eq!(apply(&key.1).code, 3, "{}", apply(&key.1).err);
    let foreign = apply(&other.1);
    assert_eq!(foreign.code, 5);
    assert!(foreign.err.contains("not the one that is trusted"), "{}", foreign.err);
    fs::write(&file, reference("broker").replace("33", "44")).unwrap();
    let changed = apply(&key.1);
    assert_eq!(changed.code, 5);
    assert!(changed.err.contains("not over these values"), "{}", changed.err);
    fs::remove_file(bench.path("host.ref.sig")).unwrap();
    assert_eq!(apply(&key.1).code, 5, "without a signature nothing is applied");
    let public = bench.run(&["reference", "sign", &file, "--key", &key.1], b"");
    assert_eq!(public.code, 5, "a public key signs nothing");
}

/// A key pair as an operator makes it: private and public half.
fn openssl_key(bench: &Bench, name: &str) -> (String, String) {
    let paths = [name.to_owned(), format!("{name}.pub")].map(|name| bench.path(&name).to_str().unwrap().to_owned());
    let [private, public] = paths;
    let openssl = |words: &[&str]| assert!(Command::new("openssl").args(words).status().unwrap().success());
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private]);
    openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
    (private, public)
}
