//! Fresh evidence in the course of a session: when it is asked for, how it comes in, what becomes of it.
//!
//! With logs it is longer than all else that a peer may send. So a frame of that length is let in only while a challenge is
//! open that asked for logs, into one of few places of the whole vault: however many sessions there are, the memory for
//! their logs is bounded.

use super::{LARGE_FRAME_TIME, Over, REATTEST_TIME};
use crate::figures::Kind;
use crate::vault::{SessionEntry, Vault, lock};
use blindferry_proto::audit::Event;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::session::{Call, FromVault, LeaseEnd, Request};
use blindferry_session::channel::{ChannelError, Exporter, Reader, Stream};
use blindferry_session::server::Rechallenge;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};

/// The one challenge of a session that has not been answered yet.
#[derive(Debug, Default)]
pub(super) struct Challenge(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    challenge: Option<Rechallenge>,
    /// The answer has begun to come; it may have to wait for its place, which is not the peer's delay.
    arriving: bool,
}

impl Challenge {
    /// Asks for fresh evidence from time to time, and when the reference values changed, until an answer does not come.
    pub(super) async fn ask_again<S: Stream>(
        &self,
        vault: &Vault,
        entry: &SessionEntry,
        exporter: &Exporter<S>,
        outgoing: &mpsc::Sender<FromVault>,
    ) -> Over {
        let every = Duration::from_secs(vault.reattest_every().into());
        let mut ticks = interval_at(Instant::now() + every, every);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = entry.suspected() => {}
            }
            let logs = vault.wanted_logs(entry.role);
            let Ok((rechallenge, context)) = Rechallenge::new(exporter, entry.role, logs, &vault.random) else {
                return Over::because("no-binder");
            };
            lock(&self.0).challenge = Some(rechallenge);
            if outgoing.try_send(FromVault::Reattest { context, logs }).is_err() {
                return Over::because("slow-reader");
            }
            sleep_until(Instant::now() + REATTEST_TIME.min(every)).await;
            while lock(&self.0).arriving {
                sleep(STILL_ARRIVING).await;
            }
            if lock(&self.0).challenge.is_some() {
                return Over::with_leases("reattestation-late", LeaseEnd::HostRefused);
            }
        }
    }

    /// The next call of the peer. Of one that is longer than others, the one of these places that it takes until it was
    /// dealt with.
    pub(super) async fn next_call<'p, S: Stream>(
        &self,
        places: &'p Semaphore,
        reader: &mut Reader<S>,
    ) -> Result<(Call, Option<SemaphorePermit<'p>>), Over> {
        let failed = |error| match error {
            ChannelError::Closed => Over::closed(),
            _ => Over::because("connection"),
        };
        let frame = reader.announced().await.map_err(failed)?;
        if !frame.is_over(MAX_FRAME) {
            return Ok((frame.take(MAX_FRAME).await.map_err(failed)?, None));
        }
        let most = MAX_FRAME + self.arriving().most();
        if frame.is_over(most) {
            return Err(Over::because("logs-unasked"));
        }
        let place = places.acquire().await.map_err(|_| Over::because("internal"))?;
        let taken = timeout(LARGE_FRAME_TIME, frame.take(most)).await;
        let call: Call = taken.map_err(|_| Over::because("slow-sender"))?.map_err(failed)?;
        match call.request {
            Request::Reattest { .. } => Ok((call, Some(place))),
            _ => Err(Over::because("connection")),
        }
    }

    /// Notes that an answer with logs is on its way; which ones it may have.
    fn arriving(&self) -> WantedLogs {
        let mut open = lock(&self.0);
        let logs = open.challenge.as_ref().map_or(WantedLogs::NONE, Rechallenge::logs);
        open.arriving = logs != WantedLogs::NONE;
        logs
    }

    /// Judges an answer.
    pub(super) async fn answered(&self, vault: &Vault, entry: &SessionEntry, evidence: &[u8]) -> Result<(), Over> {
        let Open { challenge, arriving: _ } = std::mem::take(&mut *lock(&self.0));
        let Some(challenge) = challenge else { return Err(Over::because("evidence-unasked")) };
        let refused = || Over::with_leases("evidence-refused", LeaseEnd::HostRefused);
        let Some(reference) = vault.reference(entry.role) else { return Err(refused()) };
        if !challenge.logs().cover(reference.wanted_logs()) {
            // The values were replaced since the challenge, which asked for less than they judge. Whoever replaced them has
            // asked for another challenge; until then the peer is believed as before.
            return Ok(());
        }
        let earlier = vault.clock_of(&entry.host);
        let since = std::time::Instant::now();
        let judged = challenge.judge(evidence, entry.pinned(earlier.as_ref()), &reference);
        vault.link.steps().observe(Kind::Evidence, since.elapsed());
        match judged {
            Ok(attested) => {
                vault.keep_clock(&entry.host, &attested);
                entry.believe(attested);
                vault.figures.count("reattestations_total", None);
                let event = Event::Reattested { session: entry.id, host: entry.host.clone() };
                vault.audit(event).await.map_err(|_| Over::because("audit"))?;
                Ok(())
            }
            Err(error) => {
                vault.not_attested(&entry.host, entry.role, error.code(), &error).await;
                Err(refused())
            }
        }
    }
}

/// How often one looks whether an answer that waits for its place has come.
const STILL_ARRIVING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
