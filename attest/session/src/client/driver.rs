//! Keeps an established session going: calls out, answers and pushes in, and fresh evidence whenever the vault asks.

use super::call::Serving;
use super::outgoing::Outgoing;
use crate::channel::{ChannelError, Exporter, Reader, Stream, Writer};
use crate::platform::{Platform, PlatformError};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Answer, Call, FromVault, LeaseEnd, Request};
use tokio::sync::mpsc;

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
    pub(super) asked: mpsc::Receiver<Call>,
    pub(super) serving: Serving,
    pub(super) push: mpsc::Sender<(LeaseId, LeaseEnd)>,
    pub(super) role: Role,
    pub(super) platform: P,
}

impl<S: Stream, P: Platform> Driver<S, P> {
    /// Runs until the session is over, and says why. Calls under way then end with [`CallError::Over`](super::CallError::Over).
    pub async fn run(self) -> SessionOver {
        let Self { mut reader, mut writer, exporter, mut asked, serving, push, role, platform } = self;
        let (challenge, mut challenges) = mpsc::channel::<(Context, WantedLogs)>(1);
        let (proof, mut proofs) = mpsc::channel::<(Call, WantedLogs)>(1);

        let receive = async {
            loop {
                match reader.receive(MAX_FRAME).await {
                    Ok(FromVault::Answer { id, answer }) => serving.answered(id, answer),
                    Ok(FromVault::Reattest { context, logs }) => {
                        if challenge.try_send((context, logs)).is_err() {
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
            let mut outgoing = Outgoing::new(&serving, &mut writer);
            loop {
                let next = tokio::select! {
                    biased;
                    Some(proof) = proofs.recv() => Some(proof),
                    call = asked.recv() => match call {
                        Some(call) => Some((call, WantedLogs::NONE)),
                        None => return outgoing.last().await,
                    },
                    () = outgoing.patience() => None,
                };
                let mut taken = match next {
                    Some((call, logs)) => outgoing.take(&call, MAX_FRAME + logs.most()),
                    None => Ok(()),
                };
                while taken.is_ok()
                    && !outgoing.is_full()
                    && let Ok(call) = asked.try_recv()
                {
                    taken = outgoing.take(&call, MAX_FRAME);
                }
                let sent = match taken {
                    Ok(()) => outgoing.leave_if_due().await,
                    Err(error) => Err(error),
                };
                if let Err(source) = sent {
                    return SessionOver::Failed { source };
                }
            }
        };
        let reattest = async {
            loop {
                let Some(challenge) = challenges.recv().await else { return SessionOver::Closed };
                match prove_again(&exporter, role, challenge, &platform, &serving, &proof).await {
                    Ok(()) => {}
                    Err(over) => return over,
                }
            }
        };
        let over = tokio::select! { over = receive => over, over = send => over, over = reattest => over };
        serving.end();
        writer.close().await;
        over
    }
}

async fn prove_again<S: Stream, P: Platform>(
    exporter: &Exporter<S>,
    role: Role,
    (context, logs): (Context, WantedLogs),
    platform: &P,
    serving: &Serving,
    proof: &mpsc::Sender<(Call, WantedLogs)>,
) -> Result<(), SessionOver> {
    let binder = exporter.own_binder(role, &context).map_err(|source| SessionOver::Failed { source })?;
    let own = |source| SessionOver::OwnEvidence { source };
    let evidence = platform.evidence(&binder, logs).await.map_err(own)?;
    let evidence = Bytes::new(evidence).map_err(|source| own(PlatformError::TooLong { what: "evidence", source }))?;
    let mut begun = serving.begin().map_err(|_| SessionOver::Closed)?;
    let sent = proof.send((begun.call(Request::Reattest { evidence }), logs)).await;
    sent.map_err(|_| SessionOver::Closed)?;
    match begun.answer().await {
        Some(Answer::Done) => Ok(()),
        Some(Answer::Refused(refusal)) => Err(SessionOver::Refused { refusal }),
        Some(_) | None => Err(SessionOver::Closed),
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
