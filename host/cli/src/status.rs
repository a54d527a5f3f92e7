//! `status`: is it healthy, who is attested, what is about to end.

use crate::failure::Failure;
use crate::host;
use crate::invocation::Invocation;
use crate::output::{Table, moment, pairs, span};
use crate::session::{Session, with_session};
use crate::status::verdict::{Facts, Verdict, judge};
use blindferry_proto::identifier::SessionId;
use blindferry_proto::operator::{
    EndingLease, HostEntry, OperatorReply, OperatorRequest, SessionReport, Standing, Status as Reported,
};
use blindferry_proto::shown::visible;
use serde::Serialize;
use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

mod verdict;

/// Show whether the vault is healthy, who is attested, and what is about to end
///
/// The verdict is healthy, degraded (it serves, and somebody should look), or failing; each reason is named.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// For monitors: end with 0 when healthy, 1 when degraded, 2 when failing; 3 when the vault cannot be reached
    #[arg(long)]
    check: bool,
}

/// The document: what the vault says of itself, and beside it what follows from all that it says.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(flatten)]
    vault: &'a Reported,
    clock: Clock,
    attested: Vec<Attested<'a>>,
    waiting_hosts: Vec<&'a HostEntry>,
    ending_leases: Vec<Ending<'a>>,
}

#[derive(Clone, Copy, Serialize)]
struct Clock {
    vault: u64,
    here: u64,
}

#[derive(Serialize)]
struct Attested<'a> {
    #[serde(flatten)]
    session: &'a SessionReport,
    /// Seconds since it last proved itself.
    age: u64,
    /// Seconds until it has to again; 0 when that is due.
    again_in: u64,
}

#[derive(Serialize)]
struct Ending<'a> {
    #[serde(flatten)]
    lease: &'a EndingLease,
    /// Seconds until it ends, unless its worker lives on.
    ends_in: u64,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, Status { check }: &Status) -> Result<ExitCode, Failure> {
    let (facts, pinned) = with_session(invocation, async |session| Ok((ask(session).await?, session.vault.audit_key)))?;
    let verdict = judge(&facts, pinned);
    let shown = document(&facts, &verdict);
    invocation.output.show(&shown, || render(&shown))?;
    Ok(if *check { verdict.health.exit().map_or(ExitCode::SUCCESS, ExitCode::from) } else { ExitCode::SUCCESS })
}

/// Everything that the verdict rests on.
async fn ask(session: &Session<'_>) -> Result<Facts, Failure> {
    let doing = "ask how the vault is";
    let OperatorReply::Status(vault) = session.ask(doing, OperatorRequest::Status).await? else {
        return Err(Failure::Unexpected { doing });
    };
    let hosts = host::all(session).await?;
    let doing = "ask for the sessions";
    let mut sessions: Vec<SessionReport> = Vec::new();
    let mut seen: HashSet<SessionId> = HashSet::new();
    let (mut now, mut every) = (0, 0);
    loop {
        let after = sessions.last().map(|last| last.session);
        let OperatorReply::Sessions { now: clock, reattest_every, sessions: page } =
            session.ask(doing, OperatorRequest::Sessions { after }).await?
        else {
            return Err(Failure::Unexpected { doing });
        };
        (now, every) = (clock.max(now), reattest_every.max(every));
        if page.is_empty() {
            break;
        }
        // A page that does not go on would be asked for again and again.
        if !page.iter().all(|report| seen.insert(report.session)) {
            return Err(Failure::Unexpected { doing });
        }
        sessions.extend(page);
    }
    let doing = "ask for the leases";
    let OperatorReply::EndingLeases(leases) = session.ask(doing, OperatorRequest::EndingLeases).await? else {
        return Err(Failure::Unexpected { doing });
    };
    #[expect(clippy::disallowed_methods, reason = "the vault's clock is compared with this machine's")]
    let here = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(Facts { vault: *vault, hosts, sessions, leases, now, here, reattest_every: every })
}

