//! The page itself: how the vault is, its hosts, leases, grants and refusals, and the end of its audit.

use blindferry_proto::operator::Standing;
use blindferry_proto::report::{
    ChainState, Gravity, MAX_RECORDS, Report, ReportedHost, ReportedLease, ReportedRecord, ReportedSession, Verdict,
};
use blindferry_proto::shown::visible;
use maud::{Markup, html};

use super::chart::chart;
use super::frame;
use super::words::{ago, moment, readable, span};

/// The page for this report.
pub(in super::super) fn overview(report: &Report) -> Markup {
    let body = html! {
        a.skip href="#audit" { "To the audit" }
        header.top { div.wrap {
            h1 { "Blindferry" small { "version " (report.version) } }
            (chain_badge(&report.chain))
            nav { form method="post" action="leave" { button type="submit" { "Leave" } } }
        } }
        div.wrap {
            main data-live="report" {
                p.moment { "As of " (when(report.at)) " UTC; renewed while you look, until " (readable(report.until)) "." }
                (warnings(report))
                (figures(report))
                div.two {
                    section { h2 { "Grants and refusals, last hour" } (chart(&report.minutes)) }
                    section { h2 { "Refusals by code" } (refusals(report)) }
                }
                section { h2 { "Hosts" } (hosts(report)) }
                section { h2 { "Sessions" } (sessions(report)) }
                section { h2 { "Leases" } (leases(report)) }
                section #audit { h2 { "Audit" } (audit(report)) }
                section { h2 { "The vault" } (facts(report)) }
            }
            footer { p {
                "This page changes nothing, and you need not believe it: it is shown by the front, which holds no key and is \
                 trusted by nobody. Before you act on what it says, ask over an attested session: "
                code { "blindferry status" } ", " code { "blindferry host list" } ", " code { "blindferry audit" } "."
            } }
        }
    };
    frame("Overview", true, &body)
}

fn warnings(report: &Report) -> Markup {
    html! {
        @if !report.warnings.is_empty() {
            section.warnings { h2 { "⚠ Warnings" } ul {
                @for warning in &report.warnings { li { (visible(warning.as_str())) } }
            } }
        }
    }
}

fn figures(report: &Report) -> Markup {
    let alarms: u64 = report.minutes.iter().map(|minute| u64::from(minute.alarms)).sum();
    let redeemed: u64 = report.minutes.iter().map(|minute| u64::from(minute.redeemed)).sum();
    let connected = report.hosts.iter().filter(|host| host.standing == Standing::Connected).count();
    let alarming = (alarms > 0).then_some("bad");
    html! {
        dl.figures {
            div { dt { "Sessions" } dd { (report.sessions) } }
            div { dt { "Hosts connected" } dd { (connected) @if report.more_hosts { "+" } } }
            div { dt { "Leases" } dd { (report.leases_in_all) } }
            div { dt { "Redeemed, last hour" } dd { (redeemed) } }
            div { dt { "Asks waiting" } dd { (report.asks_waiting) } }
            div class=[alarming] { dt { "Alarms, last hour" } dd { @if alarms > 0 { "⚠ " } (alarms) } }
        }
    }
}

fn refusals(report: &Report) -> Markup {
    html! {
        @if report.refusals.is_empty() { p.none { "Nobody was refused in the last hour." } }
        @else {
            table {
                caption { "Since the vault started, at most the last hour" }
                thead { tr { th scope="col" { "Code" } th.number scope="col" { "Times" } } }
                tbody { @for (code, times) in &report.refusals {
                    tr { th scope="row" { code { (visible(code.as_str())) } } td.number { (times) } }
                } }
            }
        }
    }
}

fn hosts(report: &Report) -> Markup {
    html! {
        @if report.hosts.is_empty() { p.none { "No host is known." } }
        @else {
            table.wide {
                caption {
                    "Verdicts are those of the running vault"
                    @if report.more_hosts { "; there may be more hosts, see " code { "blindferry host list" } }
                }
                thead { tr {
                    th scope="col" { "Host" } th scope="col" { "Role" } th scope="col" { "Standing" }
                    th scope="col" { "Since" } th scope="col" { "Last verdict" }
                } }
                tbody { @for host in &report.hosts { (host_row(host, report.at)) } }
            }
        }
    }
}

fn host_row(host: &ReportedHost, now: u64) -> Markup {
    html! {
        tr {
            th scope="row" data-of="Host" { span { (visible(host.name.as_str())) } }
            td data-of="Role" { (host.role) }
            td data-of="Standing" { (standing(host.standing)) }
            td.when data-of="Since" { span { (relative(host.since, now)) } }
            td data-of="Verdict" { span { @match &host.verdict {
                None => "none since the vault started",
                Some(verdict) => (verdict_words(verdict, now)),
            } } }
        }
    }
}

