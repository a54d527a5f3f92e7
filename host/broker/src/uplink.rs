//! The way up: keeps one attested session to the vault alive, and carries requests over it.
//!
//! The rest of the broker holds an [`Uplink`], a bounded queue of requests. [`supervise`] owns the other end: it dials,
//! and while there is no session it answers every request at once with [`NotHeard::Down`], so that nobody waits for a
//! vault that is not there. How a session is made is the business of [`Dial`].

use crate::backoff::{Backoff, Setback};
use crate::figures::{Kind, Shared};
use crate::traced::Tracer;
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::{LeaseId, ParcelKey, ReplicaId};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{Answer, BrokerRequest, LeaseEnd, Request};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

/// The broker's side: puts a request to the vault and waits for the answer.
#[derive(Clone, Debug)]
pub struct Uplink {
    orders: mpsc::Sender<Order>,
    figures: Shared,
    tracer: Option<Arc<Tracer>>,
}

/// The requests of all uplinks that are one.
#[derive(Debug)]
pub struct Orders {
    queue: mpsc::Receiver<Order>,
    figures: Shared,
}

/// A request on its way up.
#[derive(Debug)]
pub struct Order {
    /// What the vault is asked.
    pub request: BrokerRequest,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Heard, NotHeard>>,
}

/// What the vault answered; a refusal is not among it.
#[derive(Debug)]
pub struct Heard {
    /// The answer.
    pub answer: Answer,
    /// The key that authenticates parcels of the vault that answered.
    pub parcel_key: ParcelKey,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeard {
    /// The vault said no.
    #[error("the vault refused")]
    Refused(#[source] Refusal),
    /// There is no session; the request did not go out.
    #[error("no session with the vault")]
    Down,
    /// The session ended, or the time ran out, while the vault had the request: it may have been carried out.
    #[error("the vault's answer did not arrive")]
    Lost,
    /// Too many requests are under way; this one did not go out.
    #[error("too many requests are under way")]
    Busy,
}

/// What happens at the far end without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session stands.
    Up,
    /// The vault ended a lease.
    LeaseEnded(LeaseId, LeaseEnd),
}

/// An uplink, and the end that answers it.
#[must_use]
pub fn uplink() -> (Uplink, Orders) {
    let (orders, queue) = mpsc::channel(QUEUE);
    let figures = Shared::default();
    (Uplink { orders, figures: Shared::clone(&figures), tracer: None }, Orders { queue, figures })
}

impl Orders {
    /// The next request; `None` when nobody is left to ask.
    pub async fn recv(&mut self) -> Option<Order> {
        self.queue.recv().await
    }
}

impl Uplink {
    /// Asks the vault.
    ///
    /// # Errors
    /// [`NotHeard`]; [`Refusal::from`] turns it into what a local peer is told.
    pub async fn call(&self, request: BrokerRequest) -> Result<Heard, NotHeard> {
        let since = Instant::now();
        let Some(tracer) = &self.tracer else { return self.exchange(request, since).await };
        let begun = tracer.begin(&request, since);
        let heard = self.exchange(request, since).await;
        tracer.end(begun, &heard);
        heard
    }

    async fn exchange(&self, request: BrokerRequest, since: Instant) -> Result<Heard, NotHeard> {
        let (reply, answer) = oneshot::channel();
        let kind = Kind::from(&request);
        let calling = self.figures.calling();
        self.orders.try_send(Order { request, reply }).map_err(|unsent| match unsent {
            mpsc::error::TrySendError::Full(_) => NotHeard::Busy,
            mpsc::error::TrySendError::Closed(_) => NotHeard::Down,
        })?;
        let heard = answer.await.unwrap_or(Err(NotHeard::Lost));
        drop(calling);
        // What did not go out says nothing of how long an answer takes.
        if !matches!(heard, Err(NotHeard::Down | NotHeard::Busy)) {
            self.figures.steps.observe(kind, since.elapsed());
        }
        heard
    }

    /// The same, whose requests are told of as a trace.
    #[must_use]
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer: Some(Arc::new(tracer)), ..self }
    }

    /// What is counted here.
    #[must_use]
    pub fn figures(&self) -> &Shared {
        &self.figures
    }
}

