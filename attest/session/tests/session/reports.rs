//! Do reports leave with what somebody waits for, in time without it, and is none lost?

use crate::ends::{World, number, pipe, request};
use blindferry_proto::identifier::AskId;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::session::{Answer, BrokerRequest, Call, FromVault, Request};
use blindferry_session::channel::{ChannelError, Reader};
use blindferry_session::client::{CallError, Caller, Established, REPORT_TIME, REPORTS, SessionOver};
use blindferry_session::server::Standing;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

#[tokio::test(start_paused = true)]
async fn reports_leave_with_the_next_request_in_one_record() {
    let mut session = Session::new().await;
    let mut calls = JoinSet::new();
    for number in 0..3 {
        session.call(&mut calls, request(number));
    }
    assert!(session.is_silent(REPORT_TIME / 2).await, "a report went out by itself");
    session.call(&mut calls, collect());
    let asked = Instant::now();
    for report in 0..3 {
        assert_eq!(number(&session.take().await.request), report);
    }
    assert_eq!(session.take().await.request, collect());
    assert_eq!((session.sent(), asked.elapsed()), (1, Duration::ZERO));
    // The next ones wait as long as the first.
    let next = Instant::now();
    session.call(&mut calls, request(4));
    session.take().await;
    assert_eq!((session.sent(), next.elapsed()), (1, REPORT_TIME));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_somebody_waits_for_does_not_wait() {
    let mut session = Session::new().await;
    let (mut calls, asked) = (JoinSet::new(), Instant::now());
    session.call(&mut calls, collect());
    session.take().await;
    assert_eq!((session.sent(), asked.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn reports_that_no_request_follows_leave_together_in_time() {
    let mut session = Session::new().await;
    let (mut calls, told) = (JoinSet::new(), Instant::now());
    session.call(&mut calls, request(1));
    assert!(session.is_silent(REPORT_TIME - Duration::from_millis(2)).await);
    // One that comes later does not put the first off.
    session.call(&mut calls, request(2));
    assert_eq!((number(&session.take().await.request), told.elapsed()), (1, REPORT_TIME));
    assert_eq!((number(&session.take().await.request), told.elapsed()), (2, REPORT_TIME));
    assert_eq!(session.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn enough_reports_leave_at_once() {
    for (reports, after) in [(REPORTS - 1, REPORT_TIME), (REPORTS, Duration::ZERO)] {
        let mut session = Session::new().await;
        let (mut calls, told) = (JoinSet::new(), Instant::now());
        for number in 0..reports {
            session.call(&mut calls, request(u8::try_from(number).unwrap()));
        }
        for _ in 0..reports {
            session.take().await;
        }
        assert_eq!((session.sent(), told.elapsed()), (1, after), "{reports} reports");
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_is_answered_like_any_call() {
    let mut session = Session::new().await;
    let mut calls = JoinSet::new();
    session.call(&mut calls, request(1));
    let id = session.take().await.id;
    session.standing.writer.send(&FromVault::Answer { id, answer: Answer::Done }, MAX_FRAME).await.unwrap();
    assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap(), Answer::Done);
}

#[tokio::test(start_paused = true)]
async fn whoever_reports_hears_when_the_session_ends_under_a_report_that_is_held() {
    let mut session = Session::new().await;
    let mut calls = JoinSet::new();
    session.call(&mut calls, request(1));
    let told = Instant::now();
    session.standing.writer.close().await;
    assert!(matches!(calls.join_next().await.unwrap().unwrap(), Err(CallError::Over)));
    assert!(told.elapsed() < REPORT_TIME);
    let received = session.standing.reader.receive::<Call>(MAX_FRAME).await;
    assert!(matches!(received.unwrap_err(), ChannelError::Closed), "it was not held");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_held_leaves_before_the_session_is_ended_from_here() {
    let mut session = Session::new().await;
    let mut calls = JoinSet::new();
    session.call(&mut calls, request(1));
    assert!(session.is_silent(REPORT_TIME / 2).await);
    // The last to ask are gone, and with them the driver's reason to be.
    calls.shutdown().await;
    let Session { caller, driver, mut standing, .. } = session;
    drop(caller);
    assert_eq!(number(&take(&mut standing.reader).await.request), 1);
    assert!(matches!(standing.reader.receive::<Call>(MAX_FRAME).await.unwrap_err(), ChannelError::Closed));
    assert!(matches!(driver.await.unwrap(), SessionOver::Ended));
}

/// A session that stands, whose records are counted on their way to the vault.
struct Session {
    caller: Caller,
    driver: tokio::task::JoinHandle<SessionOver>,
    standing: Standing<DuplexStream>,
    records: Arc<AtomicUsize>,
}

impl Session {
    async fn new() -> Self {
        let world = World::new();
        let (ours, theirs) = pipe();
        let records = Arc::new(AtomicUsize::new(0));
        let counted = Counted { stream: ours, records: Arc::clone(&records), header: Vec::new(), body: 0 };
        let (established, standing) = tokio::join!(world.connect(counted), world.admit(theirs));
        let Established { caller, driver, .. } = established.unwrap();
        assert!(records.swap(0, Ordering::Relaxed) > 2, "the records of the handshake were not seen");
        let standing = standing.unwrap_or_else(|error| panic!("{error}"));
        Self { caller, driver: tokio::spawn(driver.run()), standing, records }
    }

    fn call(&self, calls: &mut JoinSet<Result<Answer, CallError>>, request: Request) {
        let caller = self.caller.clone();
        calls.spawn(async move { caller.call(request).await });
    }

    async fn take(&mut self) -> Call {
        take(&mut self.standing.reader).await
    }

    /// Whether the vault hears nothing for so long.
    async fn is_silent(&mut self, time: Duration) -> bool {
        timeout(time, self.standing.reader.announced()).await.is_err()
    }

    /// Records that went to the vault since this was last asked.
    fn sent(&self) -> usize {
        self.records.swap(0, Ordering::Relaxed)
    }
}

async fn take(reader: &mut Reader<DuplexStream>) -> Call {
    reader.receive(MAX_FRAME).await.unwrap()
}

/// One that is no report.
fn collect() -> Request {
    Request::Broker(BrokerRequest::Collect { ask: AskId([1; 8]) })
}

/// Counts records of TLS that are written (RFC 8446 section 5.1): a type, a version, a length, and so many bytes.
struct Counted {
    stream: DuplexStream,
    records: Arc<AtomicUsize>,
    header: Vec<u8>,
    body: usize,
}

impl Counted {
    fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let rest = self.body.min(bytes.len());
                self.body -= rest;
                bytes = &bytes[rest..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let [_, _, _, high, low] = self.header[..] {
                self.body = usize::from(u16::from_be_bytes([high, low]));
                self.header.clear();
                self.records.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, bytes);
        if let Poll::Ready(Ok(length)) = written {
            self.saw(&bytes[..length]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
