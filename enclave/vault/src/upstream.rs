//! One request to an upstream, and its bounded answer: HTTP/1.1 over TLS that ends here, on a connection dialled by another.
//!
//! The vault may not call `connect`; whoever implements [`Dial`] hands it a connected stream. Nothing is believed of that
//! stream: the server's name is checked in TLS here, so a front that dials elsewhere gains a refused handshake. One
//! connection carries one request, no redirect is followed, and every answer is bounded in bytes and in time.
//!
//! **What relies on the wiping allocator:** the form, the `Authorization` value and the collected answer are in
//! buffers that wipe themselves. The copies that hyper (its write and read buffers) and rustls (plaintext before
//! encryption and after decryption) make of them are wiped when they are freed, by the process's global allocator alone.

mod address;
mod trust;

pub use address::{Address, BadAddress};
pub use trust::{BadTrust, MAX_ROOTS, Trust};

use crate::connection::NotAConnection;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderMap, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// How long one exchange may take, from the dial to the answer's last byte.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Bytes of an answer's body.
pub const MAX_BODY: usize = 64 * 1024;
/// Bytes of an answer's status line and headers.
pub const MAX_HEAD: usize = 16 * 1024;
/// Headers of an answer.
pub const MAX_HEADERS: usize = 64;

/// Whoever can connect: the front, asked over the socketpair.
pub trait Dial {
    /// A TCP connection to that host, not yet encrypted and not to be believed.
    ///
    /// # Errors
    /// [`DialError`] when there is none.
    fn dial(&self, host: &str, port: u16) -> impl Future<Output = Result<TcpStream, DialError>> + Send;
}

/// There is no connection to an upstream.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The dialler tried, and says why it did not work.
    #[error("not connected: {why}")]
    Refused {
        /// The dialler's words.
        why: String,
    },
    /// The connection that was handed over cannot be used.
    #[error("cannot use the connection that was handed over")]
    Stream(#[source] io::Error),
    /// What was handed over is no connection.
    #[error("what was handed over is no connection")]
    NotAConnection(#[source] NotAConnection),
    /// Nobody dials any more.
    #[error("the dialler is gone")]
    Gone,
}

/// The way to upstreams for one mint or one revocation.
#[derive(Debug)]
pub struct Upstream<'a, D> {
    dial: &'a D,
    now: u64,
    deadline: Duration,
}

impl<'a, D: Dial> Upstream<'a, D> {
    /// Upstreams by this dialler. Certificates are judged at `now` (Unix seconds); an exchange may last `deadline`.
    pub fn new(dial: &'a D, now: u64, deadline: Duration) -> Self {
        Self { dial, now, deadline }
    }

    /// Posts a form. `authorization` is the whole value of that header.
    ///
    /// # Errors
    /// [`UpstreamError`]; an answer with an error status is an [`Answer`] all the same, unless it redirects.
    pub async fn post_form(
        &self,
        address: &Address,
        trust: &Trust,
        authorization: Option<Zeroizing<Vec<u8>>>,
        form: Zeroizing<Vec<u8>>,
    ) -> Result<Answer, UpstreamError> {
        let request = request(address, authorization, form)?;
        tokio::time::timeout(self.deadline, self.exchange(address, trust, request))
            .await
            .map_err(|_| UpstreamError::Deadline { host: address.host().to_owned(), after: self.deadline })?
    }

