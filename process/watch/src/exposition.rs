//! Prometheus' text format 0.0.4: each family once, with what it is and what it says.

use crate::figures::{BOUNDS, Counted};
use crate::names::{Kind, Metric};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The media type of [`Exposition::written`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Values that a label may have in one family. Those after are left out: a time series costs whoever scrapes.
pub const LABELS: usize = 256;

/// Collects samples of the metrics of one table; what is not in the table, or not of its kind, is left out.
#[derive(Debug)]
pub struct Exposition<'a> {
    table: &'static [Metric],
    numbers: BTreeMap<(&'a str, Option<&'a str>), u64>,
    histograms: BTreeMap<(&'a str, &'a str), Counted>,
}

impl<'a> Exposition<'a> {
    /// None yet.
    #[must_use]
    pub fn new(table: &'static [Metric]) -> Self {
        Self { table, numbers: BTreeMap::new(), histograms: BTreeMap::new() }
    }

    /// A counter or gauge. A later one of the same name and label replaces the earlier, since a scrape with a sample twice
    /// is refused as a whole.
    pub fn number(&mut self, name: &'a str, label: Option<&'a str>, value: u64) {
        self.numbers.insert((name, label), value);
    }

    /// A histogram.
    pub fn histogram(&mut self, name: &'a str, label: &'a str, counted: Counted) {
        self.histograms.insert((name, label), counted);
    }

    /// The text. A counter without a label that nobody counted is 0, so that its first increase is seen.
    #[must_use]
    pub fn written(&self) -> String {
        let mut text = String::new();
        for metric in self.table {
            let samples = match metric.kind {
                Kind::Histogram => self.durations(metric.name),
                Kind::Counter | Kind::Gauge => self.values(metric),
            };
            if !samples.is_empty() {
                let kind = match metric.kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Histogram => "histogram",
                };
                let Metric { name, help, .. } = metric;
                // Writing to a String does not fail.
                let _ = write!(text, "# HELP blindferry_{name} {help}\n# TYPE blindferry_{name} {kind}\n{samples}");
            }
        }
        text
    }

    fn values(&self, metric: &Metric) -> String {
        let name = metric.name;
        let mut text = String::new();
        if !metric.labelled {
            let counted = self.numbers.get(&(name, None)).copied();
            if let Some(value) = counted.or((metric.kind == Kind::Counter).then_some(0)) {
                let _ = writeln!(text, "blindferry_{name} {value}");
            }
            return text;
        }
        let all = self.numbers.range((name, None)..).take_while(|((of, _), _)| *of == name);
        let labelled = all.filter_map(|((_, label), value)| Some(((*label)?, value)));
        for (label, value) in labelled.take(LABELS) {
            let _ = writeln!(text, "blindferry_{name}{{kind=\"{}\"}} {value}", escaped(label));
        }
        text
    }

    fn durations(&self, name: &str) -> String {
        let mut text = String::new();
        let all = self.histograms.range((name, "")..).take_while(|((of, _), _)| *of == name);
        for ((_, label), counted) in all.take(LABELS) {
            let label = escaped(label);
            let mut below = 0_u64;
            let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(counted.buckets) {
                below = below.saturating_add(count);
                let _ = writeln!(text, "blindferry_{name}_bucket{{kind=\"{label}\",le=\"{bound}\"}} {below}");
            }
            let sum = seconds(counted.microseconds);
            let _ = writeln!(text, "blindferry_{name}_sum{{kind=\"{label}\"}} {sum}");
            let _ = writeln!(text, "blindferry_{name}_count{{kind=\"{label}\"}} {below}");
        }
        text
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// Microseconds as seconds in decimals, exactly, without zeros at the end.
fn seconds(microseconds: u64) -> String {
    let text = format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Histogram;
    use crate::names::{BROKER, ENCLAVE};
    use std::time::Duration;

    #[test]
    fn samples_are_grouped_in_families_that_say_once_what_they_are() {
        let mut exposition = Exposition::new(ENCLAVE);
        exposition.number("refusals_total", Some("denied"), 3);
        exposition.number("sessions", None, 2);
        exposition.number("refusals_total", Some("busy"), 1);
        let text = exposition.written();
        assert!(
            text.contains(
                "# TYPE blindferry_refusals_total counter\nblindferry_refusals_total{kind=\"busy\"} 1\n\
                 blindferry_refusals_total{kind=\"denied\"} 3\n"
            ),
            "{text}"
        );
        assert!(text.contains("# TYPE blindferry_sessions gauge\nblindferry_sessions 2\n"));
        assert_eq!(text.matches("# TYPE blindferry_refusals_total ").count(), 1);
        assert!(text.contains("blindferry_grants_total 0\n") && !text.contains("blindferry_leases "), "{text}");
    }

    #[test]
    fn a_sample_cannot_break_out_of_its_line_or_invent_a_family() {
        let mut exposition = Exposition::new(ENCLAVE);
        exposition.number("invented", None, 1);
        exposition.number("x\ny", None, 1);
        exposition.number("refusals_total", Some("a\"} 1\nb\\"), 5);
        let many: Vec<String> = (0..2 * LABELS).map(|number| format!("code-{number}")).collect();
        many.iter().for_each(|label| exposition.number("mint_failures_total", Some(label), 1));
        let text = exposition.written();
        assert!(!text.contains("invented") && !text.contains("x\ny"));
        assert!(text.contains("blindferry_refusals_total{kind=\"a\\\"} 1\\nb\\\\\"} 5\n"), "{text}");
        assert_eq!(text.matches("blindferry_mint_failures_total{").count(), LABELS);
    }

    #[test]
    fn buckets_pile_up_and_sums_are_in_seconds_to_the_microsecond() {
        let histogram = Histogram::default();
        for microseconds in [10, 60, 2_000_034, 100_000_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let mut exposition = Exposition::new(BROKER);
        exposition.histogram("broker_step_seconds", "ask", histogram.counted());
        let text = exposition.written();
        for line in [
            "_bucket{kind=\"ask\",le=\"0.00005\"} 1",
            "_bucket{kind=\"ask\",le=\"0.0001\"} 2",
            "_bucket{kind=\"ask\",le=\"2.5\"} 3",
            "_bucket{kind=\"ask\",le=\"60\"} 3",
            "_bucket{kind=\"ask\",le=\"+Inf\"} 4",
            "_sum{kind=\"ask\"} 102.000104",
            "_count{kind=\"ask\"} 4",
        ] {
            assert!(text.contains(&format!("blindferry_broker_step_seconds{line}\n")), "{line}: {text}");
        }
    }

    #[test]
    fn names_follow_the_conventions_and_none_is_there_twice() {
        let all: Vec<&Metric> = ENCLAVE.iter().chain(BROKER).collect();
        for metric in &all {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Histogram, metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", metric.name);
            assert_eq!(all.iter().filter(|other| other.name == metric.name).count(), 1, "{}", metric.name);
            assert!(metric.kind != Kind::Histogram || metric.labelled, "{}", metric.name);
        }
    }
}
