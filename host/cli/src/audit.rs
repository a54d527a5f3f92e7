//! `audit`: fetches the vault's audit and verifies it; or verifies an exported one.

use crate::audit::export::{Entry, LineError, MAX_LINE, line, record};
use crate::audit::filter::{Filter, kinds};
use crate::audit::pages::{Page, Reader, catch_up, follow};
use crate::audit::verify::{Broken, Chain, Head};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::{moment_from_millis, note};
use crate::reserve::Reserved;
use crate::session::{Session, vault_reference, with_session};
use blindferry_proto::audit::{Body, Event, Record};
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::AuditKey;
use blindferry_proto::operator::{OperatorReply, OperatorRequest};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::shown::visible;
use blindferry_session::client::{CallError, ConnectError};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

mod export;
mod filter;
mod pages;
mod verify;

/// Show and verify the audit
///
/// Every record's signature, its number and its link to the record before are verified with the key of the vault's
/// reference, and the newest record is compared with the one that the vault names. Keep that NUMBER:HASH: with --known
/// a later run finds that the audit was put back to an earlier state.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    /// Begin with this record; its link to the one before is verified too
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    /// Write the records with their signatures into a new file, as JSON Lines
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// The audit must still lead through this record, known from before
    #[arg(long, value_name = "NUMBER:HASH")]
    known: Option<Head>,
    #[command(flatten)]
    look: Look,
    /// Go on with what happens from now on, until Ctrl-C; a vault that was restarted is waited for
    #[arg(long, conflicts_with = "export")]
    follow: bool,
    #[command(subcommand)]
    offline: Option<Offline>,
}

/// What is shown, and how.
#[derive(Debug, Args)]
struct Look {
    #[command(flatten)]
    filter: Filter,
    /// Print each record as one line of JSON, and at the end a line that says whether the audit verified
    #[arg(long)]
    json_lines: bool,
}

/// Without a vault.
#[derive(Debug, Subcommand)]
enum Offline {
    /// Verify an exported audit
    Verify {
        /// The file that --export wrote
        file: PathBuf,
        /// The vault's audit key [default: that of the configured vault reference]
        #[arg(long, value_name = "HEX")]
        key: Option<AuditKey>,
        /// The audit must lead through this record, known from before; without it a missing end is not found
        #[arg(long, value_name = "NUMBER:HASH")]
        known: Option<Head>,
        #[command(flatten)]
        look: Look,
    },
}

/// The audit cannot be relied on, or not be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    #[error("it does not verify")]
    Broken(#[from] Broken),
    #[error("the vault's reference names no audit key to verify with")]
    NoKey,
    #[error("there is no record {wanted}; the newest is {newest}")]
    NoSuchRecord { wanted: u64, newest: String },
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("line {line} of {path}", path = path.display())]
    Line { path: PathBuf, line: u64, source: LineError },
    #[error("{path} has no records", path = path.display())]
    NoRecords { path: PathBuf },
}

