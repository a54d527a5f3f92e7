//! What the front may show to operators: a report, and the ticket that opens the page.
//!
//! A front in other hands could ask for reports at any time, and would learn who uses which credential where. So it gets
//! one only for some hours after an attested operator asked for the page, and at most twice a second; what a report costs
//! is bounded, and names, times and verdicts are all that it holds.

mod lately;
mod tail;
mod told;

pub use self::lately::Lately;
pub use self::tail::{Tail, TailError};

use crate::operator::note;
use crate::standing::{count, status};
use crate::vault::{SessionEntry, Vault, lock};
use blindferry_proto::bounded::Text;
use blindferry_proto::causes::with_causes;
use blindferry_proto::front::FromVault;
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_PAGE;
use blindferry_proto::operator::{HostEntry, OperatorReply, SessionReport};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::report::{
    ChainState, LOOKING, MAX_LEASES, MAX_SESSIONS, MAX_WAITING, MAX_WARNINGS, PageTicket, Report, ReportedHost,
    ReportedLease, ReportedRecord, ReportedSession,
};
use ring::digest::{SHA256, digest};
use std::time::Duration;
use tokio::time::timeout;

/// Whether the front may have a report, and the part of one that is not made anew each time.
#[derive(Debug, Default)]
pub struct Looking {
    /// Seconds since the epoch.
    until: u64,
    /// Milliseconds since the epoch of the last report.
    last: u64,
    under_way: bool,
    tail: Option<Tail>,
}

/// What to do when the front asks for a report.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Make one; reports are given until then, in seconds since the epoch.
    Make {
        /// Until when.
        until: u64,
    },
    /// It had one a moment ago, or is about to get one.
    TooSoon,
    /// No operator asked for the page, or not lately.
    Closed,
}

impl Looking {
    /// An operator asked for the page.
    pub fn open(&mut self, now: u64) {
        self.until = now.saturating_add(LOOKING);
    }

    /// The front asks, at this time in milliseconds since the epoch.
    pub fn turn(&mut self, millis: u64) -> Turn {
        if self.under_way || millis.saturating_sub(self.last) < PAUSE {
            return Turn::TooSoon;
        }
        self.last = millis;
        if millis / 1000 >= self.until {
            self.tail = None;
            return Turn::Closed;
        }
        self.under_way = true;
        Turn::Make { until: self.until }
    }
}

/// Gives an operator a ticket, of which the front learns the hash alone.
pub(crate) async fn open(vault: &Vault, session: &SessionEntry) -> Result<OperatorReply, Refusal> {
    note(vault, session, "page", "").await?;
    let ticket = PageTicket::new(vault.draw()?);
    let mut hash = Digest([0; Digest::LEN]);
    hash.0.copy_from_slice(digest(&SHA256, ticket.to_text().as_bytes()).as_ref());
    let announced = timeout(FRONT_TIME, vault.link.announce(hash)).await;
    let origin = announced.ok().and_then(Result::ok).ok_or(RefusalCode::NotReady)?;
    let origin =
        origin.ok_or_else(|| Refusal::new(RefusalCode::Unknown, "the enclave's configuration has no [page]"))?;
    lock(&vault.looking).open(vault.clock.now());
    Ok(OperatorReply::Page { origin, ticket })
}

/// Answers the front.
pub(crate) async fn answer(vault: &Vault) {
    let turn = lock(&vault.looking).turn(vault.clock.millis());
    let report = match turn {
        Turn::TooSoon => return,
        Turn::Closed => None,
        Turn::Make { until } => {
            let report = make(vault, until).await;
            lock(&vault.looking).under_way = false;
            Some(Box::new(report))
        }
    };
    // A front that is gone ends the link's reader, and with it the vault.
    let _gone = vault.link.tell(&FromVault::Report(report)).await;
}

async fn make(vault: &Vault, until: u64) -> Report {
    let now = vault.clock.now();
    let status = status(vault);
    let mut warnings = status.warnings;
    let (hosts, more_hosts) = hosts(vault, &mut warnings).await;
    let (records, chain) = records(vault).await;
    warnings.truncate(MAX_WARNINGS);
    let (leases, leases_in_all) = leases(vault);
    let (minutes, refusals) = {
        let lately = lock(&vault.lately);
        (lately.minutes(now), lately.refusals(now))
    };
    Report {
        at: now,
        until,
        replica: status.replica,
        version: status.version,
        uptime: status.uptime,
        platform: status.platform,
        memory: status.memory,
        policy_version: status.policy_version,
        reference_version: status.reference_version,
        sessions: status.sessions,
        leases_in_all,
        asks_waiting: status.asks_waiting,
        warnings,
        hosts,
        more_hosts,
        reattest_every: vault.reattest_every(),
        attested: attested(vault),
        leases,
        minutes,
        refusals,
        records,
        chain,
        audit_key: status.audit_key,
    }
}

