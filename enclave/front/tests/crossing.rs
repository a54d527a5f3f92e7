//! The link with the test in the vault's place: what it is given, what it asks for, and what ends it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blindferry_front::configuration::Limits;
use blindferry_front::connections::{Connections, KernelTable};
use blindferry_front::dial::Dials;
use blindferry_front::link::{self, LinkEnd, LinkError, Outbox, Services};
use blindferry_front::listen::accept_all;
use blindferry_front::metrics::Counters;
use blindferry_front::public::{self, Shown};
use blindferry_front::publication::Publication;
use blindferry_front::pulse::{Pulse, beat};
use blindferry_front::store::Store;
use blindferry_front::store::redb::Redb;
use blindferry_handle::packet::{Packet, PacketSocket};
use blindferry_proto::bounded::{Bytes, Text, decode, encode};
use blindferry_proto::front::{
    Condition, Figure, FromFront, FromVault, Issuer, Operation, StoreReply, StoreRequest, Table,
};
use blindferry_proto::limits::{MAX_OPERATIONS, MAX_PACKET};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_seqpacket::AsyncPackets;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

/// A front without processes, and our end of its link.
struct Front {
    vault: AsyncPackets,
    listen: SocketAddr,
    public: SocketAddr,
    counters: Arc<Counters>,
    pulse: Arc<Pulse>,
    outbox: Outbox,
    link: JoinHandle<Result<LinkEnd, LinkError>>,
    stop: Option<oneshot::Sender<()>>,
    _directory: tempfile::TempDir,
}

impl Front {
    async fn new(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::start(Redb::open(&directory.path().join("store.redb")).unwrap()).unwrap();
        let (front, vault) = PacketSocket::pair().unwrap();
        let counters = Arc::new(Counters::default());
        let (condition, condition_seen) = watch::channel(Condition::default());
        let (publication, publication_seen) = watch::channel(Arc::new(Publication::default()));
        let (outbox, outgoings) = Outbox::new();
        let dials = Dials::new(&limits, Arc::clone(&counters));
        let pulse = Arc::new(Pulse::default());
        let services = Services {
            store: store.clone(),
            dials,
            pulse: Arc::clone(&pulse),
            condition,
            publication,
            traces: None,
            reported: watch::channel(None).0,
            page: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let told = async move {
            stopped.await.unwrap();
        };
        let link = link::run(AsyncPackets::new(front).unwrap(), services, (outbox.clone(), outgoings), told);
        let sessions = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            vault: AsyncPackets::new(vault).unwrap(),
            listen: sessions.local_addr().unwrap(),
            public: plain.local_addr().unwrap(),
            counters: Arc::clone(&counters),
            pulse: Arc::clone(&pulse),
            outbox: outbox.clone(),
            link: tokio::spawn(link),
            stop: Some(stop),
            _directory: directory,
        };
        let connections = Connections::new(limits, KernelTable::open().unwrap());
        tokio::spawn(accept_all(sessions, connections, outbox, Arc::clone(&counters)));
        let shown = Shown {
            condition: condition_seen,
            publication: publication_seen,
            counters,
            store,
            pulse,
            sizes: Arc::default(),
        };
        tokio::spawn(public::serve(plain, shown, 2));
        this
    }

    async fn tell(&self, message: FromVault) {
        self.vault.send(&encode(&message, MAX_PACKET).unwrap(), &[]).await.unwrap();
    }

    async fn hear(&self) -> (FromFront, Packet) {
        let packet = timeout(Duration::from_secs(10), self.vault.receive()).await.unwrap().unwrap();
        (decode(&packet.bytes, MAX_PACKET).unwrap(), packet)
    }

