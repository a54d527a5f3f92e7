//! Workers redeem grants for parcels, renew and give back their leases, and hear when one ends.
//!
//! A worker keeps its connection as long as it likes; the launcher's is closed when it executes the program. A lease
//! follows the process that made the connection, not the connection: see [`crate::lease`].

use crate::admission::Admission;
use crate::connection::{Connection, FIRST_LIMIT, Incoming, accept};
use crate::lease::Bound;
use crate::registry::{Ends, Registry};
use crate::reports::Reports;
use crate::uplink::{Heard, Uplink};
use blindferry_handle::memfd::Handle;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::{LeaseId, RequestId};
use blindferry_proto::local::{WorkerReply, WorkerRequest};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{Answer, BrokerRequest, LeaseEnd, Redeem, Renew};
use blindferry_seqpacket::AsyncListener;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, error};

/// What every worker's connection works with.
#[derive(Clone, Debug)]
pub struct Workers {
    /// The way to the vault.
    pub uplink: Uplink,
    /// The leases of this host.
    pub registry: Registry,
    /// The bound on leases.
    pub leases: Admission,
    /// A worker without a lease that says nothing for so long is hung up on.
    pub idle: Duration,
}

impl Workers {
    /// Serves workers for ever.
    pub async fn serve(self, listener: AsyncListener, admission: Admission) {
        accept(listener, admission, |connection| worker(connection, self.clone())).await;
    }
}

async fn worker(connection: Connection, workers: Workers) {
    let mut reports = Reports::of(&workers.uplink);
    converse(&connection, &workers, &mut reports).await;
    // The worker's place is taken meanwhile.
    reports.finish().await;
}

async fn converse(connection: &Connection, workers: &Workers, reports: &mut Reports) {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let mut patience = FIRST_LIMIT;
    loop {
        let incoming = tokio::select! {
            // What ended comes before the next request: `Ends` is bounded by it.
            biased;
            Some((lease, why)) = ended.recv() => {
                if connection.reply(&WorkerReply::LeaseEnded { lease, why }, None).await {
                    continue;
                }
                return;
            }
            incoming = timeout(patience, connection.receive()) => incoming,
        };
        patience = workers.idle;
        let answered = match incoming {
            // One that holds a lease may be silent: it waits to hear that the lease ended.
            Err(_elapsed) if workers.registry.holds_any(&connection.process) => continue,
            Err(_elapsed) => return,
            Ok(Incoming::Message(request, descriptors)) => {
                answer(connection, workers, (&ends, reports), request, descriptors).await
            }
            Ok(Incoming::Refused(refusal)) => Err(refusal),
            Ok(Incoming::Gone) => return,
        };
        let still_there = match answered {
            Ok(Answered::Parcel(reply, handle)) => connection.reply(&reply, Some(&handle)).await,
            Ok(Answered::Done) => connection.reply(&WorkerReply::Done, None).await,
            Err(refusal) => {
                workers.uplink.figures().refused(refusal.code);
                connection.reply(&WorkerReply::Refused(refusal), None).await
            }
        };
        if !still_there {
            return;
        }
    }
}

enum Answered {
    Parcel(WorkerReply, Handle),
    Done,
}

async fn answer(
    connection: &Connection,
    workers: &Workers,
    (ends, reports): (&Ends, &mut Reports),
    request: WorkerRequest,
    descriptors: Vec<OwnedFd>,
) -> Result<Answered, Refusal> {
    match request {
        WorkerRequest::Redeem { request, key: worker_key, executable, protection, inherited } => {
            let grant = only_grant(descriptors)?;
            // The last three are the launcher's word about what it is about to execute, and how. Nothing here can check
            // it: the process is still the launcher. Policy that relies on it relies on who may run the launcher as
            // this user.
            let worker = connection.process.facts(executable, protection);
            let redeem = Redeem { grant, request, worker_key, worker, inherited };
            parcel(connection, workers, ends, BrokerRequest::Redeem(redeem)).await
        }
        _ if !descriptors.is_empty() => {
            Err(Refusal::new(RefusalCode::Malformed, "only a redemption brings a descriptor"))
        }
        WorkerRequest::Acknowledge { lease, request } => {
            own(connection, workers, lease)?;
            // The worker has nothing to do about a failure, and neither has this broker: without it, the vault forgets
            // the parcel when the grant's time is over.
            let uplink = workers.uplink.clone();
            let told = async move { drop(uplink.call(BrokerRequest::Acknowledge { lease, request }).await) };
            reports.begin(told).await;
            Ok(Answered::Done)
        }
        WorkerRequest::Renew { lease, request } => renew(connection, workers, ends, lease, request).await,
        WorkerRequest::End { lease } => {
            own(connection, workers, lease)?;
            // A lease of this host is over here at once, and reported until the vault heard. One that this broker does
            // not know, because it was started after the lease, is only passed on.
            if !workers.registry.end(lease, LeaseEnd::Returned) {
                workers.uplink.call(BrokerRequest::End { lease, why: LeaseEnd::Returned }).await?;
            }
            Ok(Answered::Done)
        }
    }
}

