//! `approve`: asks that wait for a person's approval, shown and decided about.
//!
//! What is approved is what was shown: the decision carries the hash of that, made here.

use crate::confirm::confirm;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::{Table, moment, pairs, span};
use crate::session::{Session, with_session};
use crate::wait::reason;
use blindferry_proto::identifier::{AskId, Digest};
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_proto::waiting::{Decision, Reason, WaitingAsk};
use clap::{Args, Subcommand};
use ring::digest::{SHA256, digest};
use serde::Serialize;

/// Approve or deny what waits for a person: without ASK, list it
///
/// Policies can demand that a person approves before a credential is released (`@approval`). What waits is shown with who
/// asks, from which machine, and for what; a yes is good for one grant, of exactly what was shown. Who asked and which
/// operator's machine decided are both in the audit.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Approve {
    /// The ask to approve, as `run`, `read` and the list name it
    ask: Option<AskId>,
    /// Do not ask
    #[arg(long, requires = "ask")]
    yes: bool,
    /// Approve only if what waits has this hash, as the list and `show` give it with --json
    #[arg(long, value_name = "SHA256", requires = "ask")]
    shown: Option<Digest>,
    #[command(subcommand)]
    other: Option<Other>,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
enum Other {
    /// List what waits
    List,
    /// Show all that is known of an ask
    Show {
        /// Which
        ask: AskId,
    },
    /// Deny an ask
    Deny {
        /// Which
        ask: AskId,
        /// Why, for the asker; at most 256 bytes
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<Reason>,
    },
}

/// An ask and the hash of it that a decision names.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    ask: WaitingAsk,
    shown: Digest,
}

#[derive(Serialize)]
struct Asks<'a> {
    asks: &'a [Shown],
}

#[derive(Serialize)]
struct Decided<'a> {
    approved: bool,
    ask: &'a Shown,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, approve: Approve) -> Result<(), Failure> {
    let Approve { ask, yes, shown, other } = approve;
    match (ask, other) {
        (Some(ask), _) => decide(invocation, ask, Decision::Approve, |found| {
            if let Some(named) = shown.filter(|named| *named != found.shown) {
                return Err(Failure::OtherAsk { named, found: found.shown });
            }
            confirm(&format!("{}Approve this, for one grant?", described(found)), yes)
        }),
        (None, Some(Other::Deny { ask, reason })) => decide(invocation, ask, Decision::Deny { reason }, |_| Ok(())),
        (None, Some(Other::Show { ask })) => {
            let found = with_session(invocation, async |session| find(session, ask).await)?;
            invocation.output.show(&found, || described(&found))
        }
        (None, Some(Other::List) | None) => {
            let asks = with_session(invocation, async |session| all(session).await)?;
            invocation.output.show(&Asks { asks: &asks }, || listed(&asks))
        }
    }
}

/// Finds an ask, lets `agreed` look at it, and decides about exactly that.
fn decide(
    invocation: &Invocation,
    ask: AskId,
    decision: Decision,
    agreed: impl FnOnce(&Shown) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (doing, done) = match decision {
        Decision::Approve => ("approve this", "approved"),
        Decision::Deny { .. } => ("deny this", "denied"),
    };
    let approved = decision == Decision::Approve;
    let found = with_session(invocation, async |session| {
        let found = find(session, ask).await?;
        agreed(&found)?;
        session.order(doing, OperatorRequest::Decide { ask, shown: found.shown, decision }).await?;
        Ok(found)
    })?;
    let said = Decided { approved, ask: &found };
    invocation.output.show(&said, || {
        let WaitingAsk { ask, credential, host, parent, .. } = &found.ask;
        format!("{done}: {ask}, {credential} for user {} on {}\n", parent.uid, host.name)
    })
}

async fn find(session: &Session<'_>, ask: AskId) -> Result<Shown, Failure> {
    let mut asks = all(session).await?.into_iter();
    asks.find(|shown| shown.ask.ask == ask).ok_or(Failure::NoSuchAsk { ask })
}

/// All that waits, the oldest first.
async fn all(session: &Session<'_>) -> Result<Vec<Shown>, Failure> {
    let doing = "list what waits for an approval";
    let mut all: Vec<Shown> = Vec::new();
    loop {
        let after = all.last().map(|last| last.ask.ask);
        let OperatorReply::Asks(page) = session.ask(doing, OperatorRequest::Asks { after }).await? else {
            return Err(Failure::Unexpected { doing });
        };
        // A page that does not go on would be asked for again and again.
        if page.first().zip(after).is_some_and(|(first, after)| first.ask <= after) {
            return Err(Failure::Unexpected { doing });
        }
        if page.is_empty() {
            all.sort_by_key(|shown| shown.ask.asked);
            return Ok(all);
        }
        for ask in page {
            let input = ask.digest_input().map_err(|_| Failure::Unexpected { doing })?;
            let hash = digest(&SHA256, &input);
            let shown = hash.as_ref().try_into().map(Digest).map_err(|_| Failure::Unexpected { doing })?;
            all.push(Shown { ask, shown });
        }
    }
}

