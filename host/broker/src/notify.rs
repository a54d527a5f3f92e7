//! Tells the service manager how the broker is: ready once it answers on its sockets, whether it has a session with the
//! vault, and that its one thread still comes round.

use crate::uplink::{Dial, DialError, Session};
use blindferry_proto::causes::with_causes;
use blindferry_service::{ConnectError, ServiceManager, WatchdogError, watchdog};
use std::env::var_os;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

/// Who is told.
#[derive(Clone, Debug)]
pub struct Notices {
    manager: Arc<ServiceManager>,
    /// How often it wants to hear that the broker lives, if at all.
    every: Option<Duration>,
}

/// The service manager cannot be told how the broker is.
#[derive(Debug, Error)]
pub enum NoticesError {
    /// It does not listen.
    #[error("the service manager would never hear that the broker is ready")]
    Connect(#[from] ConnectError),
    /// What it wants to hear is unclear.
    #[error("the service manager would not hear that the broker lives")]
    Watchdog(#[from] WatchdogError),
}

impl Notices {
    /// For the service manager of this process, if it has one. To be called before the process is confined.
    ///
    /// # Errors
    /// [`NoticesError`].
    pub fn of_this_process() -> Result<Self, NoticesError> {
        let variable = |name: &str| var_os(name);
        let every = watchdog(variable, std::process::id())?;
        Ok(Self { manager: Arc::new(ServiceManager::connect(variable)?), every })
    }

    /// The broker answers on its sockets. It does so without a session too, with `not-ready`: a vault that is away must
    /// not keep a host from starting.
    pub fn ready(&self) {
        self.manager.ready("no session with the vault yet");
    }

    /// The broker was told to end.
    pub fn stopping(&self) {
        self.manager.stopping();
    }

    /// Says that the broker lives, for as long as it is polled, as often as is wanted. To be polled by the task that
    /// serves: that it still is, is what is said.
    pub async fn live(&self) {
        let Some(every) = self.every else { return std::future::pending().await };
        let mut beat = interval(every);
        // What was missed is not made up for.
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.manager.alive();
        }
    }
}

/// Dials as another does, and tells the service manager what came of it.
#[derive(Debug)]
pub struct Told<D> {
    /// Who dials.
    pub dial: D,
    /// Who tells.
    pub notices: Notices,
}

impl<D: Dial> Dial for Told<D> {
    type Caller = D::Caller;

    async fn dial(&mut self) -> Result<Session<D::Caller>, DialError> {
        let manager = Arc::clone(&self.notices.manager);
        match self.dial.dial().await {
            Ok(session) => {
                manager.status(&format!("session with the vault {} stands", session.replica));
                let Session { driver, .. } = session;
                let driver = Box::pin(async move {
                    let end = driver.await;
                    manager.status(&format!("no session with the vault: {}", end.reason));
                    end
                });
                Ok(Session { driver, ..session })
            }
            Err(error) => {
                manager.status(&format!("no session with the vault: {}", with_causes(&error)));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::thread;
    use tokio::time::{sleep, timeout};

    fn watched(every: Duration) -> (UnixDatagram, Notices, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let hears = UnixDatagram::bind(&path).unwrap();
        hears.set_nonblocking(true).unwrap();
        let manager = ServiceManager::connect(|_| Some(path.clone().into())).unwrap();
        (hears, Notices { manager: Arc::new(manager), every: Some(every) }, directory)
    }

    fn heard(hears: &UnixDatagram) -> usize {
        let mut bytes = [0; 64];
        std::iter::from_fn(|| hears.recv(&mut bytes).ok()).count()
    }

    #[test]
    fn a_thread_that_stands_still_says_no_more_that_it_lives() {
        let (hears, notices, _directory) = watched(Duration::from_millis(10));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let coming_round = async {
                while heard(&hears) == 0 {
                    sleep(Duration::from_millis(5)).await;
                }
                // What hangs in the broker: it does not give its thread back.
                let before = heard(&hears);
                thread::sleep(Duration::from_millis(300));
                (before, heard(&hears))
            };
            let (_, while_still) = tokio::select! { () = notices.live() => unreachable!(), counts = coming_round => counts };
            assert_eq!(while_still, 0, "something else than its thread speaks for it");
            // And it is heard again when it goes on.
            let again = async {
                while heard(&hears) == 0 {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! { () = notices.live() => {}, done = timeout(Duration::from_secs(10), again) => done.unwrap() }
        });
    }
}