/// Those that wait, then the first page of those that are stored, and whether there may be more.
async fn hosts(vault: &Vault, warnings: &mut Vec<Text<256>>) -> (Vec<ReportedHost>, bool) {
    let stored = vault.records.hosts(None).await.unwrap_or_else(|error| {
        warnings.insert(0, Text::cut(&format!("cannot read the hosts: {}", with_causes(&error))));
        Vec::new()
    });
    let more = stored.len() >= MAX_PAGE;
    let mut entries: Vec<HostEntry> = lock(&vault.knocks).waiting().take(MAX_WAITING).cloned().collect();
    entries.extend(stored.into_iter().map(|(name, record)| {
        let connected = vault.is_connected(&name);
        record.entry(name, connected)
    }));
    let lately = lock(&vault.lately);
    let reported = |HostEntry { name, role, standing, since, .. }| {
        let verdict = lately.verdict(&name);
        ReportedHost { name, role, standing, since, verdict }
    };
    (entries.into_iter().map(reported).collect(), more)
}

fn attested(vault: &Vault) -> Vec<ReportedSession> {
    let mut sessions = vault.session_reports();
    sessions.sort_by(|one, other| (one.peer.attested, &one.peer.name).cmp(&(other.peer.attested, &other.peer.name)));
    sessions.truncate(MAX_SESSIONS);
    let reported = |SessionReport { role, since, peer, .. }: SessionReport| ReportedSession {
        name: peer.name,
        role,
        reference: Text::cut(peer.reference.as_str()),
        since,
        attested: peer.attested,
    };
    sessions.into_iter().map(reported).collect()
}

fn leases(vault: &Vault) -> (Vec<ReportedLease>, u32) {
    let leases = lock(&vault.leases);
    let newest = leases.newest(MAX_LEASES).into_iter().map(|lease| ReportedLease {
        credential: lease.terms.credential.clone(),
        host: lease.terms.host.clone(),
        uid: lease.terms.worker.uid,
        since: lease.since,
        ends: lease.ends(),
    });
    (newest.collect(), count(leases.len()))
}

/// The end of the audit, verified; what was verified before is not read again.
async fn records(vault: &Vault) -> (Vec<ReportedRecord>, ChainState) {
    let mut tail = lock(&vault.looking).tail.take().unwrap_or_default();
    match tail.catch_up(&vault.auditor).await {
        Ok(state) => {
            let records = tail.newest_first();
            lock(&vault.looking).tail = Some(tail);
            (records, state)
        }
        Err(error) => (tail.newest_first(), ChainState::Broken { why: Text::cut(&with_causes(&error)) }),
    }
}

/// Milliseconds between two reports, at least; the front asks half as often.
const PAUSE: u64 = 500;
/// The front answers at once, or is not itself.
const FRONT_TIME: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_gets_no_report_before_an_operator_asked_and_none_when_the_hours_are_over() {
        let mut looking = Looking::default();
        assert_eq!(looking.turn(1_000_000), Turn::Closed);
        looking.open(1_001);
        let until = 1_001 + LOOKING;
        assert_eq!(looking.turn(1_001_000), Turn::Make { until });
        looking.under_way = false;
        assert_eq!(looking.turn(until * 1000 - 1), Turn::Make { until });
        looking.under_way = false;
        assert_eq!(looking.turn(until * 1000 + PAUSE), Turn::Closed);
    }

    #[test]
    fn however_often_the_front_asks_it_gets_two_reports_a_second_and_one_at_a_time() {
        let mut looking = Looking::default();
        looking.open(1_000);
        let made = (0..2_000).filter(|millis| {
            let made = matches!(looking.turn(1_000_000 + millis), Turn::Make { .. });
            looking.under_way = false;
            made
        });
        assert_eq!(made.count(), 4);
        assert!(matches!(looking.turn(1_010_000), Turn::Make { .. }));
        assert_eq!(looking.turn(1_020_000), Turn::TooSoon, "one is under way");
    }
}