impl From<NotHeard> for Refusal {
    fn from(reason: NotHeard) -> Self {
        match reason {
            NotHeard::Refused(refusal) => refusal,
            NotHeard::Down => Self::new(
                RefusalCode::NotReady,
                "the broker has no session with the vault; ask again later, its log says why",
            ),
            NotHeard::Lost => {
                Self::new(RefusalCode::NotReady, "the vault's answer was lost; ask again with the same request id")
            }
            NotHeard::Busy => Self::new(RefusalCode::Busy, "too many requests are under way; ask again later"),
        }
    }
}

/// Makes sessions with the vault.
pub trait Dial: Send {
    /// Puts requests to the vault of one session.
    type Caller: Call;

    /// Dials, and proves itself.
    fn dial(&mut self) -> impl Future<Output = Result<Session<Self::Caller>, DialError>> + Send;
}

/// Puts a request to the vault of one session.
pub trait Call: Clone + Send + 'static {
    /// The answer; [`Answer::Refused`] may come as such or as [`NotHeard::Refused`].
    fn call(&self, request: Request) -> impl Future<Output = Result<Answer, NotHeard>> + Send;
}

/// A session that stands.
#[expect(missing_debug_implementations, reason = "a future has none")]
pub struct Session<C> {
    /// The running vault.
    pub replica: ReplicaId,
    /// Authenticates its parcels.
    pub parcel_key: ParcelKey,
    /// Puts requests to it.
    pub caller: C,
    /// The leases that it ends.
    pub ends: mpsc::Receiver<(LeaseId, LeaseEnd)>,
    /// Runs the session, and says in the end why it is over.
    pub driver: Pin<Box<dyn Future<Output = SessionEnd> + Send>>,
}

/// Why a session is over, in a line for the log.
#[derive(Debug)]
pub struct SessionEnd {
    /// The line.
    pub reason: String,
    /// Whether time alone mends it.
    pub setback: Setback,
}

/// Why no session came to stand.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("cannot connect to the vault at {address}")]
    Connect {
        /// The address of the configuration.
        address: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The vault refused this host.
    #[error("the vault does not accept this host")]
    Refused(#[source] Refusal),
    /// The session could not be made.
    #[error("cannot make an attested session with the vault")]
    Session {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This host does not accept the vault.
    #[error("the vault's evidence does not meet the reference of the configuration; nothing was told to it")]
    VaultNotAccepted {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the vault's reference accepts, over another store: a vault that was made anew, or somebody's own.
    #[error(
        "this is another vault than the one of the configured reference: its hardware and software are accepted, and it \
         lacks that vault's audit key; nothing was told to it"
    )]
    AnotherVault,
    /// It took too long.
    #[error("no session after {seconds} s")]
    Late {
        /// How long, in seconds.
        seconds: u64,
    },
}

impl DialError {
    /// What it is counted as.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Refused(refusal) => refusal.code.as_str(),
            Self::Session { .. } => "session",
            Self::VaultNotAccepted { .. } => "vault-not-accepted",
            Self::AnotherVault => "another-vault",
            Self::Late { .. } => "late",
        }
    }

    /// Whether time alone mends it.
    #[must_use]
    pub fn setback(&self) -> Setback {
        match self {
            Self::Connect { .. } | Self::Session { .. } | Self::Late { .. } => Setback::Passing,
            Self::Refused(refusal) if refusal.code.is_passing() => Setback::Passing,
            Self::Refused(_) | Self::VaultNotAccepted { .. } | Self::AnotherVault => Setback::Standing,
        }
    }
}

