//! Keeps an established session going: calls out, answers and pushes in, and fresh evidence whenever the vault asks.

use super::call::Waiting;
use crate::channel::{ChannelError, Exporter, Reader, Stream, Writer};
use crate::platform::{Platform, PlatformError};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Answer, Call, FromVault, LeaseEnd, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// What the vault tells us unasked.
#[derive(Debug)]
pub struct Pushes {
    pub(super) pushes: mpsc::Receiver<(LeaseId, LeaseEnd)>,
}

impl Pushes {
    /// The next lease that ended at the vault; `None` when the session is over.
    pub async fn next(&mut self) -> Option<(LeaseId, LeaseEnd)> {
        self.pushes.recv().await
    }
}

/// Moves messages, and proves this host again whenever the vault asks.
#[derive(Debug)]
pub struct Driver<S, P> {
    pub(super) reader: Reader<S>,
    pub(super) writer: Writer<S>,
    pub(super) exporter: Exporter<S>,
    pub(super) waiting: mpsc::Receiver<Waiting>,
    pub(super) push: mpsc::Sender<(LeaseId, LeaseEnd)>,
    pub(super) role: Role,
    pub(super) platform: P,
}

type UnderWay = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

impl<S: Stream, P: Platform> Driver<S, P> {
    /// Runs until the session is over, and says why. Calls under way then end with [`CallError::Over`].
    pub async fn run(self) -> SessionOver {
        let Self { mut reader, mut writer, exporter, mut waiting, push, role, platform } = self;
        let under_way = UnderWay::default();
        let (challenge, mut challenges) = mpsc::channel::<Context>(1);
        let (proof, mut proofs) = mpsc::channel::<Waiting>(1);

        let receive = async {
            loop {
                match reader.receive(MAX_FRAME).await {
                    Ok(FromVault::Answer { id, answer }) => {
                        let caller = under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                        // A caller that gave up has dropped its end; an answer nobody waits for is nothing.
                        let _given_up = caller.map(|caller| caller.send(answer));
                    }
                    Ok(FromVault::Reattest { context }) => {
                        if challenge.try_send(context).is_err() {
                            return SessionOver::Pressed;
                        }
                    }
                    Ok(FromVault::LeaseEnded { lease, why }) => {
                        if push.try_send((lease, why)).is_err() {
                            return SessionOver::Pressed;
                        }
                    }
                    Err(ChannelError::Closed) => return SessionOver::Closed,
                    Err(source) => return SessionOver::Failed { source },
                }
            }
        };
        let send = async {
            let mut id = 0;
            loop {
                let next = tokio::select! {
                    biased;
                    Some(next) = proofs.recv() => next,
                    next = waiting.recv() => match next {
                        Some(next) => next,
                        None => return SessionOver::Ended,
                    },
                };
                id += 1;
                under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(id, next.1);
                if let Err(source) = writer.send(&Call { id, request: next.0 }, MAX_FRAME).await {
                    return SessionOver::Failed { source };
                }
            }
        };
        let reattest = async {
            loop {
                let Some(context) = challenges.recv().await else { return SessionOver::Closed };
                match prove_again(&exporter, role, &context, &platform, &proof).await {
                    Ok(()) => {}
                    Err(over) => return over,
                }
            }
        };
        let over = tokio::select! { over = receive => over, over = send => over, over = reattest => over };
        writer.close().await;
        over
    }
}

async fn prove_again<S: Stream, P: Platform>(
    exporter: &Exporter<S>,
    role: Role,
    context: &Context,
    platform: &P,
    proof: &mpsc::Sender<Waiting>,
) -> Result<(), SessionOver> {
    let binder = exporter.own_binder(role, context).map_err(|source| SessionOver::Failed { source })?;
    let own = |source| SessionOver::OwnEvidence { source };
    let evidence = platform.evidence(&binder).await.map_err(own)?;
    let evidence = Bytes::new(evidence).map_err(|source| own(PlatformError::TooLong { what: "evidence", source }))?;
    let (reply, answer) = oneshot::channel();
    let sent = proof.send((Request::Reattest { evidence }, reply)).await;
    sent.map_err(|_| SessionOver::Closed)?;
    match answer.await {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(SessionOver::Refused { refusal }),
        Ok(_) | Err(_) => Err(SessionOver::Closed),
    }
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionOver {
    /// Nobody on our side has anything more to ask.
    #[error("the session was ended here")]
    Ended,
    /// The vault closed it.
    #[error("the vault closed the session")]
    Closed,
    /// The vault no longer accepts our evidence.
    #[error("the vault refused this host's fresh evidence: {refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
    },
    /// The vault pushed faster than we could take it.
    #[error("the vault pushed more than its bound")]
    Pressed,
    /// Our own platform made no fresh evidence.
    #[error("this host cannot prove itself again")]
    OwnEvidence {
        /// Why not.
        source: PlatformError,
    },
    /// The connection failed.
    #[error("the connection to the vault failed")]
    Failed {
        /// Why.
        source: ChannelError,
    },
}
