//! The same evidence through the verifier of the crate `sev`, and where ours is the stricter of the two.
//!
//! Its verifier takes a chain as the host's table of certificates has it, checks the three signatures of the chain and that
//! of the report, and gives `()`. What the report says, it leaves to its caller.

use std::{collections::BTreeSet, panic::catch_unwind};

use blindferry_attest::snp::{SnpEvidence, anchor};
use sev::{
    certs::snp::{Chain, Verifiable as _},
    firmware::guest::AttestationReport,
    parser::ByteParser as _,
};

/// What the crate `sev` makes of evidence: whether it accepts, or why not.
pub(crate) fn judge(evidence: &SnpEvidence) -> Result<(), String> {
    let report = evidence.report().to_vec();
    let chains = chains(evidence.certificates());
    // Bytes from anybody: a panic of theirs is a refusal here.
    let judged = catch_unwind(move || {
        let report = AttestationReport::from_bytes(&report).map_err(|error| error.to_string())?;
        let mut last = "no chain".to_owned();
        for [vek, ask, ark] in chains {
            let chain = Chain::from_der(&ark, &ask, &vek).map_err(|error| error.to_string());
            match chain.and_then(|chain| (&chain, &report).verify().map_err(|error| error.to_string())) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    });
    judged.unwrap_or_else(|_| Err("it panics".to_owned()))
}

/// The chain that came with a report; where it came without, with those that AMD publishes, as the crate has them too.
fn chains(certificates: &[Vec<u8>]) -> Vec<[Vec<u8>; 3]> {
    let published: Vec<Vec<u8>> = anchor::published().map(|one| one.der.to_vec()).collect();
    match certificates {
        [vek, ask, ark] => vec![[vek.clone(), ask.clone(), ark.clone()]],
        [vek] => {
            let lines = published.chunks_exact(3);
            lines.flat_map(|line| [1, 2].map(|above| [vek.clone(), line[above].clone(), line[0].clone()])).collect()
        }
        _ => vec![],
    }
}

/// Pairs of verdicts, held against the list of differences.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) both_accept: usize,
    pub(crate) both_refuse: usize,
    differences: BTreeSet<&'static str>,
    unlisted: Vec<String>,
}

impl Comparison {
    /// `ours` is the code of our refusal, or nothing.
    pub(crate) fn add(&mut self, what: &str, ours: Option<&'static str>, theirs: Result<(), String>) {
        match (ours, theirs) {
            (None, Ok(())) => self.both_accept += 1,
            (Some(_), Err(_)) => self.both_refuse += 1,
            (Some(code), Ok(())) if STRICTER.iter().any(|(_, codes)| codes.contains(&code)) => {
                self.differences.insert(code);
            }
            (Some(code), Ok(())) => self.unlisted.push(format!("{what}: we refuse by {code}, the crate sev accepts")),
            (None, Err(why)) => self.unlisted.push(format!("{what}: we accept, the crate sev refuses: {why}")),
        }
    }

    /// The codes by which we alone refused; all of them are listed, and never did the other alone refuse.
    pub(crate) fn differences(self) -> Result<BTreeSet<&'static str>, String> {
        if self.unlisted.is_empty() { Ok(self.differences) } else { Err(self.unlisted.join("\n")) }
    }
}

/// What the crate accepts and we refuse: why, and the codes of our refusals.
pub(crate) const STRICTER: &[(&str, &[&str])] = &[
    (
        "a report has 1184 bytes of which each is accounted for: no byte behind R and S, no bit that has no meaning, no \
         version that nobody knows, no other algorithm",
        &["snp-version", "snp-signature-algorithm", "snp-signature-encoding", "snp-reserved"],
    ),
    (
        "the root is AMD's, whole; theirs is the one that came with the evidence, unless the caller puts another there",
        &["snp-root"],
    ),
    (
        "a certificate has one form, and outside of what is signed names the algorithm that it names inside",
        &["snp-certificate"],
    ),
    ("a certificate is of its time", &["snp-certificate-not-yet-valid", "snp-certificate-expired"]),
    (
        "a certificate was not revoked, by a list that the root signed and that is current",
        &["snp-crl", "snp-certificate-revoked", "snp-crl-missing", "snp-crl-stale"],
    ),
    (
        "the certificate is of the key, chip, product and firmware that the report speaks of",
        &["snp-certificate-extension", "snp-signing-key", "snp-product", "snp-chip-id", "snp-chip-masked"],
    ),
    (
        "what runs is what was reported and what the host can no longer go back behind",
        &["snp-tcb-order", "snp-tcb-provisional", "snp-tcb-floor", "snp-launch-tcb-floor"],
    ),
    (
        "the machine is the one that was pinned, or one that the reference values allow",
        &[
            "snp-chip-pinned",
            "snp-chip-not-allowed",
            "snp-provider-not-allowed",
            "snp-product-not-allowed",
            "snp-product-distrusted",
        ],
    ),
    (
        "the guest's owner lets the host do no more than the reference values allow",
        &[
            "snp-policy-reserved",
            "snp-policy-debug",
            "snp-policy-migration",
            "snp-policy-abi",
            "snp-policy-smt",
            "snp-policy-single-socket",
            "snp-policy-cxl",
            "snp-policy-memory-xts",
            "snp-policy-rapl",
            "snp-policy-ciphertext-hiding",
            "snp-policy-page-swap",
        ],
    ),
    (
        "the machine is set up as the reference values want it",
        &[
            "snp-platform-reserved",
            "snp-alias-check",
            "snp-platform-smt",
            "snp-platform-tsme",
            "snp-platform-ecc",
            "snp-platform-rapl",
            "snp-platform-ciphertext-hiding",
            "snp-platform-iommu",
            "snp-platform-tio",
            "snp-mitigation-launch",
            "snp-mitigation-current",
        ],
    ),
    (
        "the guest asked, from a level that was allowed, and is the image that was meant",
        &[
            "snp-host-report",
            "snp-vmpl",
            "snp-measurement",
            "snp-id-key",
            "snp-author-key",
            "snp-family-id",
            "snp-image-id",
            "snp-guest-svn",
            "snp-host-data",
        ],
    ),
    ("the report is of this moment, this channel and this guest", &["snp-report-data", "snp-report-id"]),
];
