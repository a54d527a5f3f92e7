//! Health, readiness and metrics over plain HTTP, where the configuration asks for it. Nothing on it is secret.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200: the loop that answers is the one that does everything else |
//! | `/readyz` | 200 while a session with the vault stands, else 503 |
//! | `/metrics` | Prometheus text 0.0.4 |
//!
//! It takes GET and HEAD, reads no body, answers once, and hangs up: no more of HTTP/1.1 (RFC 9112) is needed for that, and
//! no library for the rest of it comes into the process that faces workers.

use crate::figures::{Places, Shared, Sizes, text};
use blindferry_watch::exposition::MEDIA_TYPE;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// What is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What is counted.
    pub figures: Shared,
    /// The places of connections and leases.
    pub places: Places,
    /// What is looked at.
    pub sizes: Arc<Sizes>,
}

/// Serves for as long as it is polled; without a listener it waits for ever.
pub async fn serve(listener: Option<TcpListener>, shown: Shown) {
    let Some(listener) = listener else { return std::future::pending().await };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed, so this does not fail.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shown = shown.clone();
                tokio::spawn(async move {
                    // Too slow, or gone: nobody is left to tell.
                    let _unheard = timeout(TIME, answer(stream, &shown)).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(name: "accept-failed", %error, "cannot accept a connection on the public address");
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, shown: &Shown) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(HEAD);
    while !is_whole(&head) && head.len() < HEAD {
        let room = u64::try_from(HEAD - head.len()).unwrap_or(0);
        if (&mut stream).take(room).read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let response = respond(&head, shown);
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await?;
    // What is still on its way would have the kernel reset the connection, and the answer with it.
    let mut rest = [0; 1024];
    for _ in 0..REST {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n")
}

fn respond(head: &[u8], shown: &Shown) -> String {
    if !is_whole(head) {
        let status = if head.len() >= HEAD { "431 Request Header Fields Too Large" } else { "400 Bad Request" };
        return response(status, PLAIN, "not a request\n", true);
    }
    let Some((method, path)) = request_line(head) else {
        return response("400 Bad Request", PLAIN, "not a request\n", true);
    };
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return response("405 Method Not Allowed", PLAIN, "GET and HEAD alone\n", true),
    };
    match path {
        "/healthz" => response("200 OK", PLAIN, "the broker answers\n", with_body),
        "/readyz" if shown.figures.has_session() => response("200 OK", PLAIN, "ready\n", with_body),
        "/readyz" => {
            response("503 Service Unavailable", PLAIN, "no session with the vault; the log says why\n", with_body)
        }
        "/metrics" => response("200 OK", MEDIA_TYPE, &text(&shown.figures, &shown.places, &shown.sizes), with_body),
        _ => response("404 Not Found", PLAIN, "not found\n", with_body),
    }
}

/// Method and path of a request line of HTTP/1.0 or 1.1.
fn request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, path, version) = (words.next()?, words.next()?, words.next()?);
    (words.next().is_none() && matches!(version, "HTTP/1.1" | "HTTP/1.0")).then_some((method, path))
}

fn response(status: &str, media_type: &str, body: &str, with_body: bool) -> String {
    let length = body.len();
    let body = if with_body { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}"
    )
}

const PLAIN: &str = "text/plain; charset=utf-8";
/// Bytes of a request's head.
const HEAD: usize = 8192;
/// At a time; more wait to be accepted.
const CONNECTIONS: usize = 16;
/// For a connection from its first byte to its last.
const TIME: Duration = Duration::from_secs(10);
/// Reads of what nobody wants to read.
const REST: usize = 64;
/// Out of descriptors, most likely: some are closed meanwhile.
const AFTER_ERROR: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;
    use proptest::prelude::*;

    fn shown() -> Shown {
        let of = || Admission::new(1, 1);
        let places = Places { parents: of(), workers: of(), leases: of() };
        Shown { figures: Shared::default(), places, sizes: Arc::default() }
    }

    fn status(request: &str, shown: &Shown) -> String {
        respond(request.as_bytes(), shown).split("\r\n").next().unwrap().to_owned()
    }

    #[test]
    fn readiness_is_that_of_the_session() {
        let shown = shown();
        let ready = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(status(ready, &shown), "HTTP/1.1 503 Service Unavailable");
        shown.figures.session_stands();
        assert_eq!(status(ready, &shown), "HTTP/1.1 200 OK");
        shown.figures.session_over();
        assert_eq!(status(ready, &shown), "HTTP/1.1 503 Service Unavailable");
    }

    #[test]
    fn what_is_no_plain_get_is_refused_by_its_status() {
        let shown = shown();
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK"),
            ("HEAD /metrics HTTP/1.0\r\n\r\n", "200 OK"),
            ("GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
            ("GET /metrics\r\n\r\n", "400 Bad Request"),
            ("GET  /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /metrics/../x HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metrics HTTP/1.1\r\n", "400 Bad Request"),
        ] {
            assert_eq!(status(request, &shown), format!("HTTP/1.1 {expected}"), "{request:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD));
        assert_eq!(status(&long, &shown), "HTTP/1.1 431 Request Header Fields Too Large");
        let head = respond(b"HEAD /metrics HTTP/1.1\r\n\r\n", &shown);
        assert!(head.ends_with("\r\n\r\n") && !head.contains("Content-Length: 0\r\n"), "{head}");
    }

    #[tokio::test]
    async fn one_who_sends_slowly_or_nothing_keeps_nobody_out_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(Some(listener), shown()));
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS {
            slow.push(TcpStream::connect(address).await.unwrap());
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(TIME * 3, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_answered_with_one_whole_response(head in prop::collection::vec(any::<u8>(), 0..200)) {
            let response = respond(&[&head[..], b"\r\n\r\n"].concat(), &shown());
            prop_assert!(response.starts_with("HTTP/1.1 "));
            prop_assert_eq!(response.matches("Content-Length: ").count(), 1);
        }
    }
}
