//! What the vault says that a request took, as spans for a collector.
//!
//! The vault has no clock of a trace's: its numbers count from the request's beginning, and the request ended when they
//! came.

use blindferry_proto::front::{Part, Traced};
use blindferry_traces::{Place, Span, SpanId, TraceId, Traces};
use std::time::Duration;

/// Tells of one request, and of each step within it.
pub(crate) fn tell(traces: &Traces, traced: Traced) {
    let Traced { grant, parent, step, refusal, microseconds, parts } = traced;
    let (trace, id) = (TraceId(grant.0), SpanId::random());
    let span = |step: &str, id, parent, place, (began, took): (u64, u64)| Span {
        process: "blindferry-vault",
        trace,
        id,
        parent: Some(parent),
        name: step.to_owned(),
        place,
        ended: Duration::from_micros(microseconds.saturating_sub(began.saturating_add(took))),
        took: Duration::from_micros(took),
        refused: None,
        attributes: Vec::new(),
    };
    let refused = refusal.map(|code| code.as_str().to_owned());
    traces.tell(Span { refused, ..span(step.as_str(), id, SpanId(parent), Place::Server, (0, microseconds)) });
    for Part { step, began, microseconds } in parts {
        traces.tell(span(step.as_str(), SpanId::random(), id, Place::Internal, (began, microseconds)));
    }
}
