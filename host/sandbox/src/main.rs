//! `blindferry-sandbox`: runs a program that is trusted with nothing.
//!
//! ```text
//!   outside    in the caller's session: its terminal, its signals, its end. Sees the caller's files
//!   threshold  in a user, mount and IPC namespace of its own: lays out a root, then only waits
//!   first      process 1 in there, without capabilities: starts the program, buries what loses its parent
//!   inside     becomes the program: in a Landlock domain and under a seccomp filter, from before its first instruction
//! ```
//!
//! Without namespaces `beside` stands for the second and third, and `fenced` for the last. All are this executable; a
//! stage starts the next with the same words. It holds no secret and gets a stripped environment from whoever starts it.
//! Whichever of them is killed, those behind it end: by PR_SET_PDEATHSIG, and since a PID namespace ends with its first.

use crate::arguments::{Arguments, Stage};
use crate::failure::Failure;
use crate::first::Where;
use blindferry_handle::inherit::take_inherited;
use blindferry_terminal::{FromKeeper, Link};
use clap::Parser;
use std::process::ExitCode;

mod arguments;
mod calls;
mod failure;
mod fence;
mod first;
mod layout;
mod loopback;
mod outside;
mod program;
mod search;
mod secrets;
mod surroundings;
mod threshold;
mod view;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.stage {
        None => outside::run(&arguments),
        Some(Stage::Inside) => program::run(&arguments, Where::Inside).map(|never| match never {}),
        Some(Stage::Fenced) => program::run(&arguments, Where::Beside).map(|never| match never {}),
        Some(stage) => between(&arguments, stage),
    };
    ended.unwrap_or_else(|failure| {
        note(&failure.told());
        failure.exit()
    })
}

/// A stage with a link to the caller's session, where what goes wrong is told.
fn between(arguments: &Arguments, stage: Stage) -> Result<ExitCode, Failure> {
    let mut link = Some(Link::from_fd(take_inherited(arguments.link)?)?);
    let ended = match (stage, &link) {
        (Stage::Threshold, _) => threshold::run(arguments, &mut link),
        (Stage::First, Some(link)) => first::run(arguments, link, Where::Inside),
        (_, Some(link)) => first::run(arguments, link, Where::Beside),
        (_, None) => Ok(()),
    };
    match (ended, link) {
        (Ok(()), _) => Ok(ExitCode::SUCCESS),
        (Err(failure), Some(link)) => {
            // Where nobody is left to hear it, nobody wants to know.
            let _told = link.report(&FromKeeper::Unfit(failure.told()));
            Ok(failure.exit())
        }
        (Err(failure), None) => Err(failure),
    }
}

/// One line for whoever started us.
fn note(text: &str) {
    eprintln!("blindferry-sandbox: {text}");
}
