//! Connections to upstreams, made at the vault's request: looked up, tried address by address, passed on.
//!
//! Which host is the vault's decision, and so is whether the other end is that host: TLS ends in the vault.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blindferry_proto::bounded::Text;
use blindferry_proto::front::FromFront;
use rustix::net::sockopt;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{self, JoinError};
use tokio::time::timeout;

use crate::configuration::Limits;
use crate::link::Outbox;
use crate::metrics::Counters;

/// Makes connections, so many at a time and no longer than the configured time each.
#[derive(Debug)]
pub struct Dials {
    permits: Arc<Semaphore>,
    timeout: Duration,
    counters: Arc<Counters>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// Port 0 is no port.
    #[error("port 0 cannot be dialled")]
    PortZero,
    /// As many as may be are in the making.
    #[error("too many connections are being made")]
    Busy,
    /// It took too long.
    #[error("no connection within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// The name has no address, or nobody could say.
    #[error("cannot look up the name: {0}")]
    LookUp(io::Error),
    /// The thread that looked the name up failed.
    #[error("looking up the name failed: {0}")]
    LookUpTask(JoinError),
    /// No address answered; this is what the last one said.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection cannot be set up for passing on.
    #[error("cannot set up the connection: {0}")]
    SetUp(io::Error),
}

impl Dials {
    /// Within these limits.
    #[must_use]
    pub fn new(limits: &Limits, counters: Arc<Counters>) -> Self {
        let permits = Arc::new(Semaphore::new(limits.dials.get().into()));
        Self { permits, timeout: limits.dial_timeout(), counters }
    }

    /// Begins to connect; the answer goes to the vault by way of `outbox`.
    pub fn dial(&self, id: u64, host: Text<255>, port: u16, outbox: Outbox) {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| DialError::Busy);
        let limit = self.timeout;
        let counters = Arc::clone(&self.counters);
        let since = Instant::now();
        task::spawn(async move {
            let made = match permit {
                Ok(permit) => timeout(limit, connect(host.as_str().to_owned(), port, permit))
                    .await
                    .unwrap_or(Err(DialError::TimedOut(limit))),
                Err(busy) => Err(busy),
            };
            counters.dials.observe(since.elapsed());
            match made {
                Ok(connection) => {
                    counters.dialled.fetch_add(1, Ordering::Relaxed);
                    outbox.answer(FromFront::Dialled { id }, Some(connection)).await;
                }
                Err(error) => {
                    counters.not_dialled.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(name: "dial-failed", host = host.as_str(), port, %error, "cannot dial an upstream");
                    let why = Text::cut(&error.to_string());
                    outbox.answer(FromFront::NotDialled { id, why }, None).await;
                }
            }
        });
    }
}

async fn connect(host: String, port: u16, permit: OwnedSemaphorePermit) -> Result<OwnedFd, DialError> {
    if port == 0 {
        return Err(DialError::PortZero);
    }
    // The permit goes with the lookup, which cannot be broken off and may outlast our patience: so there are never
    // more threads waiting for a resolver than dials are allowed.
    let looking = task::spawn_blocking(move || {
        let addresses = (host.as_str(), port).to_socket_addrs();
        (addresses.map(|found| found.take(ADDRESSES_LIMIT).collect::<Vec<_>>()), permit)
    });
    let (addresses, _permit) = looking.await.map_err(DialError::LookUpTask)?;
    let mut last = io::ErrorKind::NotFound.into();
    for address in addresses.map_err(DialError::LookUp)? {
        match connect_to(address).await {
            Ok(stream) => return prepared(stream).map_err(DialError::SetUp),
            Err(error) => last = error,
        }
    }
    Err(DialError::Connect(last))
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// Sets what the vault may not set itself, its filter having no setsockopt(2): small frames go out at once, and an
/// other end that has vanished is found out.
///
/// # Errors
/// What the kernel said.
pub(crate) fn prepared(stream: TcpStream) -> io::Result<OwnedFd> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE)?;
    // Deregistered from our runtime; it stays non-blocking, which the vault's runtime needs too.
    let stream: StdStream = stream.into_std()?;
    Ok(stream.into())
}

/// Of a name with more addresses the first are tried.
const ADDRESSES_LIMIT: usize = 8;
/// One address that does not answer leaves time for the next.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);
/// Silence before the kernel asks whether the other end is there, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(30);