    async fn get(&self, request: &'static str) -> String {
        let public = self.public;
        spawn_blocking(move || {
            let mut stream = TcpStream::connect(public).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap()
    }

    /// Has the front ask whether we are there, and answers.
    async fn answer_its_look(&self) {
        tokio::spawn(beat(Arc::clone(&self.pulse), self.outbox.clone()));
        let (FromFront::Look { id }, _) = self.hear().await else { panic!("it did not ask") };
        self.tell(FromVault::Here { id }).await;
    }

    async fn ended(self) -> Result<LinkEnd, LinkError> {
        timeout(Duration::from_secs(10), self.link).await.unwrap().unwrap()
    }
}

fn number(value: u16) -> NonZeroU16 {
    value.try_into().unwrap()
}

fn dial(id: u64, host: &str, port: u16) -> FromVault {
    FromVault::Dial { id, host: Text::new(host).unwrap(), port }
}

#[tokio::test]
async fn an_accepted_connection_is_the_vaults_alone() {
    let front = Front::new(Limits::default()).await;
    let mut client = TcpStream::connect(front.listen).unwrap();
    let (message, mut packet) = front.hear().await;
    let from = Text::new(client.local_addr().unwrap().to_string()).unwrap();
    assert_eq!(message, FromFront::Accepted { from });
    assert_eq!(packet.descriptors.len(), 1);
    let mut server = TcpStream::from(packet.descriptors.remove(0));
    assert!(server.nodelay().unwrap());
    server.write_all(b"from the vault").unwrap();
    drop(server);
    // The end arrives because the front has closed its copy.
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut read = String::new();
    client.read_to_string(&mut read).unwrap();
    assert_eq!(read, "from the vault");
}

#[tokio::test]
async fn a_source_over_its_bound_is_refused_until_one_of_its_connections_ends() {
    let front = Front::new(Limits { connections_per_source: number(2), ..Limits::default() }).await;
    let _clients = [TcpStream::connect(front.listen).unwrap(), TcpStream::connect(front.listen).unwrap()];
    let (_, first) = front.hear().await;
    let (_, _second) = front.hear().await;
    let mut third = TcpStream::connect(front.listen).unwrap();
    let refused = spawn_blocking(move || third.read(&mut [0]).is_ok_and(|length| length == 0));
    assert!(timeout(Duration::from_secs(5), refused).await.unwrap().unwrap());
    assert_eq!(front.counters.refused_source.load(Ordering::Relaxed), 1);

    drop(first);
    sleep(Duration::from_millis(1100)).await;
    let _fourth = TcpStream::connect(front.listen).unwrap();
    assert!(matches!(front.hear().await, (FromFront::Accepted { .. }, _)));
}

#[tokio::test]
async fn a_vault_that_does_not_read_costs_the_newest_connections_not_memory() {
    let limits = Limits { connections: number(5000), connections_per_source: number(5000), ..Limits::default() };
    let front = Front::new(limits).await;
    let mut clients = Vec::new();
    for _ in 0..1500 {
        clients.push(tokio::net::TcpStream::connect(front.listen).await.unwrap());
        if front.counters.refused_busy.load(Ordering::Relaxed) > 10 {
            // And the link still works.
            front.tell(FromVault::Store { id: 1, request: StoreRequest::Last { table: Table::Audit } }).await;
            while !matches!(front.hear().await.0, FromFront::Stored { id: 1, .. }) {}
            return;
        }
    }
    panic!("no connection was dropped");
}

#[tokio::test]
async fn a_dialled_connection_arrives_as_a_descriptor() {
    let front = Front::new(Limits::default()).await;
    let upstream = StdListener::bind("127.0.0.1:0").unwrap();
    front.tell(dial(7, "localhost", upstream.local_addr().unwrap().port())).await;
    let (message, mut packet) = front.hear().await;
    assert_eq!(message, FromFront::Dialled { id: 7 });
    TcpStream::from(packet.descriptors.remove(0)).write_all(b"x").unwrap();
    let mut read = [0];
    upstream.accept().unwrap().0.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"x");
}

#[tokio::test]
async fn a_dial_that_fails_says_why() {
    let front = Front::new(Limits { dials: number(1), dial_timeout: number(1), ..Limits::default() }).await;
    let closed = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases =
        [("127.0.0.1", 0, "port 0"), ("127.0.0.1", closed, "refused"), ("no host", 1, "look up"), ("", 1, "look up")];
    for (id, (host, port, why)) in (1..).zip(cases) {
        front.tell(dial(id, host, port)).await;
        let (FromFront::NotDialled { id: answered, why: said }, packet) = front.hear().await else { panic!("{host}") };
        assert_eq!(answered, id);
        assert!(said.as_str().contains(why), "{host}: {said}");
        assert!(packet.descriptors.is_empty());
    }
    assert_eq!(front.counters.not_dialled.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_dial_over_the_bound_is_refused_at_once() {
    let front = Front::new(Limits { dials: number(1), ..Limits::default() }).await;
    let upstream = StdListener::bind("127.0.0.1:0").unwrap();
    let port = upstream.local_addr().unwrap().port();
    // All are read while the first waits for the thread that looks its name up.
    for id in 0..20 {
        front.tell(dial(id, "127.0.0.1", port)).await;
    }
    let (mut dialled, mut busy) = (0, 0);
    for _ in 0..20 {
        match front.hear().await.0 {
            FromFront::Dialled { .. } => dialled += 1,
            FromFront::NotDialled { why, .. } if why.as_str() == "too many connections are being made" => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(dialled >= 1 && busy >= 1, "{dialled} dialled, {busy} refused");
}

#[tokio::test]
async fn store_requests_are_answered_each_by_its_number() {
    let front = Front::new(Limits::default()).await;
    let operation = |at: u8| Operation::Create {
        table: Table::Hosts,
        key: Bytes::new(vec![at]).unwrap(),
        value: Bytes::new(vec![at]).unwrap(),
    };
    for id in 0..50u8 {
        let request = StoreRequest::Commit { operations: vec![operation(id % 40)] };
        front.tell(FromVault::Store { id: id.into(), request }).await;
    }
    let mut answers = [None; 50].map(|_: Option<()>| None);
    for _ in 0..50 {
        let (FromFront::Stored { id, reply }, _) = front.hear().await else { panic!() };
        assert!(answers[usize::try_from(id).unwrap()].replace(reply).is_none());
    }
    for (id, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), if id < 40 { StoreReply::Committed } else { StoreReply::Exists }, "{id}");
    }
    let operations = (0..=u8::try_from(MAX_OPERATIONS).unwrap()).map(operation).collect();
    front.tell(FromVault::Store { id: 60, request: StoreRequest::Commit { operations } }).await;
    assert!(matches!(front.ended().await, Err(LinkError::Malformed(_))), "a transaction over its bound was read");
}

#[tokio::test]
async fn what_is_no_message_and_a_descriptor_and_a_private_key_end_the_link() {
    let front = Front::new(Limits::default()).await;
    front.vault.send(&[99], &[]).await.unwrap();
    assert!(matches!(front.ended().await, Err(LinkError::Malformed(_))));

    let front = Front::new(Limits::default()).await;
    let bytes = encode(&FromVault::Condition(Condition::default()), MAX_PACKET).unwrap();
    let descriptor = std::fs::File::open("/dev/null").unwrap();
    front.vault.send(&bytes, &[std::os::fd::AsFd::as_fd(&descriptor)]).await.unwrap();
    assert!(matches!(front.ended().await, Err(LinkError::Descriptors { count: 1 })));

    let front = Front::new(Limits::default()).await;
    let issuer =
        Issuer { url: Text::cut("https://id.example"), jwks: Text::cut(r#"{"keys":[{"d":"x"}]}"#), algorithms: vec![] };
    front.tell(FromVault::Publish { issuers: vec![issuer] }).await;
    assert!(matches!(front.ended().await, Err(LinkError::Publish(_))));
}

#[tokio::test]
async fn the_link_ends_as_the_vault_says() {
    let front = Front::new(Limits::default()).await;
    let refusal = Refusal::new(RefusalCode::Store, "the manifest does not verify");
    front.tell(FromVault::Failed(refusal.clone())).await;
    assert_eq!(front.ended().await.unwrap(), LinkEnd::Failed(refusal));

    let mut front = Front::new(Limits::default()).await;
    front.stop.take().unwrap().send(()).unwrap();
    assert_eq!(front.hear().await.0, FromFront::Stop);
    front.vault.socket().shutdown().unwrap();
    assert_eq!(front.ended().await.unwrap(), LinkEnd::Stopped);
}

#[tokio::test]
async fn readiness_metrics_and_documents_follow_the_vault() {
    let front = Front::new(Limits::default()).await;
    const READY: &str = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    const HEALTHY: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(front.get(READY).await.starts_with("HTTP/1.1 503"));
    assert!(front.get(HEALTHY).await.starts_with("HTTP/1.1 503"), "a vault that never answered is not healthy");
    front.answer_its_look().await;
    let figure = Figure { name: Text::cut("grants_total"), label: None, value: 3, counter: true };
    front.tell(FromVault::Condition(Condition { ready: true, figures: vec![figure], steps: Vec::new() })).await;
    let jwks = r#"{"keys":[{"kty":"EC","kid":"é"}]}"#;
    let issuer = Issuer {
        url: Text::cut("https://id.example/a/b"),
        jwks: Text::cut(jwks),
        algorithms: vec![Text::cut("ES256")],
    };
    front.tell(FromVault::Publish { issuers: vec![issuer] }).await;
    // Answered after both have been taken, packets being read in order.
    front.tell(FromVault::Store { id: 1, request: StoreRequest::Last { table: Table::Audit } }).await;
    front.hear().await;

    assert!(front.get(READY).await.starts_with("HTTP/1.1 200"));
    assert!(front.get(HEALTHY).await.starts_with("HTTP/1.1 200"));
    let metrics = front.get("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
    assert!(metrics.contains("# TYPE blindferry_grants_total counter\nblindferry_grants_total 3\n"));
    let document = front.get("GET /a/b/.well-known/jwks.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(document.ends_with(&format!("\r\n\r\n{jwks}")));
    assert!(
        document.contains("cache-control: public, max-age=300\r\n")
            && document.contains("content-type: application/json\r\n")
    );
    let missing = front.get("GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("cache-control: no-store\r\n"));
}

#[tokio::test]
async fn a_request_with_a_body_or_a_long_head_or_another_method_is_refused() {
    let front = Front::new(Limits::default()).await;
    let body = front.get("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\nx").await;
    assert!(body.starts_with("HTTP/1.1 413"), "{body}");
    let post = front.get("POST /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    let public = front.public;
    let long = spawn_blocking(move || {
        let mut stream = TcpStream::connect(public).unwrap();
        let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        let _ = stream.write_all(head.as_bytes());
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    });
    let answer = long.await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_let_go() {
    let front = Front::new(Limits::default()).await;
    let public = front.public;
    // Both places, so that nobody else gets one until these are let go.
    let slow = [(); 2].map(|()| {
        let mut stream = TcpStream::connect(public).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:").unwrap();
        stream
    });
    let answered = front.get("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(timeout(Duration::from_secs(15), answered).await.unwrap().starts_with("HTTP/1.1 200"));
    drop(slow);
}