async fn renew(
    connection: &Connection,
    workers: &Workers,
    ends: &Ends,
    lease: LeaseId,
    request: RequestId,
) -> Result<Answered, Refusal> {
    own(connection, workers, lease)?;
    // A lease that this broker does not know is older than it: from now on it belongs to the process that renews it.
    parcel(connection, workers, ends, BrokerRequest::Renew(Renew { lease, request })).await
}

/// Asks for a parcel, binds the lease that comes with it to the process, and puts the parcel into a handle.
async fn parcel(
    connection: &Connection,
    workers: &Workers,
    ends: &Ends,
    request: BrokerRequest,
) -> Result<Answered, Refusal> {
    let uid = connection.process.uid();
    // Before the vault is asked: a lease that finds no place here could be neither kept nor ended.
    let place =
        workers.leases.admit(uid).map_err(|full| Refusal::new(RefusalCode::Busy, &format!("leases: {full}")))?;
    let Heard { answer, parcel_key } = workers.uplink.call(request).await?;
    let Answer::Parcelled(parcelled) = answer else {
        error!(name: "vault-answered-otherwise", "the vault answered with something else than a parcel");
        return Err(Refusal::new(RefusalCode::Internal, "the vault answered something else than a parcel"));
    };
    let lease = parcelled.lease;
    // First of all, whatever becomes of the parcel: if the process has ended meanwhile, this ends the lease.
    match workers.registry.bind(lease, &connection.process, parcelled.lease_idle, place, ends.clone()) {
        Bound::New => debug!(name: "lease-begun", %lease, uid, "lease begun"),
        Bound::Already => {}
        Bound::Foreign => return Err(foreign()),
        Bound::Ended => return Err(over()),
    }
    let handle = Handle::seal("blindferry-parcel", parcelled.parcel.as_slice()).map_err(|error| {
        error!(name: "no-handle", why = with_causes(&error), "cannot seal a parcel into a handle");
        Refusal::new(RefusalCode::Internal, "the broker cannot make a handle")
    })?;
    let reply = WorkerReply::Parcelled {
        lease,
        sender: parcel_key,
        expires: parcelled.expires,
        token_type: parcelled.token_type,
    };
    Ok(Answered::Parcel(reply, handle))
}

/// The grant in the one handle beside a redemption.
fn only_grant(descriptors: Vec<OwnedFd>) -> Result<Bytes<{ blindferry_proto::limits::MAX_GRANT }>, Refusal> {
    let malformed = |detail: &str| Refusal::new(RefusalCode::Malformed, detail);
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|all| malformed(&format!("a redemption brings one descriptor, here are {}", all.len())))?;
    let handle = Handle::from_fd(descriptor).map_err(|error| malformed(&with_causes(&error)))?;
    let grant = handle.read().map_err(|error| malformed(&with_causes(&error)))?;
    Bytes::new(grant).map_err(|error| malformed(&format!("the handle holds no grant: {error}")))
}

/// Refuses when the lease belongs to another process of this host, or is over. One that this broker does not know may
/// be older than the broker: that is for the vault to say.
fn own(connection: &Connection, workers: &Workers, lease: LeaseId) -> Result<(), Refusal> {
    match workers.registry.whose(lease, &connection.process) {
        None | Some(Bound::New | Bound::Already) => Ok(()),
        Some(Bound::Foreign) => Err(foreign()),
        Some(Bound::Ended) => Err(over()),
    }
}

fn foreign() -> Refusal {
    Refusal::new(RefusalCode::Denied, "the lease belongs to another process")
}

fn over() -> Refusal {
    Refusal::new(RefusalCode::Unknown, "the lease is over")
}