fn standing(standing: Standing) -> Markup {
    match standing {
        Standing::Connected => html! { span { span.badge.good { "● connected" } } },
        Standing::Enrolled => html! { span { span.badge { "○ enrolled" } } },
        Standing::Allowed => html! { span { span.badge { "◌ allowed" } } },
        Standing::Waiting => html! { span { span.badge.wait { "… waits for approval" } } },
    }
}

fn verdict_words(verdict: &Verdict, now: u64) -> Markup {
    html! {
        @match &verdict.refused {
            None => span.badge.good { "✓ accepted" },
            Some(code) => { span.badge.bad { "✗ refused" } " " code { (visible(code.as_str())) } },
        }
        " " (relative(verdict.at, now))
    }
}

fn sessions(report: &Report) -> Markup {
    html! {
        @if report.attested.is_empty() { p.none { "Nobody is in a session now." } }
        @else {
            table.wide {
                caption { (report.attested.len()) " of " (report.sessions) ", who has to prove itself soonest first; asked for every "
                    (span(report.reattest_every.into())) }
                thead { tr {
                    th scope="col" { "Peer" } th scope="col" { "Role" } th scope="col" { "Reference values" }
                    th scope="col" { "Since" } th scope="col" { "Last proved" } th scope="col" { "Again" }
                } }
                tbody { @for session in &report.attested { (session_row(session, report)) } }
            }
        }
    }
}

fn session_row(session: &ReportedSession, report: &Report) -> Markup {
    let due = session.attested.saturating_add(report.reattest_every.into());
    html! {
        tr {
            th scope="row" data-of="Peer" { span { (visible(session.name.as_str())) } }
            td data-of="Role" { (session.role) }
            td data-of="Met" { span { (visible(session.reference.as_str())) } }
            td.when data-of="Since" { span { (relative(session.since, report.at)) } }
            td.when data-of="Proved" { span { (relative(session.attested, report.at)) } }
            td.when data-of="Again" { span { (ahead(due, report.at)) } }
        }
    }
}

/// A time to come; one that has passed is said to be due.
fn ahead(then: u64, now: u64) -> Markup {
    html! { time datetime=(moment(then)) title=(moment(then)) { @if then > now { "in " (span(then - now)) } @else { "due" } } }
}

fn leases(report: &Report) -> Markup {
    let row = |lease: &ReportedLease| {
        html! { tr {
            th scope="row" data-of="Credential" { span { (visible(lease.credential.as_str())) } }
            td data-of="Host" { span { (visible(lease.host.as_str())) } }
            td.number data-of="User" { "uid " (lease.uid) }
            td.when data-of="Since" { span { (relative(lease.since, report.at)) } }
            td.when data-of="Ends" { span { (ahead(lease.ends, report.at)) } }
        } }
    };
    html! {
        @if report.leases.is_empty() { p.none { "Nobody holds a token now." } }
        @else {
            table.wide {
                caption { "The newest " (report.leases.len()) " of " (report.leases_in_all) }
                thead { tr {
                    th scope="col" { "Credential" } th scope="col" { "Host" } th scope="col" { "User" } th scope="col" { "Since" }
                    th scope="col" { "Ends unless kept" }
                } }
                tbody { @for lease in &report.leases { (row(lease)) } }
            }
        }
    }
}

fn audit(report: &Report) -> Markup {
    html! {
        p { (chain_words(&report.chain)) }
        @if !report.records.is_empty() {
            table.wide {
                caption { "The newest records, at most " (MAX_RECORDS) "; times are in UTC, by the vault's clock" }
                thead { tr {
                    th.number scope="col" { "No." } th scope="col" { "When" } th scope="col" { "What" }
                    th scope="col" { "Host" } th scope="col" { "Subject" } th scope="col" { "More" }
                } }
                tbody { @for record in &report.records { (record_row(record)) } }
            }
        }
    }
}

fn record_row(record: &ReportedRecord) -> Markup {
    let class = match record.gravity {
        Gravity::Plain => None,
        Gravity::Refusal => Some("refusal"),
        Gravity::Alarm => Some("alarm"),
    };
    let host = record.host.as_ref().map(|host| visible(host.as_str())).unwrap_or_default();
    html! {
        tr class=[class] {
            td.number data-of="No." { (record.number) }
            td.when data-of="When" { (when(record.at / 1000)) }
            td.event data-of="What" { span { (event(record)) } }
            (cell("Host", "", &host))
            (cell("Subject", "", &visible(record.subject.as_str())))
            (cell("More", "what", &visible(record.detail.as_str())))
        }
    }
}

