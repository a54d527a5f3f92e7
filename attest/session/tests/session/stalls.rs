//! Can a peer that says nothing, or does not listen, hold anything up?

use crate::ends::{World, pipe, receive, request, send, vault_by_hand};
use crate::platform::Conduct;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Answer, FromVault, LeaseEnd, Open, OpenReply, PeerProof, VaultProof};
use blindferry_session::channel::CLOSE_TIME;
use blindferry_session::client::{CallError, ConnectError, Established, HANDSHAKE_TIME, PUSHES, SessionOver};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What the vault never does.
#[derive(Clone, Copy, Debug)]
enum Silent {
    Tls,
    Proof,
    Welcome,
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_falls_silent_is_given_up_at_the_deadline() {
    for silent in [Silent::Tls, Silent::Proof, Silent::Welcome] {
        let world = World::new();
        let (ours, theirs) = pipe();
        let vault = async {
            if matches!(silent, Silent::Tls) {
                return std::future::pending::<()>().await;
            }
            let mut channel = vault_by_hand(theirs).await;
            let Open { context, .. } = receive(&mut channel).await;
            if matches!(silent, Silent::Welcome) {
                let binder = channel.exporter.own_binder(Role::Vault, &context).unwrap();
                let evidence = Bytes::new(world.vault.quote(binder.as_bytes())).unwrap();
                let proof = VaultProof {
                    evidence,
                    context: Context([1; 32]),
                    logs: WantedLogs::NONE,
                    vouched: world.vouched(&binder),
                };
                send(&mut channel, &OpenReply::Proof(proof)).await;
                let _proof: PeerProof = receive(&mut channel).await;
            }
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        let error = tokio::select! {
            established = world.connect(ours) => established.unwrap_err(),
            () = vault => panic!("the vault ended"),
        };
        assert!(matches!(error, ConnectError::Late), "{silent:?}: {error}");
        assert_eq!(began.elapsed().as_secs(), HANDSHAKE_TIME.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_own_platform_stalls_gives_up_at_the_deadline() {
    let world = World::new();
    world.host.behave(Conduct::Silent);
    let (ours, theirs) = pipe();
    let (established, standing) = tokio::join!(world.connect(ours), world.admit(theirs));
    assert!(matches!(established.unwrap_err(), ConnectError::Late));
    assert!(standing.is_err());
}

/// The end of a session is where leases are ended: whoever was refused must not be able to put it off.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_cannot_hold_up_the_end_of_its_session() {
    let world = World::new();
    let (_host, mut standing) = world.session().await;
    let full = async {
        let answer = FromVault::Answer { id: 1, answer: Answer::Done };
        while timeout(Duration::from_secs(1), standing.writer.send(&answer, MAX_FRAME)).await.is_ok() {}
    };
    full.await;
    let began = Instant::now();
    standing.writer.close().await;
    assert!(began.elapsed() >= CLOSE_TIME, "the pipe was not full: nothing is shown");
    assert!(began.elapsed() < CLOSE_TIME * 2);
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_does_not_read_cannot_hold_up_the_end_either() {
    let world = World::new();
    let (ours, theirs) = tokio::io::duplex(512);
    let (established, standing) = tokio::join!(world.connect(ours), world.admit(theirs));
    let (Established { driver, caller, .. }, Ok(mut standing)) = (established.unwrap(), standing) else { panic!() };
    let driver = tokio::spawn(driver.run());
    // More than the pipe and TLS hold: the driver is stuck in the middle of sending.
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.call(request(number)).await })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    for _ in 0..=PUSHES {
        let push = FromVault::LeaseEnded { lease: LeaseId([1; _]), why: LeaseEnd::Idle };
        if standing.writer.send(&push, MAX_FRAME).await.is_err() {
            // The host has had enough, and did not wait for the rest to be read.
            break;
        }
    }
    let over = driver.await.unwrap();
    assert!(began.elapsed() >= CLOSE_TIME, "the pipe was not full: nothing is shown");
    assert!(began.elapsed() < CLOSE_TIME * 2);
    assert!(matches!(over, SessionOver::Pressed), "{over}");
    for call in calls {
        assert!(matches!(call.await.unwrap().unwrap_err(), CallError::Over));
    }
}
