//! Accepts connections and gives each to the vault; none is read from here.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::confine::Confined;
use crate::connections::{Connections, Full};
use crate::dial::prepared;
use crate::link::Outbox;
use crate::metrics::Counters;

/// An address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listens on `address`; nobody is heard before this process is confined. To be called within a tokio runtime.
///
/// # Errors
/// [`ListenError`], for instance when another process listens there.
pub fn listen(_: &Confined, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listening = || {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listening().map_err(|source| ListenError { address, source })
}

/// Accepts for as long as it is polled. A connection over a bound, or that the vault has no room for, is closed and
/// counted: the newest gives way, so that what is under way is finished.
pub async fn accept_all(listener: TcpListener, mut connections: Connections, outbox: Outbox, counters: Arc<Counters>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(name: "accept-failed", %error, "cannot accept a connection");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let counter = match connections.admit(from, port, Instant::now()) {
            Err(Full::All) => &counters.refused_full,
            Err(Full::Source) => &counters.refused_source,
            Ok(()) if give(stream, from, &outbox) => &counters.accepted,
            Ok(()) => {
                connections.forget(from);
                &counters.refused_busy
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the connection is on its way to the vault; otherwise it is closed.
fn give(stream: TcpStream, from: SocketAddr, outbox: &Outbox) -> bool {
    match prepared(stream) {
        Ok(connection) => outbox.give(connection, from).is_ok(),
        Err(error) => {
            // For instance when the other end has gone already.
            tracing::debug!(name: "connection-not-set-up", %error, %from, "cannot set up an accepted connection");
            false
        }
    }
}

/// Out of descriptors, most likely: some are closed meanwhile.
const AFTER_ERROR: Duration = Duration::from_millis(100);
