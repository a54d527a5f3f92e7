//! Spans as OTLP's JSON: `ExportTraceServiceRequest` of opentelemetry-proto 1.x in protobuf's JSON form, with identifiers in
//! hexadecimal, enums as numbers and 64-bit numbers as text, as the OTLP specification ("JSON Protobuf Encoding") has it.

use crate::export::Told;
use crate::span::{Place, Span};
use serde::Serialize;
use serde_json::{Value, json};

/// The request that brings these spans.
pub(crate) fn request(host: &str, spans: &[Told]) -> Vec<u8> {
    let mut processes: Vec<&str> = spans.iter().map(|told| told.span.process).collect();
    processes.sort_unstable();
    processes.dedup();
    let resource_spans = processes.into_iter().map(|process| ResourceSpans {
        resource: json!({ "attributes": [
            attribute("service.name", process),
            attribute("service.namespace", "blindferry"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
            attribute("host.name", host),
        ] }),
        scope_spans: [ScopeSpans {
            scope: Scope { name: "blindferry", version: env!("CARGO_PKG_VERSION") },
            spans: spans.iter().filter(|told| told.span.process == process).map(written).collect(),
        }],
    });
    let request = Request { resource_spans: resource_spans.collect() };
    // Text and numbers always become JSON.
    serde_json::to_vec(&request).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Value,
    scope_spans: [ScopeSpans; 1],
}

#[derive(Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Written>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
}

fn written(Told { span, at }: &Told) -> Written {
    let Span { process: _, trace, id, parent, name, place, ended, took, refused, attributes } = span;
    let nanoseconds = |duration: &std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let end = at.saturating_sub(nanoseconds(ended));
    let code = refused.as_deref().map(|code| attribute("blindferry.refusal", code));
    Written {
        trace_id: hex::encode(trace.0),
        span_id: hex::encode(id.0),
        parent_span_id: parent.map(|parent| hex::encode(parent.0)),
        name: name.clone(),
        kind: match place {
            Place::Internal => 1,
            Place::Server => 2,
            Place::Client => 3,
        },
        start_time_unix_nano: end.saturating_sub(nanoseconds(took)).to_string(),
        end_time_unix_nano: end.to_string(),
        attributes: attributes.iter().map(|(name, value)| attribute(name, value)).chain(code).collect(),
        // STATUS_CODE_ERROR
        status: refused.as_deref().map(|code| json!({ "code": 2, "message": code })),
    }
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{SpanId, TraceId};
    use std::time::Duration;

    #[test]
    fn a_span_is_written_as_the_specification_has_it() {
        let told = Told {
            at: 1_700_000_000_000_000_000,
            span: Span {
                process: "blindferryd",
                trace: TraceId([0x5b; 16]),
                id: SpanId([0xee; 8]),
                parent: Some(SpanId([1; 8])),
                name: "redeem".into(),
                place: Place::Client,
                ended: Duration::from_millis(1),
                took: Duration::from_millis(3),
                refused: Some("denied".into()),
                attributes: vec![("blindferry.uid", "7".into())],
            },
        };
        let root = Told { span: Span { process: "other", parent: None, refused: None, ..told.span.clone() }, ..told };
        let written: Value = serde_json::from_slice(&request("worker-1", &[told, root])).unwrap();
        let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
        let first = &written["resourceSpans"][0];
        assert_eq!(first["resource"]["attributes"][0], text("service.name", "blindferryd"));
        assert_eq!(first["resource"]["attributes"][3], text("host.name", "worker-1"));
        assert_eq!(
            first["scopeSpans"][0]["spans"],
            json!([{
                "traceId": "5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b",
                "spanId": "eeeeeeeeeeeeeeee",
                "parentSpanId": "0101010101010101",
                "name": "redeem",
                "kind": 3,
                "startTimeUnixNano": "1699999999996000000",
                "endTimeUnixNano": "1699999999999000000",
                "attributes": [text("blindferry.uid", "7"), text("blindferry.refusal", "denied")],
                "status": { "code": 2, "message": "denied" },
            }])
        );
        let second = &written["resourceSpans"][1]["scopeSpans"][0]["spans"][0];
        assert!(second.get("parentSpanId").is_none() && second.get("status").is_none(), "{second}");
    }
}
