//! Counters and gauges of the vault, for the front's metrics and the operator's status. No name or label holds a secret.

use blindferry_proto::bounded::Text;
use blindferry_proto::front::Figure;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

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
