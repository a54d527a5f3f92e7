//! The layer: from an event of `tracing` to a line.

use crate::journal::Journal;
use blindferry_watch::line::{Form, Level, Line};
use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Writes each event as a line.
#[derive(Debug)]
pub struct Lines<W> {
    process: &'static str,
    form: Form,
    journal: Option<Journal>,
    out: Mutex<W>,
}

impl<W: Write> Lines<W> {
    /// To a stream, in this form.
    #[must_use]
    pub fn to(process: &'static str, form: Form, out: W) -> Self {
        Self { process, form, journal: None, out: Mutex::new(out) }
    }

    fn write(&self, line: &Line<'_>) {
        if self.journal.as_ref().is_some_and(|journal| journal.write(line).is_ok()) {
            return;
        }
        let written = line.written(self.form, now());
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that is full or gone ends nobody's work.
        let _unheard = out.write_all(written.as_bytes());
    }
}

impl Lines<std::io::Stderr> {
    /// To the journal, and what it does not take to standard error.
    #[must_use]
    pub fn to_journal(process: &'static str, journal: Journal) -> Self {
        Self { journal: Some(journal), ..Self::to(process, Form::Journal, std::io::stderr()) }
    }
}

impl<S: Subscriber, W: Write + Send + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        // An event without a name of its own is a library's: tracing calls it by file and line.
        let name = if metadata.name().starts_with("event ") { "unnamed" } else { metadata.name() };
        let line = Line {
            level: level(*metadata.level()),
            process: self.process,
            event: name,
            message: &said.message,
            fields: &said.fields,
        };
        self.write(&line);
    }
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
    }
}

/// What an event carries, as text.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Said {
    fn take(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell that dates lines; nothing is decided by it")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_written_by_its_name_with_its_fields() {
        let kept = Kept::default();
        let lines = Lines::to("blindferryd", Form::Json, kept.clone());
        tracing::subscriber::with_default(Registry::default().with(lines), || {
            tracing::warn!(name: "session-over", reason = "gone", wait = 3, "session is {}", "over");
            tracing::info!("of a library");
        });
        let written = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let said: Vec<serde_json::Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((said[0]["event"].as_str(), said[0]["level"].as_str()), (Some("session-over"), Some("WARN")));
        assert_eq!((said[0]["message"].as_str(), said[0]["wait"].as_str()), (Some("session is over"), Some("3")));
        assert_eq!((said[0]["reason"].as_str(), said[0]["process"].as_str()), (Some("gone"), Some("blindferryd")));
        assert_eq!(said[1]["event"].as_str(), Some("unnamed"));
    }
}
