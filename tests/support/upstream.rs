//! A running `blindferry-upstream`: the service that the tokens are for.

use crate::process::Running;
use crate::program::ours;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// It demands a bearer token.
#[derive(Debug)]
pub struct Upstream {
    /// The process.
    pub running: Running,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Upstream {
    /// One that wants exactly this token.
    #[must_use]
    pub fn for_token(token: &str, directory: &Path) -> Self {
        Self::start(Command::new(ours("blindferry-upstream")), Some(token), directory)
    }

    /// One that wants a JWT of this issuer, for this audience, by the keys that are published at `jwks`
    /// (`host:port/path`).
    #[must_use]
    pub fn for_jwt(issuer: &str, audience: &str, jwks: &str, directory: &Path) -> Self {
        let mut command = Command::new(ours("blindferry-upstream"));
        command.args(["--issuer", issuer, "--audience", audience, "--jwks", jwks]);
        Self::start(command, None, directory)
    }

    fn start(mut command: Command, token: Option<&str>, directory: &Path) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command, &directory.join("upstream.log"));
        let mut input = running.child().stdin.take().unwrap();
        if let Some(token) = token {
            writeln!(input, "{token}").unwrap();
        }
        drop(input);
        let mut line = String::new();
        BufReader::new(running.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").and_then(|address| address.parse().ok());
        Self { address: address.unwrap_or_else(|| panic!("upstream: {line:?} {}", running.log())), running }
    }
}
