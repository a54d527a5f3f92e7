//! Do logs travel only when they were asked for, and does nobody make room for those that were not?

use crate::ends::{World, open, peer_by_hand, pipe, receive, send};
use crate::handshake::refused;
use crate::platform::{Conduct, SoftwareTpm, endorsement, reference};
use blindferry_attest::reference::ReferenceValues;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::limits::{MAX_EVIDENCE_WITH_LOGS, MAX_FRAME, MAX_FRAME_UNATTESTED};
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_proto::session::{Call, FromVault, Open, OpenReply, PeerProof, ProofReply, Request};
use blindferry_session::client::{ConnectError, Established, connect};
use blindferry_session::server::Rechallenge;
use ring::rand::SystemRandom;

const EVENTS: WantedLogs = WantedLogs { events: true, ima: false };
const BOTH: WantedLogs = WantedLogs { events: true, ima: true };

fn asking(logs: WantedLogs) -> World {
    World { asks: logs, ..World::new() }
}

/// A host that sends these logs, whatever the vault asks for, and how the vault takes it.
async fn sends(world: &World, logs: WantedLogs) -> (&'static str, Option<RefusalCode>) {
    let (ours, theirs) = pipe();
    let host = async {
        let mut channel = peer_by_hand(ours).await;
        send(&mut channel, &open(Role::Broker)).await;
        let OpenReply::Proof(proof) = receive(&mut channel).await else { panic!("refused") };
        let binder = channel.exporter.own_binder(Role::Broker, &proof.context).unwrap();
        let evidence = Bytes::new(world.host.quote_with(binder.as_bytes(), logs)).unwrap();
        let proof = PeerProof { evidence, endorsement: Some(endorsement(&world.host)) };
        // The vault may hang up while this is under way.
        let _cut_off = channel.writer.send(&proof, MAX_FRAME_UNATTESTED + MAX_EVIDENCE_WITH_LOGS).await;
        match channel.reader.receive(MAX_FRAME_UNATTESTED).await {
            Ok(ProofReply::Refused(refusal)) => Some(refusal.code),
            Ok(ProofReply::Welcome(_)) => None,
            other => panic!("neither refused nor welcome: {other:?}"),
        }
    };
    let (admitted, told) = tokio::join!(world.admit(theirs), host);
    (admitted.map_or_else(|error| error.code(), |_| "admitted"), told)
}

#[tokio::test]
async fn logs_that_were_asked_for_are_let_in_and_judged() {
    // Logs that say nothing are no difference to reference values that judge PCR values alone.
    for (asked, sent) in [(EVENTS, EVENTS), (BOTH, BOTH), (BOTH, EVENTS), (BOTH, WantedLogs::NONE)] {
        assert_eq!(sends(&asking(asked), sent).await, ("admitted", None), "{asked:?} {sent:?}");
    }
}

#[tokio::test]
async fn a_peer_that_sends_logs_unasked_is_refused_by_the_length_of_its_frame() {
    for (asked, sent) in [(WantedLogs::NONE, EVENTS), (WantedLogs::NONE, BOTH), (EVENTS, BOTH)] {
        let refused = ("frame-too-long", Some(RefusalCode::Malformed));
        assert_eq!(sends(&asking(asked), sent).await, refused, "{asked:?} {sent:?}");
    }
}

#[tokio::test]
async fn a_short_log_that_nobody_asked_for_is_refused_too() {
    let short = |tpm: &SoftwareTpm, challenge: &[u8; 32]| {
        let long = tpm.quote_with(challenge, EVENTS);
        let plain = tpm.quote(challenge);
        // The log's length follows what a quote without logs has; one byte of it is left, and no IMA list.
        let quote = &long[..plain.len()];
        [quote, &[0, 0, 0, 1, 7], &[0, 0, 0, 0]].concat()
    };
    for (asks, code) in [(WantedLogs::NONE, "logs-unasked"), (EVENTS, "admitted")] {
        let world = asking(asks);
        let claimed = world.claim_by_hand(Role::Broker, async |channel, proof| {
            short(&world.host, channel.exporter.own_binder(Role::Broker, &proof.context).unwrap().as_bytes())
        });
        assert_eq!(claimed.await.map_or_else(|error| error.code(), |_| "admitted"), code);
    }
}

#[tokio::test]
async fn a_host_sends_the_logs_that_the_vault_asks_for_and_no_other() {
    for asks in [WantedLogs::NONE, EVENTS, BOTH] {
        let world = asking(asks);
        let (ours, theirs) = pipe();
        let (_host, claimed) = tokio::join!(
            async { tokio::time::timeout(std::time::Duration::from_secs(5), world.connect(ours)).await },
            async { world.claim(theirs).await.map(|claimed| claimed.evidence().logs()) },
        );
        assert_eq!(claimed.unwrap(), asks);
    }
}

