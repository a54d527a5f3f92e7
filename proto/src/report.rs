//! What the vault tells the front for the operators' page: names, times and verdicts. No token, no master, no grant.
//!
//! The front is believed by nobody, and learns from a report what it otherwise does not see. The names of hosts and
//! credentials are keys of the store that it keeps; but who is granted what, on which host and by which user, who was
//! refused and why, is ciphertext to it. So the vault gives reports only for [`LOOKING`] seconds after an attested
//! operator asked for the page.

use crate::bounded::{Text, at_most};
use crate::identifier::{AuditKey, ReplicaId};
use crate::limits::MAX_PAGE;
use crate::name::{CredentialName, HostName};
use crate::operator::Standing;
use crate::role::Role;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Seconds for which one ticket opens the page: the browser's session at the front, and the vault's willingness to report.
pub const LOOKING: u64 = 8 * 3600;
/// Seconds in which a ticket has to be used.
pub const TICKET_LIFE: u64 = 60;
/// Hosts in a report that wait for an operator.
pub const MAX_WAITING: usize = 32;
/// Hosts in a report: a page of those that are enrolled or allowed, and those that wait.
pub const MAX_HOSTS: usize = MAX_PAGE + MAX_WAITING;
/// Sessions in a report.
pub const MAX_SESSIONS: usize = 48;
/// Leases in a report.
pub const MAX_LEASES: usize = 50;
/// Audit records in a report, the newest.
pub const MAX_RECORDS: usize = 100;
/// Minutes that a report looks back.
pub const MINUTES: usize = 60;
/// Codes of refusals in a report.
pub const MAX_CODES: usize = 32;
/// Warnings in a report.
pub const MAX_WARNINGS: usize = 16;

/// Opens the page once. Whoever has one can look for [`LOOKING`] seconds, and do nothing else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageTicket([u8; PageTicket::LEN]);

impl PageTicket {
    /// Its length in bytes.
    pub const LEN: usize = 32;

    /// A ticket of these random bytes.
    #[must_use]
    pub const fn new(random: [u8; Self::LEN]) -> Self {
        Self(random)
    }

    /// As it is typed, pasted or carried in an address: 64 hexadecimal digits. What the front knows is the SHA-256 of
    /// this text.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for PageTicket {
    /// Never which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageTicket([REDACTED])")
    }
}

/// How the vault, its hosts, leases and audit are, within bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds since the epoch when it was made, by the vault's clock.
    pub at: u64,
    /// Seconds since the epoch until when the vault gives reports.
    pub until: u64,
    /// The running vault.
    pub replica: ReplicaId,
    /// Its version.
    pub version: Text<32>,
    /// Seconds since it started.
    pub uptime: u64,
    /// What seals the vault's key, in words.
    pub platform: Text<64>,
    /// How secrets are kept in memory, in words.
    pub memory: Text<64>,
    /// The policy's version; 0: none yet.
    pub policy_version: u64,
    /// The version of the reference values for brokers; 0: none yet.
    pub reference_version: u64,
    /// Sessions now.
    pub sessions: u32,
    /// Leases now, of which [`Report::leases`] has some.
    pub leases_in_all: u32,
    /// Asks that wait for a person now.
    pub asks_waiting: u32,
    /// What an operator should know, a line each.
    #[serde(deserialize_with = "at_most::<_, _, MAX_WARNINGS>")]
    pub warnings: Vec<Text<256>>,
    /// Hosts by name; the waiting ones first.
    #[serde(deserialize_with = "at_most::<_, _, MAX_HOSTS>")]
    pub hosts: Vec<ReportedHost>,
    /// Whether there may be more than these.
    pub more_hosts: bool,
    /// Seconds between two looks at a peer's evidence.
    pub reattest_every: u32,
    /// Peers in sessions, the one that has to prove itself soonest first.
    #[serde(deserialize_with = "at_most::<_, _, MAX_SESSIONS>")]
    pub attested: Vec<ReportedSession>,
    /// Leases that began last, newest first.
    #[serde(deserialize_with = "at_most::<_, _, MAX_LEASES>")]
    pub leases: Vec<ReportedLease>,
    /// What happened in each of the last minutes, the oldest first; the last one is not over.
    #[serde(deserialize_with = "at_most::<_, _, MINUTES>")]
    pub minutes: Vec<Minute>,
    /// How often something was refused in these minutes, by its stable code.
    #[serde(deserialize_with = "at_most::<_, _, MAX_CODES>")]
    pub refusals: Vec<(Text<64>, u32)>,
    /// The newest audit records, newest first.
    #[serde(deserialize_with = "at_most::<_, _, MAX_RECORDS>")]
    pub records: Vec<ReportedRecord>,
    /// What the vault found when it read them.
    pub chain: ChainState,
    /// The key that signs audit records.
    pub audit_key: AuditKey,
}

/// A host and what was last found about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedHost {
    /// Its name.
    pub name: HostName,
    /// What it may be, or wants to be.
    pub role: Role,
    /// How far it got.
    pub standing: Standing,
    /// Seconds since the epoch when that began.
    pub since: u64,
    /// The last verdict of this running vault.
    pub verdict: Option<Verdict>,
}

