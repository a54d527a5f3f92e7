//! Metrics in Prometheus' text format 0.0.4: the vault's figures and the front's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use blindferry_proto::front::Figure;

use crate::store::StoreFigures;

/// What the front counts besides the store.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections given to the vault.
    pub accepted: AtomicU64,
    /// Connections refused because as many as may be are open.
    pub refused_full: AtomicU64,
    /// Connections refused because their source has as many as it may.
    pub refused_source: AtomicU64,
    /// Connections dropped because the vault does not take them fast enough.
    pub refused_busy: AtomicU64,
    /// Upstream connections made.
    pub dialled: AtomicU64,
    /// Upstream connections not made.
    pub not_dialled: AtomicU64,
}

/// The media type of [`text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes all figures, each family once with its type. Of the vault's figures, those whose name is not a metric's name
/// are left out, and so is a family that says it is ours.
#[must_use]
pub fn text(figures: &[Figure], counters: &Counters, store: &StoreFigures) -> String {
    let mut families = Families::default();
    for figure in figures {
        let name = figure.name.as_str();
        if is_name(name) && !name.starts_with("front_") {
            families.add(
                name,
                figure.counter,
                figure.label.as_ref().map(|label| label.as_str()),
                figure.value.to_string(),
            );
        }
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    families.add("front_accepted_total", true, None, read(&counters.accepted));
    families.add("front_refused_total", true, Some("full"), read(&counters.refused_full));
    families.add("front_refused_total", true, Some("source"), read(&counters.refused_source));
    families.add("front_refused_total", true, Some("busy"), read(&counters.refused_busy));
    families.add("front_dials_total", true, Some("connected"), read(&counters.dialled));
    families.add("front_dials_total", true, Some("failed"), read(&counters.not_dialled));
    families.add("front_store_commits_total", true, None, read(&store.committed));
    families.add("front_store_groups_total", true, None, read(&store.groups));
    families.add("front_store_failures_total", true, None, read(&store.failed));
    families.add("front_store_seconds_count", true, None, read(&store.answered));
    families.add("front_store_seconds_sum", true, None, seconds(store.microseconds.load(Ordering::Relaxed)));
    families.written()
}

/// By name: whether it only grows, and the value for each label. A later figure of the same name and label replaces the
/// earlier, since a scrape with a sample twice is refused as a whole.
#[derive(Default)]
struct Families<'a>(BTreeMap<&'a str, (bool, BTreeMap<Option<&'a str>, String>)>);

impl<'a> Families<'a> {
    fn add(&mut self, name: &'a str, counter: bool, label: Option<&'a str>, value: String) {
        self.0.entry(name).or_insert((counter, BTreeMap::new())).1.insert(label, value);
    }

    fn written(&self) -> String {
        let mut text = String::new();
        for (name, (counter, samples)) in &self.0 {
            let kind = if *counter { "counter" } else { "gauge" };
            // Writing to a String does not fail.
            let _ = writeln!(text, "# TYPE blindferry_{name} {kind}");
            for (label, value) in samples {
                let _ = match label {
                    Some(label) => writeln!(text, "blindferry_{name}{{kind=\"{}\"}} {value}", escaped(label)),
                    None => writeln!(text, "blindferry_{name} {value}"),
                };
            }
        }
        text
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// Microseconds as seconds in decimals, exactly.
fn seconds(microseconds: u64) -> String {
    format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;

    fn figure(name: &str, label: Option<&str>, value: u64, counter: bool) -> Figure {
        Figure { name: Text::cut(name), label: label.map(Text::cut), value, counter }
    }

    #[test]
    fn figures_are_grouped_in_families_with_one_type_line_each() {
        let figures = [
            figure("refusals_total", Some("denied"), 3, true),
            figure("sessions", None, 2, false),
            figure("refusals_total", Some("busy"), 1, true),
        ];
        let text = text(&figures, &Counters::default(), &StoreFigures::default());
        assert!(text.contains(
            "# TYPE blindferry_refusals_total counter\nblindferry_refusals_total{kind=\"busy\"} 1\n\
             blindferry_refusals_total{kind=\"denied\"} 3\n# TYPE blindferry_sessions gauge\nblindferry_sessions 2\n"
        ));
        assert_eq!(text.matches("# TYPE blindferry_refusals_total ").count(), 1);
    }

    #[test]
    fn a_figure_cannot_break_out_of_its_line_or_pass_for_the_fronts_own() {
        let figures = [
            figure("bad name", None, 1, true),
            figure("9bad", None, 1, true),
            figure("x\ny", None, 1, true),
            figure("front_accepted_total", None, 9, true),
            figure("label", Some("a\"} 1\nb\\"), 5, true),
        ];
        let text = text(&figures, &Counters::default(), &StoreFigures::default());
        assert!(!text.contains("bad") && !text.contains("x\ny"));
        assert!(text.contains("blindferry_front_accepted_total 0\n"));
        assert!(text.contains("blindferry_label{kind=\"a\\\"} 1\\nb\\\\\"} 5\n"));
    }

    #[test]
    fn the_stores_latency_is_in_seconds_to_the_microsecond() {
        let store = StoreFigures::default();
        store.microseconds.store(2_000_034, Ordering::Relaxed);
        store.answered.store(7, Ordering::Relaxed);
        let text = text(&[], &Counters::default(), &store);
        assert!(text.contains("blindferry_front_store_seconds_sum 2.000034\n"));
        assert!(text.contains("blindferry_front_store_seconds_count 7\n"));
    }
}
