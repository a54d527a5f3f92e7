//! A small OAuth 2.0 server of the test's own: tokens by client credentials (RFC 6749 section 4.4), revocation (RFC 7009).
//!
//! That the vault speaks OAuth as others understand it is tested with an independent server in `enclave/vault`; here it
//! is the end of the road, and remembers what became of each token.

use crate::process::PATIENCE;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A server on loopback. Its thread ends with the test's process.
#[derive(Debug)]
pub struct OauthServer {
    /// Where it answers.
    pub address: SocketAddr,
    tokens: Tokens,
    held: Arc<Hold>,
}

type Tokens = Arc<Mutex<BTreeMap<String, Standing>>>;

/// Whether token requests are kept waiting, and how many wait.
#[derive(Debug, Default)]
struct Hold {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is good.
    Good,
    /// It was revoked.
    Revoked,
}

impl OauthServer {
    /// A server with one client, whose secret is `secret`.
    #[must_use]
    pub fn start(secret: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (tokens, held) = (Tokens::default(), Arc::<Hold>::default());
        let (kept, holding, secret) = (Arc::clone(&tokens), Arc::clone(&held), secret.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, holding, secret) = (Arc::clone(&kept), Arc::clone(&holding), secret.clone());
                thread::spawn(move || serve(stream, &kept, &holding, &secret));
            }
        });
        Self { address, tokens, held }
    }

    /// Each token that was ever given out, and what became of it.
    #[must_use]
    pub fn tokens(&self) -> BTreeMap<String, Standing> {
        self.tokens.lock().unwrap().clone()
    }

    /// From now on, keeps who asks for a token waiting.
    pub fn hold(&self) {
        // Nobody waits who asked before.
        *self.held.state.lock().unwrap() = (true, 0);
    }

    /// Waits until somebody is kept waiting.
    pub fn wait_until_asked(&self) {
        let state = self.held.state.lock().unwrap();
        let waited = self.held.changed.wait_timeout_while(state, PATIENCE, |(_, waiting)| *waiting == 0).unwrap();
        assert!(!waited.1.timed_out(), "nobody asks for a token");
    }

    /// Answers whoever waits.
    pub fn go_on(&self) {
        self.held.state.lock().unwrap().0 = false;
        self.held.changed.notify_all();
    }

    /// How many are good now.
    #[must_use]
    pub fn good(&self) -> usize {
        self.tokens().values().filter(|standing| **standing == Standing::Good).count()
    }
}

fn serve(stream: TcpStream, tokens: &Tokens, held: &Hold, secret: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let header = |name: &str| {
        lines
            .iter()
            .find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
            .map(|pair| pair.1)
    };
    let length = header("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let path = lines.first()?.split(' ').nth(1)?;
    let (status, answer) = match path {
        _ if field("client_secret") != Some(secret) => ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned()),
        "/token" => {
            let mut state = held.state.lock().unwrap();
            state.1 += 1;
            held.changed.notify_all();
            drop(held.changed.wait_while(state, |(hold, _)| *hold).unwrap());
            let mut tokens = tokens.lock().unwrap();
            let token = format!("oauth-token-{:04}-{}", tokens.len(), hex::encode(random()));
            tokens.insert(token.clone(), Standing::Good);
            ("200 OK", format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":600}}"#))
        }
        "/revoke" => {
            if let Some(token) = field("token") {
                tokens.lock().unwrap().entry(token.to_owned()).and_modify(|standing| *standing = Standing::Revoked);
            }
            ("200 OK", String::new())
        }
        _ => ("404 Not Found", String::new()),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{answer}",
        answer.len()
    )
    .ok()
}

fn random() -> [u8; 16] {
    ring::rand::generate(&ring::rand::SystemRandom::new()).unwrap().expose()
}
