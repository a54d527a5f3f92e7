//! `attest verify` and `attest explain` on SEV-SNP evidence under a root that the policy names dangerously.

use crate::bench::{Bench, Went};
use blindferry_amd::certificate::pem;
use blindferry_amd::{Amd, Crl, ReportSpec, VekSpec, certificate_table, guid};
use blindferry_attest::evidence::Evidence;
use blindferry_attest::snp::SnpEvidence;
use serde_json::{Value, json};
use std::fs;

/// A guest, its report, and what judges it.
pub(crate) struct Guest {
    pub(crate) bench: Bench,
    amd: Amd,
    vcek: blindferry_amd::Vek,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let amd = Amd::of("Genoa");
        let vcek = amd.vcek(&VekSpec::genoa());
        let guest = Self { bench: Bench::new(), amd, vcek };
        guest.write("report", &guest.vcek.sign(&ReportSpec::genoa()));
        guest.write("vcek.der", &guest.vcek.der);
        guest.write("ask.der", &guest.amd.ask_der);
        guest.write("chain.pem", format!("{}{}", pem(&guest.vcek.der), pem(&guest.amd.ask_der)).as_bytes());
        guest.write("policy", guest.policy("").as_bytes());
        guest
    }

    fn policy(&self, further: &str) -> String {
        format!(
            "version = 2\nrole = \"vault\"\n\n[[snp]]\nname = \"image\"\nproducts = [\"genoa\"]\nsigned_by = \"vcek\"\n\
             chips = \"any\"\nvmpl = [0]\nmeasurements = [\"{}\"]\ncrl = \"optional\"\n{further}\n[snp.floor.genoa]\n\
             bootloader = 10\ntee = 0\nsnp = 23\nmicrocode = 84\n\n[[dangerously_trusted_root]]\nproduct = \"genoa\"\n\
             reason = \"a test\"\ncertificate = \"\"\"\n{}\"\"\"\n",
            "5f".repeat(48),
            self.amd.ark_pem()
        )
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.bench.path(name), bytes).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.bench.path(name).to_str().unwrap().to_owned()
    }

    /// Judges files of the bench, at a time when all certificates are valid.
    fn verify(&self, words: &[&str]) -> Went {
        let words: Vec<String> = words
            .iter()
            .map(|word| if self.bench.path(word).is_file() { self.path(word) } else { (*word).to_owned() })
            .collect();
        let words: Vec<&str> = ["attest", "verify", "--at", "2026-11-21T00:00:00Z"]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        self.bench.run(&words, b"")
    }

    fn judged(&self, words: &[&str]) -> (i32, Value) {
        let went = self.verify(&[&["--json"], words].concat());
        (
            went.code,
            serde_json::from_str(&went.out).unwrap_or_else(|error| panic!("{error}: {} {}", went.out, went.err)),
        )
    }
}

fn ended((code, document): &(i32, Value)) -> (i32, &str, Option<&str>) {
    (*code, document["verdict"].as_str().unwrap(), document["code"].as_str())
}

#[test]
fn exit_codes_tell_accepted_refused_and_not_judged_apart() {
    let guest = Guest::new();
    let policy = ["--policy", "policy"];
    let judged = |words: &[&str]| guest.judged(&[&policy[..], words].concat());
    assert_eq!(ended(&judged(&["report", "--cert", "vcek.der", "--cert", "ask.der"])), (0, "accepted", None));
    assert_eq!(ended(&judged(&["report", "chain.pem"])), (0, "accepted", None), "recognised, in PEM");
    assert_eq!(ended(&judged(&["report"])), (2, "unjudged", Some("snp-certificate-missing")));
    assert_eq!(ended(&guest.judged(&["report", "chain.pem"])), (1, "refused", Some("snp-root")));
    guest.write("report", &guest.vcek.sign(&ReportSpec { policy: 0xb_0000, vmpl: 3, ..ReportSpec::genoa() }));
    let refused = judged(&["report", "chain.pem"]);
    assert_eq!(ended(&refused), (1, "refused", Some("snp-policy-debug")));
    let codes: Vec<_> =
        refused.1["checks"].as_array().unwrap().iter().filter_map(|check| check["code"].as_str()).collect();
    assert_eq!(codes, ["snp-policy-debug", "snp-vmpl"], "all that is wrong is listed, the first decides");
}

