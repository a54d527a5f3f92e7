//! What the vault reported last, asked for only while somebody looks, and at most once a second whoever looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use blindferry_proto::front::FromFront;
use blindferry_proto::report::Report;
use tokio::sync::watch;
use tokio::time::timeout;

use super::entrance::Looker;
use crate::link::Outbox;

/// Where reports come from.
#[derive(Debug)]
pub struct Reports {
    outbox: Outbox,
    latest: watch::Receiver<Option<Reported>>,
    asked: Mutex<Option<Instant>>,
}

/// What the vault said, and when it arrived.
#[derive(Clone, Debug)]
pub struct Reported {
    report: Option<Arc<Report>>,
    at: Instant,
}

/// What there is to be shown.
#[derive(Clone, Debug)]
pub enum Latest {
    /// How everything is.
    Report(Arc<Report>),
    /// The vault reports no longer: an operator has to ask for the page anew.
    Closed,
    /// The vault does not answer.
    Silent,
}

impl Reported {
    /// What the vault said just now.
    #[must_use]
    pub fn now(report: Option<Box<Report>>) -> Self {
        Self { report: report.map(Arc::from), at: Instant::now() }
    }
}

impl Reports {
    /// Asks through `outbox`, and finds the answers in `latest`.
    #[must_use]
    pub fn new(outbox: Outbox, latest: watch::Receiver<Option<Reported>>) -> Self {
        Self { outbox, latest, asked: Mutex::new(None) }
    }

    /// The newest report, asked for if the last one is a second old.
    pub async fn latest(&self, _: &Looker) -> Latest {
        let mut latest = self.latest.clone();
        let fresh = latest.borrow_and_update().as_ref().is_some_and(|reported| reported.at.elapsed() < FRESH);
        if !fresh {
            if self.shall_ask(Instant::now()) {
                self.outbox.answer(FromFront::Report, None).await;
            }
            if !matches!(timeout(PATIENCE, latest.changed()).await, Ok(Ok(()))) {
                return Latest::Silent;
            }
        }
        let reported = latest.borrow().clone();
        match reported.map(|reported| reported.report) {
            Some(Some(report)) => Latest::Report(report),
            Some(None) => Latest::Closed,
            None => Latest::Silent,
        }
    }

    /// Whether nobody asked in the last second; then whoever wanted to know does.
    fn shall_ask(&self, now: Instant) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let shall = asked.is_none_or(|asked| now.saturating_duration_since(asked) >= FRESH);
        if shall {
            *asked = Some(now);
        }
        shall
    }
}

/// The age up to which a report is shown again.
const FRESH: Duration = Duration::from_secs(1);
/// The vault answers in milliseconds, unless the store is slow.
const PATIENCE: Duration = Duration::from_secs(3);
