//! How a long frame comes in: only when it was asked for, into a place, and in time.

use super::*;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::frame::{encode, header};
use blindferry_proto::limits::MAX_EVENT_LOG;
use blindferry_proto::role::Role;
use blindferry_session::channel::Channel;
use blindferry_session::{Identity, tls};
use ring::rand::SystemRandom;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const EVENTS: WantedLogs = WantedLogs { events: true, ima: false };

/// A peer that writes what it likes, and the vault's end.
async fn ends() -> (TlsStream<DuplexStream>, Channel<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(1024 * 1024);
    let (peer, vault) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let connector = TlsConnector::from(tls::client(&peer).unwrap());
    let acceptor = TlsAcceptor::from(tls::server(&vault).unwrap());
    let name = ServerName::try_from("vault.invalid").unwrap();
    let (peer, accepted) = tokio::join!(connector.connect(name, theirs), acceptor.accept(ours));
    (peer.unwrap(), Channel::new(accepted.unwrap().into(), vault.spki()).unwrap())
}

/// One open challenge that asks for these logs.
fn asking(exporter: &Exporter<DuplexStream>, logs: WantedLogs) -> Challenge {
    let (challenge, _context) = Rechallenge::new(exporter, Role::Broker, logs, &SystemRandom::new()).unwrap();
    Challenge(Mutex::new(Open { challenge: Some(challenge), arriving: false }))
}

fn answer(evidence: usize) -> Vec<u8> {
    let evidence = Bytes::new(vec![7; evidence]).unwrap();
    encode(&Call { id: 1, request: Request::Reattest { evidence } }, usize::MAX).unwrap()
}

async fn say(peer: &mut TlsStream<DuplexStream>, bytes: &[u8]) {
    peer.write_all(bytes).await.unwrap();
    peer.flush().await.unwrap();
}

#[tokio::test]
async fn a_long_frame_is_refused_by_its_header_unless_a_challenge_asks_for_logs_of_that_length() {
    for (asked, length, let_in) in [
        (None, MAX_FRAME + 1, false),
        (Some(WantedLogs::NONE), MAX_FRAME + 1, false),
        (Some(EVENTS), MAX_FRAME + EVENTS.most() + 1, false),
        (Some(EVENTS), MAX_FRAME + EVENTS.most(), true),
    ] {
        let (mut peer, mut vault) = ends().await;
        let challenge = asked.map_or_else(Challenge::default, |logs| asking(&vault.exporter, logs));
        let places = Semaphore::new(1);
        say(&mut peer, &header(length, usize::MAX).unwrap()).await;
        let next = challenge.next_call(&places, &mut vault.reader);
        // Who is let in has its place and waits for the rest, which never comes.
        let next = timeout(Duration::from_millis(200), next).await;
        assert_eq!(next.is_err(), let_in, "{asked:?} {length}");
        if let Ok(refused) = next {
            assert_eq!(refused.err(), Some(Over::because("logs-unasked")));
            assert!(!let_in);
        }
    }
}

#[tokio::test]
async fn a_long_frame_waits_for_a_place_and_keeps_it_until_it_was_dealt_with() {
    let (mut peer, mut vault) = ends().await;
    let challenge = asking(&vault.exporter, EVENTS);
    let places = Semaphore::new(1);
    let taken = places.try_acquire().unwrap();
    say(&mut peer, &answer(MAX_EVENT_LOG)).await;
    let next = challenge.next_call(&places, &mut vault.reader);
    tokio::pin!(next);
    assert!(timeout(Duration::from_millis(200), &mut next).await.is_err(), "there is no place");
    assert!(lock(&challenge.0).arriving, "and that is not the peer's delay");
    drop(taken);
    let (call, place) = next.await.unwrap();
    assert!(matches!(call.request, Request::Reattest { .. }) && place.is_some());
    assert_eq!(places.available_permits(), 0);
    drop(place);
    assert_eq!(places.available_permits(), 1);
}

#[tokio::test]
async fn a_short_frame_needs_no_place_and_a_long_one_may_be_nothing_but_evidence() {
    let (mut peer, mut vault) = ends().await;
    let challenge = asking(&vault.exporter, EVENTS);
    let full = Semaphore::new(0);
    say(&mut peer, &answer(100)).await;
    let (_call, place) = challenge.next_call(&full, &mut vault.reader).await.unwrap();
    assert!(place.is_none());
    let places = Semaphore::new(1);
    say(&mut peer, &encode(&vec![0_u8; MAX_FRAME + 1], usize::MAX).unwrap()).await;
    let over = challenge.next_call(&places, &mut vault.reader).await.err();
    assert_eq!((over, places.available_permits()), (Some(Over::because("connection")), 1));
}

#[tokio::test]
async fn who_sends_slower_than_a_place_allows_loses_the_session_and_the_place() {
    let (mut peer, mut vault) = ends().await;
    let challenge = asking(&vault.exporter, EVENTS);
    let places = Semaphore::new(1);
    let frame = answer(MAX_EVENT_LOG);
    say(&mut peer, frame.get(..1000).unwrap()).await;
    tokio::time::pause();
    let before = Instant::now();
    let over = challenge.next_call(&places, &mut vault.reader).await.err();
    assert_eq!((over, places.available_permits()), (Some(Over::because("slow-sender")), 1));
    assert_eq!(before.elapsed().as_secs(), LARGE_FRAME_TIME.as_secs());
}
