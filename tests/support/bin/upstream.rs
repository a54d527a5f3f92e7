//! `blindferry-upstream`: a small HTTP service that demands a bearer token, for tests and for the quickstart.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's program ends where it cannot go on")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers `GET` of any path with 200 where the bearer token is right, else with 401.
///
/// The token is read from standard input (one line), or, with --jwks, is a JWT that is verified by the keys published
/// there. Prints `listening ADDRESS`, and serves until it is ended.
#[derive(Debug, Parser)]
#[command(name = "blindferry-upstream")]
struct Arguments {
    /// Where to listen; port 0 is any that is free
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// host:port/path of a JWK set, over plain HTTP
    #[arg(long, requires_all = ["issuer", "audience"])]
    jwks: Option<String>,
    /// The `iss` that a JWT must have
    #[arg(long)]
    issuer: Option<String>,
    /// The `aud` that a JWT must have
    #[arg(long)]
    audience: Option<String>,
}

enum Wanted {
    /// The SHA-256 of the token: this process need not keep it.
    Fixed(Vec<u8>),
    Jwt {
        jwks: String,
        issuer: String,
        audience: String,
    },
}

fn main() {
    let arguments = Arguments::parse();
    let wanted = match (arguments.jwks, arguments.issuer, arguments.audience) {
        (Some(jwks), Some(issuer), Some(audience)) => Wanted::Jwt { jwks, issuer, audience },
        _ => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            Wanted::Fixed(digest(&SHA256, line.trim_end_matches('\n').as_bytes()).as_ref().to_vec())
        }
    };
    let wanted = Arc::new(wanted);
    let listener = TcpListener::bind(arguments.listen).unwrap();
    println!("listening {}", listener.local_addr().unwrap());
    for stream in listener.incoming().flatten() {
        let wanted = Arc::clone(&wanted);
        std::thread::spawn(move || serve(stream, &wanted));
    }
}

fn serve(stream: TcpStream, wanted: &Wanted) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut token = None;
    loop {
        let mut line = String::new();
        (&mut reader).take(LONGEST_LINE).read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            token = value.trim().strip_prefix("Bearer ").map(str::to_owned);
        }
    }
    let accepted = token.ok_or("no bearer token".to_owned()).and_then(|token| judge(&token, wanted));
    let (status, body) = match accepted {
        Ok(body) => ("200 OK", body),
        Err(why) => ("401 Unauthorized", format!("{why}\n")),
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).ok()
}

fn judge(token: &str, wanted: &Wanted) -> Result<String, String> {
    match wanted {
        Wanted::Fixed(hash) if digest(&SHA256, token.as_bytes()).as_ref() == hash => Ok("welcome\n".to_owned()),
        Wanted::Fixed(_) => Err("another token".to_owned()),
        Wanted::Jwt { jwks, issuer, audience } => {
            let claims = verify(token, &fetch(jwks).ok_or("cannot fetch the JWK set")?)?;
            let now = now();
            if claims["iss"] != **issuer || claims["aud"] != **audience {
                return Err("another issuer or audience".to_owned());
            }
            if claims["exp"].as_u64().is_none_or(|end| end < now)
                || claims["nbf"].as_u64().is_some_and(|at| at > now + 5)
            {
                return Err("not at this time".to_owned());
            }
            Ok(format!("welcome {}\n", claims["sub"].as_str().unwrap_or("nobody")))
        }
    }
}

/// RFC 7515 section 5.2, for the two algorithms of the tests.
fn verify(token: &str, jwks: &Value) -> Result<Value, String> {
    let (signed, signature) = token.rsplit_once('.').ok_or("not a JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "not base64url".to_owned());
    let json = |text: &str| serde_json::from_slice::<Value>(&bytes(text)?).map_err(|_| "not JSON".to_owned());
    let header = json(header)?;
    let key = jwks["keys"].as_array().and_then(|keys| keys.iter().find(|key| key["kid"] == header["kid"]));
    let key = key.ok_or("no key of that kid is published")?;
    let coordinate = |name: &str| bytes(key[name].as_str().unwrap_or_default());
    let (algorithm, public): (&dyn VerificationAlgorithm, Vec<u8>) = match header["alg"].as_str() {
        Some("ES256") => (&ECDSA_P256_SHA256_FIXED, [vec![4], coordinate("x")?, coordinate("y")?].concat()),
        Some("EdDSA") => (&ED25519, coordinate("x")?),
        _ => return Err("another algorithm".to_owned()),
    };
    UnparsedPublicKey::new(algorithm, public)
        .verify(signed.as_bytes(), &bytes(signature)?)
        .map_err(|_| "the signature does not verify".to_owned())?;
    json(claims)
}

fn fetch(url: &str) -> Option<Value> {
    let (address, path) = url.split_once('/')?;
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

#[expect(clippy::disallowed_methods, reason = "a JWT is for a certain time")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A token and its header's name.
const LONGEST_LINE: u64 = 32 * 1024;
