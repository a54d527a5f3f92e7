//! Those who wait for a person's approval: the command, and a parent.

use crate::command::blindferry;
use crate::fleet::Fleet;
use blindferry_parent::{Ask, GrantHandle, Parent, ParentError};
use blindferry_proto::identifier::Digest;
use blindferry_proto::waiting::{Waiting, WaitingAsk, Words};
use ring::digest::{SHA256, digest};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc;
use std::thread::{JoinHandle, spawn};

/// `blindferry run` of a program that says its token.
#[derive(Debug)]
pub struct Run {
    /// The process.
    pub child: Child,
    errors: BufReader<ChildStderr>,
    complained: String,
}

impl Run {
    /// Starts it as [`USER`](crate::account::USER), on the worker host.
    #[must_use]
    pub fn start(fleet: &Fleet, credential: &str, options: &[&str]) -> Self {
        let mut command = blindferry(fleet);
        command.args(["run", "--credential", credential, "--deliver", "env:TOKEN"]).args(options);
        command.args(["--", "sh", "-c", "printf %s \"$TOKEN\""]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        Self { child, errors, complained: String::new() }
    }

    /// The ask that it says it waits for.
    pub fn waits(&mut self) -> String {
        loop {
            let before = self.complained.len();
            assert!(self.errors.read_line(&mut self.complained).unwrap() > 0, "never waited: {}", self.complained);
            if let Some((_, ask)) = self.complained[before..].split_once("`blindferry approve ") {
                return ask.trim_end().trim_end_matches('`').to_owned();
            }
        }
    }

    /// How it ends, and what its program said.
    pub fn ends(&mut self) -> (i32, String) {
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.errors.read_to_string(&mut self.complained).unwrap();
        (self.child.wait().unwrap().code().unwrap(), said)
    }

    /// What it said on standard error, once it has ended.
    #[must_use]
    pub fn complaint(&self) -> &str {
        &self.complained
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A parent that waits; what becomes of it.
pub type Waiter = JoinHandle<Result<GrantHandle, ParentError>>;

/// A parent that waits, in a thread of its own.
#[must_use]
pub fn wait(fleet: &Fleet, credential: &str) -> (Waiting, Waiter) {
    let (path, ask) = (fleet.host.parents(), Ask::for_credential(credential.parse().unwrap()));
    let (tell, told) = mpsc::channel();
    let waiter = spawn(move || {
        let mut parent = Parent::connect(&path).unwrap();
        parent.ask_and_wait(&ask, &Words::default(), |waiting| tell.send(*waiting).unwrap())
    });
    (told.recv().unwrap(), waiter)
}

/// What a decision about this has to name.
#[must_use]
pub fn hash(shown: &WaitingAsk) -> Digest {
    Digest(digest(&SHA256, &shown.digest_input().unwrap()).as_ref().try_into().unwrap())
}
