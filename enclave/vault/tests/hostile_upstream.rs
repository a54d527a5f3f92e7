//! An upstream that lies, dawdles, floods and redirects gets a refusal of its own code, and none of its words is repeated.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/credential.rs"]
mod credential;
#[path = "support/dialler.rs"]
mod dialler;
#[path = "support/oauth_client.rs"]
mod oauth_client;

use blindferry_proto::credential::{ClientAuthentication, Kind};
use blindferry_proto::limits::MAX_TOKEN;
use blindferry_vault::mint::{MintError, Token, mint};
use blindferry_vault::upstream::{Trust, Upstream, UpstreamError};
use dialler::Dialler;
use oauth_client::oauth_client;
use ring::rand::SystemRandom;
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

const MASTER: &str = "master-7c1f9e04";
const MARK: &str = "mark-5b2e8d";
const NOW: u64 = 1_790_000_000;

#[tokio::test]
async fn a_plain_answer_is_taken_which_shows_that_the_refusals_below_are_earned() {
    let token =
        mint_from(json(r#"{"access_token":"a\/b.c","token_type":"bearer","expires_in":60,"x":{"y":[]}}"#)).await;
    let token = token.unwrap();
    assert!(token.secret().ct_eq(b"a/b.c"));
    assert_eq!((token.token_type().as_str(), token.expires()), ("Bearer", NOW + 60));
    assert_eq!(token.revocation(), None);
}

#[tokio::test]
async fn a_token_lives_no_longer_than_settings_and_upstream_allow() {
    for (expires_in, lives) in [("", 900), (r#","expires_in":null"#, 900), (r#","expires_in":1"#, 1)] {
        let answer = json(&format!(r#"{{"access_token":"t","token_type":"Bearer"{expires_in}}}"#));
        assert_eq!(mint_from(answer).await.unwrap().expires(), NOW + lives, "{expires_in}");
    }
    let answer = json(r#"{"access_token":"t","token_type":"Bearer","expires_in":86400}"#);
    assert_eq!(mint_from(answer).await.unwrap().expires(), NOW + 900);
}

#[tokio::test]
async fn a_chunked_answer_and_one_that_ends_with_the_connection_are_taken() {
    let body = r#"{"access_token":"t","token_type":"DPoP"}"#;
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(mint_from(chunked).await.unwrap().token_type().as_str(), "DPoP");
    let until_close = format!("HTTP/1.1 200 OK\r\nContent-Type: Application/JSON\r\n\r\n{body}");
    assert!(mint_from(until_close).await.is_ok());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "300 Choices"] {
        let answer =
            format!("HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:{port}/{MARK}\r\nContent-Length: 0\r\n\r\n");
        refuse(answer, "upstream-redirect").await;
    }
    let visited = tokio::time::timeout(Duration::from_millis(50), elsewhere.accept()).await;
    assert!(visited.is_err(), "somebody followed a redirect");
}

#[tokio::test]
async fn lies_about_lengths_and_framing_are_refused() {
    let body = format!(r#"{{"access_token":"{MARK}","token_type":"Bearer"}}"#);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    for (answer, code) in [
        (format!("{head}Content-Length: 5000\r\n\r\n{body}"), "upstream-http"),
        (format!("{head}Content-Length: 10\r\n\r\n{body}"), "answer-json"),
        (format!("{head}Content-Length: 1073741824\r\n\r\n{body}"), "upstream-too-long"),
        (format!("{head}Content-Length: 65537\r\n\r\n{body}"), "upstream-too-long"),
        (format!("{head}Content-Length: -1\r\n\r\n{body}"), "upstream-http"),
        (format!("{head}Content-Length: 99999999999999999999999\r\n\r\n{body}"), "upstream-http"),
        (format!("{head}Content-Length: 61\r\nContent-Length: 62\r\n\r\n{body}"), "upstream-http"),
        (format!("{head}Transfer-Encoding: gzip\r\n\r\n{body}"), "upstream-encoded"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{body}"), "upstream-http"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"acc"), "upstream-http"),
        (format!("{head}Content-Encoding: gzip\r\n\r\n\u{1f}{body}"), "upstream-encoded"),
        (format!("{head}Content-Encoding: identity, br\r\n\r\n{body}"), "upstream-encoded"),
    ] {
        refuse(answer, code).await;
    }
}

#[tokio::test]
async fn what_is_not_http_1_is_refused() {
    for answer in [
        format!("{MARK} is HTTP/0.9, which has no status line\n"),
        format!("<html>{MARK}</html>"),
        format!("HTTP/9.9 200 OK\r\n\r\n{MARK}"),
        format!("HTTP/1.1 20x OK\r\n\r\n{MARK}"),
        format!("HTTP/1.1 200 OK\r\nno colon {MARK}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", format!("X-Pad: {MARK}\r\n").repeat(70)),
        format!("HTTP/1.1 200 OK\r\nX-Pad: {}\r\n\r\n", MARK.repeat(3000)),
        "\u{16}\u{3}\u{1}\u{2}".to_owned(),
        String::new(),
        "HTTP/1.1 200 OK\r\nContent-Type: appli".to_owned(),
    ] {
        refuse(answer, "upstream-http").await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_a_token_response_is_refused() {
    let plain = |kind: &str| {
        format!("HTTP/1.1 200 OK\r\n{kind}\r\n\r\n{{\"access_token\":\"{MARK}\",\"token_type\":\"Bearer\"}}")
    };
    for kind in [
        "Content-Type: text/html",
        "X-Type: application/json",
        "Content-Type: application/jsonp",
        "Content-Type: application/json\r\nContent-Type: text/html",
    ] {
        refuse(plain(kind), "answer-not-json").await;
    }
    let nested = format!(r#"{{"access_token":"t","token_type":"Bearer","x":{}"#, "[".repeat(20_000));
    for body in [
        "",
        "null",
        "[]",
        r#""mark-5b2e8d""#,
        r#"{"access_token":"mark-5b2e8d"}"#,
        r#"{"token_type":"Bearer"}"#,
        r#"{"access_token":5.5,"token_type":"mark-5b2e8d"}"#,
        r#"{"access_token":["mark-5b2e8d"],"token_type":"Bearer"}"#,
        r#"{"access_token":"mark-5b2e8d","access_token":"b","token_type":"Bearer"}"#,
        r#"{"access_token":"mark-5b2e8d","token_type":"Bearer"} more"#,
        r#"{"access_token":"mark-5b2e8d","token_type":"Bearer","expires_in":"mark-5b2e8d"}"#,
        r#"{"access_token":"mark-5b2e8d","token_type":["mark-5b2e8d"]}"#,
        r#"{"error":"invalid_client"}"#,
        &nested,
    ] {
        refuse(json(body), "answer-json").await;
    }
}

#[tokio::test]
async fn absurd_lives_are_refused() {
    for expires_in in ["-1", "0", "1000000000000000000", "18446744073709551616", "1.5", "1e300", "316224001"] {
        let body = format!(r#"{{"access_token":"{MARK}","token_type":"Bearer","expires_in":{expires_in}}}"#);
        refuse(json(&body), "answer-expires-in").await;
    }
}

#[tokio::test]
async fn tokens_that_no_header_can_carry_are_refused() {
    let with = |token: &str, kind: &str| json(&format!(r#"{{"access_token":"{token}","token_type":"{kind}"}}"#));
    let longest = "t".repeat(MAX_TOKEN);
    assert_eq!(mint_from(with(&longest, "Bearer")).await.unwrap().secret().len(), MAX_TOKEN);
    refuse(with(&format!("{longest}t"), "Bearer"), "answer-token-length").await;
    refuse(with("", "Bearer"), "answer-token-length").await;
    for token in [r"mark-5b2e8d\r\nX-Injected: 1", r"mark-5b2e8d\u0000", "mark-5b2e8d t", "mark-5b2e8d-ü", r"t\u007f"]
    {
        refuse(with(token, "Bearer"), "answer-token-characters").await;
    }
    for kind in ["", "Bearer x", r"Bearer\n", "this-token-type-has-thirty-three-c"] {
        refuse(with(MARK, kind), "answer-token-type").await;
    }
}

#[tokio::test]
async fn an_oauth_error_is_named_and_an_echo_of_a_secret_is_not() {
    let refused = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for (status, body, said, passing) in [
        ("401 No", r#"{"error":"invalid_client","error_description":"mark-5b2e8d"}"#, Some("invalid_client"), false),
        ("400 No", r#"{"error":"temporarily_unavailable"}"#, Some("temporarily_unavailable"), true),
        ("400 No", r#"{"error":"mark-5b2e8d"}"#, None, false),
        ("400 No", r#"{"error":"Invalid\nClient"}"#, None, false),
        ("400 No", r#"{"error":""}"#, None, false),
        ("400 No", r#"{"error":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#, None, false),
        ("400 No", "mark-5b2e8d", None, false),
        ("429 Slow", "{}", None, true),
        ("503 Down", "{}", None, true),
        ("501 Never", "{}", None, false),
        ("201 Made", r#"{"access_token":"mark-5b2e8d","token_type":"Bearer"}"#, None, false),
        ("204 Nothing", "", None, false),
    ] {
        let error = refuse(refused(status, body), "upstream-refused").await;
        let MintError::Refused { code, .. } = &error else { panic!("{error}") };
        assert_eq!(code.as_ref().map(|code| code.as_str()), said, "{body}");
        assert_eq!(error.is_passing(), passing, "{status} {body}");
    }
}

#[tokio::test]
async fn a_gigabyte_is_cut_off_at_the_bound() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n",
    ] {
        let (port, server) = flood(head.to_owned(), b" ".repeat(64 * 1024)).await;
        assert_eq!(post(port, Duration::from_secs(10)).await.unwrap_err().code(), "upstream-too-long");
        let taken = server.await.unwrap();
        assert!(taken < 16 << 20, "the server could send {taken} bytes");
    }
    // Headers without end, and interim answers without end: the first is bounded in bytes, the second in time.
    let (port, server) = flood("HTTP/1.1 200 OK\r\n".to_owned(), b"X-Pad: pad\r\n".repeat(1000)).await;
    assert_eq!(post(port, Duration::from_secs(10)).await.unwrap_err().code(), "upstream-http");
    assert!(server.await.unwrap() < 16 << 20);
    let (port, server) = flood(String::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)).await;
    let begun = Instant::now();
    assert_eq!(post(port, Duration::from_millis(300)).await.unwrap_err().code(), "upstream-deadline");
    assert!(begun.elapsed() < Duration::from_secs(3));
    server.await.unwrap();
}

#[tokio::test]
async fn one_deadline_holds_over_every_slow_step() {
    let drip = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_owned() + &" ".repeat(1000);
    for sent_at_once in [0, 20, 60] {
        let (port, server) = drip_feed(drip.clone(), sent_at_once).await;
        let begun = Instant::now();
        let error = post(port, Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(error.code(), "upstream-deadline", "{error}");
        assert!(error.is_passing());
        assert!((Duration::from_millis(290)..Duration::from_secs(3)).contains(&begun.elapsed()));
        assert!(server.await.unwrap(), "the connection was kept after the deadline");
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_passing_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = post(port, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!((error.code(), error.is_passing()), ("upstream-unreachable", true));
}

/// Mints from a server that gives this answer to whatever it is asked, and then closes.
async fn mint_from(answer: String) -> Result<Token, MintError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let asked = read_request(&mut stream).await;
        assert!(asked.contains(MASTER), "the master is not in the request, so that it could not be echoed");
        // The client may hang up in the middle of what is too long.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    });
    let url = format!("http://127.0.0.1:{port}/token");
    let oauth = oauth_client(&url, "client", ClientAuthentication::ClientSecretPost);
    let settings = credential::settings(Kind::OauthClient(oauth));
    let host = credential::host();
    let order = credential::order(&host, NOW);
    let minted = mint(&credential::master(MASTER), &settings, &order, &Dialler(port), &SystemRandom::new()).await;
    server.await.unwrap();
    minted
}

/// The refusal that an answer earns; it repeats neither the answer nor the master.
async fn refuse(answer: String, code: &str) -> MintError {
    let shown = answer.chars().take(200).collect::<String>();
    let error = mint_from(answer).await.err().unwrap_or_else(|| panic!("accepted: {shown}"));
    assert_eq!(error.code(), code, "{error:?} for {shown}");
    let mut said = format!("{error:?}");
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(one) = cause {
        said += &format!(" {one} {one:?}");
        cause = one.source();
    }
    assert!(!said.contains(MARK) && !said.contains(MASTER), "the error repeats what it heard: {said}");
    error
}

async fn post(port: u16, deadline: Duration) -> Result<(), UpstreamError> {
    let address = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let dialler = Dialler(port);
    let form = Zeroizing::new(b"a=b".to_vec());
    let answer = Upstream::new(&dialler, NOW, deadline).post_form(&address, &Trust::public_roots(), None, form).await;
    answer.map(|_| ())
}

/// A server that sends a head, and then the same bytes up to a gigabyte; says how many it could send.
async fn flood(head: String, again: Vec<u8>) -> (u16, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        read_request(&mut stream).await;
        let mut sent = 0;
        if stream.write_all(head.as_bytes()).await.is_ok() {
            while sent < 1 << 30 && stream.write_all(&again).await.is_ok() {
                sent += again.len();
            }
        }
        sent
    });
    (port, server)
}

/// A server that sends some bytes at once and then one each 20 ms; says whether the client hung up on it.
async fn drip_feed(answer: String, at_once: usize) -> (u16, JoinHandle<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        read_request(&mut stream).await;
        stream.write_all(&answer.as_bytes()[..at_once]).await.unwrap();
        for byte in &answer.as_bytes()[at_once..] {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if stream.write_all(&[*byte]).await.is_err() {
                return true;
            }
        }
        false
    });
    (port, server)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let announced =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= announced.unwrap_or(0) {
            return text.into_owned();
        }
    }
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
