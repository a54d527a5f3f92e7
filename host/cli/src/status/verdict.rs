//! Whether the vault is healthy: pure, from what it says of itself and what is known of it. Each reason has its fix.

use crate::exit::Exit;
use blindferry_proto::identifier::AuditKey;
use blindferry_proto::operator::{EndingLease, HostEntry, SessionReport, Standing, Status};
use serde::Serialize;
use std::fmt;

/// What is known.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) vault: Status,
    pub(crate) hosts: Vec<HostEntry>,
    pub(crate) sessions: Vec<SessionReport>,
    pub(crate) leases: Vec<EndingLease>,
    /// The vault's clock, seconds since the epoch.
    pub(crate) now: u64,
    /// This machine's.
    pub(crate) here: u64,
    /// Seconds between two looks at a peer's evidence.
    pub(crate) reattest_every: u32,
}

/// The judgement.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) health: Health,
    pub(crate) reasons: Vec<Reason>,
}

/// How it is; the worst reason decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Health {
    Healthy,
    /// It serves, and somebody should look.
    Degraded,
    /// It does not do what it is for, or is not what it was.
    Failing,
}

impl Health {
    /// The number that a monitor gets; none for 0.
    pub(crate) fn exit(self) -> Option<Exit> {
        match self {
            Self::Healthy => None,
            Self::Degraded => Some(Exit::Degraded),
            Self::Failing => Some(Exit::Failing),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        })
    }
}

/// Why it is not healthy.
#[derive(Debug, Serialize)]
pub(crate) struct Reason {
    pub(crate) health: Health,
    pub(crate) problem: String,
    pub(crate) fix: String,
}

/// Judges. `pinned` is the audit key of the vault's reference.
pub(crate) fn judge(facts: &Facts, pinned: Option<AuditKey>) -> Verdict {
    let mut reasons = Vec::new();
    let mut say = |health, problem: String, fix: &str| reasons.push(Reason { health, problem, fix: fix.to_owned() });
    let vault = &facts.vault;
    if pinned.is_some_and(|pinned| pinned != vault.audit_key) {
        let fix = "find out whether this is your vault, or one that was made anew";
        say(Health::Failing, "the audit key is not the one of the vault reference".to_owned(), fix);
    }
    for (name, health, what, fix) in FIGURES {
        let count: u64 =
            vault.figures.iter().filter(|figure| figure.name.as_str() == *name).map(|figure| figure.value).sum();
        if count > 0 {
            say(*health, format!("{count} {what} since it started"), fix);
        }
    }
    for warning in &vault.warnings {
        say(Health::Degraded, warning.to_string(), fix_of(warning.as_str()));
    }
    // A challenge and its answer may take a minute beyond the time at which it is due.
    let late = u64::from(facts.reattest_every).saturating_add(ANSWER_TIME);
    for session in &facts.sessions {
        let age = facts.now.saturating_sub(session.peer.attested);
        if age > late {
            let problem = format!(
                "{} last proved itself {age} s ago, asked for is every {} s",
                session.peer.name, facts.reattest_every
            );
            say(Health::Degraded, problem, "look at its device process and TPM; its session ends unless it answers");
        }
    }
    let connected = |entry: &&HostEntry| entry.standing == Standing::Enrolled;
    let away: Vec<_> = facts.hosts.iter().filter(connected).map(|entry| entry.name.as_str()).collect();
    if !away.is_empty() {
        let shown = away.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
        let problem = format!("{} enrolled host(s) without a session: {shown}", away.len());
        say(Health::Degraded, problem, "start their brokers; their log says why, and the audit what was refused");
    }
    let waiting = facts.hosts.iter().filter(|entry| entry.standing == Standing::Waiting).count();
    if waiting > 0 {
        say(
            Health::Degraded,
            format!("{waiting} machine(s) wait to be let in"),
            "blindferry host list, then host approve",
        );
    }
    let skew = facts.now.abs_diff(facts.here);
    if skew > SKEW {
        say(Health::Degraded, format!("the vault's clock and this machine's are {skew} s apart"), "set the wrong one");
    }
    let health = reasons.iter().map(|reason| reason.health).max().unwrap_or(Health::Healthy);
    Verdict { health, reasons }
}

/// What to do about a warning of the vault's, which comes as words.
fn fix_of(warning: &str) -> &'static str {
    let known = WARNINGS.iter().find(|(word, _)| warning.contains(word));
    known.map_or("blindferry doctor, on the vault's machine, says what it lacks", |(_, fix)| fix)
}

