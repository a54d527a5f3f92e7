//! An ask that waits for a person: the parent is told so, the vault is asked again and again, and a parent that goes away
//! takes its ask with it.

use crate::connection::{Connection, Incoming};
use crate::uplink::{NotHeard, Uplink};
use blindferry_proto::identifier::AskId;
use blindferry_proto::local::{ParentReply, ParentRequest};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{Answer, BrokerRequest, Granted};
use blindferry_proto::waiting::Waiting;
use std::time::Duration;
use tokio::time::sleep;
use tracing::info;

/// How the waiting ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A person approved.
    Granted(Granted),
    /// Nobody did, or somebody said no, or the vault went away.
    Refused(Refusal),
    /// The parent went away. The vault has been told.
    Gone,
}

/// Waits for as long as the vault says that the ask does. Nothing else of this broker is held up by it.
pub(crate) async fn wait(connection: &Connection, uplink: &Uplink, waiting: Waiting) -> Ended {
    let ask = waiting.ask;
    info!(name: "ask-waits", %ask, seconds = waiting.seconds, "an ask waits for a person to approve it");
    if !connection.reply(&ParentReply::Waiting(waiting), None).await {
        return withdrawn(uplink, ask, Ended::Gone).await;
    }
    loop {
        tokio::select! {
            () = sleep(COLLECT_EVERY) => {}
            ended = interrupted(connection) => return withdrawn(uplink, ask, ended).await,
        }
        match uplink.call(BrokerRequest::Collect { ask }).await.map(|heard| heard.answer) {
            Ok(Answer::Waiting(_)) | Err(NotHeard::Busy) => {}
            Ok(Answer::Granted(granted)) => return Ended::Granted(granted),
            Ok(_) => return Ended::Refused(crate::parents::unexpected()),
            Err(NotHeard::Refused(refusal)) => return Ended::Refused(refusal),
            // Asks live in the vault's memory, and in one session: the next vault, or session, knows none of them.
            Err(NotHeard::Down | NotHeard::Lost) => {
                return Ended::Refused(Refusal::new(
                    RefusalCode::NotReady,
                    "the session with the vault ended while the ask waited; ask again",
                ));
            }
        }
    }
}

/// The parent says something, hangs up, or ends although somebody else still holds its socket.
async fn interrupted(connection: &Connection) -> Ended {
    tokio::select! {
        incoming = connection.receive::<ParentRequest>() => match incoming {
            Incoming::Gone => Ended::Gone,
            Incoming::Message(..) | Incoming::Refused(_) => Ended::Refused(Refusal::new(
                RefusalCode::Malformed,
                "an ask of this connection waited for an approval; it is withdrawn, since something else was asked",
            )),
        },
        // A process that cannot be watched is as good as gone.
        _ = connection.process.ended() => Ended::Gone,
    }
}

async fn withdrawn(uplink: &Uplink, ask: AskId, ended: Ended) -> Ended {
    info!(name: "ask-withdrawn", %ask, "the parent no longer waits: its ask is withdrawn");
    // What the vault does not hear, it lets lapse.
    let _unheard = uplink.call(BrokerRequest::Withdraw { ask }).await;
    ended
}

/// How often the vault is asked what became of an ask. It forgets a decision that nobody comes for within 30 s.
const COLLECT_EVERY: Duration = Duration::from_secs(1);
