//! Which records are shown. All are fetched and verified: a filter hides, and never keeps anybody from noticing.

use crate::failure::Failure;
use blindferry_proto::audit::{Body, Event};
use blindferry_proto::identifier::{GrantId, SessionId};
use blindferry_proto::name::{CredentialName, HostName};
use clap::Args;
use serde_json::Value;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a record must be to be shown; without any of these, all are.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filter {
    /// Not before: 2026-01-31T08:00:00Z, or 15m, 2h, 7d ago
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Not after
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// About this host
    #[arg(long, value_name = "NAME")]
    host: Option<HostName>,
    /// About this credential
    #[arg(long, value_name = "NAME")]
    credential: Option<CredentialName>,
    /// Of this kind, such as redeemed, denied, alarm, grant-contested; may be given several times
    #[arg(long, value_name = "KIND")]
    event: Vec<String>,
    /// With this code of a refusal, such as approval-required or pcr-value
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// About this session
    #[arg(long, value_name = "HEX")]
    session: Option<SessionId>,
    /// About this grant
    #[arg(long, value_name = "HEX")]
    grant: Option<GrantId>,
}

impl Filter {
    /// Whether a record is shown.
    ///
    /// # Errors
    /// [`Failure::Json`].
    pub(crate) fn shows(&self, body: &Body) -> Result<bool, Failure> {
        let after = self.since.is_none_or(|since| body.at >= since.millis());
        let before = self.until.is_none_or(|until| body.at <= until.millis());
        if !(after && before) {
            return Ok(false);
        }
        let kinds = kinds(&body.event)?;
        if !self.event.is_empty() && !self.event.iter().any(|wanted| kinds.contains(wanted)) {
            return Ok(false);
        }
        let mut fields = Vec::new();
        collect(&serde_json::to_value(&body.event).map_err(|source| Failure::Json { source })?, &mut fields);
        let has = |names: &[&str], wanted: Option<String>| {
            wanted.is_none_or(|wanted| {
                fields.iter().any(|(name, value)| names.contains(&name.as_str()) && *value == wanted)
            })
        };
        Ok(has(&["host", "by"], self.host.as_ref().map(ToString::to_string))
            && has(&["credential"], self.credential.as_ref().map(ToString::to_string))
            && has(&["code"], self.code.clone())
            && has(&["session"], self.session.map(|session| session.to_string()))
            && has(&["grant"], self.grant.map(|grant| grant.to_string())))
    }
}

/// What an event is called; of an alarm, `alarm` and its kind.
///
/// # Errors
/// [`Failure::Json`].
pub(crate) fn kinds(event: &Event) -> Result<Vec<String>, Failure> {
    let mut value = serde_json::to_value(event).map_err(|source| Failure::Json { source })?;
    let depth = if matches!(event, Event::Alarm(_)) { 2 } else { 1 };
    let mut names = Vec::new();
    while names.len() < depth {
        let Value::Object(object) = value else { break };
        let Some((name, inner)) = object.into_iter().next() else { break };
        names.push(name);
        value = inner;
    }
    Ok(names)
}

/// Every text in an event with its key.
fn collect(value: &Value, into: &mut Vec<(String, String)>) {
    let Value::Object(object) = value else { return };
    for (key, inner) in object {
        match inner {
            Value::String(text) => into.push((key.clone(), text.clone())),
            other => collect(other, into),
        }
    }
}

/// A moment, absolute or before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment(u64);

impl Moment {
    fn millis(self) -> u64 {
        self.0
    }

    fn parse(text: &str, now: u64) -> Option<Self> {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(3_600),
            "d" => Some(86_400),
            _ => None,
        };
        if let Some((seconds, number)) = unit.zip(number.parse::<u64>().ok()) {
            let before = number.checked_mul(seconds)?.checked_mul(1_000)?;
            return Some(Self(now.saturating_sub(before)));
        }
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }
}

impl FromStr for Moment {
    type Err = BadMoment;
    fn from_str(text: &str) -> Result<Self, BadMoment> {
        #[expect(clippy::disallowed_methods, reason = "the command line is where a time before now becomes a moment")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| BadMoment)?;
        Self::parse(text, u64::try_from(now.as_millis()).map_err(|_| BadMoment)?).ok_or(BadMoment)
    }
}

/// A text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: expected one such as 2026-01-31T08:00:00Z, or 15m, 2h, 7d for so long ago")]
struct BadMoment;

#[cfg(test)]
mod tests {
    use super::*;
    use blindferry_proto::audit::Alarm;
    use blindferry_proto::bounded::Text;
    use blindferry_proto::identifier::Digest;
    use blindferry_proto::refusal::RefusalCode;
    use blindferry_proto::role::Role;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn records() -> Vec<Body> {
        let host = || "web-1".parse().unwrap();
        let events = [
            Event::SessionOpened { session: SessionId([1; 16]), role: Role::Broker, host: host() },
            Event::Denied {
                credential: "deploy".parse().unwrap(),
                host: host(),
                code: RefusalCode::ApprovalRequired,
                detail: Text::cut(""),
            },
            Event::NotAttested {
                host: "web-2".parse().unwrap(),
                role: Role::Broker,
                code: Text::cut("pcr-value"),
                detail: Text::cut(""),
            },
            Event::Alarm(Alarm::GrantAstray { grant: GrantId([2; 16]), host: "web-3".parse().unwrap() }),
        ];
        let body =
            |(number, event)| Body { number, at: 1_000 * number, before: Digest([0; 32]), dangers: Vec::new(), event };
        (0..).zip(events).map(body).collect()
    }

    fn shown(words: &[&str]) -> Vec<u64> {
        let filter =
            Line::try_parse_from([&["audit"], words].concat()).unwrap_or_else(|error| panic!("{error}")).filter;
        let records = records().into_iter().filter(|body| filter.shows(body).unwrap());
        records.map(|body| body.number).collect()
    }

    #[test]
    fn each_filter_shows_what_it_names_and_hides_the_rest() {
        assert_eq!(shown(&[]), [0, 1, 2, 3], "positive control");
        assert_eq!(shown(&["--host", "web-1"]), [0, 1]);
        assert_eq!(shown(&["--credential", "deploy"]), [1]);
        assert_eq!(shown(&["--event", "denied"]), [1]);
        assert_eq!(shown(&["--event", "alarm"]), [3]);
        assert_eq!(shown(&["--event", "grant-astray", "--event", "not-attested"]), [2, 3]);
        assert_eq!(shown(&["--code", "approval-required"]), [1]);
        assert_eq!(shown(&["--code", "pcr-value"]), [2]);
        assert_eq!(shown(&["--session", &SessionId([1; 16]).to_string()]), [0]);
        assert_eq!(shown(&["--grant", &GrantId([2; 16]).to_string()]), [3]);
        assert_eq!(shown(&["--since", "1970-01-01T00:00:01Z", "--until", "1970-01-01T00:00:02Z"]), [1, 2]);
        assert_eq!(shown(&["--since", "1h"]), [0; 0]);
        assert_eq!(shown(&["--host", "web-1", "--event", "denied"]), [1], "all must hold");
    }

    #[test]
    fn moments_are_absolute_or_ago() {
        assert_eq!(Moment::parse("1970-01-01T00:00:01.5Z", 0), Some(Moment(1_500)));
        assert_eq!(Moment::parse("2h", 7_200_001), Some(Moment(1)));
        for bad in ["", "h", "2", "-2h", "2w", "yesterday", "é", "18446744073709551615d"] {
            assert_eq!(Moment::parse(bad, 0), None, "{bad}");
        }
    }
}
