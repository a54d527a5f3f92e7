//! Tells the service manager how the enclave is: ready once the vault has unsealed its key and serves, and alive for as
//! long as the vault says so. The front's word alone would be worth little: before a vault that hangs it serves nobody.

use blindferry_proto::front::Condition;
use blindferry_service::{ConnectError, ServiceManager, WatchdogError, watchdog};
use std::env::var_os;
use std::future::pending;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;

/// Who is told.
#[derive(Debug)]
pub struct Notices {
    manager: ServiceManager,
    /// Whether it wants to hear that the enclave lives.
    watched: bool,
}

/// The service manager cannot be told how the enclave is.
#[derive(Debug, Error)]
pub enum NoticesError {
    /// It does not listen.
    #[error("the service manager would never hear that the enclave is ready")]
    Connect(#[from] ConnectError),
    /// What it wants to hear is unclear.
    #[error("the service manager would not hear that the enclave lives")]
    Watchdog(#[from] WatchdogError),
}

impl Notices {
    /// For the service manager of this process, if it has one. To be called before the process is confined.
    ///
    /// # Errors
    /// [`NoticesError`].
    pub fn of_this_process() -> Result<Self, NoticesError> {
        let variable = |name: &str| var_os(name);
        let watched = watchdog(variable, std::process::id())?.is_some();
        Ok(Self { manager: ServiceManager::connect(variable)?, watched })
    }

    /// This process was told to end.
    pub fn stopping(&self) {
        self.manager.stopping();
    }

    /// Tells what there is to tell, for as long as it is polled. That the enclave lives is said once for each condition
    /// that the vault sends, which it does every two seconds: when front, link or vault stand still, so does this.
    pub async fn tell(&self, mut condition: watch::Receiver<Condition>) {
        self.manager.status("starting: the vault unseals its key");
        let mut serves = false;
        loop {
            match timeout(SILENCE, condition.changed()).await {
                Err(_elapsed) => {
                    if serves {
                        self.manager.status("the vault is silent");
                    }
                    serves = false;
                    continue;
                }
                // The link is over, and this process with it.
                Ok(Err(_)) => return pending().await,
                Ok(Ok(())) => {}
            }
            let ready = condition.borrow_and_update().ready;
            match (serves, ready) {
                (false, true) => self.manager.ready("serving"),
                (true, false) => self.manager.status("the vault does not serve"),
                _ => {}
            }
            serves = ready;
            if self.watched {
                self.manager.alive();
            }
        }
    }
}

/// Of a vault that should speak every two seconds, and writes to a disk in between.
const SILENCE: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use tokio::task::yield_now;

    /// A service manager, and who tells it.
    fn watched() -> (UnixDatagram, Notices, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let hears = UnixDatagram::bind(&path).unwrap();
        hears.set_nonblocking(true).unwrap();
        let manager = ServiceManager::connect(|_| Some(path.clone().into())).unwrap();
        (hears, Notices { manager, watched: true }, directory)
    }

    fn heard(hears: &UnixDatagram) -> Vec<String> {
        let mut said = Vec::new();
        let mut bytes = [0; 512];
        while let Ok(length) = hears.recv(&mut bytes) {
            said.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned));
        }
        said
    }

    async fn settle() {
        for _ in 0..8 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn ready_is_said_when_the_vault_serves_and_not_before() {
        let (hears, notices, _directory) = watched();
        let (condition, seen) = watch::channel(Condition::default());
        let tell = notices.tell(seen);
        tokio::pin!(tell);
        tokio::select! { () = &mut tell => {}, () = settle() => {} }
        condition.send_replace(Condition { ready: false, figures: Vec::new(), steps: Vec::new() });
        tokio::select! { () = &mut tell => {}, () = settle() => {} }
        assert!(!heard(&hears).contains(&"READY=1".to_owned()));
        condition.send_replace(Condition { ready: true, figures: Vec::new(), steps: Vec::new() });
        tokio::select! { () = &mut tell => {}, () = settle() => {} }
        assert!(heard(&hears).contains(&"READY=1".to_owned()));
    }

    #[tokio::test]
    async fn a_vault_that_is_silent_stops_the_watchdogs_food_though_the_front_runs_on() {
        let (hears, notices, _directory) = watched();
        let (condition, seen) = watch::channel(Condition::default());
        let tell = notices.tell(seen);
        tokio::pin!(tell);
        let alive = |hears: &UnixDatagram| heard(hears).iter().filter(|said| *said == "WATCHDOG=1").count();
        for _ in 0..3 {
            condition.send_replace(Condition { ready: true, figures: Vec::new(), steps: Vec::new() });
            tokio::select! { () = &mut tell => {}, () = settle() => {} }
            assert_eq!(alive(&hears), 1, "the vault spoke");
        }
        // Beyond the silence that is told.
        tokio::time::pause();
        tokio::select! { () = &mut tell => {}, () = tokio::time::sleep(SILENCE * 10) => {} }
        let said = heard(&hears);
        assert!(!said.contains(&"WATCHDOG=1".to_owned()), "{said:?}");
        assert!(said.contains(&"STATUS=the vault is silent".to_owned()), "{said:?}");
    }
}
