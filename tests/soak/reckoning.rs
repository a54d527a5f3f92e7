//! What must be true when all is over: of the audit, of tokens, of memory and descriptors.

use crate::book::Pages;
use crate::gauge::{Gauge, Sample};
use blindferry_tests::oauth::{OauthServer, Standing};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The audit as `blindferry audit --json-lines` shows it, which verifies signatures, chain and end.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Names of grants, each with the lease that it bought.
    redeemed: BTreeMap<String, String>,
    /// When each lease began and when vaults were started, in milliseconds since the epoch.
    begun: BTreeMap<String, u64>,
    started: Vec<u64>,
    granted: BTreeSet<String>,
    renewed: BTreeMap<String, u64>,
    ended: BTreeSet<String>,
    decided: BTreeMap<String, bool>,
    operated: BTreeMap<(String, String), u64>,
    records: usize,
}

impl Audit {
    /// Reads all of it.
    pub(crate) fn read(mut blindferry: Command) -> Self {
        let output = blindferry.args(["audit", "--json-lines"]).output().unwrap();
        assert!(output.status.success(), "the audit verifies: {}", String::from_utf8_lossy(&output.stderr));
        let mut audit = Self::default();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // The last one is no record.
        let verdict = lines.pop().unwrap();
        assert_eq!(verdict["verified"], true, "{verdict}");
        for record in lines {
            let Some((kind, event)) = record["event"].as_object().and_then(|event| event.iter().next()) else {
                panic!("a record without an event: {record}")
            };
            audit.take(kind, event, milliseconds(record["at"].as_str().unwrap()));
        }
        audit
    }

    fn take(&mut self, kind: &str, event: &Value, at: u64) {
        self.records += 1;
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        match kind {
            "started" => self.started.push(at),
            "granted" => drop(self.granted.insert(text("grant"))),
            "redeemed" => {
                let before = self.redeemed.insert(text("grant"), text("lease"));
                assert_eq!(before, None, "a grant bought two tokens");
                self.begun.insert(text("lease"), at);
            }
            "renewed" => *self.renewed.entry(text("lease")).or_default() += 1,
            "lease-ended" => assert!(self.ended.insert(text("lease")), "a lease ended twice"),
            "ask-decided" => drop(self.decided.insert(text("ask"), event["approved"].as_bool().unwrap())),
            "operator" => *self.operated.entry((text("action"), text("subject"))).or_default() += 1,
            _ => {}
        }
    }

    /// Everything that a client was told to have been done.
    pub(crate) fn holds_all_of(&self, book: &Pages) {
        let missing =
            |which: &str, missing: Vec<&String>| assert!(missing.is_empty(), "{which} not in the audit: {missing:?}");
        missing("grants", book.granted.difference(&self.granted).collect());
        let leases: BTreeSet<String> = self.redeemed.values().cloned().collect();
        missing("redemptions", book.redeemed.difference(&leases).collect());
        let without_end: BTreeMap<_, _> =
            book.given_back.iter().filter(|(lease, _)| !self.ended.contains(*lease)).collect();
        // Leases are the running vault's: with a vault that is killed all of its leases end, and the next one says only that it
        // was started. A worker is told by its broker, which then reports to the vault until it is heard.
        let with_vault = |lease: &str, told: u64| {
            let begun = self.begun.get(lease).copied().unwrap_or(u64::MAX);
            self.started.iter().any(|started| (begun..=told + REPORTED).contains(started))
        };
        let (with_vault, ends): (Vec<_>, Vec<_>) =
            without_end.into_iter().partition(|(lease, told)| with_vault(lease, **told));
        missing("ends of leases", ends.into_iter().map(|(lease, _)| lease).collect());
        println!("{} leases ended with their vault before it heard that they were given back", with_vault.len());
        let fewer = |(lease, times): &(&String, &u64)| self.renewed.get(*lease).is_none_or(|known| known < times);
        missing("renewals", book.renewed.iter().filter(fewer).map(|(lease, _)| lease).collect());
        let otherwise = |(ask, approved): &(&String, &bool)| self.decided.get(*ask) != Some(approved);
        missing("decisions", book.decided.iter().filter(otherwise).map(|(ask, _)| ask).collect());
        for (what, times) in &book.operated {
            let known = self.operated.get(what).copied().unwrap_or_default();
            assert!(known >= *times, "{what:?} was accepted {times} times and is {known} times in the audit");
        }
        println!("audit: {} records, all {} accepted operations among them", self.records, book.accepted());
    }
}

/// A broker reports the end of a lease within so many milliseconds, or the vault was killed and started meanwhile.
const REPORTED: u64 = 30_000;

