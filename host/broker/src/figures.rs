//! What the broker counts, and that as Prometheus' text.

use crate::admission::Admission;
use blindferry_device::client::Device;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::BrokerRequest;
use blindferry_traces::Traces;
use blindferry_watch::exposition::Exposition;
use blindferry_watch::figures::{Step, Steps};
use blindferry_watch::names::BROKER;
use blindferry_watch::resident::Resident;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The steps that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From dialling to a session that stands.
    Session,
    /// A request of each sort to the vault, until its answer.
    Ask,
    /// As above.
    Delivered,
    /// As above.
    Redeem,
    /// As above.
    Acknowledge,
    /// As above.
    Renew,
    /// As above.
    Keep,
    /// As above.
    End,
    /// As above.
    Collect,
    /// As above.
    Withdraw,
}

impl Step for Kind {
    const ALL: &'static [Self] = &[
        Self::Session,
        Self::Ask,
        Self::Delivered,
        Self::Redeem,
        Self::Acknowledge,
        Self::Renew,
        Self::Keep,
        Self::End,
        Self::Collect,
        Self::Withdraw,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Ask => "ask",
            Self::Delivered => "delivered",
            Self::Redeem => "redeem",
            Self::Acknowledge => "acknowledge",
            Self::Renew => "renew",
            Self::Keep => "keep",
            Self::End => "end",
            Self::Collect => "collect",
            Self::Withdraw => "withdraw",
        }
    }
}

impl From<&BrokerRequest> for Kind {
    fn from(request: &BrokerRequest) -> Self {
        match request {
            BrokerRequest::Ask(_) => Self::Ask,
            BrokerRequest::Delivered(_) => Self::Delivered,
            BrokerRequest::Redeem(_) => Self::Redeem,
            BrokerRequest::Acknowledge { .. } => Self::Acknowledge,
            BrokerRequest::Renew(_) => Self::Renew,
            BrokerRequest::Keep { .. } => Self::Keep,
            BrokerRequest::End { .. } => Self::End,
            BrokerRequest::Collect { .. } => Self::Collect,
            BrokerRequest::Withdraw { .. } => Self::Withdraw,
        }
    }
}

/// What is counted on the way.
#[derive(Debug, Default)]
pub struct Figures {
    /// How long steps take.
    pub steps: Steps<Kind>,
    /// Whether a session stands.
    stands: AtomicBool,
    sessions: AtomicU64,
    calls: AtomicU64,
    reports: AtomicU64,
    failed_dials: Counted,
    refusals: Counted,
}

/// Counts by a word of the code.
type Counted = Mutex<BTreeMap<&'static str, u64>>;

impl Figures {
    /// A session came to stand.
    pub fn session_stands(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.stands.store(true, Ordering::Relaxed);
    }

    /// It is over.
    pub fn session_over(&self) {
        self.stands.store(false, Ordering::Relaxed);
    }

    /// Whether one stands.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.stands.load(Ordering::Relaxed)
    }

    /// An attempt at a session failed.
    pub fn dial_failed(&self, why: &'static str) {
        count(&self.failed_dials, why);
    }

    /// A local peer was refused something.
    pub fn refused(&self, code: RefusalCode) {
        count(&self.refusals, code.as_str());
    }

    /// A request goes to the vault; it is under way until the guard is dropped.
    pub(crate) fn calling(&self) -> Calling<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Calling(self)
    }

    /// A connection reports something; it is under way until the guard is dropped.
    pub(crate) fn reporting(self: &Arc<Self>) -> Reporting {
        self.reports.fetch_add(1, Ordering::Relaxed);
        Reporting(Arc::clone(self))
    }

    /// Whether the vault has heard of everything that connections had to report, or will not.
    #[must_use]
    pub fn is_reported(&self) -> bool {
        self.reports.load(Ordering::Relaxed) == 0
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Calling<'a>(&'a Figures);

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A report that is under way.
#[derive(Debug)]
pub(crate) struct Reporting(Shared);

