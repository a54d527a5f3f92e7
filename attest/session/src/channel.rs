//! One TLS connection after its handshake: frames both ways, the peer's key, and exporters for its life.

use blindferry_attest::binder::{Binder, BinderError, EXPORTER_LABEL};
use blindferry_proto::bounded::{CodecError, TooLong, decode};
use blindferry_proto::frame::{self, HEADER};
use blindferry_proto::role::{Context, Role};
use rustls::{HandshakeKind, ProtocolVersion};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsStream;

/// A peer that does not read delays the end of its session by no more than this.
pub const CLOSE_TIME: Duration = Duration::from_secs(5);
/// Bytes that are sent before more messages are held: what fits a record of TLS (RFC 8446 section 5.1).
const ENOUGH: usize = 12 * 1024;

/// What a session runs over: a TCP connection in production, a pipe in tests.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A TLS 1.3 connection from a full handshake. Its two directions can be used from two tasks.
#[derive(Debug)]
pub struct Channel<S> {
    /// Frames from the peer.
    pub reader: Reader<S>,
    /// Frames to the peer.
    pub writer: Writer<S>,
    /// Binders over this channel.
    pub exporter: Exporter<S>,
}

/// The receiving direction.
#[derive(Debug)]
pub struct Reader<S>(Shared<S>);
/// The sending direction.
#[derive(Debug)]
pub struct Writer<S> {
    stream: Shared<S>,
    /// Frames that are not sent yet.
    held: Vec<u8>,
}

/// Computes binders from the connection's exporter (RFC 8446 section 7.5) and the two keys of its handshake.
#[derive(Debug)]
pub struct Exporter<S> {
    shared: Shared<S>,
    own_spki: Vec<u8>,
    peer_spki: Vec<u8>,
}

impl<S: Stream> Channel<S> {
    /// Takes a connection whose handshake is over.
    ///
    /// # Errors
    /// [`ChannelError`] unless it is TLS 1.3 from a full handshake, with our protocol, in which the peer showed a key.
    pub fn new(stream: TlsStream<S>, own_spki: &[u8]) -> Result<Self, ChannelError> {
        let (_, connection) = stream.get_ref();
        if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err(ChannelError::NotTls13);
        }
        if !matches!(connection.handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))
        {
            return Err(ChannelError::Resumed);
        }
        if connection.alpn_protocol() != Some(crate::tls::ALPN) {
            return Err(ChannelError::Protocol);
        }
        let peer_spki = match connection.peer_certificates() {
            Some([key]) if !key.is_empty() => key.to_vec(),
            _ => return Err(ChannelError::NoPeerKey),
        };
        if peer_spki == own_spki {
            return Err(ChannelError::Reflected);
        }
        let shared = Shared(Arc::new(Mutex::new(stream)));
        Ok(Self {
            reader: Reader(shared.clone()),
            writer: Writer { stream: shared.clone(), held: Vec::new() },
            exporter: Exporter { shared, own_spki: own_spki.to_vec(), peer_spki },
        })
    }
}

impl<S: Stream> Reader<S> {
    /// The next frame, decoded. A frame over `limit` is refused before anything is allocated for it.
    ///
    /// # Errors
    /// [`ChannelError`], after which the connection is good for nothing.
    pub async fn receive<T: DeserializeOwned>(&mut self, limit: usize) -> Result<T, ChannelError> {
        self.announced().await?.take(limit).await
    }

    /// The next frame as soon as its length is known, which may have to be let in before anything is allocated for it.
    ///
    /// # Errors
    /// [`ChannelError`], after which the connection is good for nothing.
    pub async fn announced(&mut self) -> Result<Announced<'_, S>, ChannelError> {
        let mut header = [0; HEADER];
        match self.0.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ChannelError::Closed),
            Err(source) => return Err(ChannelError::Receive { source }),
        }
        Ok(Announced { stream: &mut self.0, header })
    }
}

/// A frame whose header came. Nothing is allocated for the rest, which the peer may have sent or not.
#[derive(Debug)]
#[must_use = "the frame is still to be taken off the connection"]
pub struct Announced<'r, S> {
    stream: &'r mut Shared<S>,
    header: [u8; HEADER],
}

impl<S: Stream> Announced<'_, S> {
    /// Whether its body has more than `length` bytes.
    #[must_use]
    pub fn is_over(&self, length: usize) -> bool {
        frame::body_length(self.header, length).is_err()
    }

    /// The body's bytes, at most `limit`.
    ///
    /// # Errors
    /// [`ChannelError`], after which the connection is good for nothing.
    pub async fn bytes(self, limit: usize) -> Result<Vec<u8>, ChannelError> {
        let length = frame::body_length(self.header, limit).map_err(|source| ChannelError::FrameTooLong { source })?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.map_err(|source| ChannelError::Receive { source })?;
        Ok(body)
    }

    /// The body, decoded.
    ///
    /// # Errors
    /// [`ChannelError`], after which the connection is good for nothing.
    pub async fn take<T: DeserializeOwned>(self, limit: usize) -> Result<T, ChannelError> {
        decode(&self.bytes(limit).await?, limit).map_err(|source| ChannelError::Message { source })
    }
}

impl<S: Stream> Writer<S> {
    /// Sends one message as a frame, after those that are held.
    ///
    /// # Errors
    /// [`ChannelError`], after which the connection is good for nothing.
    pub async fn send<T: Serialize>(&mut self, message: &T, limit: usize) -> Result<(), ChannelError> {
        self.hold(message, limit)?;
        self.flush().await
    }

