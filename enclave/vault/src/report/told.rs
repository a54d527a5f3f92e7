//! One audit record in a line for operators: what happened, on which host, to what.
//!
//! What strangers may say at length, such as an asker's words, is left to `blindferry audit`.

use blindferry_proto::audit::{Alarm, Body, Event};
use blindferry_proto::bounded::Text;
use blindferry_proto::name::HostName;
use blindferry_proto::report::{Gravity, ReportedRecord};
use serde::Serialize;

/// The record in short.
pub(super) fn told(body: Body) -> ReportedRecord {
    let Body { number, at, event, .. } = body;
    let Line { gravity, event, host, subject, detail } = Line::of(event);
    ReportedRecord {
        number,
        at,
        gravity,
        event: Text::cut(event),
        host,
        subject: Text::cut(&subject),
        detail: Text::cut(&detail),
    }
}

struct Line {
    gravity: Gravity,
    event: &'static str,
    host: Option<HostName>,
    subject: String,
    detail: String,
}

impl Line {
    fn of(event: Event) -> Self {
        match event {
            Event::Started { notes } => plain("started").detail(notes.as_str()),
            Event::SealedAnew { risen } => plain("sealed-anew").detail(risen.as_str()),
            Event::SessionOpened { role, host, .. } => plain("session-opened").host(host).detail(&role.to_string()),
            Event::Reattested { host, .. } => plain("reattested").host(host),
            Event::SessionEnded { host, why, .. } => plain("session-ended").host(host).detail(why.as_str()),
            Event::NotAttested { host, role, code, detail } => {
                let detail = format!("{code}, as {role}: {detail}");
                plain("not-attested").refusal().host(host).detail(&detail)
            }
            Event::Enrolled { host, machine } => plain("enrolled").host(host).subject(&machine.to_string()),
            Event::Granted { credential, host, parent, .. } => {
                plain("granted").host(host).subject(credential.as_str()).detail(&format!("to uid {}", parent.uid))
            }
            Event::GrantDelivered { grant, taken, .. } => {
                let end = if taken { "taken by the parent" } else { "not taken by the parent" };
                plain("grant-delivered").subject(&format!("grant {grant}")).detail(end)
            }
            Event::Fetched { credential, version, .. } => {
                plain("fetched").subject(credential.as_str()).detail(&format!("version {version}"))
            }
            Event::Evicted { credential } => plain("evicted").subject(credential.as_str()),
            Event::Redeemed { credential, host, worker, lease, .. } => {
                let detail = format!("by uid {}, lease {lease}", worker.uid);
                plain("redeemed").host(host).subject(credential.as_str()).detail(&detail)
            }
            Event::Acknowledged { lease, .. } => plain("acknowledged").subject(&format!("lease {lease}")),
            Event::Renewed { lease, credential, .. } => {
                plain("renewed").subject(credential.as_str()).detail(&format!("lease {lease}"))
            }
            Event::LeaseEnded { lease, why, revoked } => {
                let revoked = match revoked {
                    Some(true) => ", revoked upstream",
                    Some(false) => ", not revoked upstream",
                    None => "",
                };
                plain("lease-ended").subject(&format!("lease {lease}")).detail(&format!("{}{revoked}", word(&why)))
            }
            Event::Denied { credential, host, code, detail } => {
                let detail = format!("{code}: {detail}");
                plain("denied").refusal().host(host).subject(credential.as_str()).detail(&detail)
            }
            Event::Alarm(alarm) => Self::of_alarm(alarm),
            Event::Operator { host, action, subject } => {
                plain("operator").host(host).subject(subject.as_str()).detail(action.as_str())
            }
            Event::HandedOver { host, .. } => plain("handed-over").host(host),
            Event::SuccessorKept { host, .. } => plain("successor-kept").host(host),
            Event::AskHeld { ask, credential, host, .. } => {
                plain("ask-held").host(host).subject(credential.as_str()).detail(&format!("ask {ask}"))
            }
            Event::AskDecided { ask, by, approved, credential, host, .. } => {
                let decision = if approved { "approved" } else { "denied" };
                let line = plain("ask-decided").host(host).subject(credential.as_str());
                let line = if approved { line } else { line.refusal() };
                line.detail(&format!("{decision} by {by}, ask {ask}"))
            }
            Event::AskEnded { ask, why, credential, host } => {
                let detail = format!("{}, ask {ask}", word(&why));
                plain("ask-ended").host(host).subject(credential.as_str()).detail(&detail)
            }
            Event::BackedUp { host } => plain("backed-up").host(host).subject("store"),
            Event::StoreRenewed { renewed } => {
                plain("store-renewed").subject("store").detail(&format!("{renewed} records encrypted anew"))
            }
            Event::Restored { record, .. } => {
                plain("restored").subject("store").detail(&format!("from the backup of record {record}"))
            }
        }
    }