impl Drop for Reporting {
    fn drop(&mut self) {
        self.0.reports.fetch_sub(1, Ordering::Relaxed);
    }
}

fn count(counted: &Counted, what: &'static str) {
    *counted.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
}

/// The places of one broker.
#[derive(Clone, Debug)]
pub struct Places {
    /// Of connections of parents.
    pub parents: Admission,
    /// Of connections of workers.
    pub workers: Admission,
    /// Of leases.
    pub leases: Admission,
}

/// What is looked at when somebody asks, rather than counted.
#[derive(Debug, Default)]
pub struct Sizes {
    /// The device process.
    pub device: Option<Device>,
    /// Memory of the processes, by what they are.
    pub processes: Vec<(&'static str, Resident)>,
    /// Where spans go, if anywhere.
    pub traces: Option<Traces>,
}

/// All of it.
#[must_use]
pub fn text(figures: &Figures, places: &Places, sizes: &Sizes) -> String {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let copy = |counted: &Counted| counted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut all = Exposition::new(BROKER);
    all.number("broker_session", None, figures.has_session().into());
    all.number("broker_sessions_total", None, read(&figures.sessions));
    all.number("broker_calls_waiting", None, read(&figures.calls));
    for (why, count) in copy(&figures.failed_dials) {
        all.number("broker_dials_failed_total", Some(why), count);
    }
    for (code, count) in copy(&figures.refusals) {
        all.number("broker_refusals_total", Some(code), count);
    }
    all.number("broker_leases", None, number(places.leases.taken()));
    for (name, places) in [("parents", &places.parents), ("workers", &places.workers)] {
        all.number("broker_connections", Some(name), number(places.taken()));
        all.number("broker_connections_refused_total", Some(name), places.refused());
    }
    for (step, counted) in figures.steps.counted() {
        all.histogram("broker_step_seconds", step, counted);
    }
    if let Some(device) = &sizes.device {
        all.number("broker_tpm_waiting", None, number(device.waiting()));
        all.histogram("broker_step_seconds", "tpm", device.took());
    }
    for (outcome, spans) in sizes.traces.iter().flat_map(Traces::counted) {
        all.number("broker_spans_total", Some(outcome), spans);
    }
    for (name, process) in &sizes.processes {
        if let Some(bytes) = process.bytes() {
            all.number("broker_resident_bytes", Some(name), bytes);
        }
    }
    all.written()
}

/// Figures that both ends of an uplink share.
pub type Shared = Arc<Figures>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let figures = Figures::default();
        let places =
            Places { parents: Admission::new(1, 1), workers: Admission::new(1, 1), leases: Admission::new(9, 9) };
        figures.session_stands();
        figures.refused(RefusalCode::Denied);
        figures.dial_failed("late");
        let (_first, refused) = (places.parents.admit(7).unwrap(), places.parents.admit(7).is_err());
        assert!(refused);
        let calling = figures.calling();
        let told = text(&figures, &places, &Sizes::default());
        for line in [
            concat!("blindferry_broker_session", " 1"),
            "blindferry_broker_sessions_total 1",
            "blindferry_broker_calls_waiting 1",
            "blindferry_broker_refusals_total{kind=\"denied\"} 1",
            "blindferry_broker_dials_failed_total{kind=\"late\"} 1",
            "blindferry_broker_connections{kind=\"parents\"} 1",
            "blindferry_broker_connections_refused_total{kind=\"parents\"} 1",
            "blindferry_broker_leases 0",
        ] {
            assert!(told.contains(&format!("{line}\n")), "{line}: {told}");
        }
        drop(calling);
        figures.session_over();
        let told = text(&figures, &places, &Sizes::default());
        assert!(
            told.contains("blindferry_broker_calls_waiting 0\n")
                && told.contains(concat!("blindferry_broker_session", " 0\n"))
        );
    }
}
