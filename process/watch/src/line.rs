//! One line of the log: level, process, event, message and fields, written as text for people, as JSON, or for the
//! journal's standard-error stream.
//!
//! What a field holds may come from outside, so it can neither end its line nor look like another field, and is cut at
//! [`MAX_VALUE`] bytes.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use time::OffsetDateTime;

/// Bytes of one value or message; longer ones are cut, and end with `…`.
pub const MAX_VALUE: usize = 2048;

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault of ours.
    Debug,
    /// The ordinary course of things.
    Info,
    /// It goes on, with less.
    Warning,
    /// Something failed.
    Error,
    /// Somebody is attacking, or a store was tampered with: page somebody.
    Alarm,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// For a journal that reads standard error: text without a time, after a priority in brackets (sd-daemon(3)).
    Journal,
}

/// A line, before it is written.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// How loud.
    pub level: Level,
    /// Which executable says it.
    pub process: &'a str,
    /// What happened, by its documented name.
    pub event: &'a str,
    /// The same, for people.
    pub message: &'a str,
    /// With what. Names are `[a-z_]+` and none of those of [`OWN_FIELDS`].
    pub fields: &'a [(&'a str, String)],
}

/// What every JSON object has, and no field may be called.
pub const OWN_FIELDS: [&str; 5] = ["time", "level", "process", "event", "message"];

impl Level {
    /// Its name in text and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARN",
            Self::Error => "ERROR",
            Self::Alarm => "ALARM",
        }
    }

    /// Its priority in the journal: 1, alert, to 7, debug (syslog(3)).
    #[must_use]
    pub fn priority(self) -> u8 {
        match self {
            Self::Alarm => 1,
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

impl Line<'_> {
    /// The line with its end. `at` is in milliseconds since 1970.
    #[must_use]
    pub fn written(&self, form: Form, at: u64) -> String {
        match form {
            Form::Text => format!("{} {}", moment(at), self.said()),
            Form::Json => self.json(at),
            Form::Journal => format!("<{}>{}", self.level.priority(), self.said()),
        }
    }

    /// `LEVEL process: message name=value … [event]`, and the line's end. An alarm says so behind its process too, where
    /// people have learnt to look for it.
    fn said(&self) -> String {
        let alarm = if self.level == Level::Alarm { "ALARM: " } else { "" };
        let mut text = format!("{:<5} {}: {alarm}", self.level.name(), self.process);
        push_plain(&mut text, self.message);
        for (name, value) in self.fields {
            let _infallible = write!(text, " {name}=");
            push_value(&mut text, value);
        }
        let _infallible = writeln!(text, " [{}]", self.event);
        text
    }

    fn json(&self, at: u64) -> String {
        let mut object = serde_json::Map::new();
        let own = [moment(at), self.level.name().to_owned(), self.process.to_owned(), self.event.to_owned()];
        for (name, value) in OWN_FIELDS.into_iter().zip(own.into_iter().chain([cut(self.message)])) {
            object.insert(name.to_owned(), value.into());
        }
        for (name, value) in self.fields {
            // A field cannot pass for one of ours.
            object.entry((*name).to_owned()).or_insert_with(|| cut(value).into());
        }
        let mut text = String::new();
        // JSON allows control characters above 1F as they are; terminals obey them. They are within strings alone.
        for c in serde_json::Value::Object(object).to_string().chars() {
            match c {
                c if c.is_control() => drop(write!(text, "\\u{:04x}", u32::from(c))),
                c => text.push(c),
            }
        }
        text.push('\n');
        text
    }
}

/// A moment by RFC 3339, in UTC, to the millisecond; one after the year 9999 is the first of 1970.
#[must_use]
pub fn moment(at: u64) -> String {
    let seconds = i64::try_from(at / 1000).unwrap_or(0);
    let then = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, time) = (then.date(), then.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", at % 1000)
}

/// At most [`MAX_VALUE`] bytes of it, with a sign where something is missing.
#[must_use]
pub fn cut(text: &str) -> String {
    if text.len() <= MAX_VALUE {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_VALUE);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Text in which nothing ends the line or moves a terminal's cursor.
fn push_plain(line: &mut String, text: &str) {
    for c in cut(text).chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

/// A value: bare where it cannot be mistaken, in quotes otherwise.
fn push_value(line: &mut String, value: &str) {
    let is_bare = |c: char| c.is_alphanumeric() || "-_.:/,+%".contains(c);
    if !value.is_empty() && value.len() <= MAX_VALUE && value.chars().all(is_bare) {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in cut(value).chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line.push('"');
}

impl Form {
    /// Its name, as it is chosen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journal => "journal",
        }
    }
}

/// A text is no form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoForm;

impl fmt::Display for NoForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the log is written as text, json or journal")
    }
}

