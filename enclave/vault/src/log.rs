//! The vault's lines of the log: to standard error, which it shares with the front and which does not lead through it.
//!
//! The vault has no file to write to, and a front in other hands shall not be able to keep an alarm to itself. Where
//! systemd's journal reads standard error, a line begins with its priority.

use blindferry_watch::line::{Form, Level, Line};
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

static FORM: OnceLock<Form> = OnceLock::new();

/// Writes all further lines in this form. The first who says so decides.
pub fn write_as(form: Form) {
    let _decided = FORM.set(form);
}

/// What should never happen in an honest fleet.
pub fn alarm(message: &str) {
    say(Level::Alarm, "alarm", message, &[]);
}

/// Something failed.
pub fn error(event: &'static str, message: &str, fields: &[(&str, String)]) {
    say(Level::Error, event, message, fields);
}

/// It goes on, with less.
pub fn warning(event: &'static str, message: &str) {
    say(Level::Warning, event, message, &[]);
}

/// The ordinary course of things.
pub fn info(event: &'static str, message: &str, fields: &[(&str, String)]) {
    say(Level::Info, event, message, fields);
}

fn say(level: Level, event: &'static str, message: &str, fields: &[(&str, String)]) {
    let form = FORM.get().copied().unwrap_or_default();
    let line = Line { level, process: "blindferry-vault", event, message, fields };
    // A log that is full or gone ends nobody's work.
    let _unheard = std::io::stderr().write_all(line.written(form, now()).as_bytes());
}

#[expect(clippy::disallowed_methods, reason = "dates a line of the log; nothing is decided by it")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
