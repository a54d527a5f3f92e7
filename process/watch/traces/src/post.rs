//! One POST by HTTP/1.1 (RFC 9112) on a connection of its own. Of the answer its first line is read, and no more: that is
//! all that is needed, and no library for the rest comes into a process that others may want to take over.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends `body` as JSON.
///
/// # Errors
/// [`PostError`].
pub(crate) async fn post(to: SocketAddr, path: &str, body: &[u8]) -> Result<(), PostError> {
    let mut stream = TcpStream::connect(to).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         User-Agent: blindferry/{}\r\nConnection: close\r\n\r\n",
        body.len(),
        env!("CARGO_PKG_VERSION"),
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut line = [0; LINE];
    let mut length = 0;
    while let Some(room) = line.get_mut(length..).filter(|room| !room.is_empty()) {
        match stream.read(room).await? {
            0 => break,
            more => length += more,
        }
    }
    match status(line.get(..length).unwrap_or_default()) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(PostError::Status { status }),
        None => Err(PostError::NotHttp),
    }
}

/// The status of an answer that begins like this.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The collector did not take it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// No connection, or it broke off.
    #[error("cannot reach the collector")]
    Io(#[from] io::Error),
    /// It speaks something else.
    #[error("what answers does not speak HTTP/1.1")]
    NotHttp,
    /// It said no.
    #[error("the collector answered {status}")]
    Status {
        /// With this status.
        status: u16,
    },
}

/// `HTTP/1.1 200`.
const LINE: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answers_status_is_found_or_there_is_none() {
        assert_eq!(status(b"HTTP/1.1 200"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        for bad in [&b"HTTP/1.1 20"[..], b"HTTP/2.0 200", b"HTTP/1.1 +20", b"SSH-2.0-Open", b""] {
            assert_eq!(status(bad), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(line in proptest::collection::vec(any::<u8>(), 0..=LINE)) {
            prop_assert!(status(&line).is_none_or(|status| status <= 999));
        }
    }
}
