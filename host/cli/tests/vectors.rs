//! Published evidence, and evidence made for tests, through the command: each case of the manifest ends with the exit code
//! and the reason that it says.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use blindferry_amd::certificate::pem;
use libtest_mimic::Trial;
use published::{Vector, run};
use serde_json::Value;
use std::env;
use std::fs;
use std::process::{Command, ExitCode};
use tempfile::TempDir;

#[expect(dead_code, reason = "others need more of it")]
#[path = "../../../attest/tests/support/published.rs"]
mod published;

/// Within the validity of every certificate that has not ended for good.
const NOW: &str = "2026-11-21T00:00:00Z";
/// When the one real VLEK was valid, and the one real list current.
const EARLIER: &str = "2025-06-01T00:00:00Z";

/// Exit code, verdict, code.
type Ended = (i32, String, Option<String>);

fn main() -> ExitCode {
    run(|vector| vec![trial(vector.clone())])
}

fn trial(vector: Vector) -> Trial {
    let id = vector.id().to_owned();
    Trial::test(id, move || {
        vector.judge();
        vector.explain();
        Ok(())
    })
    .with_kind("vector")
}

impl Vector {
    fn judge(&self) {
        match self.kind() {
            "amd-ca" => self.ends(NOW, &[], accepted()),
            "amd-crl" => {
                let crl = self.path("crl");
                assert_eq!(self.run(EARLIER, &[&crl]), accepted());
                assert_eq!(self.run(NOW, &[&crl]), refused("snp-crl-stale"));
            }
            "snp-report" => self.report(),
            "snp-report-negative" => self.ends(NOW, &[], refused(of_negative(self.text("verdict")))),
            "snp-report-synthetic" => self.synthetic(),
            "azure-hcl" => self.azure(),
            "azure-hcl-negative" => self.ends(
                NOW,
                &[],
                refused(match self.text("verdict") {
                    "reject: bad quote signature" => "tpm-signature",
                    "reject: runtime JSON no longer hashes to REPORT_DATA" => "azure-runtime-binding",
                    other => panic!("no code for {other:?}"),
                }),
            ),
            // Nobody vouches for a log alone; that it is one, and what it gives, `explain` says.
            "tcg-eventlog" => self.ends(NOW, &[], unjudged("tpm-quote-missing")),
            "tpm-quote" => self.quote(),
            "tpm-negative" => self.ends(
                NOW,
                &[],
                refused(match self.text("verdict") {
                    "reject: magic and signature" | "reject: signature" => "tpm-signature",
                    "reject: PCR digest differs from the quote" => "tpm-pcr-digest",
                    "reject: parse error (no panic)" => "event-log-truncated",
                    "reject: parse error, without allocating that much" => "event-log-event-too-long",
                    verdict if verdict.starts_with("replay of digests still matches") => "event-log-data",
                    other => panic!("no code for {other:?}"),
                }),
            ),
            "ek-or-ak-cert" => {
                let (certificate, issuer) = (self.path("cert"), self.path("issuer"));
                assert_eq!(self.run(NOW, &["--root", &issuer, &certificate]), accepted());
                assert_eq!(self.run(NOW, &["--cert", &issuer, &certificate]), unjudged("ek-root-missing"));
            }
            "ek-ca" | "intel-ca" => {
                let certificate = self.path("cert");
                assert_eq!(self.run(NOW, &[&certificate]), unjudged("ek-root-missing"));
                assert_eq!(self.run(NOW, &["--root", &certificate, &certificate]), accepted());
            }
            "tdx-quote" | "tdx-quote-negative" => {
                assert_eq!(self.run(NOW, &[&self.path("quote")]), unjudged("tdx-unsupported"));
            }
            other => panic!("no rule for kind {other:?}"),
        }
    }