    async fn exchange(
        &self,
        address: &Address,
        trust: &Trust,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, UpstreamError> {
        let host = || address.host().to_owned();
        let stream = self.dial.dial(address.host(), address.port()).await.map_err(|source| UpstreamError::Dial {
            host: host(),
            port: address.port(),
            source,
        })?;
        let Some(server) = address.tls_name() else {
            return converse(stream, address, request).await;
        };
        let config = trust.client_config(self.now).map_err(UpstreamError::TlsSettings)?;
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(server, stream)
            .await
            .map_err(|source| UpstreamError::from_handshake(host(), source))?;
        converse(stream, address, request).await
    }
}

/// What an upstream answered: whole, bounded, not redirected, not compressed; otherwise not believed.
#[expect(missing_debug_implementations, reason = "its body may hold a token")]
pub struct Answer {
    status: StatusCode,
    json: bool,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The body, if its content type says that it is JSON.
    #[must_use]
    pub fn json(&self) -> Option<&[u8]> {
        self.json.then_some(self.body.as_slice())
    }
}

/// No answer came of it. Holds neither what was sent nor what came back.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The request cannot be put into HTTP.
    #[error("cannot make the request to {host}")]
    Request {
        /// The upstream.
        host: String,
        /// Why.
        source: hyper::http::Error,
    },
    /// TLS cannot be set up; nothing was sent.
    #[error("cannot set up TLS")]
    TlsSettings(#[source] rustls::Error),
    /// No connection.
    #[error("cannot connect to {host}:{port}")]
    Dial {
        /// The upstream.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        source: DialError,
    },
    /// The server's certificate does not show that it is who it should be.
    #[error("the certificate of {host} is not accepted")]
    Untrusted {
        /// The upstream.
        host: String,
        /// Why.
        source: rustls::Error,
    },
    /// The TLS handshake did not come to an end.
    #[error("no TLS with {host}")]
    Tls {
        /// The upstream.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or what came is not HTTP/1.1 within the bounds.
    #[error("no answer in HTTP/1.1 from {host}")]
    Http {
        /// The upstream.
        host: String,
        /// Why.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("no whole answer from {host} within {} s", after.as_secs_f32())]
    Deadline {
        /// The upstream.
        host: String,
        /// The time it had.
        after: Duration,
    },
    /// It sends us elsewhere, and credentials do not follow.
    #[error("{host} redirects (status {status}); give the address that it redirects to")]
    Redirect {
        /// The upstream.
        host: String,
        /// Its status code.
        status: u16,
    },
    /// The body is compressed, or framed in a way that was not asked for.
    #[error("the answer of {host} is encoded in a way that was not asked for")]
    Encoded {
        /// The upstream.
        host: String,
    },
    /// The body is longer than [`MAX_BODY`].
    #[error("the answer of {host} is longer than {MAX_BODY} bytes")]
    TooLong {
        /// The upstream.
        host: String,
    },
}

impl UpstreamError {
    /// The stable word for logs and audit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request { .. } => "upstream-request",
            Self::TlsSettings(_) => "upstream-tls-settings",
            Self::Dial { source: DialError::NotAConnection(_), .. } => "upstream-not-a-connection",
            Self::Dial { .. } => "upstream-unreachable",
            Self::Untrusted { .. } => "upstream-untrusted",
            Self::Tls { .. } => "upstream-tls",
            Self::Http { .. } => "upstream-http",
            Self::Deadline { .. } => "upstream-deadline",
            Self::Redirect { .. } => "upstream-redirect",
            Self::Encoded { .. } => "upstream-encoded",
            Self::TooLong { .. } => "upstream-too-long",
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Dial { .. } | Self::Deadline { .. } => true,
            Self::Tls { source, .. } => tls_cause(source).is_none(),
            Self::Http { source, .. } => !source.is_parse(),
            Self::Request { .. }
            | Self::TlsSettings(_)
            | Self::Untrusted { .. }
            | Self::Redirect { .. }
            | Self::Encoded { .. }
            | Self::TooLong { .. } => false,
        }
    }

    fn from_handshake(host: String, source: io::Error) -> Self {
        match tls_cause(&source) {
            Some(why @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted { host, source: why.clone() },
            _ => Self::Tls { host, source },
        }
    }
}

/// The request; secrets are moved into it, not copied, and its header values do not print.
fn request(
    address: &Address,
    authorization: Option<Zeroizing<Vec<u8>>>,
    form: Zeroizing<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, UpstreamError> {
    let error = |source| UpstreamError::Request { host: address.host().to_owned(), source };
    let mut request = Request::post(address.path())
        .header(HOST, address.authority())
        .header(ACCEPT, "application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from_owner(form)))
        .map_err(error)?;
    if let Some(value) = authorization {
        let mut value =
            HeaderValue::from_maybe_shared(Bytes::from_owner(value)).map_err(|source| error(source.into()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Sends one request and collects its answer, on this task: when the caller stops waiting, the connection is gone.
async fn converse<S>(stream: S, address: &Address, request: Request<Full<Bytes>>) -> Result<Answer, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let http = |source| UpstreamError::Http { host: address.host().to_owned(), source };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(http)?;
        collect(response, address).await
    });
    tokio::select! {
        answer = &mut answer => answer,
        // It ended: what it read is on its way to the answer, and so is why it ended.
        _ = &mut connection => answer.await,
    }
}

async fn collect(response: Response<Incoming>, address: &Address) -> Result<Answer, UpstreamError> {
    let host = || address.host().to_owned();
    let status = response.status();
    if status.is_redirection() {
        return Err(UpstreamError::Redirect { host: host(), status: status.as_u16() });
    }
    let (head, mut incoming) = response.into_parts();
    if !is_plainly_framed(&head.headers) {
        return Err(UpstreamError::Encoded { host: host() });
    }
    if claims_too_much(&head.headers) {
        return Err(UpstreamError::TooLong { host: host() });
    }
    // All that it may become, at once: growing would leave copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|source| UpstreamError::Http { host: host(), source })?;
        let Some(data) = frame.data_ref() else { continue };
        if data.len() > MAX_BODY - body.len() {
            return Err(UpstreamError::TooLong { host: host() });
        }
        body.extend_from_slice(data);
    }
    Ok(Answer { status, json: is_json(&head.headers), body })
}

/// Neither compressed nor framed in two ways at once (RFC 9112 section 6.3: the root of smuggling).
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let plain = |name, allowed: &str| {
        headers.get_all(name).iter().all(|v| v.to_str().is_ok_and(|v| v.trim().eq_ignore_ascii_case(allowed)))
    };
    plain(CONTENT_ENCODING, "identity")
        && plain(TRANSFER_ENCODING, "chunked")
        && !(headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH))
}

fn claims_too_much(headers: &HeaderMap) -> bool {
    let length = |v: &HeaderValue| v.to_str().ok().and_then(|v| v.parse::<usize>().ok());
    headers.get_all(CONTENT_LENGTH).iter().any(|v| length(v).is_none_or(|length| length > MAX_BODY))
}

/// One content type, `application/json`, whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.to_str().ok().and_then(|v| v.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
