//! Traces: what a crossing did, step by step, told to an OpenTelemetry collector by OTLP over HTTP (opentelemetry.io,
//! OTLP 1.x, JSON). Off unless a configuration names a collector.
//!
//! Nothing comes in by this way. No identifier of a trace is taken from a peer, and of what a collector answers the first
//! line is read. Nobody waits for it either: [`Traces::tell`] puts a span into a bounded queue or drops it.
//!
//! | file | its job |
//! |---|---|
//! | [`endpoint`] | where the collector is |
//! | [`span`] | one step, and what it is told by |
//! | `otlp` | spans as OTLP's JSON |
//! | `export` | from the queue to the collector |
//! | `post` | one request of HTTP/1.1 |

pub mod endpoint;
mod export;
mod otlp;
mod post;
pub mod span;

pub use endpoint::{Endpoint, Settings};
pub use span::{Place, Span, SpanId, TraceId};

use export::Told;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Spans that wait; each is less than a kilobyte. More are dropped.
pub const QUEUE: usize = 2048;

/// Takes spans. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Traces {
    queue: mpsc::Sender<Told>,
    counted: Arc<Counted>,
}

/// The other end of the queue.
#[derive(Debug)]
pub struct Export {
    queue: mpsc::Receiver<Told>,
    endpoint: Endpoint,
    host: String,
    counted: Arc<Counted>,
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counted {
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Traces {
    /// Spans of the machine `host` for this collector. Nothing is sent before [`Export::run`] is polled.
    #[must_use]
    pub fn new(endpoint: Endpoint, host: &str) -> (Self, Export) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counted = Arc::new(Counted::default());
        let export = Export { queue: waiting, endpoint, host: host.to_owned(), counted: Arc::clone(&counted) };
        (Self { queue, counted }, export)
    }

    /// Takes a span that ended just now, or drops it: never waits.
    pub fn tell(&self, span: Span) {
        if self.queue.try_send(Told { span, at: now() }).is_err() {
            self.counted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many spans a collector has taken, and how many were dropped.
    #[must_use]
    pub fn counted(&self) -> [(&'static str, u64); 2] {
        let Counted { sent, dropped } = &*self.counted;
        [("sent", sent.load(Ordering::Relaxed)), ("dropped", dropped.load(Ordering::Relaxed))]
    }
}

/// Nanoseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the shell that dates spans; nothing is decided by it")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