    fn of_alarm(alarm: Alarm) -> Self {
        let line = Self { gravity: Gravity::Alarm, ..plain("alarm") };
        match alarm {
            Alarm::GrantContested { grant, host, process, .. } => line
                .host(host)
                .subject(&format!("grant {grant}"))
                .detail(&format!("came a second time, with another key, from uid {}", process.uid)),
            Alarm::GrantAstray { grant, host } => {
                line.host(host).subject(&format!("grant {grant}")).detail("came from a host that it was not made for")
            }
            Alarm::IdentityChanged { host, .. } => line.host(host).detail("other hardware claims this name"),
            Alarm::StoreTampered { detail } => line.subject("store").detail(detail.as_str()),
        }
    }

    fn refusal(self) -> Self {
        Self { gravity: Gravity::Refusal, ..self }
    }

    fn host(self, host: HostName) -> Self {
        Self { host: Some(host), ..self }
    }

    fn subject(self, subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..self }
    }

    fn detail(self, detail: &str) -> Self {
        Self { detail: detail.to_owned(), ..self }
    }
}

fn plain(event: &'static str) -> Line {
    Line { gravity: Gravity::Plain, event, host: None, subject: String::new(), detail: String::new() }
}

/// The stable word that the audit's JSON has for it too.
fn word(value: &impl Serialize) -> String {
    let word = serde_json::to_value(value).ok();
    word.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::identifier::{AskId, Digest, LeaseId};
    use blindferry_proto::session::{LeaseEnd, ProcessFacts, WorkerConstraint};
    use blindferry_proto::waiting::Words;

    fn of(event: Event) -> ReportedRecord {
        told(Body { number: 7, at: 8, before: Digest([0; 32]), dangers: Vec::new(), event })
    }

    #[test]
    fn an_alarm_and_a_refusal_stand_out() {
        let host: HostName = "h".parse().unwrap();
        let alarm = of(Event::Alarm(Alarm::IdentityChanged { host: host.clone(), claimed: None }));
        assert_eq!((alarm.number, alarm.at, alarm.gravity, alarm.host), (7, 8, Gravity::Alarm, Some(host)));
        let ended = Event::LeaseEnded { lease: LeaseId([1; 16]), why: LeaseEnd::HostRefused, revoked: Some(false) };
        let ended = of(ended);
        assert_eq!(ended.gravity, Gravity::Plain);
        assert_eq!(ended.detail.as_str(), "host-refused, not revoked upstream");
    }

    #[test]
    fn the_words_of_an_asker_are_not_repeated() {
        let words = Words { program: Some(Text::cut("marker")), reason: Some(Text::cut("marker")) };
        let parent = ProcessFacts { uid: 0, gid: 0, pid: 0, executable: None, protection: None };
        let held = of(Event::AskHeld {
            ask: AskId([1; 8]),
            shown: Digest([0; 32]),
            credential: "c".parse().unwrap(),
            host: "h".parse().unwrap(),
            parent,
            worker: WorkerConstraint::default(),
            words,
        });
        assert!(!format!("{held:?}").contains("marker"));
    }
}
