//! What goes out to the vault: what somebody waits for at once, and what only reports a little later, with it.
//!
//! A report that leaves with a request costs no record of TLS, no system call and no waking of either side. The vault's
//! answers to both come back together as well.

use super::SessionOver;
use super::call::Serving;
use crate::channel::{ChannelError, Stream, Writer};
use blindferry_proto::session::Call;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A report waits for a request to leave with for no longer than this: about the time in which a program that was given a grant
/// is started and redeems it. It comes on top of what a flush of the vault's disk takes, and nobody waits for either.
pub const REPORT_TIME: Duration = Duration::from_millis(5);
/// So many reports leave without waiting for a request: half of the calls that a vault takes of one session at once, so
/// that the request behind them does not wait for their answers.
pub const REPORTS: usize = 32;

/// Messages on their way to the vault.
pub(super) struct Outgoing<'s, S> {
    serving: &'s Serving,
    writer: &'s mut Writer<S>,
    /// Reports that are held.
    reports: usize,
    /// When what is held leaves at the latest; `None` while nothing is.
    due: Option<Instant>,
}

impl<'s, S: Stream> Outgoing<'s, S> {
    /// Nothing yet.
    pub(super) fn new(serving: &'s Serving, writer: &'s mut Writer<S>) -> Self {
        Self { serving, writer, reports: 0, due: None }
    }

    /// Takes a call to be sent, if anybody still waits for its answer.
    ///
    /// # Errors
    /// [`ChannelError`] when it is over `limit`.
    pub(super) fn take(&mut self, call: &Call, limit: usize) -> Result<(), ChannelError> {
        if !self.serving.is_awaited(call.id) {
            return Ok(());
        }
        self.writer.hold(call, limit)?;
        let now = Instant::now();
        if call.request.is_report() && self.reports + 1 < REPORTS {
            self.reports += 1;
            self.due.get_or_insert(now + REPORT_TIME);
        } else {
            self.due = Some(now);
        }
        Ok(())
    }

    /// Whether enough is held to be sent before more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// Waits until what is held has waited long enough; for ever while nothing is held.
    pub(super) async fn patience(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Sends what is held, if it has waited long enough or is enough.
    ///
    /// # Errors
    /// [`ChannelError`], after which the connection is good for nothing.
    pub(super) async fn leave_if_due(&mut self) -> Result<(), ChannelError> {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if is_due || self.is_full() { self.leave().await } else { Ok(()) }
    }

    /// Nobody has anything more to ask: what is held is still sent.
    pub(super) async fn last(&mut self) -> SessionOver {
        match self.leave().await {
            Ok(()) => SessionOver::Ended,
            Err(source) => SessionOver::Failed { source },
        }
    }

    async fn leave(&mut self) -> Result<(), ChannelError> {
        (self.reports, self.due) = (0, None);
        self.writer.flush().await
    }
}