fn listed(asks: &[Shown]) -> String {
    let mut table =
        Table::new(&["ASK", "CREDENTIAL", "HOST", "USER", "ASKED", "UNTIL", "PROGRAM (CLAIMED)", "REASON (CLAIMED)"]);
    for Shown { ask, .. } in asks {
        table.row([
            ask.ask.to_string(),
            ask.credential.to_string(),
            ask.host.name.to_string(),
            ask.parent.uid.to_string(),
            moment(ask.asked),
            moment(ask.until),
            claimed(ask.words.program.as_ref().map(|program| program.as_str())),
            claimed(ask.words.reason.as_ref().map(Reason::as_str)),
        ]);
    }
    if table.is_empty() { "Nothing waits for an approval.\n".to_owned() } else { table.render() }
}

fn described(Shown { ask, shown }: &Shown) -> String {
    let nobody = || "-".to_owned();
    let host = &ask.host;
    let before = span(ask.asked.saturating_sub(host.attested));
    let worker = match (ask.worker.uid, ask.worker.executable) {
        (None, None) => "any process of that host".to_owned(),
        (uid, executable) => {
            let uid = uid.map_or_else(|| "any user".to_owned(), |uid| format!("user {uid}"));
            executable.map_or_else(|| format!("{uid}, any program"), |digest| format!("{uid}, program {digest}"))
        }
    };
    let rule = if ask.other_machine { ", from another machine than the one that asks" } else { "" };
    let by: Vec<&str> = ask.demanded_by.iter().map(|name| name.as_str()).collect();
    let mut text = pairs(&[
        ("Ask", ask.ask.to_string()),
        ("Credential", format!("{} ({}, version {})", ask.credential, ask.kind, ask.version)),
        ("Token for", ask.audience.as_ref().map_or_else(nobody, ToString::to_string)),
        ("Host", host.name.to_string()),
        ("Its hardware", host.hardware.to_string()),
        ("Attested as", format!("{}, reference values {:?}, {before} before it asked", host.platform, host.reference)),
        ("Asked by", format!("user {}, group {}, process {}", ask.parent.uid, ask.parent.gid, ask.parent.pid)),
        ("To be used by", worker),
        ("Demanded by", format!("policy version {}: {}{rule}", ask.policy_version, by.join(", "))),
        ("Asked at", moment(ask.asked)),
        ("Refused at", moment(ask.until)),
        ("Hash", shown.to_string()),
    ]);
    text.push_str("What the asker says, which nobody has checked:\n");
    text.push_str(&pairs(&[
        ("  Program", claimed(ask.words.program.as_ref().map(|program| program.as_str()))),
        ("  Reason", claimed(ask.words.reason.as_ref().map(Reason::as_str))),
    ]));
    text
}

/// The asker's words, in quotes, so that they do not pass for ours.
fn claimed(words: Option<&str>) -> String {
    words.map_or_else(|| "-".to_owned(), |words| format!("\"{words}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::bounded::Text;
    use blindferry_proto::session::{ProcessFacts, WorkerConstraint};
    use blindferry_proto::shown::hides;
    use blindferry_proto::waiting::{AskingHost, Words};

    fn one(program: &str, reason: &str) -> Shown {
        let ask = WaitingAsk {
            ask: AskId([0xab; 8]),
            credential: "prod-db".parse().unwrap(),
            kind: Text::cut("release"),
            version: 3,
            audience: None,
            host: AskingHost {
                name: "web-1".parse().unwrap(),
                hardware: Text::cut("AK 000b"),
                platform: Text::cut("tpm"),
                reference: Text::cut("production"),
                attested: 60,
            },
            parent: ProcessFacts { uid: 1000, gid: 100, pid: 7, executable: None, protection: None },
            worker: WorkerConstraint { uid: Some(1000), executable: None, protection: None },
            words: Words { program: Some(Text::cut(program)), reason: Some(Text::cut(reason)) },
            demanded_by: vec![Text::cut("production-by-hand")],
            policy_version: 9,
            other_machine: true,
            asked: 120,
            until: 420,
        };
        Shown { ask, shown: Digest([1; 32]) }
    }

    #[test]
    fn all_that_a_person_decides_by_is_shown() {
        let text = described(&one("deploy.sh", "rollback"));
        for part in [
            "abababababababab",
            "prod-db (release, version 3)",
            "web-1",
            "AK 000b",
            "\"production\", 1m before",
            "user 1000, group 100, process 7",
            "user 1000, any program",
            "9: production-by-hand, from another machine",
            "1970-01-01T00:02:00Z",
            "1970-01-01T00:07:00Z",
            &"01".repeat(32),
            "\"deploy.sh\"",
            "\"rollback\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.find("nobody has checked").unwrap() < text.find("deploy.sh").unwrap(), "a claim is marked as one");
    }

    #[test]
    fn the_askers_words_cannot_steer_the_terminal_or_write_lines_of_ours() {
        let evil = one("a\nHost  web-2", "\u{1b}[2J\u{202e}no\rx");
        for text in [described(&evil), listed(std::slice::from_ref(&evil))] {
            assert!(!text.chars().any(|character| character != '\n' && hides(character)), "{text:?}");
            assert!(!text.contains("\nHost  web-2"), "{text}");
        }
        assert_eq!(listed(&[evil]).lines().count(), 2);
    }

    #[test]
    fn the_document_has_stable_names() {
        let document = serde_json::to_value(one("p", "r")).unwrap();
        for name in ["ask", "credential", "kind", "host", "parent", "worker", "words", "demanded_by", "until", "shown"]
        {
            assert!(document.get(name).is_some(), "{name}");
        }
    }
}