/// Reference values for the vault that judge its events: no log that says nothing can meet them.
fn of_events() -> ReferenceValues {
    let digest = "5c".repeat(32);
    let text = format!(
        "version = 2\nrole = \"vault\"\n[[tpm]]\nname = \"vaults\"\nfirmware = \"any\"\n[tpm.pcrs]\n7 = [\"{digest}\"]\n\
         [tpm.events]\nsecure_boot = \"on\"\nboot_applications = [\"{digest}\"]\n"
    );
    ReferenceValues::parse(&text).unwrap()
}

#[tokio::test]
async fn a_host_asks_the_vault_for_the_logs_that_its_reference_values_judge_in_its_first_message() {
    for (reference, logs) in [(reference(Role::Vault), WantedLogs::NONE), (of_events(), EVENTS)] {
        let world = World::new();
        let mut settings = world.settings(Role::Broker);
        settings.vault.reference = reference;
        let (ours, theirs) = pipe();
        let vault = async {
            let mut channel = crate::ends::vault_by_hand(theirs).await;
            receive::<_, Open>(&mut channel).await.logs
        };
        let (connected, asked) = tokio::join!(connect(ours, &settings, world.host.clone()), vault);
        assert_eq!(asked, logs);
        assert!(connected.is_err(), "nobody answered");
    }
}

#[tokio::test]
async fn a_vault_that_sends_logs_unasked_is_refused_before_anything_is_said_to_it() {
    let world = World::new();
    world.vault.behave(Conduct::Talkative(EVENTS));
    let (ours, theirs) = pipe();
    let (connected, claimed) = tokio::join!(world.connect(ours), world.claim(theirs));
    // The vault as it ships does not get this far: its own bound is that of what it was asked for.
    assert_eq!(refused(claimed), "malformed");
    assert!(matches!(connected.unwrap_err(), ConnectError::Channel(_)));
}

#[tokio::test]
async fn a_vault_that_is_asked_for_its_event_log_sends_it() {
    let world = World::new();
    let (ours, theirs) = pipe();
    let mut settings = world.settings(Role::Broker);
    settings.vault.reference = of_events();
    let (connected, _claimed) = tokio::join!(connect(ours, &settings, world.host.clone()), world.claim(theirs));
    // It came, past the bound of a frame without logs, and was judged: this quote is of PCR 7 alone.
    match connected.unwrap_err() {
        ConnectError::VaultRefused { source } => assert_eq!(source.code(), "tpm-pcr-selection"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn fresh_evidence_has_the_logs_that_the_challenge_asks_for() {
    let world = World::new();
    let (Established { driver, caller: _caller, .. }, mut standing) = world.session().await;
    let vault = async {
        for logs in [BOTH, WantedLogs::NONE, EVENTS] {
            let new = Rechallenge::new(&standing.exporter, Role::Broker, logs, &SystemRandom::new());
            let (open, context) = new.unwrap();
            standing.writer.send(&FromVault::Reattest { context, logs }, MAX_FRAME).await.unwrap();
            let frame = standing.reader.announced().await.unwrap();
            assert_eq!(frame.is_over(MAX_FRAME), logs != WantedLogs::NONE);
            let call: Call = frame.take(MAX_FRAME + logs.most()).await.unwrap();
            let Request::Reattest { evidence } = call.request else { panic!("another request") };
            assert!(open.judge(evidence.as_slice(), world.pin(), &reference(Role::Broker)).is_ok());
            let answer = blindferry_proto::session::Answer::Done;
            standing.writer.send(&FromVault::Answer { id: call.id, answer }, MAX_FRAME).await.unwrap();
        }
    };
    tokio::select! { over = driver.run() => panic!("{over}"), () = vault => {} }
}

#[tokio::test]
async fn fresh_evidence_with_a_log_that_the_challenge_did_not_ask_for_is_refused() {
    let world = World::new();
    let (_host, standing) = world.session().await;
    for (asked, sent, code) in [
        (WantedLogs::NONE, EVENTS, "evidence-too-long"),
        (EVENTS, BOTH, "evidence-too-long"),
        (WantedLogs { events: false, ima: true }, EVENTS, "logs-unasked"),
    ] {
        let new = Rechallenge::new(&standing.exporter, Role::Broker, asked, &SystemRandom::new());
        let (open, context) = new.unwrap();
        let binder = standing.exporter.peer_binder(Role::Broker, &context).unwrap();
        let evidence = world.host.quote_with(binder.as_bytes(), sent);
        assert_eq!(refused(open.judge(&evidence, world.pin(), &reference(Role::Broker))), code);
    }
}
