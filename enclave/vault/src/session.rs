//! One session that stands: its calls, its pushes, and fresh evidence from time to time.
//!
//! One task reads, one writes, and each call runs in a task of its own, so that a slow upstream holds up nobody. A call
//! runs to its end even when its session does not: what was begun is audited.

mod challenge;

use crate::admission::{Admitted, admit_peer};
use crate::figures::{Kind, kind_of};
use crate::vault::{NewSession, SessionEntry, Vault};
use crate::{crossing, hand_over, operator, traced, waiting};
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::Text;
use blindferry_proto::front;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Call, FromVault, LeaseEnd, Request};
use blindferry_proto::source::Source;
use blindferry_session::channel::Stream;
use blindferry_session::server::Standing;
use blindferry_session::spans::Numbered;
use challenge::Challenge;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

/// From the first byte until the peer has said whom it wants to be: TLS and one message, for which nobody needs a TPM.
/// Who is silent holds one of few places for no longer.
pub const HEAR_TIME: Duration = Duration::from_secs(10);
/// From the first byte until the session stands.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// A peer that is asked for fresh evidence has this long.
pub const REATTEST_TIME: Duration = Duration::from_secs(60);
/// A frame that is longer than others, for the logs in it, has this long from its place on. Whoever sends slower loses the
/// session.
pub const LARGE_FRAME_TIME: Duration = Duration::from_secs(20);
/// Calls of one session under way at once; further ones wait in its connection.
pub const CALLS: usize = 64;
/// How a handshake is counted for which there is no place, or whose place was given away.
const BUSY: &str = "busy";
/// How a handshake that ran out of time is counted.
pub(crate) const LATE: &str = "late";
/// Nothing is sent for longer than this to a peer that does not read.
const SEND_TIME: Duration = Duration::from_secs(30);

/// Serves one connection to its end, which came from there as far as is known.
pub async fn serve<S: Stream>(vault: Arc<Vault>, stream: S, from: Option<Source>) {
    let Some(place) = vault.handshakes.take(from) else {
        vault.figures.count("handshakes_refused_total", Some(BUSY));
        return;
    };
    let since = Instant::now();
    let admitted = tokio::select! {
        admitted = timeout(HANDSHAKE_TIME, admit_peer(&vault, stream)) => admitted,
        () = place.given_away() => {
            vault.figures.count("handshakes_refused_total", Some(BUSY));
            return;
        }
    };
    drop(place);
    match admitted {
        Ok(Some(admitted)) => {
            vault.link.steps().observe(Kind::Session, since.elapsed());
            run(vault, admitted).await;
        }
        Ok(None) => {}
        Err(_) => vault.figures.count("handshakes_refused_total", Some(LATE)),
    }
}

