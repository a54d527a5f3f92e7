//! Does a frame that is too long, too short or nonsense cost more than its header, or get further than a refusal?

use crate::ends::{World, open, peer_by_hand, peer_tls, pipe, prove, receive, send};
use crate::handshake::refused;
use blindferry_proto::bounded::{Bytes, CodecError, encode};
use blindferry_proto::limits::{MAX_EVIDENCE, MAX_FRAME, MAX_FRAME_UNATTESTED};
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Answer, Call, FromVault, OpenReply, ProofReply};
use blindferry_session::channel::ChannelError;
use blindferry_session::client::{Established, SessionOver};
use blindferry_session::server::hear;
use blindferry_session::{Identity, tls};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The peer keeps the connection open and sends no byte of the body: nothing but the header is waited for.
#[tokio::test]
async fn a_frame_over_the_bound_is_refused_by_its_header_alone() {
    for length in [MAX_FRAME_UNATTESTED + 1, MAX_FRAME, 1 << 24, 0xffff_ffff] {
        let header = u32::try_from(length).unwrap().to_be_bytes();
        assert_eq!(first_bytes(&header).await, ("frame-too-long", Some(RefusalCode::Malformed)));
    }
}

#[tokio::test]
async fn a_first_frame_that_is_no_message_is_refused_as_malformed() {
    let opened = encode(&open(Role::Broker), MAX_FRAME_UNATTESTED).unwrap();
    let trailing = [opened.as_slice(), &[0]].concat();
    let cut = opened[..opened.len() - 1].to_vec();
    let long_name = encode(&(1_u16, Role::Broker, "a".repeat(129), Context([0; 32])), MAX_FRAME_UNATTESTED).unwrap();
    let no_name = encode(&(1_u16, Role::Broker, "", Context([0; 32])), MAX_FRAME_UNATTESTED).unwrap();
    let no_role = encode(&(1_u16, 9_u8, "build-7", Context([0; 32])), MAX_FRAME_UNATTESTED).unwrap();
    let lie = encode(&(1_u16, Role::Broker, u64::MAX), MAX_FRAME_UNATTESTED).unwrap();
    for body in [vec![], vec![0xff; 100], trailing, cut, long_name, no_name, no_role, lie] {
        let frame = [u32::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat();
        assert_eq!(first_bytes(&frame).await, ("malformed", Some(RefusalCode::Malformed)), "{body:x?}");
    }
}

#[tokio::test]
async fn a_frame_that_ends_early_ends_the_connection() {
    for bytes in [&[][..], &[0, 0], &[0, 0, 0, 100], &[0, 0, 0, 100, 1, 2, 3]] {
        let world = World::new();
        let (ours, theirs) = pipe();
        let host = async {
            let mut stream = peer_tls(ours, tls::client(&Identity::generate().unwrap()).unwrap()).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let (heard, ()) = tokio::join!(hear(theirs, &world.tls, &world.identity), host);
        assert_eq!(refused(heard), "connection");
    }
}

#[tokio::test]
async fn a_proof_that_breaks_a_bound_is_refused_as_malformed() {
    // Whether an endorsement follows.
    const NONE: u8 = 0;
    const SOME: u8 = 1;
    let bytes = |length| Bytes::<MAX_FRAME>::new(vec![1; length]).unwrap();
    proof_refused((bytes(1), SOME, bytes(1025), 0_u8, bytes(1)), "malformed").await;
    // As many certificates as fit into 64 bits.
    proof_refused((bytes(1), SOME, bytes(1), u64::MAX, bytes(1)), "malformed").await;
    proof_refused((bytes(1), SOME, bytes(1), 1_u8, bytes(4097), bytes(1)), "malformed").await;
    proof_refused((bytes(1), SOME, bytes(1), 0_u8, bytes(1), 0_u8), "malformed").await;
    proof_refused(bytes(MAX_FRAME_UNATTESTED), "frame-too-long").await;
    // A marker that is neither of an endorsement nor of none.
    proof_refused((bytes(1), 2_u8), "malformed").await;
    // Within the bounds of a frame, and so refused for what they say.
    proof_refused((bytes(MAX_EVIDENCE + 1), NONE), "evidence-too-long").await;
    proof_refused((bytes(MAX_EVIDENCE), SOME, bytes(1024), 0_u8, bytes(1)), "evidence-malformed").await;
    proof_refused((bytes(MAX_EVIDENCE), NONE), "evidence-malformed").await;
}

#[tokio::test]
async fn frames_over_the_bound_end_a_session_that_stands() {
    let world = World::new();
    for length in [MAX_FRAME + 1, 10 * MAX_FRAME] {
        let (ours, theirs) = pipe();
        let host = async {
            let mut channel = peer_by_hand(ours).await;
            assert!(matches!(prove(&world, &mut channel).await, ProofReply::Welcome(_)));
            // A peer by hand bounds nothing; the vault may be gone before it is through.
            let _cut_off = channel.writer.send(&vec![0_u8; length], usize::MAX).await;
        };
        let vault = async {
            let mut standing = world.admit(theirs).await.unwrap_or_else(|error| panic!("{error}"));
            standing.reader.receive::<Call>(MAX_FRAME).await.unwrap_err()
        };
        let (error, ()) = tokio::join!(vault, host);
        assert_eq!(error.code(), "frame-too-long");
    }
}

#[tokio::test]
async fn a_host_bounds_the_frames_of_an_attested_vault_too() {
    let done = FromVault::Answer { id: 1, answer: Answer::Done };
    for (too_long, message) in [
        (true, Message::TooLong(vec![0; MAX_FRAME + 1])),
        (false, Message::Trailing(done, 0)),
        (false, Message::Nonsense(0xff)),
    ] {
        let world = World::new();
        let (Established { driver, caller: _caller, .. }, mut standing) = world.session().await;
        standing.writer.send(&message, usize::MAX).await.unwrap();
        match driver.run().await {
            SessionOver::Failed { source: ChannelError::FrameTooLong { .. } } if too_long => {}
            SessionOver::Failed {
                source: ChannelError::Message { source: CodecError::Trailing { left: 1 } | CodecError::Decode(_) },
            } if !too_long => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What no honest vault sends.
#[derive(Serialize)]
#[serde(untagged)]
enum Message {
    TooLong(Vec<u8>),
    Trailing(FromVault, u8),
    Nonsense(u8),
}

/// The code of the vault's refusal of these first bytes, and what the peer is told.
pub(crate) async fn first_bytes(bytes: &[u8]) -> (&'static str, Option<RefusalCode>) {
    let world = World::new();
    let (ours, theirs) = pipe();
    let host = async {
        let mut stream = peer_tls(ours, tls::client(&Identity::generate().unwrap()).unwrap()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut told = Vec::new();
        stream.read_to_end(&mut told).await.unwrap();
        match blindferry_proto::bounded::decode(told.get(4..)?, MAX_FRAME_UNATTESTED).unwrap() {
            OpenReply::Refused(refusal) => Some(refusal.code),
            OpenReply::Proof(_) => panic!("the vault proved itself"),
        }
    };
    let (heard, told) = tokio::join!(hear(theirs, &world.tls, &world.identity), host);
    (refused(heard), told)
}

/// The vault refuses this in place of a proof, and says so.
async fn proof_refused(proof: impl Serialize, code: &str) {
    let world = World::new();
    let (ours, theirs) = pipe();
    let host = async {
        let mut channel = peer_by_hand(ours).await;
        send(&mut channel, &open(Role::Broker)).await;
        let OpenReply::Proof(_) = receive(&mut channel).await else { panic!("refused") };
        channel.writer.send(&proof, usize::MAX).await.unwrap();
        receive(&mut channel).await
    };
    let (claimed, told) = tokio::join!(world.claim(theirs), host);
    assert_eq!(refused(claimed), code);
    let ProofReply::Refused(refusal) = told else { panic!("let in") };
    let wanted = if code.starts_with("evidence") { RefusalCode::NotAttested } else { RefusalCode::Malformed };
    assert_eq!(refusal.code, wanted);
}