    /// Takes one message as a frame for the next [`Self::flush`]: messages that leave together share a record of TLS, a
    /// system call, and the peer's being woken.
    ///
    /// # Errors
    /// [`ChannelError`] when it is over `limit`.
    pub fn hold<T: Serialize>(&mut self, message: &T, limit: usize) -> Result<(), ChannelError> {
        let frame = frame::encode(message, limit).map_err(|source| ChannelError::Message { source })?;
        self.held.extend_from_slice(&frame);
        Ok(())
    }

    /// Whether enough is held to be sent before more is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.held.len() >= ENOUGH
    }

    /// Sends what is held.
    ///
    /// # Errors
    /// [`ChannelError`], after which the connection is good for nothing.
    pub async fn flush(&mut self) -> Result<(), ChannelError> {
        let frames = std::mem::take(&mut self.held);
        let sending = |source| ChannelError::Send { source };
        self.stream.write_all(&frames).await.map_err(sending)?;
        self.stream.flush().await.map_err(sending)
    }

    /// Tells the peer that nothing more comes, for at most [`CLOSE_TIME`].
    pub async fn close(&mut self) {
        // The connection is over either way; a peer that is gone, or does not read, need not hear it.
        let _gone = tokio::time::timeout(CLOSE_TIME, self.stream.shutdown()).await;
    }
}

impl<S: Stream> Exporter<S> {
    /// What our own evidence must carry.
    ///
    /// # Errors
    /// [`ChannelError::Export`] or [`ChannelError::Binder`]: without a binder there is no evidence.
    pub fn own_binder(&self, role: Role, context: &Context) -> Result<Binder, ChannelError> {
        self.binder(role, &self.own_spki, context)
    }

    /// What the peer's evidence must carry.
    ///
    /// # Errors
    /// As [`Self::own_binder`].
    pub fn peer_binder(&self, role: Role, context: &Context) -> Result<Binder, ChannelError> {
        self.binder(role, &self.peer_spki, context)
    }

    fn binder(&self, role: Role, spki: &[u8], context: &Context) -> Result<Binder, ChannelError> {
        let exported = match &*self.shared.lock() {
            TlsStream::Client(stream) => {
                stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(&context.0))
            }
            TlsStream::Server(stream) => {
                stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(&context.0))
            }
        };
        let exported = exported.map_err(|source| ChannelError::Export { source })?;
        Binder::compute(role, spki, &exported).map_err(|source| ChannelError::Binder { source })
    }
}

/// A fresh context.
///
/// # Errors
/// [`ChannelError::Random`] when the system gives no random bytes.
pub fn fresh_context(random: &dyn ring::rand::SecureRandom) -> Result<Context, ChannelError> {
    let mut context = Context([0; Context::LEN]);
    random.fill(&mut context.0).map_err(|_| ChannelError::Random)?;
    Ok(context)
}

/// Why a connection is no channel, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// An older TLS.
    #[error("the connection is not TLS 1.3")]
    NotTls13,
    /// Evidence would not be fresh.
    #[error("the TLS session was resumed")]
    Resumed,
    /// Another application protocol, or none.
    #[error("the peer does not speak our application protocol")]
    Protocol,
    /// Nothing to bind to.
    #[error("the peer showed no key of its own")]
    NoPeerKey,
    /// Our own key came back.
    #[error("the peer showed our own key")]
    Reflected,
    /// The peer ended the connection between frames.
    #[error("the peer closed the connection")]
    Closed,
    /// Reading failed.
    #[error("cannot receive from the peer")]
    Receive {
        /// Why.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot send to the peer")]
    Send {
        /// Why.
        source: io::Error,
    },
    /// A frame over its bound.
    #[error("a frame is over its bound")]
    FrameTooLong {
        /// How long.
        source: TooLong,
    },
    /// A frame that is no message.
    #[error("a frame is not a message of this protocol")]
    Message {
        /// Why not.
        source: CodecError,
    },
    /// The exporter gave nothing.
    #[error("cannot export from the TLS connection")]
    Export {
        /// Why.
        source: rustls::Error,
    },
    /// There is nothing to bind.
    #[error("cannot compute a binder")]
    Binder {
        /// Why.
        source: BinderError,
    },
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl ChannelError {
    /// The stable code for audit and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotTls13 => "tls-version",
            Self::Resumed => "tls-resumed",
            Self::Protocol => "tls-protocol",
            Self::NoPeerKey => "tls-no-key",
            Self::Reflected => "tls-reflected",
            Self::Closed | Self::Receive { .. } | Self::Send { .. } => "connection",
            Self::FrameTooLong { .. } => "frame-too-long",
            Self::Message { .. } => "malformed",
            Self::Export { .. } | Self::Binder { .. } => "no-binder",
            Self::Random => "no-random",
        }
    }
}

/// One stream under a lock that is held for a poll at a time, so that the two directions and the exporter can share it.
#[derive(Debug)]
struct Shared<S>(Arc<Mutex<TlsStream<S>>>);

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, TlsStream<S>> {
        // A panic in another task cannot have left the stream half-changed in a way that TLS would not notice.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Stream> AsyncRead for Shared<S> {
    fn poll_read(self: Pin<&mut Self>, task: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(task, buffer)
    }
}

impl<S: Stream> AsyncWrite for Shared<S> {
    fn poll_write(self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(task, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(task)
    }
}
