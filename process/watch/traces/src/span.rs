//! One step of a crossing, as it is told: its identifiers, when it was, what became of it.

use std::time::Duration;

/// Which trace. That of a crossing is the identity of its grant, by which the audit and the logs know it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

/// Which span of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub [u8; 8]);

/// Whose side of a request a span is (OTLP's `SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Within a process.
    Internal,
    /// The side that answers.
    Server,
    /// The side that asks.
    Client,
}

/// A step that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The executable that took it: OTLP's `service.name`.
    pub process: &'static str,
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// The step, by the name that the metrics have for it.
    pub name: String,
    /// Whose side it is.
    pub place: Place,
    /// How long ago it ended.
    pub ended: Duration,
    /// How long it took.
    pub took: Duration,
    /// The code of the refusal that it ended with.
    pub refused: Option<String>,
    /// What else is known, by names of the code. No secret is among it.
    pub attributes: Vec<(&'static str, String)>,
}

impl TraceId {
    /// Of something that no grant came of. Zeroes, which no collector takes, where the kernel gives no random bytes.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }
}

impl SpanId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}
