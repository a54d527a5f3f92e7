//! The leases of this host at work: watches their processes, keeps the living ones, reports the ended ones.
//!
//! The decisions are in [`crate::lease`]; here are the pidfds, the timers and the vault.

use crate::admission::Place;
use crate::lease::{Bound, Leases};
use crate::peer::Process;
use crate::uplink::{Event, Heard, NotHeard, Uplink};
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
        let before = leases.keep_every();
        let bound = leases.bind(lease, process, idle, Attached { watch, ends, _place: place });
        if leases.keep_every() != before {
            self.0.impatient.notify_one();
        }
        bound
    }

    /// The lease is over on this host. False when it does not live here.
    pub fn end(&self, lease: LeaseId, why: LeaseEnd) -> bool {
        let ended = self.leases().end(lease, why);
        if ended {
            debug!(name: "lease-ended", %lease, ?why, "lease ended");
            self.0.ends.notify_one();
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
        self.leases().is_settled()
    }

    /// Serves the leases for ever: hears what the vault ends, and tells the vault what lives and what ended.
    pub async fn run(self, uplink: Uplink, events: mpsc::Receiver<Event>) {
        // Apart, so that none waits for an answer to another: what is to be heard comes before an answer, and the end of
        // one lease may take the vault as long as an upstream takes to revoke its token.
        tokio::join!(self.hear(events), self.tell_ends(&uplink), self.keep_living(&uplink));
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
                Event::Up => {
                    self.0.ends.notify_one();
                    self.0.up.notify_one();
                }
                Event::LeaseEnded(lease, why) => self.ended_by_vault(lease, why),
            }
        }
    }

    /// Tells the vault of each end until it has heard.
    async fn tell_ends(&self, uplink: &Uplink) {
        let mut telling = JoinSet::new();
        let mut retry = None;
        loop {
            let room = if retry.is_none() { ENDS_AT_ONCE.saturating_sub(telling.len()) } else { 0 };
            let ends = self.leases().tell(room);
            for (lease, why) in ends {
                let uplink = uplink.clone();
                telling.spawn(async move { (lease, uplink.call(BrokerRequest::End { lease, why }).await) });
            }
            tokio::select! {
                Some(Ok((lease, told))) = telling.join_next() => if !self.told(lease, told) {
                    retry = Some(Instant::now() + RETRY);
                },
                () = self.0.ends.notified() => retry = None,
                () = until(retry), if retry.is_some() => retry = None,
            }
        }
    }

    /// True when the vault has heard of this end.
    fn told(&self, lease: LeaseId, told: Result<Heard, NotHeard>) -> bool {
        match told {
            Ok(_) => {}
            Err(NotHeard::Refused(refusal)) if !refusal.code.is_passing() => {
                // Already over there, or never known: nothing is left to tell.
                debug!(name: "lease-unknown-there", %lease, %refusal, "the vault knows no such lease any more");
            }
            Err(_) => {
                self.leases().unheard(lease);
                return false;
            }
        }
        drop(self.leases().heard(lease));
        true
    }

    /// Tells the vault who still lives, in time and whenever a session stands.
    async fn keep_living(&self, uplink: &Uplink) {
        let mut kept = Instant::now();
        let mut retry = None;
        loop {
            let due = self.leases().keep_every().map(|every| kept + every);
            tokio::select! {
                // A keep that was not heard is due since long.
                () = until(due.max(due.and(retry))) => {}
                () = self.0.impatient.notified() => continue,
                // Perhaps after a long time without a session: say at once who still lives.
                () = self.0.up.notified() => {}
            }
            let heard = self.keep(uplink).await;
            let now = Instant::now();
            retry = (!heard).then(|| now + RETRY);
            if heard {
                kept = now;
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
    /// Something ended, or a session stands to tell it over.
    ends: Notify,
    /// Leases have to be kept more often, or less.
    impatient: Notify,
    /// A session stands to keep leases over.
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
