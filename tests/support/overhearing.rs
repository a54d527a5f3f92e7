//! A server of somebody else's on loopback, which keeps what browsers send it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Listens, and answers every request with a page of the title `Other`.
#[derive(Debug)]
pub struct Overhearing {
    /// Where it is.
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Overhearing {
    /// On a port of its own.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&heard);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
                if head.starts_with("GET ") && !head.starts_with("GET /favicon") {
                    kept.lock().unwrap().push(head);
                }
                let body = "<title>Other</title>";
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
                let _gone = write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}");
            }
        });
        Self { address, heard }
    }

    /// The head of the last request.
    #[must_use]
    pub fn last(&self) -> String {
        self.heard.lock().unwrap().last().unwrap().clone()
    }
}
