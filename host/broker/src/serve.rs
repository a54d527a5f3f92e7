//! Puts the parts together: both sockets, the leases and the uplink, until told to stop.

use crate::admission::Admission;
use crate::configuration::Limits;
use crate::figures::{Places, Sizes};
use crate::parents;
use crate::public::{self, Shown};
use crate::registry::Registry;
use crate::uplink::{Event, Uplink};
use crate::workers::Workers;
use blindferry_seqpacket::AsyncListener;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// The broker's two sockets.
#[derive(Debug)]
pub struct Sockets {
    /// Where parents connect.
    pub parents: AsyncListener,
    /// Where workers connect.
    pub workers: AsyncListener,
    /// Where health, readiness and metrics are asked for, if anywhere, and what of them is looked at.
    pub public: (Option<TcpListener>, Arc<Sizes>),
}

/// Serves until `stop` is ready, then in order: no new requests, the sockets are removed, and the vault gets some time
/// to hear of the leases that have ended, and of what connections had to report. Living leases are left alone: their
/// workers outlive a restart of the broker.
pub async fn serve(
    sockets: Sockets,
    limits: &Limits,
    uplink: Uplink,
    events: mpsc::Receiver<Event>,
    stop: impl Future<Output = ()>,
) {
    let registry = Registry::new();
    let per_uid = limits.per_uid.get();
    let idle = Duration::from_secs(u64::try_from(limits.idle_seconds.get()).unwrap_or(u64::MAX));
    let places = Places {
        parents: Admission::new(limits.parents.get(), per_uid),
        workers: Admission::new(limits.workers.get(), per_uid),
        leases: Admission::new(limits.leases.get(), per_uid),
    };
    let workers = Workers { uplink: uplink.clone(), registry: registry.clone(), leases: places.leases.clone(), idle };
    let figures = uplink.figures().clone();
    let run = registry.clone().run(uplink.clone(), events);
    tokio::pin!(run);
    {
        let parents = parents::serve(sockets.parents, places.parents.clone(), uplink.clone(), idle);
        let workers = workers.serve(sockets.workers, places.workers.clone());
        let (listener, sizes) = sockets.public;
        let public = public::serve(listener, Shown { figures: figures.clone(), places, sizes });
        tokio::select! {
            () = stop => {}
            ((), ()) = async { tokio::join!(parents, workers) } => {}
            () = &mut run => {}
            () = public => {}
        }
    }
    info!(name: "stopping", "stopping");
    let settled = async {
        while !(registry.is_settled() && figures.is_reported()) {
            sleep(SETTLE_PAUSE).await;
        }
    };
    let told = timeout(SETTLE_LIMIT, async {
        tokio::select! { () = settled => {}, () = run => {} }
    });
    if told.await.is_err() {
        warn!(name: "ends-not-told", "the vault has not heard of every ended lease, which idle out there, or of every delivery");
    }
}

/// Short beside any service manager's patience.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
