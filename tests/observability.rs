//! Do documents, alert rules and dashboard speak of the metrics and log lines that there are, and of all of them?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_tests::program::missing;
use blindferry_tests::sources::{Source, file, root, rust};
use blindferry_watch::names::{BROKER, ENCLAVE, Kind, Metric};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_documented_metrics_are_those_that_are_served() {
    let text = file("docs/operating/watching.md").text;
    let (_, section) = text.split_once("\n### Metrics\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `blindferry_"));
    let documented: BTreeSet<(String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())
        })
        .collect();
    let kind = |metric: &Metric| match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let label = |metric: &Metric| if metric.labelled { "{kind}" } else { "" };
    let served = ENCLAVE.iter().chain(BROKER);
    let served = served.map(|one| (format!("blindferry_{}{}", one.name, label(one)), kind(one).to_owned())).collect();
    assert_eq!(documented, served);
}

#[test]
fn the_documented_events_are_those_that_are_written() {
    let text = file("docs/operating/watching.md").text;
    let (_, section) = text.split_once("\n### Logs\n").unwrap();
    let (_, table) = section.split_once("| event | of |").unwrap();
    let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let documented: BTreeSet<String> = first_cells.flat_map(in_backticks).collect();

    let mut written = BTreeSet::from(["unnamed".to_owned(), "alarm".to_owned()]);
    let folders = [
        "enclave/front/src/",
        "enclave/vault/src/",
        "host/broker/src/",
        "host/starter/src/",
        "process/watch/traces/src/",
    ];
    for source in rust().iter().filter(|source| folders.iter().any(|folder| source.path.starts_with(folder))) {
        written.extend(events(source));
    }
    assert!(written.len() > 40, "{written:?}");
    assert_eq!(documented, written);
}

#[test]
fn rules_and_dashboard_name_no_metric_that_is_not_served() {
    let known: BTreeSet<String> = ENCLAVE.iter().chain(BROKER).flat_map(series).collect();
    let rules = fs::read_to_string(root().join("deploy/observability/alerts.yml")).unwrap();
    let dashboard = fs::read_to_string(root().join("deploy/observability/dashboard.json")).unwrap();
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = parsed["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()) && panels.len() > 10);
    for (name, text) in [("alerts.yml", &rules), ("dashboard.json", &dashboard)] {
        let named: Vec<String> = metrics_in(text).collect();
        assert!(named.len() > 10, "{name}: {named:?}");
        for metric in named {
            assert!(known.contains(&metric), "{name} speaks of {metric}");
        }
    }
    let invented: Vec<String> = metrics_in("rate(blindferry_invented_total[5m])").collect();
    assert_eq!(invented, ["blindferry_invented_total"], "what is not served would be noticed");
}

#[test]
fn alert_rules_fire_when_they_should_and_not_before() {
    if missing(&["promtool"]) {
        return;
    }
    let from = root().join("deploy/observability");
    assert!(promtool(&from, &["check", "config", "prometheus.yml"]), "prometheus.yml");
    assert!(promtool(&from, &["test", "rules", "alerts_test.yml"]), "alerts_test.yml");

    // The tests are able to fail: a rule that never fires, and one that always does.
    let rules = fs::read_to_string(from.join("alerts.yml")).unwrap();
    let alarm = "expr: increase(blindferry_alarms_total[10m]) > 0";
    for wrong in ["expr: increase(blindferry_alarms_total[10m]) > 5", "expr: blindferry_alarms_total >= 0"] {
        let changed = rules.replace(alarm, wrong);
        assert_ne!(changed, rules);
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("alerts.yml"), changed).unwrap();
        fs::copy(from.join("alerts_test.yml"), directory.path().join("alerts_test.yml")).unwrap();
        assert!(!promtool(directory.path(), &["test", "rules", "alerts_test.yml"]), "{wrong}");
    }
}

fn promtool(directory: &Path, arguments: &[&str]) -> bool {
    Command::new("promtool").args(arguments).current_dir(directory).output().unwrap().status.success()
}

/// The names of the time series of a metric.
fn series(metric: &Metric) -> Vec<String> {
    let name = format!("blindferry_{}", metric.name);
    match metric.kind {
        Kind::Histogram => ["bucket", "sum", "count"].map(|end| format!("{name}_{end}")).to_vec(),
        Kind::Counter | Kind::Gauge => vec![name],
    }
}

/// Every word that is the name of a metric of ours.
fn metrics_in(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
        .filter(|word| word.starts_with("blindferry_"))
        .map(str::to_owned)
}

fn in_backticks(text: &str) -> Vec<String> {
    format!("`{text}").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The events that a file writes: each macro of `tracing` with its name, each line of vault and starter.
fn events(source: &Source) -> Vec<String> {
    let code: String = source.production().lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut found = Vec::new();
    for macro_name in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
        for (at, _) in code.match_indices(macro_name) {
            let inside = code[at + macro_name.len()..].trim_start();
            let name = inside.strip_prefix("name: \"").and_then(|rest| rest.split('"').next());
            let line: String = inside.chars().take(60).collect();
            found.push(name.unwrap_or_else(|| panic!("{}: an event without a name: {line}", source.path)).to_owned());
        }
    }
    for call in ["log::error(", "log::warning(", "log::info(", " log("] {
        for (at, _) in code.match_indices(call) {
            let inside = code[at + call.len()..].trim_start();
            if inside.starts_with('"') || inside.starts_with("Level::") {
                found.push(inside.split('"').nth(1).unwrap().to_owned());
            }
        }
    }
    found
}
