//! Must a peer prove itself again, freshly, for as long as the session stands?

use crate::ends::{World, answer, number, request};
use crate::handshake::refused;
use crate::platform::{Conduct, SoftwareTpm, reference};
use blindferry_attest::attested::Pinned;
use blindferry_attest::tpm::QuoteClock;
use blindferry_proto::limits::MAX_FRAME;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Answer, Call, FromVault, Request};
use blindferry_session::client::{CALLS, Established, SessionOver};
use blindferry_session::server::{Rechallenge, Standing};
use ring::rand::SystemRandom;
use tokio::io::DuplexStream;

#[tokio::test]
async fn a_host_proves_itself_again_whenever_it_is_asked() {
    let world = World::new();
    let (Established { driver, caller, .. }, mut standing) = world.session().await;
    let vault = async {
        let mut clock = QuoteClock::from(standing.attested.clock().unwrap());
        for _ in 0..5 {
            let open = challenge(&mut standing).await;
            let (id, evidence) = evidence(&mut standing).await;
            let attested = open
                .judge(&evidence, Pinned::Ak { name: &world.pinned, earlier: Some(&clock) }, &reference(Role::Broker))
                .unwrap();
            assert!(attested.clock().unwrap().clock > clock.clock);
            clock = attested.clock().unwrap().into();
            tell(&mut standing, FromVault::Answer { id, answer: Answer::Done }).await;
        }
        // Calls still find their answers.
        let answers = async {
            let Call { id, request } = standing.reader.receive(MAX_FRAME).await.unwrap();
            tell(&mut standing, FromVault::Answer { id, answer: answer(number(&request)) }).await;
        };
        let (answered, ()) = tokio::join!(caller.call(request(7)), answers);
        assert_eq!(answered.unwrap(), answer(7));
        standing.writer.close().await;
    };
    let (over, ()) = tokio::join!(driver.run(), vault);
    assert!(matches!(over, SessionOver::Closed), "{over}");
    assert_eq!(world.host.binders().len(), 6);
}

