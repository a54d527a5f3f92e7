//! Quotes of a software TPM in every form in which tpm2-tools write them.

use crate::bench::{Bench, Went};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A TPM of its own; ends with the test.
struct Tpm {
    bench: Bench,
    process: Child,
}

impl Tpm {
    /// Starts one, with an ECC and an RSA attestation key; gives nothing where the programs are not installed.
    fn start() -> Option<Self> {
        for program in ["swtpm", "tpm2_createek", "tpm2_quote"] {
            if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                println!("skipped: {program} is not installed (packages swtpm, tpm2-tools)");
                return None;
            }
        }
        let bench = Bench::new();
        let socket = |name| format!("type=unixio,path={}", bench.path(name).display());
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", bench.path("").display())])
            .args(["--server", &socket("tpm"), "--ctrl", &socket("tpm.ctrl")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tpm = Self { bench, process };
        let started = Instant::now();
        while !tpm.bench.path("tpm.ctrl").exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "swtpm did not start");
            thread::sleep(Duration::from_millis(10));
        }
        tpm.run("tpm2_createek -c ek.ctx -G ecc -u ek.pub");
        tpm.run("tpm2_createak -C ek.ctx -c ecc.ctx -G ecc -g sha256 -s ecdsa -u ecc.tpmt -f tpmt");
        tpm.run("tpm2_createak -C ek.ctx -c rsa.ctx -G rsa -g sha256 -s rsassa -u rsa.tss -f tss");
        for key in ["ecc", "rsa"] {
            tpm.run(&format!("tpm2_readpublic -c {key}.ctx -o {key}.pem -f pem"));
            tpm.run(&format!("tpm2_readpublic -c {key}.ctx -o {key}.der -f der"));
        }
        Some(tpm)
    }

    /// Runs a command line of tpm2-tools in the TPM's directory, then drops what it left loaded.
    fn run(&self, line: &str) -> String {
        let once = |line: &str| {
            let mut words = line.split_whitespace();
            let output = Command::new(words.next().unwrap())
                .args(words)
                .current_dir(self.bench.path(""))
                .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.bench.path("tpm").display()))
                .output()
                .unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let out = once(line);
        once("tpm2_flushcontext -t");
        out
    }

    fn verify(&self, words: &[&str]) -> Went {
        let words: Vec<String> = words
            .iter()
            .map(|word| match word.split_once('=') {
                Some((part, name)) => format!("{part}={}", self.bench.path(name).display()),
                None if self.bench.path(word).is_file() => self.bench.path(word).display().to_string(),
                None => (*word).to_owned(),
            })
            .collect();
        let words: Vec<&str> = ["attest", "verify"].into_iter().chain(words.iter().map(String::as_str)).collect();
        self.bench.run(&words, b"")
    }

    fn judged(&self, words: &[&str]) -> (i32, Option<String>, Value) {
        let went = self.verify(&[&["--json"], words].concat());
        let document: Value =
            serde_json::from_str(&went.out).unwrap_or_else(|error| panic!("{error}: {} {}", went.out, went.err));
        (went.code, document["code"].as_str().map(str::to_owned), document)
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn ended(judged: &(i32, Option<String>, Value)) -> (i32, Option<&str>) {
    (judged.0, judged.1.as_deref())
}

#[test]
fn every_form_that_tpm2_tools_write_is_recognised_and_judged() {
    let Some(tpm) = Tpm::start() else { return };
    let quote = |key: &str, more: &str| {
        tpm.run(&format!("tpm2_quote -c {key}.ctx -l sha256:0,1,2,3,4,5,6,7 -q c0ffee -m q.msg -s q.sig {more}"))
    };
    for (key, publics) in [("ecc", ["ecc.tpmt", "ecc.pem", "ecc.der"]), ("rsa", ["rsa.tss", "rsa.pem", "rsa.der"])] {
        for values in ["-o q.pcrs -F serialized", "-o q.pcrs -F values"] {
            // Eight values and a bare RSA signature have the same length, and are told apart all the same.
            for signature in ["", "-f plain"] {
                quote(key, &format!("{values} {signature}"));
                for public in publics {
                    let judged = tpm.judged(&["q.sig", "q.pcrs", "q.msg", public, "--challenge", "c0ffee"]);
                    assert_eq!(ended(&judged), (0, None), "{key} {public} {values} {signature}: {}", judged.2);
                    assert_eq!(judged.2["claims"]["pcrs"].as_object().unwrap().len(), 8);
                }
            }
        }
    }
}

#[test]
fn what_a_bare_key_leaves_open_is_said_and_its_public_area_answers_it() {
    let Some(tpm) = Tpm::start() else { return };
    tpm.run("tpm2_quote -c ecc.ctx -l sha256:0,7 -q 01 -m q.msg -s q.sig -o q.pcrs");
    let open = |public| {
        let (_, _, document) = tpm.judged(&["q.msg", "q.sig", "q.pcrs", public]);
        let checks = document["checks"].as_array().unwrap().clone();
        let open = checks.iter().filter(|check| check["ok"].is_null()).map(|check| check["name"].as_str().unwrap());
        open.map(str::to_owned).collect::<Vec<_>>()
    };
    let (bare, whole) = (open("ecc.pem"), open("ecc.tpmt"));
    assert_eq!(bare[..2], ["attestation key's attributes", "attestation key's Name"]);
    assert_eq!(whole, ["attestation key's Name", "challenge", "PCRs and events", "firmware"]);
    // A Name cannot be compared with a key that has none; with one, it is.
    let name = tpm.run("tpm2_readpublic -c ecc.ctx");
    let name = name.lines().find_map(|line| line.strip_prefix("name: ")).unwrap().to_owned();
    let judged = |public, name: &str| tpm.judged(&["q.msg", "q.sig", "q.pcrs", public, "--ak-name", name]);
    assert_eq!(ended(&judged("ecc.pem", &name)), (2, Some("tpm-ak-missing")));
    assert_eq!(ended(&judged("ecc.tpmt", &name)), (0, None));
    assert_eq!(ended(&judged("ecc.tpmt", &format!("000b{}", "00".repeat(32)))), (1, Some("tpm-ak-name")));
}

#[test]
fn a_quote_is_refused_for_what_is_wrong_and_asked_for_what_is_missing() {
    let Some(tpm) = Tpm::start() else { return };
    tpm.run("tpm2_quote -c ecc.ctx -l sha256:0,7 -q 01 -m q.msg -s q.sig -o q.pcrs");
    tpm.run("tpm2_quote -c rsa.ctx -l sha256:0,7 -q 01 -m r.msg -s r.sig -o r.pcrs");
    tpm.run("tpm2_quote -c ecc.ctx -l sha1:0,7+sha256:0,7 -q 01 -m b.msg -s b.sig -o b.pcrs");
    let judged = |words: &[&str]| tpm.judged(words);
    assert_eq!(ended(&judged(&["q.msg"])), (2, Some("tpm-signature-missing")));
    assert_eq!(ended(&judged(&["q.msg", "q.sig"])), (2, Some("tpm-ak-missing")));
    assert_eq!(ended(&judged(&["q.sig", "ecc.tpmt"])), (2, Some("input-incomplete")));
    assert_eq!(ended(&judged(&["q.msg", "q.sig", "rsa.tss"])), (1, Some("tpm-signature-scheme")));
    assert_eq!(ended(&judged(&["r.msg", "q.sig", "ecc.tpmt"])), (1, Some("tpm-signature")));
    assert_eq!(ended(&judged(&["q.msg", "q.sig", "ecc.tpmt", "--challenge", "02"])), (1, Some("tpm-quote-challenge")));
    assert_eq!(ended(&judged(&["b.msg", "b.sig", "ecc.tpmt", "b.pcrs"])), (1, Some("tpm-pcr-selection")));
    // An endorsement key cannot attest: what it signs need not be what a TPM says.
    assert_eq!(ended(&judged(&["q.msg", "q.sig", "public=ek.pub"])), (1, Some("tpm-ak-attributes")));
    tpm.run(&format!("tpm2_pcrextend 7:sha256={}", "5a".repeat(32)));
    let read = tpm.run("tpm2_pcrread sha256:0,7");
    std::fs::write(tpm.bench.path("later"), read).unwrap();
    assert_eq!(ended(&judged(&["q.msg", "q.sig", "ecc.tpmt", "later"])), (1, Some("tpm-pcr-digest")));
    let went = tpm.verify(&["q.msg", "q.sig", "ecc.tpmt", "q.pcrs"]);
    assert!(went.out.contains("accepted: TPM quote; 4 questions answered, none wrongly\n"), "{}", went.out);
}

#[test]
fn reference_values_judge_a_quote() {
    let Some(tpm) = Tpm::start() else { return };
    tpm.run("tpm2_quote -c ecc.ctx -l sha256:7 -q 01 -m q.msg -s q.sig -o q.pcrs");
    let policy = |value: &str| {
        let text = format!(
            "version = 1\nrole = \"broker\"\n\n[[tpm]]\nname = \"fleet\"\nfirmware = \"any\"\n\n[tpm.pcrs]\n7 = [\"{value}\"]\n"
        );
        std::fs::write(tpm.bench.path("policy"), text).unwrap();
    };
    let files = ["q.msg", "q.sig", "ecc.tpmt", "--policy", "policy"];
    policy(&"00".repeat(32));
    let judged = tpm.judged(&[&files[..], &["q.pcrs"]].concat());
    assert_eq!((ended(&judged), judged.2["reference"].as_str()), ((0, None), Some("fleet")));
    assert_eq!(ended(&tpm.judged(&files)), (2, Some("tpm-pcrs-missing")));
    policy(&"01".repeat(32));
    assert_eq!(ended(&tpm.judged(&[&files[..], &["q.pcrs"]].concat())), (1, Some("tpm-pcr-value")));
}

#[test]
fn an_explanation_tells_pcrs_clock_and_key() {
    let Some(tpm) = Tpm::start() else { return };
    tpm.run("tpm2_quote -c ecc.ctx -l sha256:0,7 -q c0ffee -m q.msg -s q.sig -o q.pcrs");
    let paths = ["q.msg", "q.sig", "q.pcrs", "ecc.tpmt"].map(|name| tpm.bench.path(name).display().to_string());
    let words: Vec<&str> = ["attest", "explain"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let went = tpm.bench.run(&words, b"");
    assert_eq!(went.code, 0, "{}", went.err);
    for wanted in [
        "challenge          c0ffee",
        "PCRs [0, 7] of bank 0x000b",
        "resets",
        "ECDSA with SHA-256",
        "(never extended)",
        "fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|restricted|sign",
        "on P-256",
    ] {
        assert!(went.out.contains(wanted), "{wanted:?} in {}", went.out);
    }
}

/// The table of `docs/attesting.md` says what tpm2_checkquote leaves to its caller; here is what this command does there.
#[test]
fn what_another_tool_leaves_to_its_caller_is_asked_here() {
    let Some(tpm) = Tpm::start() else { return };
    let others = |line: &str| {
        let mut words = line.split_whitespace();
        let output =
            Command::new(words.next().unwrap()).args(words).current_dir(tpm.bench.path("")).output().unwrap().status;
        println!("{line}: {output}");
    };
    // A bank whose digests can be collided with.
    tpm.run("tpm2_quote -c ecc.ctx -l sha1:0,7 -q 01 -m s.msg -s s.sig -o s.pcrs");
    others("tpm2_checkquote -u ecc.pem -m s.msg -s s.sig -f s.pcrs -q 01");
    assert_eq!(ended(&tpm.judged(&["s.msg", "s.sig", "s.pcrs", "ecc.tpmt"])), (1, Some("tpm-pcr-selection")));
    // An event whose text was exchanged; its digest was not.
    let text = b"grub_cmd: linux quiet\0";
    let hashed = ring::digest::digest(&ring::digest::SHA256, b"linux quiet");
    tpm.run(&format!("tpm2_pcrextend 8:sha256={}", hex::encode(hashed)));
    tpm.run("tpm2_quote -c ecc.ctx -l sha256:8 -q 01 -m q.msg -s q.sig -o q.pcrs");
    let log = |text: &[u8]| std::fs::write(tpm.bench.path("log"), crate::hostile::log_with(text, hashed.as_ref()));
    log(text).unwrap();
    let files = ["q.msg", "q.sig", "q.pcrs", "ecc.tpmt", "log"];
    others("tpm2_checkquote -u ecc.pem -m q.msg -s q.sig -f q.pcrs -q 01 -e log");
    assert_eq!(ended(&tpm.judged(&files)), (0, None));
    log(b"grub_cmd: linux evil!\0").unwrap();
    others("tpm2_checkquote -u ecc.pem -m q.msg -s q.sig -f q.pcrs -q 01 -e log");
    assert_eq!(ended(&tpm.judged(&files)), (1, Some("event-log-data")));
}