    /// A real report is refused by the built-in policy for its faults alone.
    fn report(&self) {
        if self.text("signature").starts_with("cannot be checked") {
            return self.ends(NOW, &[], unjudged("snp-certificate-missing"));
        }
        let ended = !self.text("vek_not_after").is_empty() && self.text("vek_not_after") < "2026-12";
        let found = self.run(if ended { EARLIER } else { NOW }, &self.words());
        let milan = self.text("product").starts_with("Milan");
        match found.2.as_deref() {
            // Clouds run firmware that they have not committed.
            Some("snp-tcb-provisional") => assert!(milan || *self.expected("debug") != true),
            _ if *self.expected("debug") == true => assert_eq!(found, refused("snp-policy-debug")),
            _ if milan => assert_eq!(found, refused("snp-product-distrusted")),
            _ => assert_eq!(found, accepted()),
        }
        if ended {
            self.ends(NOW, &[], refused("snp-certificate-expired"));
        }
        // AMD's authorities are built in: the key's certificate is all that is needed.
        let alone = [self.path("report"), "--cert".to_owned(), self.path("vek")];
        assert_eq!(self.run(if ended { EARLIER } else { NOW }, &alone), found);
    }

    /// Under AMD's roots, and under its own where the policy names that in words that start with `dangerously`.
    fn synthetic(&self) {
        let by_form = self.text("with_this_root_pinned") == "reject: algorithm";
        assert_eq!(self.text("with_amd_roots"), "reject: root is not AMD's");
        self.ends(NOW, &[], refused(if by_form { "snp-signature-algorithm" } else { "snp-root" }));
        let folder = TempDir::new().unwrap();
        let policy = folder.path().join("policy.toml");
        let ark = pem(&fs::read(self.path("ark")).unwrap());
        fs::write(
            &policy,
            format!(
                "version = 2\nrole = \"vault\"\n[[snp]]\nname = \"test\"\nproducts = [\"milan\"]\nsigned_by = \"vcek\"\n\
                 chips = \"any\"\nvmpl = [0]\ncrl = \"optional\"\ndangerously_trust_milan = \"a test\"\n\
                 dangerously_accept_any_measurement = \"a test\"\ndangerously_accept_provisional_firmware = \"a test\"\n\
                 dangerously_accept_no_alias_check = \"a test\"\n\
                 [snp.floor.milan]\nbootloader = 0\ntee = 0\nsnp = 0\nmicrocode = 0\n\
                 [[dangerously_trusted_root]]\nproduct = \"milan\"\nreason = \"a test\"\ncertificate = \"\"\"\n{ark}\"\"\"\n"
            ),
        )
        .unwrap();
        let wanted = match self.text("with_this_root_pinned") {
            "accept" => accepted(),
            "reject: debug policy" => refused("snp-policy-debug"),
            "reject: TCB differs from the certificate" => refused("snp-tcb-certificate"),
            "reject: chip id" => refused("snp-chip-id"),
            "reject: certificate expired" => refused("snp-certificate-expired"),
            "reject: product" => refused("snp-product"),
            "reject: chain" => refused("snp-chain-signature"),
            "reject: ASK revoked" => refused("snp-certificate-revoked"),
            "reject: VMPL above the allowed one" => refused("snp-vmpl"),
            "reject: algorithm" => refused("snp-signature-algorithm"),
            other => panic!("no code for {other:?}"),
        };
        self.ends(NOW, &["--policy", policy.to_str().unwrap()], wanted);
    }

