//! The operators' page with a test in the vault's place, which says what it likes; and a plain HTTP client.

pub mod reports;

use crate::process::eventually;
use blindferry_front::configuration::Limits;
use blindferry_front::dial::Dials;
use blindferry_front::link::{self, Outbox, Services};
use blindferry_front::metrics::Counters;
use blindferry_front::page::reports::Reports;
use blindferry_front::page::{self, Page};
use blindferry_front::public;
use blindferry_front::publication::Publication;
use blindferry_front::pulse::Pulse;
use blindferry_front::store::Store;
use blindferry_front::store::redb::Redb;
use blindferry_handle::packet::{PacketError, PacketSocket};
use blindferry_proto::bounded::{decode, encode};
use blindferry_proto::front::{Condition, FromFront, FromVault};
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_PACKET;
use blindferry_proto::report::{PageTicket, Report};
use blindferry_seqpacket::AsyncPackets;
use ring::digest::{SHA256, digest};
use std::collections::HashSet;
use std::future::pending;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A front with nothing but the page.
#[derive(Debug)]
pub struct ScriptedPage {
    /// Where the page is.
    pub address: SocketAddr,
    /// What the vault says when it is asked.
    pub report: Arc<Mutex<Option<Report>>>,
    /// How often it was asked.
    pub asked: Arc<Mutex<u32>>,
    announced: Arc<Mutex<HashSet<u64>>>,
    vault: Arc<AsyncPackets>,
    runtime: Runtime,
    _directory: TempDir,
}

impl ScriptedPage {
    /// A page whose vault reports this.
    #[must_use]
    pub fn start(report: Report) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let directory = TempDir::with_prefix("blindferry-").unwrap();
        let (store, _thread) = Store::start(Redb::open(&directory.path().join("store.redb")).unwrap()).unwrap();
        let (front, vault) = PacketSocket::pair().unwrap();
        let guard = runtime.enter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let settings = toml::from_str(&format!("listen = \"{address}\"")).unwrap();
        let (outbox, outgoings) = Outbox::new();
        let (reported, reported_seen) = watch::channel(None);
        let page = Arc::new(Page::new(settings, Reports::new(outbox.clone(), reported_seen)));
        let services = Services {
            store,
            dials: Dials::new(&Limits::default(), Arc::new(Counters::default())),
            condition: watch::channel(Condition::default()).0,
            publication: watch::channel(Arc::new(Publication::default())).0,
            pulse: Arc::new(Pulse::default()),
            traces: None,
            reported,
            page: Some(Arc::clone(&page)),
        };
        runtime.spawn(link::run(AsyncPackets::new(front).unwrap(), services, (outbox, outgoings), pending()));
        runtime.spawn(public::serve_router(listener, page.router(), page::CONNECTIONS));
        let vault = Arc::new(AsyncPackets::new(vault).unwrap());
        drop(guard);
        let (report, asked) = (Arc::new(Mutex::new(Some(report))), Arc::new(Mutex::new(0)));
        let announced = Arc::new(Mutex::new(HashSet::new()));
        runtime.spawn(answer(Arc::clone(&vault), Arc::clone(&report), Arc::clone(&asked), Arc::clone(&announced)));
        Self { address, report, asked, announced, vault, runtime, _directory: directory }
    }

    /// Where it is, as a browser writes it.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The vault tells of a ticket with these bytes; gives its text when the front has answered.
    #[must_use]
    pub fn ticket(&self, number: u8) -> String {
        let text = PageTicket::new([number; PageTicket::LEN]).to_text();
        let mut hash = Digest([0; Digest::LEN]);
        hash.0.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        let id = number.into();
        self.runtime.block_on(tell(&self.vault, &FromVault::Ticket { id, digest: hash }));
        eventually("the front's answer", || self.announced.lock().unwrap().contains(&id).then_some(()));
        text
    }

    /// Brings a ticket as a browser does.
    ///
    /// # Errors
    /// The answer's status and text.
    pub fn enter(&self, ticket: &str) -> Result<Inside, (u16, String)> {
        let origin = format!("Origin: {}", self.origin());
        let answer = exchange(self.address, "POST /enter", &[&origin], &format!("ticket={ticket}")).unwrap();
        match answer.header("set-cookie") {
            Some(cookie) => Ok(Inside {
                path: answer.header("location").unwrap().to_owned(),
                cookie: cookie.split(';').next().unwrap().to_owned(),
                attributes: cookie.to_owned(),
            }),
            None => Err((answer.status, answer.body)),
        }
    }
}

/// What a browser has after it entered.
#[derive(Clone, Debug)]
pub struct Inside {
    /// Where it looks.
    pub path: String,
    /// `name=value`.
    pub cookie: String,
    /// The whole header that set the cookie.
    pub attributes: String,
}

async fn answer(
    vault: Arc<AsyncPackets>,
    report: Arc<Mutex<Option<Report>>>,
    asked: Arc<Mutex<u32>>,
    announced: Arc<Mutex<HashSet<u64>>>,
) {
    loop {
        let bytes = match vault.receive().await {
            Ok(packet) => packet.bytes,
            Err(PacketError::Closed) => return,
            Err(error) => panic!("{error}"),
        };
        match decode::<FromFront>(&bytes, MAX_PACKET).unwrap() {
            FromFront::Report => {
                *asked.lock().unwrap() += 1;
                let report = report.lock().unwrap().clone().map(Box::new);
                tell(&vault, &FromVault::Report(report)).await;
            }
            FromFront::PageAt { id, .. } => {
                announced.lock().unwrap().insert(id);
            }
            _ => {}
        }
    }
}

async fn tell(vault: &AsyncPackets, message: &FromVault) {
    vault.send(&encode(message, MAX_PACKET).unwrap(), &[]).await.unwrap();
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// One request, `METHOD /path`, with these header lines, and `Host` before them unless they have one.
///
/// # Errors
/// What the socket says; nobody answers within some seconds.
pub fn exchange(address: SocketAddr, what: &str, headers: &[&str], body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let host = format!("Host: {address}");
    let own = headers.iter().any(|header| header.starts_with("Host:"));
    let lines: Vec<&str> = (!own).then_some(host.as_str()).into_iter().chain(headers.iter().copied()).collect();
    let lines = lines.join("\r\n");
    write!(stream, "{what} HTTP/1.1\r\n{lines}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
