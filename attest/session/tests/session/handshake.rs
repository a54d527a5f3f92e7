//! Who gets a session?

use crate::ends::{World, open, peer_by_hand, pipe, receive, send, vault_by_hand, welcome};
use crate::frames::first_bytes;
use crate::platform::{Conduct, SoftwareTpm, reference};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Activate, Open, OpenReply, PeerProof, ProofReply, VERSION, VaultProof};
use blindferry_session::channel::ChannelError;
use blindferry_session::client::{ConnectError, VaultIdentity, connect};
use blindferry_session::server::{ServerError, hear};
use ring::rand::SystemRandom;
use std::collections::HashSet;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_broker_and_an_operator_get_a_session_and_the_vaults_welcome() {
    let world = World::new();
    for role in [Role::Broker, Role::Operator] {
        let (ours, theirs) = pipe();
        let settings = world.settings(role);
        let (established, standing) = tokio::join!(connect(ours, &settings, world.host.clone()), world.admit(theirs));
        assert_eq!(established.unwrap().welcome, welcome());
        let standing = standing.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(standing.attested.role(), role);
        assert_eq!(standing.attested.ak_name(), Some(&world.host.ak()));
    }
}

#[tokio::test]
async fn a_session_stands_over_tcp() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let vault = async { world.admit(listener.accept().await.unwrap().0).await };
    let host = async { world.connect(TcpStream::connect(address).await.unwrap()).await };
    let (established, standing) = tokio::join!(host, vault);
    assert_eq!(established.unwrap().welcome, welcome());
    assert!(standing.is_ok());
}

#[tokio::test]
async fn no_two_pieces_of_evidence_are_over_the_same_binder() {
    let world = World::new();
    for _ in 0..3 {
        world.session().await;
    }
    let binders: Vec<_> = [world.vault.binders(), world.host.binders()].concat();
    assert_eq!(binders.len(), 6);
    assert_eq!(binders.into_iter().collect::<HashSet<_>>().len(), 6);
}

#[tokio::test]
async fn a_host_activates_a_credential_before_it_is_judged() {
    let world = World::new();
    let (ours, theirs) = pipe();
    let vault = async {
        let (claimed, activated) = world.claim(theirs).await.unwrap().activate(credential()).await.unwrap();
        assert_eq!(activated.secret.0, [9; 32]);
        let proven = claimed.judge(world.pin(), &reference(Role::Broker)).await.unwrap_or_else(|_| panic!());
        proven.welcome(welcome()).await.is_ok()
    };
    let (established, stands) = tokio::join!(world.connect(ours), vault);
    assert!(stands);
    established.unwrap();
}

#[tokio::test]
async fn a_host_activates_once_and_no_more() {
    let world = World::new();
    let (ours, theirs) = pipe();
    let vault = async {
        let (claimed, _) = world.claim(theirs).await.unwrap().activate(credential()).await.unwrap();
        claimed.activate(credential()).await.unwrap_err()
    };
    let (established, again) = tokio::join!(world.connect(ours), vault);
    assert!(matches!(established.unwrap_err(), ConnectError::ActivateTwice));
    assert_eq!(again.code(), "connection");
}

#[tokio::test]
async fn a_host_with_another_key_or_other_software_is_refused_and_not_told_why() {
    let other_key = World { pinned: SoftwareTpm::new().ak(), ..World::new() };
    let other_software = World::new();
    other_software.host.run_other_software();
    for (world, code) in [(other_key, "tpm-ak-name"), (other_software, "tpm-pcr-value")] {
        let (ours, theirs) = pipe();
        let (established, standing) = tokio::join!(world.connect(ours), world.admit(theirs));
        assert_eq!(refused(standing), code);
        let ConnectError::Refused { refusal } = established.unwrap_err() else { panic!() };
        assert_eq!(refusal, Refusal::new(RefusalCode::NotAttested, ""));
    }
}