#[test]
fn the_object_has_its_fields_whatever_the_verdict() {
    let guest = Guest::new();
    let whole = ["report", "chain.pem", "--policy", "policy"];
    let fields = ["verdict", "code", "problem", "advice", "kind", "reference", "dangers", "checks", "claims"];
    for words in [&whole[..], &["report"], &["report", "chain.pem"], &["nowhere"]] {
        let (_, document) = guest.judged(words);
        assert_eq!(document.as_object().unwrap().keys().collect::<Vec<_>>(), fields, "{words:?}");
        for check in document["checks"].as_array().unwrap() {
            let keys: Vec<_> = check.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["name", "ok", "found", "wanted", "code"]);
            assert!(check["ok"].is_boolean() || check["ok"].is_null());
            assert_eq!(check["code"].is_string(), check["ok"] == false, "{check}");
        }
        assert_eq!(document["code"].is_null(), document["verdict"] == "accepted");
        assert_eq!(document["advice"].is_null(), document["verdict"] == "accepted");
    }
    let (_, accepted) = guest.judged(&whole);
    assert_eq!((&accepted["kind"], &accepted["reference"]), (&json!("snp-report"), &json!("image")));
    assert_eq!(accepted["claims"]["measurement"], "5f".repeat(48), "whole, however long");
    assert!(accepted["claims"]["dangerous_root"].is_string());
    assert!(accepted["dangers"][0].as_str().unwrap().starts_with("dangerously_trusted_root"), "{accepted}");
}

#[test]
fn what_is_not_authentic_has_no_claims() {
    let guest = Guest::new();
    let mut report = fs::read(guest.bench.path("report")).unwrap();
    report[0x90] ^= 1;
    guest.write("report", &report);
    let judged = guest.judged(&["report", "chain.pem", "--policy", "policy"]);
    assert_eq!(ended(&judged), (1, "refused", Some("snp-signature")));
    assert_eq!(judged.1["claims"], Value::Null);
}

#[test]
fn every_form_of_a_report_is_recognised() {
    let guest = Guest::new();
    let report = fs::read(guest.bench.path("report")).unwrap();
    let table = certificate_table(&[(guid::VCEK, &guest.vcek.der), (guid::ASK, &guest.amd.ask_der)]);
    guest.write("extended", &[report.as_slice(), &table].concat());
    guest.write("auxblob", &table);
    let certificates = vec![guest.vcek.der.clone(), guest.amd.ask_der.clone()];
    let evidence = Evidence::Snp(SnpEvidence::new(report.clone(), certificates, vec![]).unwrap());
    guest.write("evidence", &evidence.encode());
    for files in [&["extended"][..], &["report", "auxblob"], &["evidence"], &["extended", "chain.pem"]] {
        let judged = guest.judged(&[files, &["--policy", "policy"]].concat());
        assert_eq!(ended(&judged), (0, "accepted", None), "{files:?}");
    }
    guest.write("cut", &[report.as_slice(), &table[..100]].concat());
    assert_eq!(ended(&guest.judged(&["cut", "--policy", "policy"])).0, 1, "a table that is cut off makes no report");
    guest.write("short", &report[..1183]);
    assert_eq!(ended(&guest.judged(&["short", "chain.pem"])), (1, "refused", Some("snp-length")));
}

#[test]
fn what_the_caller_wants_is_asked_and_decides() {
    let guest = Guest::new();
    let report = guest.vcek.sign(&ReportSpec { report_data: [7; 64], ..ReportSpec::genoa() });
    guest.write("report", &report);
    let judged = |words: &[&str]| guest.judged(&[&["report", "chain.pem", "--policy", "policy"], words].concat());
    let (right, wrong) = ("07".repeat(64), "08".repeat(64));
    assert_eq!(ended(&judged(&["--report-data", &right])), (0, "accepted", None));
    assert_eq!(ended(&judged(&["--report-data", &wrong])), (1, "refused", Some("snp-report-data")));
    assert_eq!(ended(&judged(&["--report-id", &"1d".repeat(32)])), (0, "accepted", None));
    assert_eq!(ended(&judged(&["--report-id", &"1e".repeat(32)])), (1, "refused", Some("snp-report-id")));
    // What is too short is not filled up.
    let went = guest.verify(&["report", "--report-data", "07"]);
    assert_eq!((went.code, went.out.as_str()), (2, ""));
    assert!(went.err.contains("128 hexadecimal digits"), "{}", went.err);
}

