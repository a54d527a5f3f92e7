//! What a connection reports to the vault while it goes on: a report waits for company on its way, and no local peer
//! waits for it.

use crate::figures::Shared;
use crate::uplink::Uplink;
use tokio::task::JoinHandle;

/// The reports of one connection: two at a time, so that all of them are bounded by connections.
#[derive(Debug)]
pub(crate) struct Reports {
    figures: Shared,
    last: Option<JoinHandle<()>>,
}

impl Reports {
    /// None yet.
    pub(crate) fn of(uplink: &Uplink) -> Self {
        Self { figures: Shared::clone(uplink.figures()), last: None }
    }

    /// Begins a report at once, and waits until the one before it is heard or given up. It goes on by itself when the
    /// connection does not.
    pub(crate) async fn begin(&mut self, report: impl Future<Output = ()> + Send + 'static) {
        // From here on, not from the first poll: a broker that stops waits for it.
        let reporting = self.figures.reporting();
        let begun = tokio::spawn(async move {
            report.await;
            drop(reporting);
        });
        if let Some(before) = self.last.replace(begun) {
            heard(before).await;
        }
    }

    /// Waits until there is none under way.
    pub(crate) async fn finish(&mut self) {
        if let Some(last) = self.last.take() {
            heard(last).await;
        }
    }
}

/// One that ended with the runtime is as good as given up.
async fn heard(report: JoinHandle<()>) {
    let _ended = report.await;
}
