//! Floods of forged evidence: what one attempt costs us, and what it costs whoever makes it.

use crate::ground::{Ground, times};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Open, OpenReply, PeerProof, ProofReply, VERSION};
use blindferry_session::channel::Channel;
use blindferry_session::{Identity, tls};
use blindferry_tests::fleet::HOST;
use blindferry_tests::usage::processor;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

#[test]
fn a_flood_of_forged_evidence_costs_milliseconds_each_and_holds_up_nobody() {
    let Some(ground) = Ground::start() else { return };
    let (count, listen) = (times(60), ground.fleet.enclave.listen);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ours = ["vault", "front"].map(|who| ground.process(who)).into_iter().chain([ground.fleet.enclave.device()]);
    let ours: Vec<u32> = ours.collect();
    let spent = || (ours.iter().map(|process| processor(*process)).sum::<Duration>(), processor(std::process::id()));
    // What we use when nobody does anything goes away in the noise: the others cross afterwards.
    let before = spent();
    for number in 0..count {
        let refused = runtime.block_on(forge(listen, u8::try_from(number % 200).unwrap()));
        assert!(matches!(refused, Some(ProofReply::Refused(_))), "{refused:?}");
    }
    let after = spent();
    let each = |before: Duration, after: Duration| (after - before).as_secs_f64() * 1000.0 / f64::from(count);
    let (us, them) = (each(before.0, after.0), each(before.1, after.1));
    println!("an attempt costs {us:.2} ms of processor here (vault, front, device process), and {them:.2} ms there");
    // A debug build of ours on a busy machine; the most of it is TLS, which both sides pay, and a quote.
    assert!(us < 60.0, "{us} ms");

    let others = ground.others();
    for number in 0..count / 2 {
        runtime.block_on(forge(listen, u8::try_from(number % 200).unwrap()));
    }
    others.wait_for(3);
    println!("others crossed {} times beside {} attempts", others.end_without_a_refusal(), count / 2);
    let codes = ground.fleet.operator().not_attested(HOST, 1);
    println!("{} of them are in the audit, as {:?}", codes.len(), codes.first());
    ground.settles_within(16);
}

/// Says that it is the worker host, and shows nonsense. What it hears.
async fn forge(listen: SocketAddr, filler: u8) -> Option<ProofReply> {
    let identity = Identity::generate().unwrap();
    let connector = TlsConnector::from(tls::client(&identity).unwrap());
    let stream = TcpStream::connect(listen).await.unwrap();
    let stream = connector.connect(ServerName::try_from("vault.invalid").unwrap(), stream).await.ok()?;
    let mut channel = Channel::new(TlsStream::Client(stream), identity.spki()).unwrap();
    let (name, context) = (HOST.parse().unwrap(), Context([filler; 32]));
    let open = Open { version: VERSION, role: Role::Broker, name, context, logs: WantedLogs::NONE };
    channel.writer.send(&open, MAX_FRAME_UNATTESTED).await.ok()?;
    let OpenReply::Proof(_) = channel.reader.receive(MAX_FRAME_UNATTESTED).await.ok()? else { return None };
    let proof = PeerProof { evidence: Bytes::new(vec![filler; 2048]).unwrap(), endorsement: None };
    channel.writer.send(&proof, MAX_FRAME_UNATTESTED).await.ok()?;
    channel.reader.receive(MAX_FRAME_UNATTESTED).await.ok()
}