/// Keeps a session alive until the last [`Uplink`] is gone. `random` gives the jitter of the waits.
///
/// Events are sent in order; whoever receives them must never wait for an answer of the vault in between.
pub async fn supervise<D: Dial>(
    mut dial: D,
    Orders { queue: mut orders, figures }: Orders,
    events: mpsc::Sender<Event>,
    mut random: impl FnMut() -> u32,
) {
    let mut backoff = Backoff::default();
    loop {
        let since = Instant::now();
        let Some(dialled) = while_down(&mut orders, timeout(DIAL_LIMIT, dial.dial())).await else { return };
        let setback = match dialled.unwrap_or(Err(DialError::Late { seconds: DIAL_LIMIT.as_secs() })) {
            Ok(session) => {
                figures.steps.observe(Kind::Session, since.elapsed());
                figures.session_stands();
                info!(name: "session-stands", replica = %session.replica, "session with the vault stands");
                backoff.reset();
                if events.send(Event::Up).await.is_err() {
                    return;
                }
                let Some(end) = carry(session, &mut orders, &events).await else { return };
                figures.session_over();
                warn!(name: "session-over", reason = end.reason, "session with the vault is over");
                end.setback
            }
            Err(refused) => {
                figures.dial_failed(refused.kind());
                explain(&refused);
                refused.setback()
            }
        };
        let wait = backoff.after(setback, random());
        info!(name: "dialling-again", milliseconds = wait.as_millis(), "dialling again after a wait");
        if while_down(&mut orders, sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Carries requests over a standing session. `None` when nobody is left to ask.
async fn carry<C: Call>(
    mut session: Session<C>,
    orders: &mut mpsc::Receiver<Order>,
    events: &mpsc::Sender<Event>,
) -> Option<SessionEnd> {
    let parcel_key = session.parcel_key;
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            end = &mut session.driver => return Some(end),
            Some((lease, why)) = session.ends.recv() => events.send(Event::LeaseEnded(lease, why)).await.ok()?,
            Some(_) = under_way.join_next() => {}
            order = orders.recv() => {
                let Order { request, reply } = order?;
                if under_way.len() >= UNDER_WAY {
                    let _gone = reply.send(Err(NotHeard::Busy));
                    continue;
                }
                let caller = session.caller.clone();
                under_way.spawn(async move {
                    // Not given up when the local peer hangs up: a redemption that the vault carries out leaves a
                    // lease, which has to be known here in order to be ended.
                    let answer = timeout(CALL_LIMIT, caller.call(Request::Broker(request))).await;
                    let _gone = reply.send(match answer {
                        Ok(Ok(Answer::Refused(refusal))) => Err(NotHeard::Refused(refusal)),
                        Ok(Ok(answer)) => Ok(Heard { answer, parcel_key }),
                        Ok(Err(reason)) => Err(reason),
                        Err(_elapsed) => Err(NotHeard::Lost),
                    });
                });
            }
        }
    }
}

/// Waits for `future` and answers requests meanwhile that there is no session. `None` when nobody is left to ask.
async fn while_down<F: Future>(orders: &mut mpsc::Receiver<Order>, future: F) -> Option<F::Output> {
    tokio::pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return Some(output),
            order = orders.recv() => {
                let _gone = order?.reply.send(Err(NotHeard::Down));
            }
        }
    }
}

/// Says why there is no session, and loudly what only an operator can mend.
fn explain(refused: &DialError) {
    let why = with_causes(refused);
    match refused {
        DialError::Refused(Refusal { code: RefusalCode::HostPending, .. }) => {
            error!(name: "host-pending", why, "this host waits for approval: an operator has to run `blindferry host approve`");
        }
        DialError::Refused(Refusal { code: RefusalCode::NotAttested, .. }) => error!(
            name: "not-attested",
            why,
            "the vault does not accept this host's evidence: its PCRs, its TPM or its enrolment; `blindferry audit` says which"
        ),
        DialError::AnotherVault => error!(
            name: "another-vault",
            why,
            "another vault answers: if it was made anew, this host needs its new reference; otherwise find out whose it is"
        ),
        refused if refused.setback() == Setback::Standing => {
            error!(name: "no-session", why, "no session, and time will not mend it")
        }
        _ => warn!(name: "no-session", why, "no session with the vault"),
    }
}

/// Requests that wait to be carried; more means that the broker has stalled.
const QUEUE: usize = 64;
/// Requests that one session carries at once. The broker's own bounds on connections are the first limit.
const UNDER_WAY: usize = 256;
/// Above the time that the session gives its own handshake, whose error says more.
const DIAL_LIMIT: Duration = Duration::from_secs(75);
/// Above the time that the session gives a call.
const CALL_LIMIT: Duration = Duration::from_secs(65);

#[cfg(test)]
mod tests;