fn event(record: &ReportedRecord) -> Markup {
    let word = visible(record.event.as_str());
    match record.gravity {
        Gravity::Plain => html! { (word) },
        Gravity::Refusal => html! { span.badge.bad { "✗ " (word) } },
        Gravity::Alarm => html! { span.badge.bad { "⚠ " (word) } },
    }
}

/// An empty one takes no room on a phone.
fn cell(of: &str, class: &str, text: &str) -> Markup {
    let empty = if text.is_empty() { "empty" } else { "" };
    html! { td class=(format!("{class} {empty}").trim()) data-of=(of) { span { (text) } } }
}

fn chain_badge(chain: &ChainState) -> Markup {
    match chain {
        ChainState::Verified { .. } => html! { span.badge.good { "✓ audit verified by the vault" } },
        ChainState::Broken { .. } => html! { span.badge.bad { "✗ the audit does not verify" } },
        ChainState::Empty => html! { span.badge { "no audit yet" } },
    }
}

fn chain_words(chain: &ChainState) -> Markup {
    match chain {
        ChainState::Empty => html! { span.none { "There is no record yet." } },
        ChainState::Verified { from, to } => html! {
            span.badge.good { "✓ verified" } " The vault says that records " (from) " to " (to)
            " are signed and linked without a gap, and that " (to) " is the newest."
        },
        ChainState::Broken { why } => html! {
            span.badge.bad { "✗ broken" } " " (visible(why.as_str())) ". Keep the store as it is, and run "
            code { "blindferry audit --export" } "."
        },
    }
}

fn facts(report: &Report) -> Markup {
    let version = |version: u64| if version == 0 { "none yet".to_owned() } else { format!("version {version}") };
    html! {
        dl.facts {
            dt { "Up for" } dd { (span(report.uptime)) }
            dt { "Platform" } dd { (visible(report.platform.as_str())) }
            dt { "Secrets in memory" } dd { (visible(report.memory.as_str())) }
            dt { "Policy" } dd { (version(report.policy_version)) }
            dt { "Reference values" } dd { (version(report.reference_version)) }
            dt { "Replica" } dd.hex { (report.replica) }
            dt { "Audit key" } dd.hex { (report.audit_key) }
        }
    }
}

fn when(seconds: u64) -> Markup {
    html! { time datetime=(moment(seconds)) { (readable(seconds)) } }
}

fn relative(seconds: u64, now: u64) -> Markup {
    html! { time datetime=(moment(seconds)) title=(moment(seconds)) { (ago(seconds, now)) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;
    use blindferry_proto::identifier::{AuditKey, ReplicaId};
    use blindferry_proto::report::Minute;

    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

    fn report() -> Report {
        let record = ReportedRecord {
            number: 7,
            at: 1_800_000_000_000,
            gravity: Gravity::Alarm,
            event: Text::cut("alarm"),
            host: None,
            subject: Text::cut(HOSTILE),
            detail: Text::cut(HOSTILE),
        };
        Report {
            at: 1_800_000_000,
            until: 1_800_001_000,
            replica: ReplicaId([1; 8]),
            version: Text::cut(HOSTILE),
            uptime: 10,
            platform: Text::cut(HOSTILE),
            memory: Text::cut(HOSTILE),
            policy_version: 0,
            reference_version: 2,
            sessions: 0,
            leases_in_all: 0,
            asks_waiting: 0,
            warnings: vec![Text::cut(HOSTILE)],
            hosts: Vec::new(),
            more_hosts: false,
            reattest_every: 300,
            attested: Vec::new(),
            leases: Vec::new(),
            minutes: vec![Minute { alarms: 1, ..Minute::default() }],
            refusals: vec![(Text::cut(HOSTILE), 1)],
            records: vec![record],
            chain: ChainState::Broken { why: Text::cut(HOSTILE) },
            audit_key: AuditKey([2; 32]),
        }
    }

    #[test]
    fn whatever_a_text_says_it_stays_a_text() {
        let page = overview(&report()).into_string();
        assert_eq!(page.matches("<script").count(), 1, "only ours");
        assert!(!page.contains("<img") && page.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn there_is_no_style_and_no_script_but_in_their_files() {
        let page = overview(&report()).into_string();
        assert!(page.contains("<script src=\"/page.js\" defer></script>"));
        for inline in [" style=", "<style", " onclick", " onload", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    #[test]
    fn what_is_bad_is_said_in_words_beside_its_colour() {
        let page = overview(&report()).into_string();
        assert!(page.contains("✗ the audit does not verify") && page.contains("⚠ alarm"));
        let sound = Report { chain: ChainState::Verified { from: 3, to: 7 }, ..report() };
        let page = overview(&sound).into_string();
        assert!(page.contains("✓ verified") && page.contains("records 3 to 7 are signed"), "{page}");
    }
}