#[tokio::test]
async fn fresh_evidence_is_sent_however_many_calls_are_under_way() {
    let world = World::new();
    let (Established { driver, caller, .. }, mut standing) = world.session().await;
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.call(request(1)).await })
        })
        .collect();
    let vault = async {
        for _ in 0..CALLS {
            let _unanswered: Call = standing.reader.receive(MAX_FRAME).await.unwrap();
        }
        let open = challenge(&mut standing).await;
        let (_, evidence) = evidence(&mut standing).await;
        let judged = open.judge(&evidence, world.pin(), &reference(Role::Broker));
        assert!(judged.is_ok());
        standing.writer.close().await;
    };
    tokio::join!(driver.run(), vault);
    for call in calls {
        assert!(call.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn an_answer_to_an_older_challenge_is_refused() {
    let world = World::new();
    let (Established { driver, caller: _caller, .. }, mut standing) = world.session().await;
    let vault = async {
        let _forgotten = challenge(&mut standing).await;
        let (id, stale) = evidence(&mut standing).await;
        let open = challenge(&mut standing).await;
        assert_eq!(refused(open.judge(&stale, world.pin(), &reference(Role::Broker))), "tpm-quote-challenge");
        tell(&mut standing, FromVault::Answer { id, answer: Answer::Refused(RefusalCode::NotAttested.into()) }).await;
    };
    let (over, ()) = tokio::join!(driver.run(), vault);
    assert!(matches!(over, SessionOver::Refused { refusal } if refusal.code == RefusalCode::NotAttested));
}

#[tokio::test]
async fn the_evidence_of_the_handshake_answers_no_later_challenge() {
    let world = World::new();
    let (_established, standing) = world.session().await;
    let first = world.host.quote(&world.host.binders()[0]);
    let (open, _) = Rechallenge::new(&standing.exporter, Role::Broker, WantedLogs::NONE, &SystemRandom::new()).unwrap();
    assert_eq!(refused(open.judge(&first, world.pin(), &reference(Role::Broker))), "tpm-quote-challenge");
}

#[tokio::test]
async fn fresh_evidence_of_another_session_of_the_same_host_is_refused() {
    let world = World::new();
    let (host, standing) = world.session().await;
    let (_other_host, other) = world.session().await;
    let (open, context) =
        Rechallenge::new(&standing.exporter, Role::Broker, WantedLogs::NONE, &SystemRandom::new()).unwrap();
    // Over the same context, in the other session: what the host's end there would sign.
    let binder = other.exporter.peer_binder(Role::Broker, &context).unwrap();
    let carried = world.host.quote(binder.as_bytes());
    assert_eq!(refused(open.judge(&carried, world.pin(), &reference(Role::Broker))), "tpm-quote-challenge");
    drop(host);
}

#[tokio::test]
async fn software_that_changed_is_refused_at_the_next_challenge() {
    let world = World::new();
    let (Established { driver, caller: _caller, .. }, mut standing) = world.session().await;
    world.host.run_other_software();
    let vault = async {
        let open = challenge(&mut standing).await;
        let (id, evidence) = evidence(&mut standing).await;
        assert_eq!(refused(open.judge(&evidence, world.pin(), &reference(Role::Broker))), "tpm-pcr-value");
        tell(&mut standing, FromVault::Answer { id, answer: Answer::Refused(RefusalCode::NotAttested.into()) }).await;
    };
    let (over, ()) = tokio::join!(driver.run(), vault);
    assert!(matches!(over, SessionOver::Refused { .. }));
}

#[tokio::test]
async fn another_key_an_older_clock_and_garbage_are_refused_at_the_next_challenge() {
    let world = World::new();
    let (_established, standing) = world.session().await;
    let ahead = QuoteClock { clock: u64::MAX, reset_count: 5, restart_count: 2 };
    for (code, earlier) in [("tpm-ak-name", None), ("tpm-clock-reset", Some(ahead)), ("evidence-malformed", None)] {
        let (open, context) =
            Rechallenge::new(&standing.exporter, Role::Broker, WantedLogs::NONE, &SystemRandom::new()).unwrap();
        let binder = standing.exporter.peer_binder(Role::Broker, &context).unwrap();
        let evidence = match code {
            "tpm-ak-name" => SoftwareTpm::new().quote(binder.as_bytes()),
            "tpm-clock-reset" => world.host.quote(binder.as_bytes()),
            _ => Vec::new(),
        };
        let judged = open.judge(
            &evidence,
            Pinned::Ak { name: &world.pinned, earlier: earlier.as_ref() },
            &reference(Role::Broker),
        );
        assert_eq!(refused(judged), code);
    }
}

#[tokio::test]
async fn a_host_that_cannot_prove_itself_again_ends_its_session() {
    let world = World::new();
    let (Established { driver, caller, .. }, mut standing) = world.session().await;
    world.host.behave(Conduct::Broken);
    let vault = async {
        let _open = challenge(&mut standing).await;
        standing.reader.receive::<Call>(MAX_FRAME).await.unwrap_err().code()
    };
    let (over, code) = tokio::join!(driver.run(), vault);
    assert!(matches!(over, SessionOver::OwnEvidence { .. }));
    assert_eq!(code, "connection");
    drop(caller);
}

#[tokio::test]
async fn challenges_without_end_are_not_queued_without_end() {
    let world = World::new();
    let (Established { driver, caller: _caller, .. }, mut standing) = world.session().await;
    world.host.behave(Conduct::Silent);
    let vault = async {
        for number in 0..8 {
            let pushed = standing
                .writer
                .send(&FromVault::Reattest { context: Context([number; 32]), logs: WantedLogs::NONE }, MAX_FRAME)
                .await;
            if pushed.is_err() {
                break;
            }
        }
    };
    let (over, ()) = tokio::join!(driver.run(), vault);
    assert!(matches!(over, SessionOver::Pressed), "{over}");
}

/// Asks for fresh evidence.
async fn challenge(standing: &mut Standing<DuplexStream>) -> Rechallenge {
    let (open, context) =
        Rechallenge::new(&standing.exporter, Role::Broker, WantedLogs::NONE, &SystemRandom::new()).unwrap();
    tell(standing, FromVault::Reattest { context, logs: WantedLogs::NONE }).await;
    open
}

/// Fresh evidence, which must be the next message, and the number to answer it by.
async fn evidence(standing: &mut Standing<DuplexStream>) -> (u64, Vec<u8>) {
    match standing.reader.receive(MAX_FRAME).await.unwrap() {
        Call { id, request: Request::Reattest { evidence } } => (id, evidence.into_vec()),
        Call { request, .. } => panic!("unexpected request: {request:?}"),
    }
}

async fn tell(standing: &mut Standing<DuplexStream>, message: FromVault) {
    standing.writer.send(&message, MAX_FRAME).await.unwrap();
}