#[tokio::test]
async fn a_vault_with_another_key_or_other_software_learns_nothing_of_the_host() {
    let another = World::new();
    another.vault.run_other_software();
    for (world, code) in [(another, "tpm-pcr-value"), (World::new(), "tpm-ak-name")] {
        let mut settings = world.settings(Role::Broker);
        if code == "tpm-ak-name" {
            settings.vault.identity = VaultIdentity::Ak(SoftwareTpm::new().ak());
        }
        let (ours, theirs) = pipe();
        let (established, standing) = tokio::join!(connect(ours, &settings, world.host.clone()), world.admit(theirs));
        let ConnectError::VaultRefused { source } = established.unwrap_err() else { panic!() };
        assert_eq!(source.code(), code);
        assert_eq!(refused(standing), "connection");
        assert!(world.host.binders().is_empty(), "the host made evidence for a vault that it refused");
    }
}

#[tokio::test]
async fn evidence_bound_to_another_role_than_was_claimed_is_refused() {
    let world = World::new();
    for (claimed, bound) in
        [(Role::Operator, Role::Broker), (Role::Broker, Role::Operator), (Role::Broker, Role::Vault)]
    {
        let standing = world.claim_by_hand(claimed, async |channel, proof| {
            world.host.quote(channel.exporter.own_binder(bound, &proof.context).unwrap().as_bytes())
        });
        assert_eq!(refused(standing.await), "tpm-quote-challenge");
    }
    let honest = world.claim_by_hand(Role::Broker, async |channel, proof| {
        world.host.quote(channel.exporter.own_binder(Role::Broker, &proof.context).unwrap().as_bytes())
    });
    assert!(honest.await.is_ok(), "the peer by hand is refused whatever it does");
}

#[tokio::test]
async fn reference_values_of_one_role_let_no_other_in() {
    let world = World::new();
    let (ours, theirs) = pipe();
    let vault = async { world.claim(theirs).await.unwrap().judge(world.pin(), &reference(Role::Operator)).await };
    let (established, proven) = tokio::join!(world.connect(ours), vault);
    assert_eq!(refused(proven), "reference-role");
    assert!(matches!(established.unwrap_err(), ConnectError::Refused { .. }));
}