#[test]
fn a_revocation_list_is_obeyed_from_either_option() {
    let guest = Guest::new();
    let crl = |revoked| guest.amd.crl(&Crl { revoked, ..Crl::empty() });
    guest.write("empty.crl", &crl(vec![]));
    let judged = |words: &[&str]| guest.judged(&[&["report", "chain.pem", "--policy", "policy"], words].concat());
    let (code, document) = judged(&["--crl", "empty.crl"]);
    assert_eq!(code, 0);
    let revocation = document["checks"].as_array().unwrap().iter().find(|check| check["name"] == "revocation").unwrap();
    assert_eq!(revocation["ok"], true);
    assert_eq!(judged(&["empty.crl"]).1, document, "recognised or named, it is the same list");
}

#[test]
fn the_table_says_the_verdict_and_what_to_do_and_is_the_same_every_time() {
    let guest = Guest::new();
    guest.write("report", &guest.vcek.sign(&ReportSpec { vmpl: 3, ..ReportSpec::genoa() }));
    let words = ["report", "chain.pem", "--policy", "policy"];
    let went = guest.verify(&words);
    assert_eq!((went.code, went.err.as_str()), (1, ""));
    assert_eq!(guest.verify(&words).out, went.out);
    assert!(!went.out.contains('\u{1b}'), "no colour where no terminal is");
    assert!(went.out.lines().all(|line| line.chars().count() <= 120 && !line.ends_with(' ')), "{}", went.out);
    for wanted in [
        "CHECK",
        "ok       report length",
        "REFUSED  privilege level",
        "5f5f5f5f5f5f…5f5f5f5f",
        "\nrefused: SEV-SNP report: snp-vmpl\n  problem: privilege level: found 3; wanted 0",
        "what to do: ask for the report from the wanted VMPL",
        "accepted dangerously: dangerously_trusted_root",
        "\nleft open (",
        "  - report data: ",
    ] {
        assert!(went.out.contains(wanted), "{wanted:?} in {}", went.out);
    }
    let accepted = {
        guest.write("report", &guest.vcek.sign(&ReportSpec::genoa()));
        guest.verify(&words).out
    };
    assert!(accepted.contains("\naccepted: SEV-SNP report, by the reference values \"image\"\n"), "{accepted}");
}

#[test]
fn a_missing_certificate_is_asked_for_in_words() {
    let guest = Guest::new();
    let went = guest.verify(&["report"]);
    assert_eq!((went.code, went.err.as_str()), (2, ""));
    assert!(went.out.contains("could not be judged: SEV-SNP report: snp-certificate-missing"), "{}", went.out);
    assert!(went.out.contains("with --cert"), "{}", went.out);
}

#[test]
fn an_explanation_says_what_a_report_says_and_judges_nothing() {
    let guest = Guest::new();
    guest.write("report", &guest.vcek.sign(&ReportSpec { policy: 0xb_0000, vmpl: u32::MAX, ..ReportSpec::genoa() }));
    let paths = [guest.path("report"), guest.path("chain.pem")];
    let went = guest.bench.run(&["attest", "explain", &paths[0], &paths[1]], b"");
    assert_eq!((went.code, went.err.as_str()), (0, ""));
    for wanted in [
        "report: SEV-SNP report\n",
        "Genoa (family 19h, model 11h, stepping 1)",
        "none: the host asked for it, not the guest",
        "debugging ALLOWED: the host can read and write this guest",
        "bootloader 10 tee 0 snp 23 microcode 84 (0a00000000001754)",
        "memory checked for aliases",
        "chain.pem: certificates in PEM\n",
        "CN=SEV-VCEK",
        "CN=SEV-Genoa",
        "product            Genoa",
        "nothing of this was judged",
    ] {
        assert!(went.out.contains(wanted), "{wanted:?} in {}", went.out);
    }
    let went = guest.bench.run(&["attest", "explain", "--json", &paths[0]], b"");
    let document: Value = serde_json::from_str(&went.out).unwrap();
    let says = &document["files"][0]["says"][0];
    assert_eq!((&document["files"][0]["kind"], &says["part"]), (&json!("SEV-SNP report"), &json!("report")));
    assert_eq!(says["says"]["measurement"], "5f".repeat(48));
    assert_eq!(says["says"]["version"], 3);
}

#[test]
fn certificates_by_themselves_are_judged_by_amds_roots() {
    let guest = Guest::new();
    let judged = guest.judged(&["chain.pem", "--policy", "policy"]);
    assert_eq!((ended(&judged), judged.1["kind"].as_str()), ((0, "accepted", None), Some("certificate")));
    assert_eq!(judged.1["claims"]["product"], "Genoa");
    assert_eq!(ended(&guest.judged(&["chain.pem"])).0, 1);
    assert_eq!(ended(&guest.judged(&["ask.der"])), (1, "refused", Some("snp-root")), "not AMD's, whatever its name");
}