/// Words of warnings, and what to do about each.
const WARNINGS: &[(&str, &str)] = &[
    ("no policy yet", "blindferry policy apply FILE"),
    ("no reference values", "blindferry reference capture on a worker host, then reference apply FILE"),
    ("software TPM", "for secrets that matter, a TPM or a confidential guest"),
    ("dangerously", "take the word out of the reference values or the configuration once it is not needed"),
    ("another guest", "blindferry enclave revoke-old, once the other guest is done with"),
    ("encrypted anew", "wait: it goes on by itself, over restarts too"),
    ("restored from the backup", "look all of that through; blindferry audit says what was done when"),
    ("root", "start it as its unit does, under a user of its own"),
];

/// Figures that should be 0.
const FIGURES: &[(&str, Health, &str, &str)] = &[
    (
        "audit_failures_total",
        Health::Failing,
        "record(s) of the audit could not be written",
        "look at the store's disk; what was to be recorded was not done",
    ),
    ("alarms_total", Health::Degraded, "alarm(s)", "blindferry audit --event alarm"),
    (
        "revocation_failures_total",
        Health::Degraded,
        "token(s) could not be revoked",
        "blindferry audit --event lease-ended; revoke them at the upstream",
    ),
];

/// Seconds that a peer has for fresh evidence.
const ANSWER_TIME: u64 = 60;
/// Seconds by which clocks may differ.
const SKEW: u64 = 30;
/// Names that are listed.
const SHOWN: usize = 8;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;
    use blindferry_proto::front::Figure;
    use blindferry_proto::identifier::{LeaseId, ReplicaId, SessionId};
    use blindferry_proto::role::Role;
    use blindferry_proto::waiting::AskingHost;

    /// A healthy vault with one host and one lease.
    pub(crate) fn facts() -> Facts {
        let peer = AskingHost {
            name: "web-1".parse().unwrap(),
            hardware: Text::cut("TPM"),
            platform: Text::cut("tpm"),
            reference: Text::cut("debian 12"),
            attested: 940,
        };
        let lease = EndingLease {
            lease: LeaseId([4; 16]),
            credential: "deploy".parse().unwrap(),
            host: "web-1".parse().unwrap(),
            ends: 1_030,
        };
        Facts {
            vault: Status {
                replica: ReplicaId([1; 8]),
                version: Text::cut("0.1.0"),
                uptime: 61,
                memory: Text::cut("memfd_secret"),
                policy_version: 1,
                reference_version: 2,
                platform: Text::cut("TPM 2.0"),
                software_tpm: false,
                dangers: Vec::new(),
                sessions: 1,
                leases: 1,
                asks_waiting: 0,
                figures: Vec::new(),
                audit_key: AuditKey([2; 32]),
                warnings: Vec::new(),
            },
            hosts: vec![host("web-1", Standing::Connected)],
            sessions: vec![SessionReport { session: SessionId([3; 16]), role: Role::Broker, since: 900, peer }],
            leases: vec![lease],
            now: 1_000,
            here: 1_001,
            reattest_every: 300,
        }
    }

    fn host(name: &str, standing: Standing) -> HostEntry {
        HostEntry { name: name.parse().unwrap(), machine: None, role: Role::Broker, standing, since: 1 }
    }

    fn figure(name: &str) -> Figure {
        Figure { name: Text::cut(name), label: None, value: 1, counter: true }
    }

    #[test]
    fn each_reason_alone_takes_health_away_and_has_a_fix() {
        assert_eq!(judge(&facts(), Some(AuditKey([2; 32]))).health, Health::Healthy, "positive control");
        type Change = fn(&mut Facts);
        let changes: [(&str, Health, Change); 8] = [
            ("could not be written", Health::Failing, |facts| facts.vault.figures.push(figure("audit_failures_total"))),
            ("alarm", Health::Degraded, |facts| facts.vault.figures.push(figure("alarms_total"))),
            ("revoked", Health::Degraded, |facts| facts.vault.figures.push(figure("revocation_failures_total"))),
            ("swapped", Health::Degraded, |facts| facts.vault.warnings.push(Text::cut("memory may be swapped"))),
            ("last proved itself 361 s ago", Health::Degraded, |facts| facts.now = 1_301),
            ("without a session: web-2", Health::Degraded, |facts| facts.hosts.push(host("web-2", Standing::Enrolled))),
            ("wait to be let in", Health::Degraded, |facts| facts.hosts.push(host("web-3", Standing::Waiting))),
            ("31 s apart", Health::Degraded, |facts| facts.here = 1_031),
        ];
        for (word, health, change) in changes {
            let mut facts = facts();
            change(&mut facts);
            facts.here = if word.contains("apart") { facts.here } else { facts.now };
            let verdict = judge(&facts, None);
            assert_eq!(verdict.health, health, "{word}");
            let [reason] = verdict.reasons.as_slice() else { panic!("{word}: {:?}", verdict.reasons) };
            assert!(reason.problem.contains(word) && !reason.fix.is_empty(), "{reason:?}");
        }
        let other = judge(&facts(), Some(AuditKey([9; 32])));
        assert_eq!((other.health, other.reasons.len()), (Health::Failing, 1));
    }
}
