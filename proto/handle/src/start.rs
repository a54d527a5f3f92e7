//! The words and the environment that this process was started with, out of sight of other processes.
//!
//! Every user reads `/proc/PID/cmdline`; processes of the same user read `/proc/PID/environ`. Both are windows on the
//! memory where the kernel put the strings at exec, and show what lies there now. Removing a variable leaves it lying;
//! overwriting it in place does not. Nothing helps against who looked before: a process that was executed from an
//! unreadable image ([`crate::image`]) has no such moment.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use thiserror::Error;

use crate::secret::{SecretBytes, SecretError};

/// What this process was started with, elsewhere now.
#[expect(missing_debug_implementations, reason = "arguments may be secrets")]
pub struct Start {
    arguments: Vec<OsString>,
    secrets: BTreeMap<String, SecretBytes>,
}

/// Why the start could not be wiped.
#[derive(Debug, Error)]
pub enum StartError {
    /// `/proc` is missing or says something else than expected.
    #[error("cannot find out where the start of this process lies in its memory")]
    Status(#[source] io::Error),
    /// Called too late.
    #[error("wiped with {threads} threads, it must be the first thing that a process does")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// No place for a secret.
    #[error("cannot hold the secret in variable {name}")]
    Secret {
        /// The variable.
        name: String,
        /// Why.
        source: SecretError,
    },
}

/// Overwrites this process's arguments, but for its own name, and its environment, where other processes see them. To be
/// called first in `main`, before any other thread exists.
///
/// The variables named in `secrets` move into secret pages, and are in the environment no longer. All others are there as
/// before, from copies elsewhere. [`env::args_os`] has empty words from here on: see [`Start::arguments`].
///
/// # Errors
///
/// [`StartError`]; nothing was overwritten then.
pub fn wipe_start(secrets: &[&str]) -> Result<Start, StartError> {
    let threads = fs::read_dir("/proc/self/task").map_err(StartError::Status)?.count();
    if threads != 1 {
        return Err(StartError::Threads { threads });
    }
    let Lies { arguments: (first, end), environment } = Lies::of_this_process()?;
    let mut start = Start { arguments: env::args_os().collect(), secrets: BTreeMap::new() };
    for (name, value) in env::vars_os() {
        if let Some(secret) = secrets.iter().find(|secret| OsStr::new(secret) == name) {
            start.keep(secret, value)?;
            // SAFETY: this process has one thread, so that nobody reads or changes the environment meanwhile.
            unsafe { env::remove_var(&name) };
        } else {
            // SAFETY: as above. The same value, in a place of its own: the C library copies it.
            unsafe { env::set_var(&name, value) };
        }
    }
    let own_name = start.arguments.first().map_or(0, |name| name.len() + 1);
    wipe(first.saturating_add(own_name).min(end), end);
    wipe(environment.0, environment.1);
    Ok(start)
}

impl Start {
    /// The arguments, the program's own name first: copies in ordinary memory.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// The value of a variable that was named a secret; once.
    pub fn take_secret(&mut self, name: &str) -> Option<SecretBytes> {
        self.secrets.remove(name)
    }

    fn keep(&mut self, name: &str, value: OsString) -> Result<(), StartError> {
        let mut value = value.into_vec();
        if value.is_empty() {
            return Ok(());
        }
        let secret = SecretBytes::copy_and_wipe(&mut value);
        let secret = secret.map_err(|source| StartError::Secret { name: name.to_owned(), source })?;
        self.secrets.insert(name.to_owned(), secret);
        Ok(())
    }
}

/// Where in this process's memory its start lies, from the first byte to the one behind the last.
struct Lies {
    arguments: (usize, usize),
    environment: (usize, usize),
}

impl Lies {
    /// `arg_start`, `arg_end`, `env_start` and `env_end`: fields 48 to 51 of proc_pid_stat(5).
    fn of_this_process() -> Result<Self, StartError> {
        let stat = fs::read_to_string("/proc/self/stat").map_err(StartError::Status)?;
        let odd = || StartError::Status(io::ErrorKind::InvalidData.into());
        // The second field is a name, which may hold anything; the third one follows its last parenthesis.
        let (_, fields) = stat.rsplit_once(')').ok_or_else(odd)?;
        let numbers: Option<Vec<usize>> =
            fields.split_ascii_whitespace().skip(48 - 3).take(4).map(|field| field.parse().ok()).collect();
        let numbers: [usize; 4] = numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(odd)?;
        let [arguments, arguments_end, environment, environment_end] = numbers;
        let in_order = 0 < arguments && arguments <= arguments_end && environment <= environment_end;
        if !in_order || environment == 0 || environment_end - arguments > MOST {
            return Err(odd());
        }
        Ok(Self { arguments: (arguments, arguments_end), environment: (environment, environment_end) })
    }
}

fn wipe(from: usize, end: usize) {
    for address in from..end {
        // SAFETY: the kernel put the strings of execve(2) there, on the stack of the first thread above all that the
        // program uses of it, and says so itself; they stay mapped and writable while the process lives. Rust holds no
        // reference into them: its standard library reads them by pointer, one copy at a time, and there is no other
        // thread that could do so now. Who keeps a pointer finds zeros, which end a string.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(0) };
    }
}

/// The kernel takes no more of arguments and environment together, in bytes (three quarters of `_STK_LIM`, fs/exec.c).
const MOST: usize = 6 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_where_the_kernel_says() {
        let Lies { arguments: (first, end), environment } = Lies::of_this_process().unwrap();
        let words: usize = env::args_os().map(|word| word.len() + 1).sum();
        assert_eq!(end - first, words);
        assert!(end <= environment.0 && environment.0 < environment.1);
    }

    #[test]
    fn with_a_second_thread_nothing_is_wiped() {
        assert!(matches!(wipe_start(&[]), Err(StartError::Threads { .. })));
        assert!(env::var_os("PATH").is_some());
    }
}
