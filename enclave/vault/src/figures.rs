//! Counters and gauges of the vault, for the front's metrics and the operator's status. No name or label holds a secret.

use blindferry_proto::bounded::Text;
use blindferry_proto::front::{Durations, Figure};
use blindferry_proto::session::{BrokerRequest, Request};
use blindferry_watch::figures::{Counted, Step};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The steps of the vault that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From an accepted connection to a session that stands.
    Session,
    /// One judgement of evidence.
    Evidence,
    /// A question of each sort, from its frame to its answer.
    Ask,
    /// As above.
    Redeem,
    /// As above.
    Renew,
    /// As above: all others of brokers.
    Broker,
    /// As above: those of operators and successors.
    Operator,
    /// A token that is made here.
    Mint,
    /// A token that an upstream makes, with the connection to it.
    Upstream,
    /// A record of the audit, until it is durable.
    Audit,
    /// A question to the store, over the link.
    StoreRead,
    /// A change of the store, over the link.
    StoreCommit,
}

impl Step for Kind {
    const ALL: &'static [Self] = &[
        Self::Session,
        Self::Evidence,
        Self::Ask,
        Self::Redeem,
        Self::Renew,
        Self::Broker,
        Self::Operator,
        Self::Mint,
        Self::Upstream,
        Self::Audit,
        Self::StoreRead,
        Self::StoreCommit,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Evidence => "evidence",
            Self::Ask => "ask",
            Self::Redeem => "redeem",
            Self::Renew => "renew",
            Self::Broker => "broker",
            Self::Operator => "operator",
            Self::Mint => "mint",
            Self::Upstream => "upstream",
            Self::Audit => "audit",
            Self::StoreRead => "store-read",
            Self::StoreCommit => "store-commit",
        }
    }
}

/// What a request is counted as.
#[must_use]
pub fn kind_of(request: &Request) -> Kind {
    match request {
        Request::Broker(BrokerRequest::Ask(_)) => Kind::Ask,
        Request::Broker(BrokerRequest::Redeem(_)) => Kind::Redeem,
        Request::Broker(BrokerRequest::Renew(_)) => Kind::Renew,
        Request::Broker(_) => Kind::Broker,
        Request::Operator(_) | Request::Successor(_) => Kind::Operator,
        Request::Reattest { .. } => Kind::Evidence,
    }
}

/// How long steps took, as the front is told.
#[must_use]
pub fn durations<'a>(counted: impl Iterator<Item = (&'a str, Counted)>) -> Vec<Durations> {
    let durations = |(step, Counted { buckets, microseconds }): (&str, Counted)| Durations {
        step: Text::cut(step),
        buckets: buckets.to_vec(),
        microseconds,
    };
    counted.map(durations).collect()
}

/// All figures. Names are Prometheus names without the `blindferry_` in front.
#[derive(Debug, Default)]
pub struct Figures(Mutex<BTreeMap<(&'static str, Option<&'static str>), Value>>);

#[derive(Clone, Copy, Debug)]
enum Value {
    Counter(u64),
    Gauge(u64),
}

impl Figures {
    /// Counts one.
    pub fn count(&self, name: &'static str, label: Option<&'static str>) {
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = figures.entry((name, label)).or_insert(Value::Counter(0));
        if let Value::Counter(count) = entry {
            *count += 1;
        }
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, value: usize) {
        let mut figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures.insert((name, None), Value::Gauge(u64::try_from(value).unwrap_or(u64::MAX)));
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Figure> {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        figures
            .iter()
            .map(|((name, label), value)| {
                let (value, counter) = match value {
                    Value::Counter(value) => (*value, true),
                    Value::Gauge(value) => (*value, false),
                };
                Figure { name: Text::cut(name), label: label.map(Text::cut), value, counter }
            })
            .collect()
    }
}
