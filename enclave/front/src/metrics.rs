//! What is counted, as Prometheus' text: the vault's figures and the front's own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use blindferry_proto::front::{Condition, Durations, Figure};
use blindferry_traces::Traces;
use blindferry_watch::exposition::Exposition;
use blindferry_watch::figures::{Counted, Histogram};
use blindferry_watch::names::ENCLAVE;
use blindferry_watch::resident::Resident;

use crate::pulse::{Pulse, Vital};
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
    /// From the vault's wish for a connection to its end, good or bad.
    pub dials: Histogram,
}

/// What is looked at when somebody asks, rather than counted.
#[derive(Debug, Default)]
pub struct Sizes {
    /// Memory of the processes of the enclave, by what they are.
    pub processes: Vec<(&'static str, Resident)>,
    /// The store's file.
    pub store: PathBuf,
    /// Where spans go, if anywhere.
    pub traces: Option<Traces>,
}

/// Writes all figures. Of the vault's, those that are no metric of the table are left out, and so are those that say they
/// are ours.
#[must_use]
pub fn text(condition: &Condition, counters: &Counters, store: &StoreFigures, pulse: &Pulse, sizes: &Sizes) -> String {
    let mut all = Exposition::new(ENCLAVE);
    for Figure { name, label, value, .. } in &condition.figures {
        if !name.as_str().starts_with("front_") {
            all.number(name.as_str(), label.as_ref().map(|label| label.as_str()), *value);
        }
    }
    for Durations { step, buckets, microseconds } in &condition.steps {
        if let Ok(buckets) = buckets.as_slice().try_into() {
            all.histogram("step_seconds", step.as_str(), Counted { buckets, microseconds: *microseconds });
        }
    }
    let answers = pulse.vital() == Vital::Answers;
    let able = answers && !pulse.is_stopping() && !store.refusing.load(Ordering::Relaxed);
    all.number("ready", None, (condition.ready && able).into());
    all.number("front_vault_answers", None, answers.into());

    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    all.number("front_accepted_total", None, read(&counters.accepted));
    all.number("front_refused_total", Some("full"), read(&counters.refused_full));
    all.number("front_refused_total", Some("source"), read(&counters.refused_source));
    all.number("front_refused_total", Some("busy"), read(&counters.refused_busy));
    all.number("front_dials_total", Some("connected"), read(&counters.dialled));
    all.number("front_dials_total", Some("failed"), read(&counters.not_dialled));
    all.number("front_store_commits_total", None, read(&store.committed));
    all.number("front_store_groups_total", None, read(&store.groups));
    all.number("front_store_failures_total", None, read(&store.failed));
    all.histogram("front_step_seconds", "dial", counters.dials.counted());
    all.histogram("front_step_seconds", "store-read", store.reads.counted());
    all.histogram("front_step_seconds", "store-commit", store.commits.counted());
    all.histogram("front_step_seconds", "vault-answer", pulse.answers.counted());

    for (outcome, spans) in sizes.traces.iter().flat_map(Traces::counted) {
        all.number("front_spans_total", Some(outcome), spans);
    }
    if let Ok(found) = std::fs::metadata(&sizes.store) {
        all.number("front_store_bytes", None, found.len());
    }
    for (name, process) in &sizes.processes {
        if let Some(bytes) = process.bytes() {
            all.number("resident_bytes", Some(name), bytes);
        }
    }
    all.written()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;
    use blindferry_watch::figures::BUCKETS;

    fn written(condition: &Condition) -> String {
        text(condition, &Counters::default(), &StoreFigures::default(), &Pulse::default(), &Sizes::default())
    }

    fn figure(name: &str, label: Option<&str>, value: u64, counter: bool) -> Figure {
        Figure { name: Text::cut(name), label: label.map(Text::cut), value, counter }
    }

    #[test]
    fn the_vaults_figures_cannot_pass_for_the_fronts_own_or_invent_others() {
        let figures = vec![
            figure("front_accepted_total", None, 9, true),
            figure("invented", None, 1, false),
            figure("ready", None, 1, false),
        ];
        let text = written(&Condition { ready: false, figures, steps: Vec::new() });
        assert!(text.contains("blindferry_front_accepted_total 0\n"), "{text}");
        assert!(!text.contains("invented") && text.contains("blindferry_ready 0\n"), "{text}");
    }

    #[test]
    fn steps_with_other_buckets_than_ours_are_left_out() {
        let durations = |step: &str, buckets: usize| Durations {
            step: Text::cut(step),
            buckets: vec![1; buckets],
            microseconds: 5,
        };
        let steps = vec![durations("ask", BUCKETS), durations("redeem", BUCKETS - 1)];
        let text = written(&Condition { ready: true, figures: Vec::new(), steps });
        assert!(text.contains("blindferry_step_seconds_sum{kind=\"ask\"} 0.000005\n"), "{text}");
        assert!(!text.contains("kind=\"redeem\""), "{text}");
    }

    #[test]
    fn a_vault_that_does_not_answer_is_not_ready_whatever_it_said_before() {
        let ready = Condition { ready: true, ..Condition::default() };
        let text = written(&ready);
        assert!(text.contains("blindferry_ready 0\n") && text.contains("blindferry_front_vault_answers 0\n"), "{text}");
    }
}
