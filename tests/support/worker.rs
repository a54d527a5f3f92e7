//! Parents and workers as a test starts them: under a user of their own, with a grant on an inherited descriptor.

use crate::account::USER;
use crate::fleet::Fleet;
use crate::process::Running;
use crate::program::ours;
use blindferry_parent::{Ask, Parent, ParentError};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use command_fds::{CommandFdExt, FdMapping};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

/// The descriptor on which a worker finds its grant.
pub const GRANT_FD: i32 = 3;

/// A running `blindferry-scripted-worker`.
#[derive(Debug)]
pub struct ScriptedWorker {
    /// The process.
    pub running: Running,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl ScriptedWorker {
    /// Starts a worker with a grant; what it says first is what became of its redemption.
    #[must_use]
    pub fn start(fleet: &Fleet, grant: OwnedFd, upstream: SocketAddr) -> Self {
        let mut command = USER.command(&ours("blindferry-scripted-worker"));
        command.args(["--grant-fd", &GRANT_FD.to_string(), "--upstream", &upstream.to_string(), "--workers"]);
        command.arg(fleet.host.workers());
        Self::run(fleet, command, grant)
    }

    /// Starts any command that gets a grant on [`GRANT_FD`] and speaks in lines.
    #[must_use]
    pub fn run(fleet: &Fleet, command: Command, grant: OwnedFd) -> Self {
        // Where it may write its core.
        Self::run_in(&fleet.user_directory(), &log_file(fleet), command, grant)
    }

    /// The same in any directory, with its standard error in the file `log`.
    #[must_use]
    pub fn run_in(directory: &Path, log: &Path, mut command: Command, grant: OwnedFd) -> Self {
        command.current_dir(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.fd_mappings(vec![FdMapping { parent_fd: grant, child_fd: GRANT_FD }]).unwrap();
        let mut running = Running::start(command, log);
        let input = running.child().stdin.take();
        let output = BufReader::new(running.child().stdout.take().unwrap());
        Self { running, input, output }
    }

    /// The next line it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line it says, as JSON.
    pub fn says(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the worker says {line:?}; {}", self.running.log()))
    }

    /// Tells it what to do, and gives its answer.
    pub fn tell(&mut self, order: &str) -> Value {
        self.order(order);
        self.says()
    }

    /// Tells it what to do.
    pub fn order(&mut self, order: &str) {
        assert!(self.try_order(order), "the worker has ended");
    }

    /// The same, to one that may have ended; whether it could be told.
    pub fn try_order(&mut self, order: &str) -> bool {
        writeln!(self.input.as_mut().unwrap(), "{order}").is_ok()
    }

    /// Lets it end in good order.
    pub fn finish(&mut self) {
        drop(self.input.take());
        self.running.wait();
    }
}

/// Asks the fleet's broker for a grant, from this process: the parent of a test is the test.
///
/// # Errors
/// The refusal.
pub fn ask(fleet: &Fleet, ask: &Ask) -> Result<OwnedFd, Refusal> {
    match Parent::connect(&fleet.host.parents()).unwrap().ask(ask) {
        Ok(grant) => Ok(grant.into_descriptor()),
        Err(ParentError::Refused(refusal)) => Err(refusal),
        Err(other) => Err(Refusal::new(RefusalCode::Internal, &other.to_string())),
    }
}

/// Asks for a grant of this credential, without constraints.
///
/// # Errors
/// As [`ask`].
pub fn ask_for(fleet: &Fleet, credential: &str) -> Result<OwnedFd, Refusal> {
    ask(fleet, &Ask::for_credential(credential.parse().unwrap()))
}

/// The token of a credential, as a program gets it from the launcher.
#[must_use]
pub fn released(fleet: &Fleet, credential: &str) -> String {
    let mut command = USER.command(&ours("blindferry-launch"));
    command.args(["--grant-fd", &GRANT_FD.to_string(), "--credential-name", credential, "--deliver", "stdin"]);
    command.arg("--workers").arg(fleet.host.workers()).args(["--", "sh", "-c", "cat; echo"]);
    let mut worker = ScriptedWorker::run(fleet, command, ask_for(fleet, credential).unwrap());
    let line = worker.line();
    worker.finish();
    line
}

/// Where parents and workers log.
#[must_use]
pub fn log_file(fleet: &Fleet) -> std::path::PathBuf {
    fleet.user_directory().join("user.log")
}