    fn azure(&self) {
        let wanted = match (self.text("report_type"), self.has("vek")) {
            ("TDX", _) => unjudged("azure-tdx"),
            (_, false) => unjudged("snp-certificate-missing"),
            // That machine ran firmware that was not committed yet.
            (_, true) => refused("snp-tcb-provisional"),
        };
        self.ends(NOW, &[], wanted.clone());
        if self.has("quote_msg") {
            let nonce = hex::encode(self.text("quote_nonce"));
            let checks = |challenge: &str| {
                let words = [self.words(), vec!["--challenge".to_owned(), challenge.to_owned()]].concat();
                let (_, document) = self.document(NOW, &words);
                let codes = document["checks"].as_array().unwrap().iter().filter_map(|check| check["code"].as_str());
                codes.map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(checks(&nonce), ["snp-tcb-provisional", "snp-product-distrusted"]);
            assert!(checks("00").contains(&"tpm-quote-challenge".to_owned()));
        }
    }

    fn quote(&self) {
        let judged = |bank: &str| {
            let parts = ["ak_tpmt_public", "ak_spki", "ak_cert", "eventlog"].map(str::to_owned);
            let banked = ["quote", "sig", "pcrs"].map(|part| format!("{part}_{bank}"));
            let words: Vec<_> = parts.iter().chain(&banked).filter(|part| self.has(part)).collect();
            self.run(NOW, &words.into_iter().map(|part| self.path(part)).collect::<Vec<_>>())
        };
        assert_eq!(judged("sha256"), accepted());
        if self.has("quote_sha1") {
            // Stricter than the manifest: no judgement rests on SHA-1, and PCR values are judged in the SHA-256 bank alone.
            assert_eq!(judged("sha1"), refused("tpm-pcr-selection"));
            assert_eq!(judged("sha384"), refused("tpm-pcr-selection"));
        }
        let nonce = self.text("nonce");
        if !nonce.is_empty() {
            self.ends(NOW, &["--challenge", nonce], accepted());
            self.ends(NOW, &["--challenge", "00"], refused("tpm-quote-challenge"));
        }
    }

    /// Every file that the command knows can be explained, and nothing of it steers a terminal.
    fn explain(&self) {
        for path in self.paths() {
            let output = command(&["explain".to_owned(), path.clone()]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{path}");
            assert!(text.lines().count() > 2, "{path}: {text}");
        }
    }

    /// Judges all files of the case.
    fn ends(&self, at: &str, options: &[&str], wanted: Ended) {
        let words: Vec<_> = options.iter().map(|&option| option.to_owned()).chain(self.words()).collect();
        assert_eq!(self.run(at, &words), wanted, "{}", words.join(" "));
    }

    fn run(&self, at: &str, words: &[impl AsRef<str>]) -> Ended {
        let (exit, document) = self.document(at, words);
        let code = document["code"].as_str().map(str::to_owned);
        (exit, document["verdict"].as_str().unwrap().to_owned(), code)
    }

    fn document(&self, at: &str, words: &[impl AsRef<str>]) -> (i32, Value) {
        let options = ["verify", "--json", "--at", at].map(str::to_owned).into_iter();
        let output = command(&options.chain(words.iter().map(|word| word.as_ref().to_owned())).collect::<Vec<_>>());
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
        });
        (output.status.code().unwrap(), document)
    }

    /// All files of the case, each as evidence.
    fn words(&self) -> Vec<String> {
        self.paths()
    }
}

fn of_negative(verdict: &str) -> &'static str {
    match verdict.strip_prefix("reject: ").unwrap().split(" (").next().unwrap() {
        "length" => "snp-length",
        "unknown version" => "snp-version",
        "unknown algorithm" => "snp-signature-algorithm",
        "signature encoding" | "reserved bytes must be zero" => "snp-signature-encoding",
        "chain" => "snp-chain-signature",
        // Nothing is asked of what a report says before its signature held.
        "signature" | "chip id and signature" | "product, chip id and signature" => "snp-signature",
        other => panic!("no code for {other:?}"),
    }
}

fn command(words: &[String]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_blindferry")).arg("attest").args(words).output().unwrap()
}

fn accepted() -> Ended {
    (0, "accepted".to_owned(), None)
}

fn refused(code: &str) -> Ended {
    (1, "refused".to_owned(), Some(code.to_owned()))
}

fn unjudged(code: &str) -> Ended {
    (2, "unjudged".to_owned(), Some(code.to_owned()))
}
