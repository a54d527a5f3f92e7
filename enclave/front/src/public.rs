//! The plain HTTP endpoints: health, readiness, metrics, and the documents of JWT issuers. Nothing on them is secret, and
//! none takes a body.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the vault answers the front within [`crate::pulse::BOUND`], else 503 and why |
//! | `/readyz` | 200 while, besides, it has unsealed its key, its store takes changes, and it was not told to stop, else 503 and why |
//! | `/metrics` | Prometheus text 0.0.4 |
//! | `{path}/.well-known/openid-configuration`, `{path}/.well-known/jwks.json`, `/jwks/{host}{path}` | see [`crate::publication`] |

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use blindferry_proto::front::Condition;
use blindferry_watch::exposition;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::metrics::{self, Counters, Sizes};
use crate::publication::Publication;
use crate::pulse::{Pulse, Vital};
use crate::store::Store;

/// What the endpoints show.
#[derive(Clone, Debug)]
pub struct Shown {
    /// How the vault is.
    pub condition: watch::Receiver<Condition>,
    /// What the vault publishes.
    pub publication: watch::Receiver<Arc<Publication>>,
    /// What the front counts.
    pub counters: Arc<Counters>,
    /// What the store counts.
    pub store: Store,
    /// Whether the vault answers.
    pub pulse: Arc<Pulse>,
    /// What is looked at when somebody asks.
    pub sizes: Arc<Sizes>,
}

/// Serves for as long as it is polled, at most `connections` at a time; more wait to be accepted.
pub async fn serve(listener: TcpListener, shown: Shown, connections: u16) {
    serve_router(listener, router(shown), connections).await;
}

/// Serves this router, with the bounds that hold for every plain HTTP listener of the front.
pub async fn serve_router(listener: TcpListener, router: Router, connections: u16) {
    let permits = Arc::new(Semaphore::new(connections.into()));
    loop {
        // Never closed, so this does not fail.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve_one(stream, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(name: "accept-failed", %error, "cannot accept a connection for plain HTTP");
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// One connection, within `HEAD_TIME` for the head of each request and `CONNECTION_TIME` in all. No answer waits for
/// anything, so this bounds a request as well.
async fn serve_one(stream: TcpStream, router: Router) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // An error here is the client's: what it sent is not HTTP, or it went away.
    if timeout(CONNECTION_TIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        drop(timeout(HEAD_TIME, connection).await);
    }
}

/// The endpoints alone.
pub fn router(shown: Shown) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .fallback_service(get(document).with_state(shown.clone()))
        .layer(middleware::from_fn(refuse_body))
        .with_state(shown)
}

async fn healthy(State(shown): State<Shown>) -> (StatusCode, String) {
    match answers(&shown.pulse) {
        Ok(()) => (StatusCode::OK, "the vault answers\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn ready(State(shown): State<Shown>) -> (StatusCode, String) {
    let not = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if shown.pulse.is_stopping() {
        return not("the enclave is stopping");
    }
    match answers(&shown.pulse) {
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        Ok(()) if !shown.condition.borrow().ready => not("the vault has not unsealed its key yet"),
        Ok(()) if shown.store.figures().refusing.load(Ordering::Relaxed) => {
            not("the store takes no changes, so nothing is given out: see the log")
        }
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
    }
}

fn answers(pulse: &Pulse) -> Result<(), String> {
    match pulse.vital() {
        Vital::Answers => Ok(()),
        Vital::NotYet => Err("the vault has not answered yet\n".to_owned()),
        Vital::Silent { since } => Err(format!("the vault has not answered for {} s\n", since.as_secs())),
    }
}

async fn figures(State(shown): State<Shown>) -> impl IntoResponse {
    let condition = shown.condition.borrow();
    let text = metrics::text(&condition, &shown.counters, shown.store.figures(), &shown.pulse, &shown.sizes);
    ([(CONTENT_TYPE, exposition::MEDIA_TYPE)], text)
}

async fn document(State(shown): State<Shown>, uri: Uri, headers: HeaderMap) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match shown.publication.borrow().document(uri.path(), host) {
        Some(document) => document_response(document),
        None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

fn document_response(document: Bytes) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, DOCUMENT_CACHE)];
    (headers, document).into_response()
}

/// Refuses a request with a body before it is read, and lets nothing be cached or guessed that is not said to be.
async fn refuse_body(request: Request, next: Next) -> Result<Response, Infallible> {
    if !request.body().is_end_stream() {
        let refusal = (StatusCode::PAYLOAD_TOO_LARGE, [(CONNECTION, "close")], Body::from("no body is taken here\n"));
        return Ok(refusal.into_response());
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Verifiers may keep keys for five minutes: as long as a new key must be published before it signs.
const DOCUMENT_CACHE: &str = "public, max-age=300";
/// For the head of one request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For a connection with all its requests.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// The bytes of a request's head; hyper takes no smaller bound.
const HEAD_BYTES: usize = 8192;
/// Out of descriptors, most likely: some are closed meanwhile.
const AFTER_ERROR: Duration = Duration::from_millis(100);