/// Of a moment as people write it.
fn milliseconds(moment: &str) -> u64 {
    let nanoseconds = OffsetDateTime::parse(moment, &Rfc3339).unwrap().unix_timestamp_nanos();
    (nanoseconds / 1_000_000).try_into().unwrap()
}

/// No token is good but those that died with a vault which was killed.
pub(crate) fn no_token_is_left(server: &OauthServer, orphaned: &BTreeSet<String>) -> bool {
    let tokens = server.tokens();
    tokens.iter().all(|(token, standing)| *standing == Standing::Revoked || orphaned.contains(token))
}

/// Memory and descriptors of each process in the time without kills.
pub(crate) fn nothing_grows(gauge: &Gauge, quiet_from: f64, before: &[Sample], after: &[Sample]) {
    let kibibytes = |sample: &Sample| sample.resident;
    let descriptors = |sample: &Sample| sample.descriptors as u64;
    println!("without kills for {:.0} s:", gauge.seconds() - quiet_from);
    for Bound { who, growth, at_most } in BOUNDS {
        let seen = gauge.since(who, quiet_from);
        // What is filled once is filled by then.
        let early = median(&seen[seen.len() / 4..seen.len() / 2], kibibytes);
        let late = median(&seen[seen.len() * 3 / 4..], kibibytes);
        let idle = |samples: &[Sample]| samples.iter().find(|sample| sample.who == who).map(descriptors).unwrap();
        println!(
            "  {who}: {early} KiB, then {late} KiB, {:+.0} KiB a minute; {} descriptors under load, {} idle, {} before",
            slope(&seen) * 60.0,
            median(&seen, descriptors),
            idle(after),
            idle(before),
        );
        assert!(late <= at_most, "{who} has {late} KiB");
        assert!(late <= early + growth, "{who} grew from {early} KiB to {late} KiB");
    }
}

/// How much of memory somebody may have, and by how much more than before.
struct Bound {
    who: &'static str,
    /// KiB, from the second quarter of the time to the last.
    growth: u64,
    /// KiB.
    at_most: u64,
}

const BOUNDS: [Bound; 5] = [
    // Its database keeps up to 64 MiB of pages.
    Bound { who: "front", growth: 32 * 1024, at_most: 128 * 1024 },
    Bound { who: "vault", growth: 3 * 1024, at_most: 64 * 1024 },
    Bound { who: "device of the vault", growth: 1024, at_most: 32 * 1024 },
    Bound { who: "broker", growth: 2 * 1024, at_most: 64 * 1024 },
    Bound { who: "device of the broker", growth: 1024, at_most: 32 * 1024 },
];

fn median(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// KiB a second, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let (mean_x, mean_y) = (
        samples.iter().map(|sample| sample.at).sum::<f64>() / count,
        samples.iter().map(|sample| sample.resident as f64).sum::<f64>() / count,
    );
    let (mut above, mut below) = (0.0, f64::EPSILON);
    for sample in samples {
        above += (sample.at - mean_x) * (sample.resident as f64 - mean_y);
        below += (sample.at - mean_x).powi(2);
    }
    above / below
}

#[test]
fn what_grows_is_seen() {
    let sample = |at: u64| Sample { who: "somebody", at: at as f64, resident: 1000 + 10 * at, descriptors: 3 };
    let samples: Vec<Sample> = (0..60).map(sample).collect();
    assert!((slope(&samples) - 10.0).abs() < 1e-9);
    assert!(
        median(&samples[45..], |sample| sample.resident) > median(&samples[15..30], |sample| sample.resident) + 200
    );
}

#[test]
fn what_is_missing_in_the_audit_is_seen() {
    let mut book = Pages::default();
    book.granted.insert("a grant".to_owned());
    book.operated.insert(("put".to_owned(), "api".to_owned()), 2);
    let mut audit = Audit::default();
    let wrong = |audit: &Audit, book: &Pages| std::panic::catch_unwind(|| audit.holds_all_of(book)).is_err();
    audit.take("granted", &json!({"grant": "a grant"}), 1);
    let put = json!({"action": "put", "subject": "api"});
    audit.take("operator", &put, 2);
    assert!(wrong(&audit, &book), "one of two");
    audit.take("operator", &put, 3);
    audit.holds_all_of(&book);
    book.redeemed.insert("a lease".to_owned());
    assert!(wrong(&audit, &book));
    audit.take("redeemed", &json!({"grant": "a grant", "lease": "a lease"}), 4);
    audit.holds_all_of(&book);

    // Given back at 9: a vault that was started long after that did not end it, and one before it began neither.
    book.given_back.insert("a lease".to_owned(), 9);
    for (started, is_wrong) in [(3, true), (10 + REPORTED, true), (7, false)] {
        audit.take("started", &json!({"notes": ""}), started);
        assert_eq!(wrong(&audit, &book), is_wrong, "a vault that was started at {started}");
    }
}