fn document<'a>(facts: &'a Facts, verdict: &'a Verdict) -> Shown<'a> {
    let attested = |session: &'a SessionReport| {
        let age = facts.now.saturating_sub(session.peer.attested);
        Attested { session, age, again_in: u64::from(facts.reattest_every).saturating_sub(age) }
    };
    let ending = |lease: &'a EndingLease| Ending { lease, ends_in: lease.ends.saturating_sub(facts.now) };
    Shown {
        verdict,
        vault: &facts.vault,
        clock: Clock { vault: facts.now, here: facts.here },
        attested: facts.sessions.iter().map(attested).collect(),
        waiting_hosts: facts.hosts.iter().filter(|entry| entry.standing == Standing::Waiting).collect(),
        ending_leases: facts.leases.iter().map(ending).collect(),
    }
}

fn render(shown: &Shown<'_>) -> String {
    let status = shown.vault;
    let mut text = format!("{}\n", shown.verdict.health);
    for reason in &shown.verdict.reasons {
        text.push_str(&format!(
            "  {}: {}\n    fix: {}\n",
            reason.health,
            visible(&reason.problem),
            visible(&reason.fix)
        ));
    }
    text.push('\n');
    text.push_str(&pairs(&[
        ("Version", status.version.to_string()),
        ("Replica", status.replica.to_string()),
        ("Up for", span(status.uptime)),
        ("Clock", moment(shown.clock.vault)),
        ("Secrets in memory", status.memory.to_string()),
        ("Platform", visible(status.platform.as_str())),
        ("Policy", version(status.policy_version)),
        ("Reference values", version(status.reference_version)),
        ("Sessions", status.sessions.to_string()),
        ("Leases", status.leases.to_string()),
        ("Waiting for approval", status.asks_waiting.to_string()),
        ("Audit key", status.audit_key.to_string()),
    ]));
    let mut attested = Table::new(&["ATTESTED", "ROLE", "REFERENCE VALUES", "SINCE", "PROVED", "AGAIN IN"]);
    for Attested { session, age, again_in } in &shown.attested {
        attested.row([
            session.peer.name.to_string(),
            host::role_name(session.role).to_owned(),
            session.peer.reference.to_string(),
            moment(session.since),
            format!("{} ago", span(*age)),
            span(*again_in),
        ]);
    }
    let mut ending = Table::new(&["LEASE", "CREDENTIAL", "HOST", "ENDS UNLESS KEPT IN"]);
    for Ending { lease, ends_in } in &shown.ending_leases {
        ending.row([lease.lease.to_string(), lease.credential.to_string(), lease.host.to_string(), span(*ends_in)]);
    }
    let mut figures = Table::new(&["FIGURE", "OF", "VALUE"]);
    for figure in &status.figures {
        let label = figure.label.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        figures.row([figure.name.to_string(), label, figure.value.to_string()]);
    }
    for table in [attested, ending, figures].iter().filter(|table| !table.is_empty()) {
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

fn version(version: u64) -> String {
    if version == 0 { "none yet".to_owned() } else { format!("version {version}") }
}

#[cfg(test)]
mod tests {
    use super::verdict::tests::facts;
    use super::*;
    use blindferry_proto::bounded::Text;

    #[test]
    fn the_verdict_stands_first_and_what_is_missing_is_said() {
        let mut facts = facts();
        facts.vault.policy_version = 0;
        facts.vault.warnings.push(Text::cut("there is no policy yet: nothing is allowed"));
        let verdict = judge(&facts, None);
        let text = render(&document(&facts, &verdict));
        assert!(text.starts_with("degraded\n") && text.contains("none yet"), "{text}");
        assert!(text.contains("fix: blindferry policy apply FILE"), "{text}");
        assert!(text.contains("ATTESTED") && text.contains("web-1") && text.contains("1m ago"), "{text}");
        assert!(text.contains("version 2") && text.contains("ENDS UNLESS KEPT"), "{text}");
    }

    #[test]
    fn the_document_has_stable_names() {
        let facts = facts();
        let verdict = judge(&facts, None);
        let document = serde_json::to_value(document(&facts, &verdict)).unwrap();
        for name in [
            "health",
            "reasons",
            "replica",
            "version",
            "uptime",
            "policy_version",
            "software_tpm",
            "audit_key",
            "warnings",
            "clock",
            "attested",
            "waiting_hosts",
            "ending_leases",
        ] {
            assert!(document.get(name).is_some(), "{name}");
        }
        assert_eq!(document["attested"][0]["age"], 60);
        assert_eq!(document["attested"][0]["again_in"], 240);
        assert_eq!(document["ending_leases"][0]["ends_in"], 30);
    }
}
