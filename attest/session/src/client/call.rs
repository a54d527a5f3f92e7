//! Calls to the vault: asked by any task, each answered once.

use super::CALL_TIME;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::session::{Answer, Request};
use tokio::sync::{mpsc, oneshot};

/// Asks the vault; any number of tasks may, through clones.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) calls: mpsc::Sender<Waiting>,
}

pub(super) type Waiting = (Request, oneshot::Sender<Answer>);

impl Caller {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the vault said no, else what became of the session.
    pub async fn call(&self, request: Request) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        self.calls.try_send((request, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::Busy,
            mpsc::error::TrySendError::Closed(_) => CallError::Over,
        })?;
        match tokio::time::timeout(CALL_TIME, answer).await {
            Ok(Ok(Answer::Refused(refusal))) => Err(CallError::Refused(refusal)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::Over),
            Err(_) => Err(CallError::Late),
        }
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
    /// [`CALLS`](super::CALLS) calls are under way.
    #[error("too many calls are under way")]
    Busy,
}
