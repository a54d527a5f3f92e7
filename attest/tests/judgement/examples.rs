//! The examples of the library run, and say what their pages promise. Their evidence was made by the last test here.

use std::{fs, path::Path, process::Command};

use blindferry_amd::{Amd, VekSpec};

use crate::{
    boot::{Boot, Judged as _},
    guest::Guest,
    synthetic::name_of,
};

/// What an example prints.
fn run(example: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--locked", "-p", "blindferry-attest", "--example", example])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_example_judges_a_report_and_refuses_it_over_another_channel() {
    let said = run("judge_report");
    assert!(said.contains("accepted dangerously: dangerously_trusted_root"), "{said}");
    assert!(said.contains("attested as \"test\""), "{said}");
    assert!(said.contains("over another channel snp-report-data: "), "{said}");
    assert!(said.contains("    ok  report signature: "), "{said}");
}

#[test]
fn the_example_judges_a_quote_with_its_event_log() {
    let said = run("judge_quote");
    assert!(said.contains("Secure Boot is on"), "{said}");
    assert!(said.contains("attested as \"fleet\""), "{said}");
}

#[test]
fn the_example_makes_a_result() {
    let said = run("make_result");
    let parts: Vec<&str> = said.lines().next().unwrap().split('.').collect();
    assert!(parts.len() == 3 && parts.iter().all(|part| !part.is_empty()), "{said}");
    assert!(said.contains("\"crv\":\"Ed25519\""), "{said}");
}

/// Run it by name with `--run-ignored all` when the evidence has to change.
#[test]
#[ignore = "writes the examples' evidence anew"]
fn the_examples_evidence_is_made_like_this() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/evidence");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    let guest = Guest::good().with(|it| it.reference = it.reference.clone().with("crl", "\"optional\""));
    let amd = Amd::of("Genoa");
    let vcek = amd.vcek(&VekSpec::genoa());
    write("guest.toml", guest.reference.text("Genoa").as_bytes());
    write("report.bin", &vcek.sign(&guest.report));
    write("vcek.der", &vcek.der);
    write("ask.der", &amd.ask_der);

    let case = Boot::good().whole_case();
    let parts = case.parts();
    let line = |(index, value): &(u8, [u8; 32])| format!("{index} {}\n", hex::encode(value));
    write("machine.toml", case.reference.as_bytes());
    write("ak.name", format!("{}\n", name_of(&parts.public)).as_bytes());
    write("ak.public", &parts.public);
    write("quote.attest", &parts.attest);
    write("quote.signature", &parts.signature);
    write("pcrs", case.pcrs.iter().map(line).collect::<String>().as_bytes());
    write("event.log", &case.event_log);
}
