//! Parents ask for grants, and get each in a handle.
//!
//! The grant lies in the broker's memory from the vault's answer until the handle is sealed, and the handle is closed as
//! soon as the parent has it. Neither is ever logged.

use crate::admission::Admission;
use crate::connection::{Connection, FIRST_LIMIT, Incoming, accept};
use crate::reports::Reports;
use crate::uplink::{NotHeard, Uplink};
use crate::waiting::{Ended, wait};
use blindferry_handle::memfd::Handle;
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::GrantId;
use blindferry_proto::local::{ParentReply, ParentRequest};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{Answer, Ask, BrokerRequest, Delivered};
use blindferry_seqpacket::AsyncListener;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

/// Serves parents for ever. One that says nothing for `idle` is hung up on.
pub async fn serve(listener: AsyncListener, admission: Admission, uplink: Uplink, idle: Duration) {
    accept(listener, admission, |connection| parent(connection, uplink.clone(), idle)).await;
}

async fn parent(connection: Connection, uplink: Uplink, idle: Duration) {
    let mut patience = FIRST_LIMIT;
    let mut reports = Reports::of(&uplink);
    // One request at a time: the next packet is not taken before this one is answered.
    while let Ok(incoming) = timeout(patience, connection.receive()).await {
        patience = idle;
        let still_there = match incoming {
            Incoming::Message(ParentRequest::Ask { credential, audience, worker, wait }, descriptors) => {
                if descriptors.is_empty() {
                    let parent = connection.process.facts(None, None);
                    let asked = Ask { credential, audience, worker, parent, wait };
                    ask(&connection, &uplink, &mut reports, asked).await
                } else {
                    refuse(&connection, &uplink, Refusal::new(RefusalCode::Malformed, "a parent sends no descriptors"))
                        .await
                }
            }
            Incoming::Refused(refusal) => refuse(&connection, &uplink, refusal).await,
            Incoming::Gone => false,
        };
        if !still_there {
            break;
        }
    }
    // The parent's place is taken meanwhile.
    reports.finish().await;
}

async fn ask(connection: &Connection, uplink: &Uplink, reports: &mut Reports, ask: Ask) -> bool {
    let (credential, uid, waits) = (ask.credential.clone(), ask.parent.uid, ask.wait.is_some());
    let granted = match uplink.call(BrokerRequest::Ask(ask)).await.map(|heard| heard.answer) {
        Ok(Answer::Granted(granted)) => granted,
        Ok(Answer::Waiting(waiting)) if waits => match wait(connection, uplink, waiting).await {
            Ended::Granted(granted) => granted,
            Ended::Refused(refusal) => return refuse(connection, uplink, refusal).await,
            Ended::Gone => return false,
        },
        Ok(_) => return refuse(connection, uplink, unexpected()).await,
        Err(reason) => return refuse(connection, uplink, reason.into()).await,
    };
    let id = granted.id;
    let taken = match Handle::seal("blindferry-grant", granted.grant.as_slice()) {
        Ok(handle) => {
            let reply = ParentReply::Granted { grant: id, expires: granted.expires };
            connection.reply(&reply, Some(&handle)).await
        }
        Err(error) => {
            error!(name: "no-handle", why = with_causes(&error), "cannot seal a grant into a handle");
            refuse(connection, uplink, Refusal::new(RefusalCode::Internal, "the broker cannot make a handle")).await;
            false
        }
    };
    drop(granted);
    debug!(name: "grant-delivered", grant = %id, %credential, uid, taken, "grant delivered");
    reports.begin(report(uplink.clone(), Delivered { grant: id, taken })).await;
    taken
}

/// Tells the vault what became of a grant: it belongs into the audit, so a passing trouble is waited out.
async fn report(uplink: Uplink, delivered: Delivered) {
    for pause in REPORT_PAUSES {
        match uplink.call(BrokerRequest::Delivered(delivered)).await {
            Ok(_) => return,
            Err(NotHeard::Refused(refusal)) if !refusal.code.is_passing() => {
                return give_up(delivered.grant, &refusal.to_string());
            }
            Err(_) => sleep(pause).await,
        }
    }
    give_up(delivered.grant, "no answer");
}

fn give_up(grant: GrantId, why: &str) {
    warn!(name: "delivery-not-told", %grant, why, "the vault's audit lacks what became of this grant");
}

async fn refuse(connection: &Connection, uplink: &Uplink, refusal: Refusal) -> bool {
    uplink.figures().refused(refusal.code);
    connection.reply(&ParentReply::Refused(refusal), None).await
}

pub(crate) fn unexpected() -> Refusal {
    error!(name: "vault-answered-otherwise", "the vault answered an ask with something else than a grant");
    Refusal::new(RefusalCode::Internal, "the vault answered something else than a grant")
}

/// Longer in all than a vault takes to restart.
const REPORT_PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(10),
    Duration::from_secs(15),
];
