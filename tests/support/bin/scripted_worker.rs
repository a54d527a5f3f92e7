//! `blindferry-scripted-worker`: a worker that does what its standard input says, for tests and for the quickstart.

#![expect(clippy::unwrap_used, reason = "a test's program ends where it cannot go on")]

use blindferry_handle::entry::{Entry, enter};
use blindferry_worker::{Leased, Token, Worker, WorkerError, receive, workers_socket};
use clap::Parser;
use serde_json::{Value, json};
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// Redeems a grant, calls an upstream with the token, and obeys.
///
/// It prints one JSON object a line: first what became of the redemption and of the first call, then an answer to each
/// line of standard input: `call` (the upstream again), `renew`, `end` (gives the lease back), `wait` (until the lease
/// ends). At the end of the input it ends, and the lease with it. Exit status 1: no token.
#[derive(Debug, Parser)]
#[command(name = "blindferry-scripted-worker")]
struct Arguments {
    /// The inherited descriptor that holds the grant
    #[arg(long)]
    grant_fd: i32,
    /// The broker's socket for workers [default: $BLINDFERRY_WORKERS, else /run/blindferry/workers.sock]
    #[arg(long)]
    workers: Option<PathBuf>,
    /// Where the upstream is, over plain HTTP; without it nothing is called
    #[arg(long)]
    upstream: Option<SocketAddr>,
    /// Wait for a line before redeeming
    #[arg(long)]
    wait: bool,
}

fn main() {
    // First of all: nobody shall be able to look into a process that will hold a token.
    enter(&Entry::new()).unwrap();
    let arguments = Arguments::parse();
    let mut orders = std::io::stdin().lines().map_while(Result::ok);
    if arguments.wait {
        say(&json!({ "waiting": true }));
        orders.next();
    }
    let mut leased = match redeem(&arguments) {
        Ok(leased) => leased,
        Err(error) => {
            say(&failure(&error));
            std::process::exit(1);
        }
    };
    say(&with_call(&leased, arguments.upstream));
    for order in orders {
        let answer = match order.as_str() {
            "call" => with_call(&leased, arguments.upstream),
            "renew" => match leased.renew() {
                Ok(_) => with_call(&leased, arguments.upstream),
                Err(error) => failure(&error),
            },
            "wait" => match leased.wait_lease_end(Some(WAIT)) {
                Ok(why) => json!({ "lease_end": why }),
                Err(error) => failure(&error),
            },
            "end" => {
                say(&leased.end().map_or_else(|error| failure(&error), |()| json!({ "ended": true })));
                return;
            }
            _ => json!({ "error": "unknown order" }),
        };
        say(&answer);
    }
}

fn redeem(arguments: &Arguments) -> Result<Leased, WorkerError> {
    let grant = receive::from_inherited(arguments.grant_fd)?;
    let workers = arguments.workers.clone().unwrap_or_else(workers_socket);
    Worker::connect(&workers)?.redeem(grant)
}

fn with_call(leased: &Leased, upstream: Option<SocketAddr>) -> Value {
    let token = leased.token();
    let status = upstream.map(|address| call(address, token));
    json!({
        "lease": leased.lease(),
        "expires": token.expires(),
        "token_type": token.token_type(),
        "status": status.as_ref().map(|(status, _)| status),
        "body": status.as_ref().map(|(_, body)| body),
    })
}

/// The token goes from its secret page into the kernel, and is copied nowhere on the way.
fn call(upstream: SocketAddr, token: &Token) -> (u16, String) {
    let mut stream = TcpStream::connect(upstream).unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: {upstream}\r\nConnection: close\r\nAuthorization: Bearer ");
    #[expect(clippy::disallowed_methods, reason = "a worker is where the token is meant to be used")]
    token.expose(|bytes| {
        let mut slices = [IoSlice::new(head.as_bytes()), IoSlice::new(bytes), IoSlice::new(b"\r\n\r\n")];
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        // A socket with an empty buffer takes as much at once.
        assert_eq!(stream.write_vectored(&slices).unwrap(), whole, "a request that was cut");
        slices.fill(IoSlice::new(b""));
    });
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim_end()).to_owned())
}

fn failure(error: &WorkerError) -> Value {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    let code = match error {
        WorkerError::Refused(refusal) => Some(refusal.code.as_str()),
        _ => None,
    };
    json!({ "error": line, "code": code })
}

fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").unwrap();
    out.flush().unwrap();
}

const WAIT: Duration = Duration::from_secs(60);
