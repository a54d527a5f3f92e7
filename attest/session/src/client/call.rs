//! Calls to the vault: asked by any task, each answered once, and forgotten when nobody waits for it any more.

use super::{CALL_TIME, CALLS};
use blindferry_proto::refusal::Refusal;
use blindferry_proto::session::{Answer, Call, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Asks the vault; any number of tasks may, through clones.
#[derive(Clone, Debug)]
pub struct Caller {
    calls: mpsc::Sender<Call>,
    under_way: Arc<UnderWay>,
}

impl Caller {
    /// A caller, and what the driver needs to serve it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Call>, Serving) {
        let (calls, asked) = mpsc::channel(CALLS);
        let under_way = Arc::new(UnderWay(Mutex::new(Some(Waiting::default()))));
        let serving = Serving(Arc::clone(&under_way));
        (Self { calls, under_way }, asked, serving)
    }

    /// Asks, and waits for the answer. A call that is dropped while it waits is over: it is not sent any more, or its
    /// answer is thrown away.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the vault said no, else what became of the session.
    pub async fn call(&self, request: Request) -> Result<Answer, CallError> {
        let mut begun = Begun::new(&self.under_way, CALLS)?;
        self.calls.try_send(begun.call(request)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::Busy,
            mpsc::error::TrySendError::Closed(_) => CallError::Over,
        })?;
        match tokio::time::timeout(CALL_TIME, begun.answer()).await {
            Ok(Some(Answer::Refused(refusal))) => Err(CallError::Refused(refusal)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(CallError::Over),
            Err(_) => Err(CallError::Late),
        }
    }
}

/// The driver's hold on the calls under way. When it goes, however the driver ended, they are over.
#[derive(Debug)]
pub(super) struct Serving(Arc<UnderWay>);

impl Serving {
    /// A call of the driver's own: fresh evidence. One at a time, and never refused as busy.
    pub(super) fn begin(&self) -> Result<Begun, CallError> {
        Begun::new(&self.0, CALLS + 1)
    }

    /// Whether somebody still waits for this answer.
    pub(super) fn is_awaited(&self, id: u64) -> bool {
        self.0.lock().as_ref().is_some_and(|waiting| waiting.answers.contains_key(&id))
    }

    /// Hands an answer to whoever waits for it; one that nobody waits for is nothing.
    pub(super) fn answered(&self, id: u64, answer: Answer) {
        let caller = self.0.lock().as_mut().and_then(|waiting| waiting.answers.remove(&id));
        let _given_up = caller.map(|caller| caller.send(answer));
    }

    /// No call has an answer from here on.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end();
    }
}

/// A call that somebody waits for.
#[derive(Debug)]
pub(super) struct Begun {
    id: u64,
    answer: oneshot::Receiver<Answer>,
    under_way: Arc<UnderWay>,
}

impl Begun {
    fn new(under_way: &Arc<UnderWay>, most: usize) -> Result<Self, CallError> {
        let mut open = under_way.lock();
        let waiting = open.as_mut().ok_or(CallError::Over)?;
        if waiting.answers.len() >= most {
            return Err(CallError::Busy);
        }
        waiting.last += 1;
        let (reply, answer) = oneshot::channel();
        waiting.answers.insert(waiting.last, reply);
        Ok(Self { id: waiting.last, answer, under_way: Arc::clone(under_way) })
    }

    /// The message that asks.
    pub(super) fn call(&self, request: Request) -> Call {
        Call { id: self.id, request }
    }

    /// The answer, or nothing when the session is over.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Begun {
    /// Answered, late or given up: nothing stays behind.
    fn drop(&mut self) {
        let _answered = self.under_way.lock().as_mut().and_then(|waiting| waiting.answers.remove(&self.id));
    }
}

/// The calls under way; `None` once the session is over.
#[derive(Debug)]
struct UnderWay(Mutex<Option<Waiting>>);

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        // Nothing that is done under the lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The vault said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The session is over; whether the vault acted on the call is not known.
    #[error("the session with the vault is over")]
    Over,
    /// No answer in [`CALL_TIME`]; whether the vault acted on the call is not known.
    #[error("the vault did not answer in time")]
    Late,
    /// [`CALLS`] calls are under way.
    #[error("too many calls are under way")]
    Busy,
}
