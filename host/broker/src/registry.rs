//! The leases of this host at work: watches their processes, keeps the living ones, reports the ended ones.
//!
//! The decisions are in [`crate::lease`]; here are the pidfds, the timers and the vault.

use crate::admission::Place;
use crate::lease::{Bound, Leases};
use crate::peer::Process;
use crate::uplink::{Event, NotHeard, Uplink};
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::session::{BrokerRequest, LeaseEnd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info};

/// The leases of this host. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Shared>);

/// Where the connection of a worker hears that a lease ended.
///
/// Unbounded in type, bounded in fact: a lease ends once, and the connection takes out what is here before it takes the
/// next request, so there is never more than the leases that the limits allow.
pub type Ends = mpsc::UnboundedSender<(LeaseId, LeaseEnd)>;

impl Registry {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A lease came from the vault for this process, which is watched from now on. Call it within a tokio runtime.
    #[must_use]
    pub fn bind(&self, lease: LeaseId, process: &Process, idle: u32, place: Place, ends: Ends) -> Bound {
        // The watch waits for the lock, so it cannot end a lease that is not bound yet.
        let mut leases = self.leases();
        let watch = tokio::spawn(self.clone().watch(lease, process.clone())).abort_handle();
        let bound = leases.bind(lease, process.clone(), idle, Attached { watch, ends, _place: place });
        drop(leases);
        // Its idle time may be the smallest.
        self.0.work.notify_one();
        bound
    }

    /// The lease is over on this host. False when it does not live here.
    pub fn end(&self, lease: LeaseId, why: LeaseEnd) -> bool {
        let ended = self.leases().end(lease, why);
        if ended {
            info!(name: "lease-ended", %lease, ?why, "lease ended");
            self.0.work.notify_one();
        }
        ended
    }

    /// Whose lease it is, as far as this host knows.
    #[must_use]
    pub fn whose(&self, lease: LeaseId, process: &Process) -> Option<Bound> {
        self.leases().whose(lease, process)
    }

    /// Whether any lease belongs to this process.
    #[must_use]
    pub fn holds_any(&self, process: &Process) -> bool {
        self.leases().holds_any(process)
    }

    /// Whether the vault has heard of every end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.leases().ends(1).is_empty()
    }

    /// Serves the leases for ever: hears what the vault ends, and tells the vault what lives and what ended.
    pub async fn run(self, uplink: Uplink, events: mpsc::Receiver<Event>) {
        // Apart, so that hearing never waits for an answer: the answer comes behind what is to be heard.
        tokio::join!(self.hear(events), self.tell(&uplink));
    }

    async fn watch(self, lease: LeaseId, process: Process) {
        if let Err(why) = process.ended().await {
            // Nobody would notice the end of this process: then its lease ends now.
            error!(name: "worker-not-watched", %lease, %why, "cannot watch a worker");
        }
        self.end(lease, LeaseEnd::WorkerGone);
    }

    async fn hear(&self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Up => self.0.up.notify_one(),
                Event::LeaseEnded(lease, why) => self.ended_by_vault(lease, why),
            }
        }
    }

    async fn tell(&self, uplink: &Uplink) {
        let mut kept = Instant::now();
        loop {
            let mut heard = self.tell_ends(uplink).await;
            if self.keep_due(kept).is_some_and(|due| due <= Instant::now()) {
                if self.keep(uplink).await {
                    kept = Instant::now();
                } else {
                    heard = false;
                }
            }
            let now = Instant::now();
            let retry = (!heard).then(|| now + RETRY);
            // A keep that is still due was not heard: the retry is for it as well.
            let next = self.keep_due(kept).filter(|due| *due > now);
            tokio::select! {
                () = self.0.work.notified() => {}
                () = until([retry, next].into_iter().flatten().min()) => {}
                () = self.0.up.notified() => {
                    // Perhaps after a long time without a session: say at once who still lives.
                    if self.keep(uplink).await {
                        kept = Instant::now();
                    }
                }
            }
        }
    }

    fn keep_due(&self, kept: Instant) -> Option<Instant> {
        self.leases().keep_every().map(|every| kept + every)
    }

    /// Tells the vault of the ends, several at a time. True when it heard them all.
    async fn tell_ends(&self, uplink: &Uplink) -> bool {
        loop {
            let ends = self.leases().ends(ENDS_AT_ONCE);
            if ends.is_empty() {
                return true;
            }
            let mut telling = JoinSet::new();
            for (lease, why) in ends {
                let uplink = uplink.clone();
                telling.spawn(async move { (lease, uplink.call(BrokerRequest::End { lease, why }).await) });
            }
            let mut all = true;
            while let Some(told) = telling.join_next().await {
                match told {
                    Ok((lease, Ok(_))) => drop(self.leases().heard(lease)),
                    Ok((lease, Err(NotHeard::Refused(refusal)))) if !refusal.code.is_passing() => {
                        // Already over there, or never known: nothing is left to tell.
                        debug!(name: "lease-unknown-there", %lease, %refusal, "the vault knows no such lease any more");
                        drop(self.leases().heard(lease));
                    }
                    Ok((_, Err(_))) | Err(_) => all = false,
                }
            }
            if !all {
                return false;
            }
        }
    }

    /// Tells the vault who still lives. True when it heard.
    async fn keep(&self, uplink: &Uplink) -> bool {
        let batches = self.leases().keeps();
        for batch in batches {
            match uplink.call(BrokerRequest::Keep { leases: batch.clone() }).await {
                Ok(_) => {}
                Err(NotHeard::Refused(refusal)) if refusal.code == RefusalCode::Unknown => {
                    if !self.keep_each(uplink, batch).await {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// The vault does not know one of these leases: finds out which, and lets go of it.
    async fn keep_each(&self, uplink: &Uplink, batch: Vec<LeaseId>) -> bool {
        for lease in batch {
            match uplink.call(BrokerRequest::Keep { leases: vec![lease] }).await {
                Ok(_) => {}
                Err(NotHeard::Refused(refusal)) if refusal.code == RefusalCode::Unknown => {
                    self.ended_by_vault(lease, LeaseEnd::Idle);
                }
                Err(_) => return false,
            }
        }
        true
    }

    fn ended_by_vault(&self, lease: LeaseId, why: LeaseEnd) {
        if let Some(attached) = self.leases().forget(lease) {
            info!(name: "lease-ended", %lease, ?why, "the vault ended a lease");
            // The connection may be closed while the process lives on; there is nobody to tell then.
            let _closed = attached.ends.send((lease, why));
        }
    }

    fn leases(&self) -> MutexGuard<'_, Leases<Process, Attached>> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, Default)]
struct Shared {
    leases: Mutex<Leases<Process, Attached>>,
    /// Something ended or was bound.
    work: Notify,
    /// A session stands.
    up: Notify,
}

/// What is kept with a lease until nothing is left to do for it.
#[derive(Debug)]
struct Attached {
    watch: AbortHandle,
    ends: Ends,
    _place: Place,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Ends that are told side by side.
const ENDS_AT_ONCE: usize = 32;
/// What was not heard is told again after this time, or as soon as a session stands.
const RETRY: Duration = Duration::from_secs(1);
