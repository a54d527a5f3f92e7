//! `blindferry-starter`: starts a launcher for a caller, out of reach of the caller's other processes.
//!
//! ```text
//!   caller, `blindferry run --via broker`         any process of any user
//!        │ starter.sock: words, environment, directory, streams, grants, link
//!        ▼
//!   blindferry-starter   holds: CAP_SETUID, CAP_SETGID, CAP_SETFCAP, CAP_KILL; no secret: grants are opaque to it
//!                        talks to: callers alone; has no code for a network
//!                        gave up: being read by others, new privileges, core files
//!        │ execve of itself (the stage): a user namespace of the starter's, the caller's user and groups, no capability
//!        ▼
//!   keeper               holds: nothing that the caller has not; leads the program's session
//!        │ fork and execve           talks to: the caller, over the link: signals in, stops and the end out
//!        ▼
//!   blindferry-launch, and what it becomes
//! ```
//!
//! It has no filter of system calls and no Landlock domain: a program inherits both, and would not run as elsewhere.

use crate::listen::{Listen, listen};
use blindferry_handle::entry::{Entry, enter};
use blindferry_proto::causes::with_causes;
use blindferry_watch::line::{Form, Level, Line};
use clap::Parser;
use std::convert::Infallible;
use std::error::Error;
use std::ffi::OsStr;
use std::io::Write;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

mod attend;
mod caller;
mod keeper;
mod limits;
mod listen;
mod order;
mod request;
mod stage;
mod start;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(order::STAGE)) {
        return stage::obey().map_or_else(|failure| report(&failure), |()| ExitCode::SUCCESS);
    }
    match enter(&Entry::new()) {
        Ok(entered) => {
            entered.warning().into_iter().for_each(|warning| log(Level::Warning, "less-confined", warning));
        }
        Err(error) => return report(&error),
    }
    match Listen::try_parse() {
        Ok(arguments) => {
            let Err::<Infallible, _>(error) = listen(&arguments);
            report(&error)
        }
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _printed = error.print();
            ExitCode::from(u8::from(error.use_stderr()) * 2)
        }
    }
}

fn report(error: &dyn Error) -> ExitCode {
    log(Level::Error, "ended", &with_causes(error));
    ExitCode::FAILURE
}

/// One line for the service's log: to standard error, without a library that would do more, since this process has powers.
/// `BLINDFERRY_LOG_FORM` says how it is written.
fn log(level: Level, event: &'static str, message: &str) {
    static FORM: LazyLock<Form> = LazyLock::new(|| {
        let chosen = std::env::var("BLINDFERRY_LOG_FORM").ok().and_then(|form| form.parse().ok());
        chosen.unwrap_or_default()
    });
    #[expect(clippy::disallowed_methods, reason = "dates a line of the log; nothing is decided by it")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let line = Line { level, process: "blindferry-starter", event, message, fields: &[] };
    // A log that is full or gone must not end a program.
    let _written = std::io::stderr().write_all(line.written(*FORM, at).as_bytes());
}