#[tokio::test]
async fn a_peer_that_claims_to_be_a_vault_is_refused() {
    assert_eq!(opened_with(open(Role::Vault)).await, ("role-of-vault", RefusalCode::Malformed));
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused_and_told_so() {
    for version in [0, VERSION + 1, u16::MAX] {
        let told = opened_with(Open { version, ..open(Role::Broker) }).await;
        assert_eq!(told, ("version", RefusalCode::Version));
    }
    // Whatever it has behind its version.
    let frame = |version: &[u8]| [&[0, 0, 0, 5], version, &[0xff; 4]].concat();
    assert_eq!(first_bytes(&frame(&[2])).await, ("version", Some(RefusalCode::Version)));
    assert_eq!(first_bytes(&frame(&[1])).await, ("malformed", Some(RefusalCode::Malformed)));
}

#[tokio::test]
async fn evidence_that_is_empty_or_garbage_is_refused_by_the_vault() {
    for (evidence, code) in garbage() {
        let world = World::new();
        world.host.behave(Conduct::Says(evidence));
        let (ours, theirs) = pipe();
        let (established, standing) = tokio::join!(world.connect(ours), world.admit(theirs));
        assert_eq!(refused(standing), code);
        let ConnectError::Refused { refusal } = established.unwrap_err() else { panic!() };
        assert_eq!(refusal.code, RefusalCode::NotAttested);
    }
}

#[tokio::test]
async fn evidence_that_is_empty_or_garbage_is_refused_by_the_host() {
    for (evidence, code) in garbage() {
        let world = World::new();
        world.vault.behave(Conduct::Says(evidence));
        let (ours, theirs) = pipe();
        let (established, standing) = tokio::join!(world.connect(ours), world.admit(theirs));
        let ConnectError::Evidence { source } = established.unwrap_err() else { panic!() };
        assert_eq!(source.code(), code);
        assert_eq!(refused(standing), "connection");
    }
}

#[tokio::test]
async fn a_vault_that_cannot_prove_itself_says_that_it_is_not_ready() {
    let world = World::new();
    world.vault.behave(Conduct::Broken);
    let (ours, theirs) = pipe();
    let (established, standing) = tokio::join!(world.connect(ours), world.admit(theirs));
    assert_eq!(refused(standing), "own-evidence");
    let ConnectError::Refused { refusal } = established.unwrap_err() else { panic!() };
    assert_eq!(refusal.code, RefusalCode::NotReady);
}

#[tokio::test]
async fn a_host_that_cannot_prove_itself_gets_no_session() {
    let world = World::new();
    world.host.behave(Conduct::Broken);
    let (ours, theirs) = pipe();
    let (established, standing) = tokio::join!(world.connect(ours), world.admit(theirs));
    assert!(matches!(established.unwrap_err(), ConnectError::OwnEvidence { .. }));
    assert_eq!(refused(standing), "connection");
}

#[tokio::test]
async fn a_welcome_before_the_hosts_evidence_is_no_session() {
    let world = World::new();
    let (ours, theirs) = pipe();
    let vault = async {
        let mut channel = vault_by_hand(theirs).await;
        let _open: Open = receive(&mut channel).await;
        send(&mut channel, &ProofReply::Welcome(welcome())).await;
        channel.reader.receive::<PeerProof>(MAX_FRAME_UNATTESTED).await.unwrap_err()
    };
    let (established, unheard) = tokio::join!(world.connect(ours), vault);
    assert!(matches!(established.unwrap_err(), ConnectError::Channel(ChannelError::Message { .. })));
    assert!(matches!(unheard, ChannelError::Closed), "{unheard}");
}

/// What both sides make of a first message.
async fn opened_with(open: Open) -> (&'static str, RefusalCode) {
    let world = World::new();
    let (ours, theirs) = pipe();
    let host = async {
        let mut channel = peer_by_hand(ours).await;
        send(&mut channel, &open).await;
        match receive(&mut channel).await {
            OpenReply::Refused(refusal) => refusal.code,
            OpenReply::Proof(_) => panic!("the vault proved itself"),
        }
    };
    let (heard, told) = tokio::join!(hear(theirs, &world.tls, &world.identity), host);
    assert!(world.vault.binders().is_empty());
    (refused(heard), told)
}

/// Bytes that are no evidence, and the code of their refusal.
fn garbage() -> [(Vec<u8>, &'static str); 4] {
    let mut trailing = SoftwareTpm::new().quote(&[1; 32]);
    trailing.push(0);
    [
        (vec![], "evidence-malformed"),
        (vec![0xff; 64], "evidence-version"),
        (vec![1, 0xff], "evidence-platform"),
        (trailing, "evidence-malformed"),
    ]
}

fn credential() -> Activate {
    Activate { credential: Bytes::new(vec![9; 40]).unwrap(), encrypted_secret: Bytes::new(vec![8; 40]).unwrap() }
}

pub(crate) fn refused<T>(result: Result<T, ServerError>) -> &'static str {
    match result {
        Ok(_) => panic!("not refused"),
        Err(error) => error.code(),
    }
}

#[tokio::test]
async fn a_vaults_context_is_fresh_for_each_peer() {
    let world = World::new();
    let mut contexts = HashSet::<[u8; Context::LEN]>::new();
    for _ in 0..4 {
        let (ours, theirs) = pipe();
        let host = async {
            let mut channel = peer_by_hand(ours).await;
            send(&mut channel, &open(Role::Broker)).await;
            let OpenReply::Proof(VaultProof { context, .. }) = receive(&mut channel).await else { panic!() };
            context.0
        };
        let vault = async {
            let heard = hear(theirs, &world.tls, &world.identity).await.unwrap();
            heard
                .prove(&world.vault, |message| Some(world.vouch(message)), WantedLogs::NONE, &SystemRandom::new())
                .await
                .is_ok()
        };
        let (context, proved) = tokio::join!(host, vault);
        assert!(proved && contexts.insert(context));
    }
}