async fn run<S: Stream>(vault: Arc<Vault>, admitted: Admitted<S>) {
    let Admitted { standing, new: NewSession { entry, mut ended, mut queue } } = admitted;
    let Standing { attested, mut reader, mut writer, exporter } = standing;
    let entry = Arc::new(entry);
    entry.believe(attested);
    let outgoing = entry.outgoing.clone();
    let calls = Arc::new(Semaphore::new(CALLS));
    let challenge = Challenge::default();

    let receive = async {
        loop {
            let (Call { id, request }, large) = match challenge.next_call(&vault.large_frames, &mut reader).await {
                Ok(next) => next,
                Err(over) => return over,
            };
            if let Request::Reattest { evidence } = request {
                let judged = challenge.answered(&vault, &entry, evidence.as_slice()).await;
                drop((evidence, large));
                if let Err(over) = judged {
                    let refused = Answer::Refused(RefusalCode::NotAttested.into());
                    let _unheard = outgoing.try_send(FromVault::Answer { id, answer: refused });
                    return over;
                }
                if outgoing.try_send(FromVault::Answer { id, answer: Answer::Done }).is_err() {
                    return Over::because("slow-reader");
                }
                continue;
            }
            let Ok(place) = Arc::clone(&calls).acquire_owned().await else { return Over::because("internal") };
            let (vault, entry, outgoing) = (Arc::clone(&vault), Arc::clone(&entry), outgoing.clone());
            tokio::spawn(async move {
                let (answer, traced) = answer(&vault, &entry, request).await;
                drop(place);
                // A session that is over does not hear the answer; what was done is in the audit.
                let _unheard = outgoing.send(FromVault::Answer { id, answer }).await;
                if let Some(traced) = traced {
                    // Last, so that nobody waits for it. A front that is gone takes the vault with it.
                    let _untold = vault.link.tell(&front::FromVault::Traced(traced)).await;
                }
            });
        }
    };
    // Never dropped in the middle of a frame: whoever is refused shall be able to read that.
    let finish = Notify::new();
    let send = async {
        loop {
            let message = tokio::select! {
                biased;
                message = queue.recv() => message,
                () = finish.notified() => None,
            };
            let Some(message) = message else {
                writer.close().await;
                return Over::because("closed");
            };
            let mut held = writer.hold(&message, MAX_FRAME);
            while held.is_ok()
                && !writer.is_full()
                && let Ok(message) = queue.try_recv()
            {
                held = writer.hold(&message, MAX_FRAME);
            }
            if held.is_err() {
                return Over::because("connection");
            }
            match timeout(SEND_TIME, writer.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Over::because("connection"),
                Err(_) => return Over::because("slow-reader"),
            }
        }
    };
    tokio::pin!(send);
    let mut sending = true;
    let watch = challenge.ask_again(&vault, &entry, &exporter, &outgoing);
    let order = async { ended.recv().await.unwrap_or_else(|| Over::because("internal")) };
    let over = tokio::select! {
        over = receive => over,
        over = &mut send => {
            sending = false;
            over
        }
        over = watch => over,
        over = order => over,
    };
    // Leases first: a peer that does not read cannot put that off.
    end(&vault, &entry, over).await;
    if sending {
        finish.notify_one();
        // A peer that does not read does not hear why.
        let _unheard = timeout(SEND_TIME, &mut send).await;
    }
}

/// Why a session is over, and what that means for its leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    why: &'static str,
    leases: Option<LeaseEnd>,
}

impl Over {
    /// The peer closed it. Its leases live on until they idle: a broker that comes back keeps them.
    #[must_use]
    pub fn closed() -> Self {
        Self { why: "closed", leases: None }
    }

    /// Something about the connection. Leases live on until they idle.
    #[must_use]
    pub fn because(why: &'static str) -> Self {
        Self { why, leases: None }
    }

    /// The host is no longer believed, or no longer wanted: its leases end now.
    #[must_use]
    pub fn with_leases(why: &'static str, leases: LeaseEnd) -> Self {
        Self { why, leases: Some(leases) }
    }
}

async fn answer(vault: &Arc<Vault>, entry: &SessionEntry, request: Request) -> (Answer, Option<front::Traced>) {
    let (kind, since) = (kind_of(&request), Instant::now());
    let (answer, traced) = match (entry.role, request) {
        (Role::Broker, Request::Broker(request)) if vault.settings.traces => {
            let numbered = Numbered::of(&request);
            let (answer, noted) = Box::pin(traced::recorded(since, crossing::answer(vault, entry, request))).await;
            let traced = noted.told(kind, numbered, answer.as_ref().err());
            (answer, traced)
        }
        (Role::Broker, Request::Broker(request)) => (crossing::answer(vault, entry, request).await, None),
        (Role::Operator, Request::Operator(request)) => {
            (Box::pin(operator::answer(vault, entry, *request)).await, None)
        }
        (Role::Successor, Request::Successor(request)) => {
            (Box::pin(hand_over::answer(vault, entry, request)).await, None)
        }
        _ => (Err(Refusal::new(RefusalCode::Malformed, "this request is not for this role")), None),
    };
    vault.link.steps().observe(kind, since.elapsed());
    let answer = answer.unwrap_or_else(|refusal| {
        vault.figures.count("refusals_total", Some(refusal.code.as_str()));
        Answer::Refused(refusal)
    });
    (answer, traced)
}

async fn end(vault: &Vault, entry: &SessionEntry, over: Over) {
    vault.forget_session(entry);
    waiting::session_ended(vault, entry).await;
    if let Some(why) = over.leases {
        vault.end_leases(why, |lease| lease.terms.host == entry.host).await;
    }
    let event = Event::SessionEnded { session: entry.id, host: entry.host.clone(), why: Text::cut(over.why) };
    // A vault that cannot audit has said so; there is nobody left in this session to refuse.
    let _unwritten = vault.audit(event).await;
}
