//! An OpenTelemetry collector for tests: takes OTLP/HTTP in JSON, keeps every request, and reads it by the schema, where a
//! field that the schema has not is a failure.

use serde::Deserialize;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A collector that runs until the test ends.
#[derive(Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
}

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Takes it.
    Ok,
    /// Reads it, and says nothing for as long as the other end waits.
    Never,
}

impl Collector {
    /// Starts one.
    #[must_use]
    pub fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&bodies);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, kept) = (stream.unwrap(), Arc::clone(&kept));
                thread::spawn(move || {
                    let Some(body) = request(&mut stream) else { return };
                    kept.lock().unwrap().push(body);
                    match answers {
                        Answers::Ok => drop(stream.write_all(OK.as_bytes())),
                        Answers::Never => drop(stream.read(&mut [0])),
                    }
                });
            }
        });
        Self { address, bodies }
    }

    /// The lines of a configuration that send spans here.
    #[must_use]
    pub fn configured(&self) -> String {
        format!("[traces]\nendpoint = \"http://{}\"\n", self.address)
    }

    /// What was sent so far, as it came.
    #[must_use]
    pub fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }

    /// The spans so far.
    ///
    /// # Panics
    /// When something was sent that is not of the schema.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.bodies().iter().flat_map(|body| spans(body)).collect()
    }
}

/// Reads one request whole.
fn request(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 65536];
        let length = stream.read(&mut more).ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&more[..length]);
        let Some((head, body)) = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once("\r\n\r\n")) else {
            continue;
        };
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: application/json"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
        if body.len() >= length {
            return Some(body.to_owned());
        }
    }
}

/// A span, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// Itself, as it was written.
    pub span: Written,
}

impl Span {
    /// Its length, in nanoseconds.
    #[must_use]
    pub fn took(&self) -> u64 {
        let number = |text: &str| text.parse::<u64>().unwrap();
        number(&self.span.end_time_unix_nano).checked_sub(number(&self.span.start_time_unix_nano)).unwrap()
    }
}

fn spans(body: &str) -> Vec<Span> {
    let request: Request = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let of_resource = |one: ResourceSpans| {
        let service = text(&one.resource.attributes, "service.name").unwrap();
        let spans = one.scope_spans.into_iter().flat_map(|scope| {
            assert!(!scope.scope.name.is_empty() && !scope.scope.version.is_empty());
            scope.spans
        });
        spans.map(move |span| Span { service: service.clone(), span }).collect::<Vec<_>>()
    };
    request.resource_spans.into_iter().flat_map(of_resource).collect()
}

/// The value of an attribute.
#[must_use]
pub fn text(attributes: &[Attribute], key: &str) -> Option<String> {
    attributes.iter().find(|one| one.key == key).map(|one| one.value.string_value.clone())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Request {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    name: String,
    version: String,
}

/// A span in OTLP's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the schema has them")]
pub struct Written {
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: Option<String>,
    pub name: String,
    pub kind: u8,
    pub start_time_unix_nano: String,
    pub end_time_unix_nano: String,
    pub attributes: Vec<Attribute>,
    pub status: Option<Status>,
}

/// An attribute with text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as the schema has them")]
pub struct Attribute {
    pub key: String,
    pub value: Value,
}

/// Its text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(missing_docs, reason = "as the schema has them")]
pub struct Value {
    pub string_value: String,
}

/// How a span ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as the schema has them")]
pub struct Status {
    pub code: u8,
    pub message: String,
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
const PATIENCE: Duration = Duration::from_secs(60);
