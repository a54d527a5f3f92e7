//! The question before something that cannot be undone.

use crate::failure::Failure;
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// Asks on the terminal, and goes on when the answer is `yes`; or when `already` says so.
///
/// # Errors
/// [`Failure::NotConfirmed`] when it is not, or when nobody can be asked.
pub(crate) fn confirm(what: &str, already: bool) -> Result<(), Failure> {
    if already {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::NotConfirmed);
    }
    let mut terminal = io::stderr().lock();
    let asked = write!(terminal, "{what}\nType yes to go on: ").and_then(|()| terminal.flush());
    asked.map_err(|_| Failure::NotConfirmed)?;
    let mut answer = String::new();
    let read = io::stdin().lock().take(64).read_line(&mut answer);
    match read {
        Ok(_) if answer.trim_end() == "yes" => Ok(()),
        _ => Err(Failure::NotConfirmed),
    }
}