/// What was found about a host's evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Seconds since the epoch.
    pub at: u64,
    /// The stable code of the refusal; `None`: it was accepted.
    pub refused: Option<Text<64>>,
}

/// A session and its peer, as it was last attested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedSession {
    /// The peer's name.
    pub name: HostName,
    /// What it is.
    pub role: Role,
    /// Which set of the reference values it met.
    pub reference: Text<64>,
    /// Seconds since the epoch when the session began.
    pub since: u64,
    /// Seconds since the epoch when it was last attested.
    pub attested: u64,
}

/// A lease, without anything that it leased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLease {
    /// Of which credential.
    pub credential: CredentialName,
    /// On which host.
    pub host: HostName,
    /// The worker's user there.
    pub uid: u32,
    /// Seconds since the epoch when it began.
    pub since: u64,
    /// Seconds since the epoch when it ends, unless its worker lives on.
    pub ends: u64,
}

/// What happened in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minute {
    /// Grants issued.
    pub granted: u32,
    /// Grants redeemed.
    pub redeemed: u32,
    /// Requests refused, and evidence that was not accepted.
    pub refused: u32,
    /// Alarms.
    pub alarms: u32,
}

/// An audit record in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRecord {
    /// Its number.
    pub number: u64,
    /// Milliseconds since the epoch.
    pub at: u64,
    /// How much it matters.
    pub gravity: Gravity,
    /// What happened, in one word.
    pub event: Text<32>,
    /// On which host, or by which.
    pub host: Option<HostName>,
    /// To what: a credential, a lease, a document.
    pub subject: Text<128>,
    /// The rest, cut to a line.
    pub detail: Text<160>,
}

/// How much a record matters to an operator who looks over a hundred of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gravity {
    /// As every day.
    Plain,
    /// Somebody was told no.
    Refusal,
    /// It should never happen in an honest fleet.
    Alarm,
}

/// What the vault found when it read its own audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainState {
    /// There is no record yet.
    Empty,
    /// Signed and linked, without a gap.
    Verified {
        /// From this number.
        from: u64,
        /// To this one, which is the newest.
        to: u64,
    },
    /// It does not verify, or could not be read.
    Broken {
        /// What was found.
        why: Text<256>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded::{decode, encode};
    use crate::front::FromVault;
    use crate::limits::MAX_PACKET;

    fn longest<const MAX: usize>() -> Text<MAX> {
        Text::cut(&"w".repeat(MAX))
    }

    fn host() -> HostName {
        "h".repeat(HostName::MAX).parse().unwrap()
    }

    #[test]
    fn the_longest_report_fits_a_packet() {
        let name: CredentialName = "n".repeat(CredentialName::MAX).parse().unwrap();
        let verdict = Some(Verdict { at: u64::MAX, refused: Some(longest()) });
        let (role, standing) = (Role::Operator, Standing::Connected);
        let one = ReportedHost { name: host(), role, standing, since: u64::MAX, verdict };
        let lease = ReportedLease { credential: name, host: host(), uid: u32::MAX, since: u64::MAX, ends: u64::MAX };
        let session = ReportedSession { name: host(), role, reference: longest(), since: u64::MAX, attested: u64::MAX };
        let record = ReportedRecord {
            number: u64::MAX,
            at: u64::MAX,
            gravity: Gravity::Alarm,
            event: longest(),
            host: Some(host()),
            subject: longest(),
            detail: longest(),
        };
        let most = u32::MAX;
        let report = Report {
            at: u64::MAX,
            until: u64::MAX,
            replica: ReplicaId([255; 8]),
            version: longest(),
            uptime: u64::MAX,
            platform: longest(),
            memory: longest(),
            policy_version: u64::MAX,
            reference_version: u64::MAX,
            sessions: most,
            leases_in_all: most,
            asks_waiting: most,
            warnings: vec![longest(); MAX_WARNINGS],
            hosts: vec![one; MAX_HOSTS],
            more_hosts: true,
            reattest_every: most,
            attested: vec![session; MAX_SESSIONS],
            leases: vec![lease; MAX_LEASES],
            minutes: vec![Minute { granted: most, redeemed: most, refused: most, alarms: most }; MINUTES],
            refusals: vec![(longest(), most); MAX_CODES],
            records: vec![record; MAX_RECORDS],
            chain: ChainState::Broken { why: longest() },
            audit_key: AuditKey([255; 32]),
        };
        let message = FromVault::Report(Some(Box::new(report)));
        let bytes = encode(&message, MAX_PACKET).unwrap();
        assert_eq!(decode::<FromVault>(&bytes, MAX_PACKET).unwrap(), message);
    }

    #[test]
    fn a_ticket_is_never_printed_by_the_way() {
        let ticket = PageTicket::new([0xab; PageTicket::LEN]);
        assert!(!format!("{ticket:?}").contains("ab"));
        assert_eq!(ticket.to_text(), "ab".repeat(PageTicket::LEN));
    }
}
