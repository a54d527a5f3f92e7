//! What `tracing` says, as lines of the log: to standard error, or to systemd's journal with fields.
//!
//! An event's name (`info!(name: "listening", …)`) is what the documentation calls it. Everything that is needed is opened
//! by [`start`], before a process gives up its powers: the socket to the journal stays connected, and no path is used again.

mod journal;
mod lines;

pub use journal::Journal;
pub use lines::Lines;

use blindferry_watch::line::Form;
use std::env;
use std::io;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// Which lines are written, such as `info` or `blindferry_broker=debug,warn`.
pub const LEVEL: &str = "BLINDFERRY_LOG";
/// How: `text`, `json` or `journal`. By default `journal` where systemd gave us its journal as standard error, else `text`.
pub const FORM: &str = "BLINDFERRY_LOG_FORM";

/// Writes this process's events from now on. Returns the form, for the processes that it starts.
#[must_use]
pub fn start(process: &'static str) -> Form {
    let (form, journal) = chosen();
    let filter = EnvFilter::try_from_env(LEVEL).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = match journal {
        Some(journal) => Lines::to_journal(process, journal),
        None => Lines::to(process, form, io::stderr()),
    };
    // A second subscriber is the only thing that fails here, and the first one serves as well.
    let _first_serves = Registry::default().with(filter).with(lines).try_init();
    form
}

fn chosen() -> (Form, Option<Journal>) {
    match env::var(FORM).ok().and_then(|form| form.parse().ok()) {
        Some(Form::Journal) => (Form::Journal, Journal::open()),
        Some(form) => (form, None),
        None if journal::is_standard_error(env::var("JOURNAL_STREAM").ok().as_deref()) => {
            (Form::Journal, Journal::open())
        }
        None => (Form::Text, None),
    }
}