impl std::error::Error for NoForm {}

impl FromStr for Form {
    type Err = NoForm;
    fn from_str(text: &str) -> Result<Self, NoForm> {
        [Self::Text, Self::Json, Self::Journal].into_iter().find(|form| form.name() == text).ok_or(NoForm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line<'a>(message: &'a str, fields: &'a [(&'a str, String)]) -> Line<'a> {
        Line { level: Level::Warning, process: "blindferryd", event: "session-over", message, fields }
    }

    /// 2026-11-21T22:30:05.007Z.
    const THEN: u64 = 1_795_300_205_007;

    #[test]
    fn a_line_says_the_same_in_each_form() {
        let fields = [("reason", "the vault is gone".to_owned()), ("count", "3".to_owned())];
        let line = line("session is over", &fields);
        let said = "WARN  blindferryd: session is over reason=\"the vault is gone\" count=3 [session-over]\n";
        assert_eq!(line.written(Form::Text, THEN), format!("2026-11-21T22:30:05.007Z {said}"));
        assert_eq!(line.written(Form::Journal, THEN), format!("<4>{said}"));
        let json: serde_json::Value = serde_json::from_str(&line.written(Form::Json, THEN)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "time": "2026-11-21T22:30:05.007Z", "level": "WARN", "process": "blindferryd",
                "event": "session-over", "message": "session is over", "reason": "the vault is gone", "count": "3",
            })
        );
    }

    #[test]
    fn a_field_cannot_pass_for_one_of_the_lines_own() {
        let fields = [("event", "alarm".to_owned()), ("level", "ALARM".to_owned())];
        let json: serde_json::Value = serde_json::from_str(&line("m", &fields).written(Form::Json, THEN)).unwrap();
        assert_eq!((json["event"].as_str(), json["level"].as_str()), (Some("session-over"), Some("WARN")));
    }

    #[test]
    fn an_alarm_is_found_by_its_word_and_is_an_alert_to_the_journal() {
        let alarm = Line { level: Level::Alarm, ..line("grant contested", &[]) };
        assert!(alarm.written(Form::Text, THEN).contains("blindferryd: ALARM: grant contested"));
        assert!(alarm.written(Form::Journal, THEN).starts_with("<1>"));
    }

    #[test]
    fn a_form_is_found_by_its_name_alone() {
        for form in [Form::Text, Form::Json, Form::Journal] {
            assert_eq!(form.name().parse(), Ok(form));
        }
        assert_eq!("xml".parse::<Form>(), Err(NoForm));
    }

    proptest! {
        /// Whatever a peer puts into a field: one line, bounded, and the event last.
        #[test]
        fn nothing_ends_a_line_but_its_end(message in any::<String>(), value in "\\PC*|[\\s\\S]{0,40}|x{3000}") {
            let fields = [("value", value)];
            for form in [Form::Text, Form::Json, Form::Journal] {
                let written = line(&message, &fields).written(form, THEN);
                prop_assert_eq!(written.matches('\n').count(), 1);
                prop_assert!(written.ends_with('\n') && !written.trim_end_matches('\n').contains(char::is_control));
                prop_assert!(written.len() < 16 * MAX_VALUE);
                if form != Form::Json {
                    prop_assert!(written.ends_with(" [session-over]\n"));
                }
            }
        }
    }
}