impl AuditError {
    /// The number that the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Broken(_) | Self::Line { .. } => Exit::Audit,
            Self::NoSuchRecord { .. } => Exit::Usage,
            Self::NoKey | Self::Read { .. } | Self::NoRecords { .. } => Exit::Local,
        }
    }

    /// The next step.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Broken(Broken::Key { .. }) => {
                Some("find out whether this is your vault, or a new one: its key is made at `init` and never changes")
            }
            Self::Broken(_) | Self::Line { .. } => Some(
                "keep what there is (--export), compare it with an earlier export, and find out who held the store",
            ),
            Self::NoKey => Some("put `audit_key` into the vault's reference, as `init` writes it"),
            Self::NoSuchRecord { .. } | Self::Read { .. } | Self::NoRecords { .. } => None,
        }
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure::Audit`] when it does not verify, after everything before that was shown.
pub(crate) fn run(invocation: &Invocation, audit: Audit) -> Result<(), Failure> {
    match audit.offline {
        Some(Offline::Verify { file, key, known, look }) => {
            let shown = Shown::new(invocation, look, 0, None);
            verify_file(invocation, &file, key, known, shown)
        }
        None => {
            let export = audit.export.as_deref().map(|path| Reserved::create(path, 0o600)).transpose()?;
            let look = Look {
                json_lines: audit.look.json_lines || (audit.follow && invocation.output.is_json()),
                ..audit.look
            };
            let shown = Shown::new(invocation, look, audit.from, export);
            fetch(invocation, audit.known, audit.follow, shown)
        }
    }
}

fn fetch(invocation: &Invocation, known: Option<Head>, follows: bool, mut shown: Shown<'_>) -> Result<(), Failure> {
    let reference = vault_reference(&invocation.configuration()?.vault_reference)?;
    let key = reference.audit_key.ok_or(AuditError::NoKey)?;
    // The record before the first one that is wanted is what that one must follow.
    let before = shown.from.saturating_sub(1);
    let mut chain = Chain::from(key, known.map_or(before, |known| known.number.min(before))).through(known);
    let mut lost: u32 = 0;
    loop {
        let at = chain.next();
        let went = with_session(invocation, async |session| {
            let mut ask = async |from| page(session, from).await;
            let head = catch_up(&mut ask, key, &mut chain, &mut shown).await?;
            exists(&chain, head, shown.from)?;
            if follows {
                match follow(&mut ask, key, &mut chain, &mut shown, POLL).await? {}
            }
            Ok(head)
        });
        match went {
            Err(failure) if follows && may_pass(&failure) => {
                lost = if chain.next() > at { 1 } else { lost.saturating_add(1) };
                note(&format!(
                    "blindferry: the vault cannot be reached, trying again: {}",
                    visible(&with_causes(&failure))
                ));
                sleep(PATIENCE.min(POLL * 2_u32.saturating_pow(lost.min(5))));
            }
            went => {
                return shown.end(went.and_then(|head| Ok(chain.end(head).map_err(AuditError::from)?)));
            }
        }
    }
}

/// Whether the same may go well in a moment: the vault is away, or not ready yet.
fn may_pass(failure: &Failure) -> bool {
    let refused = match failure {
        Failure::Connect { source } => match source.as_ref() {
            ConnectError::Refused { refusal } => Some(refusal.code),
            _ => None,
        },
        Failure::Call { source: CallError::Refused(refusal), .. } => Some(refusal.code),
        _ => None,
    };
    refused.map_or(failure.exit() == Exit::Unreachable, RefusalCode::is_passing)
}

async fn page(session: &Session<'_>, from: u64) -> Result<Page, Failure> {
    let doing = "read the audit";
    let reply = session.ask(doing, OperatorRequest::Audit { from }).await?;
    let OperatorReply::Records { records, head, key } = reply else { return Err(Failure::Unexpected { doing }) };
    Ok(Page { records, head: head.map(|(number, hash)| Head { number, hash }), key })
}

/// Whether the record with which to begin is there.
fn exists(chain: &Chain, head: Option<Head>, wanted: u64) -> Result<(), AuditError> {
    let beyond = head.is_none_or(|head| head.number < chain.next());
    if chain.last().is_none() && chain.next() > 0 && chain.awaited().is_none() && beyond {
        let newest = head.map_or_else(|| "none".to_owned(), |head| head.number.to_string());
        return Err(AuditError::NoSuchRecord { wanted, newest });
    }
    Ok(())
}

fn verify_file(
    invocation: &Invocation,
    path: &Path,
    key: Option<AuditKey>,
    known: Option<Head>,
    mut shown: Shown<'_>,
) -> Result<(), Failure> {
    let key = match key {
        Some(key) => key,
        None => vault_reference(&invocation.configuration()?.vault_reference)?.audit_key.ok_or(AuditError::NoKey)?,
    };
    let failed = |source| AuditError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut chain: Option<Chain> = None;
    let mut number = 0;
    let verified = loop {
        let mut text = String::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        if file.by_ref().take(limit).read_line(&mut text).map_err(failed)? == 0 {
            break match chain {
                // The file is all there is: its last record is the newest that it can tell of.
                Some(chain) => chain_end(chain),
                None => Err(AuditError::NoRecords { path: path.to_owned() }.into()),
            };
        }
        number += 1;
        let wrong = |source| AuditError::Line { path: path.to_owned(), line: number, source };
        let one = record(&text).map_err(wrong)?;
        let chain = chain.get_or_insert_with(|| {
            // Where the file begins is its own claim; the signature makes it the vault's.
            Chain::from(key, one.body().map_or(0, |body| body.number)).through(known)
        });
        match chain.accept(&one) {
            Ok(verified) => shown.show(&one, verified.body())?,
            Err(broken) => break Err(AuditError::from(broken).into()),
        }
    };
    shown.end(verified)
}

fn chain_end(chain: Chain) -> Result<Option<Head>, Failure> {
    let last = chain.last();
    Ok(chain.end(last).map_err(AuditError::from)?)
}

/// What is printed and exported on the way.
struct Shown<'a> {
    invocation: &'a Invocation,
    look: Look,
    from: u64,
    export: Option<Reserved>,
    /// Whether anything came that was worth keeping.
    exported: bool,
    records: Vec<Value>,
}

impl Reader for Shown<'_> {
    fn keep(&mut self, record: &Record) -> Result<(), Failure> {
        if let Some(file) = &mut self.export {
            file.write(line(record).map_err(|source| Failure::Json { source })?.as_bytes())?;
            self.exported = true;
        }
        Ok(())
    }

    fn show(&mut self, record: &Record, body: &Body) -> Result<(), Failure> {
        if body.number < self.from || !self.look.filter.shows(body)? {
            return Ok(());
        }
        let output = self.invocation.output;
        if !self.look.json_lines && !output.is_json() {
            return output.print(&sentence(body)?);
        }
        let entry = Entry::of(record, body, kinds(&body.event)?.join(" "));
        let entry = serde_json::to_value(entry).map_err(|source| Failure::Json { source })?;
        if self.look.json_lines {
            return output.print(&entry.to_string());
        }
        self.records.push(entry);
        Ok(())
    }
}

impl<'a> Shown<'a> {
    fn new(invocation: &'a Invocation, look: Look, from: u64, export: Option<Reserved>) -> Self {
        Self { invocation, look, from, export, exported: false, records: Vec::new() }
    }

    /// The last word: verified or not, and the newest record.
    fn end(self, verified: Result<Option<Head>, Failure>) -> Result<(), Failure> {
        if let Some(file) = self.export.filter(|_| self.exported || verified.is_ok()) {
            let path = file.settle()?;
            note(&format!("exported into {}", path.display()));
        }
        let head = match &verified {
            Ok(head) => *head,
            // Without an audit at all there is nothing to say about it.
            Err(Failure::Audit(AuditError::Broken(_) | AuditError::Line { .. })) => None,
            Err(_) => return verified.map(drop),
        };
        let mut document = json!({
            "verified": verified.is_ok(),
            "problem": verified.as_ref().err().map(Failure::told),
            "head": head.map(|head| head.to_string()),
        });
        if self.look.json_lines {
            self.invocation.output.print(&document.to_string())?;
            return verified.map(drop);
        }
        if let Some(document) = document.as_object_mut() {
            document.insert("records".to_owned(), Value::Array(self.records));
        }
        self.invocation.output.show(&document, || match (verified.is_ok(), head) {
            (true, Some(head)) => format!("verified; the newest record is {head}\n"),
            (true, None) => "verified; there are no records yet\n".to_owned(),
            (false, _) => String::new(),
        })?;
        verified.map(drop)
    }
}

/// A record on one line: number, time, event, and what it is about.
fn sentence(body: &Body) -> Result<String, Failure> {
    let (name, about) = words(&body.event)?;
    let mut line = format!("{:>8}  {}  {name}  {about}", body.number, moment_from_millis(body.at));
    for danger in &body.dangers {
        line.push_str(&format!("  !{danger}"));
    }
    Ok(visible(line.trim_end()))
}

/// An event's name, and its fields as `name=value`.
fn words(event: &Event) -> Result<(String, String), Failure> {
    let mut names = kinds(event)?;
    let mut value = serde_json::to_value(event).map_err(|source| Failure::Json { source })?;
    for name in &names {
        value = value.get_mut(name).map_or(Value::Null, Value::take);
    }
    if let (Event::Alarm(_), Some(alarm)) = (event, names.first_mut()) {
        alarm.make_ascii_uppercase();
    }
    let mut fields = Vec::new();
    flatten("", &value, &mut fields);
    Ok((names.join(" "), fields.join(" ")))
}

fn flatten(prefix: &str, value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, inner, into);
            }
        }
        Value::Null => {}
        Value::String(text) if !text.contains([' ', '"', '=']) && !text.is_empty() => {
            into.push(format!("{prefix}={text}"));
        }
        other => into.push(format!("{prefix}={other}")),
    }
}

/// Between two looks at what is new.
const POLL: Duration = Duration::from_secs(1);
/// Between two attempts to reach a vault that is away, at most.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::audit::{Alarm, Sight};
    use blindferry_proto::bounded::Text;
    use blindferry_proto::identifier::{Digest, GrantId};

    #[test]
    fn an_event_is_one_line_that_says_what_and_about_whom() {
        let event = Event::Fetched { credential: "key".parse().unwrap(), version: 3, sight: Sight::Opaque };
        let body = Body { number: 7, at: 0, before: Digest([0; 32]), dangers: Vec::new(), event };
        assert_eq!(
            sentence(&body).unwrap(),
            "       7  1970-01-01T00:00:00.000Z  fetched  credential=key version=3 sight=opaque"
        );
    }

    #[test]
    fn an_alarm_stands_out_and_nothing_in_it_steers_the_terminal() {
        let alarm = Alarm::GrantAstray { grant: GrantId([1; 16]), host: "h".parse().unwrap() };
        let (name, about) = words(&Event::Alarm(alarm)).unwrap();
        assert_eq!(name, "ALARM grant-astray");
        assert!(about.contains("host=h"), "{about}");
        let tampered = Event::Alarm(Alarm::StoreTampered { detail: Text::cut("\u{1b}[2J\nforged line") });
        let body = Body { number: 0, at: 0, before: Digest([0; 32]), dangers: Vec::new(), event: tampered };
        let line = sentence(&body).unwrap();
        assert!(!line.contains(['\u{1b}', '\n']), "{line}");
    }
}
