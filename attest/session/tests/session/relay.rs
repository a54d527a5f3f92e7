//! Can evidence be carried: to another channel, back to its maker, or to a later session?

use crate::ends::{World, open, peer_by_hand, peer_tls, pipe, prove, receive, send, vault_by_hand, vault_tls};
use crate::handshake::refused;
use crate::platform::reference;
use blindferry_attest::attested::{Expected, Pinned, appraise};
use blindferry_attest::evidence::Evidence;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Open, OpenReply, ProofReply, VaultProof};
use blindferry_session::channel::{Channel, ChannelError, Stream};
use blindferry_session::client::ConnectError;
use blindferry_session::server::hear;
use blindferry_session::{Identity, tls};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsStream;

/// Ends TLS on both sides with a key of its own and carries every byte across, unread.
async fn relay<A: Stream, B: Stream>(to_host: A, to_vault: B) {
    let identity = Identity::generate().unwrap();
    let host = vault_tls(to_host, tls::server(&identity).unwrap());
    let vault = peer_tls(to_vault, tls::client(&identity).unwrap());
    let (host, vault) = tokio::join!(host, vault);
    // It ends when either side hangs up, which is what the tests are about.
    let _over = tokio::io::copy_bidirectional(&mut host.unwrap(), &mut vault.unwrap()).await;
}

#[tokio::test]
async fn a_host_refuses_a_vault_behind_a_relay_that_ends_tls() {
    let world = World::new();
    let (ours, relays) = pipe();
    let (relayed, theirs) = pipe();
    let (established, standing, ()) = tokio::join!(world.connect(ours), world.admit(theirs), relay(relays, relayed));
    assert_eq!(code(established.unwrap_err()), "tpm-quote-challenge");
    assert_eq!(refused(standing), "connection");
    assert!(world.host.binders().is_empty(), "the host made evidence for the relay to carry on");
}

#[tokio::test]
async fn a_host_refuses_a_vault_behind_a_relay_over_tcp() {
    let world = World::new();
    let listen = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    };
    let ((vault, vault_at), (middle, middle_at)) = (listen().await, listen().await);
    let host = async { world.connect(TcpStream::connect(middle_at).await.unwrap()).await };
    let vault = async { world.admit(vault.accept().await.unwrap().0).await };
    let relay = async {
        relay(middle.accept().await.unwrap().0, TcpStream::connect(vault_at).await.unwrap()).await;
    };
    let (established, standing, ()) = tokio::join!(host, vault, relay);
    assert_eq!(code(established.unwrap_err()), "tpm-quote-challenge");
    assert_eq!(refused(standing), "connection");
}

/// The host here does not look at the vault's evidence, so that the vault's own look is what counts.
#[tokio::test]
async fn a_vault_refuses_a_host_behind_a_relay_that_ends_tls() {
    let world = World::new();
    let (ours, relays) = pipe();
    let (relayed, theirs) = pipe();
    let host = async {
        let mut channel = peer_by_hand(ours).await;
        prove(&world, &mut channel).await
    };
    let (told, standing, ()) = tokio::join!(host, world.admit(theirs), relay(relays, relayed));
    assert_eq!(refused(standing), "tpm-quote-challenge");
    assert!(matches!(told, ProofReply::Refused(refusal) if refusal.code == RefusalCode::NotAttested));

    let (ours, theirs) = pipe();
    let host = async { prove(&world, &mut peer_by_hand(ours).await).await };
    let (told, standing) = tokio::join!(host, world.admit(theirs));
    assert!(standing.is_ok(), "the host by hand is refused without a relay, too");
    assert!(matches!(told, ProofReply::Welcome(_)));
}

/// The vault's own key is pinned here as the host's, so that nothing but the binder stands in the way.
#[tokio::test]
async fn the_vaults_own_evidence_sent_back_to_it_is_refused() {
    let mut world = World::new();
    world.pinned = world.vault.ak();
    let standing = world.claim_by_hand(Role::Broker, async |_, proof| proof.evidence.into_vec());
    assert_eq!(refused(standing.await), "tpm-quote-challenge");
}

/// As before; the vault is brought to answer its own challenge, over a second session.
#[tokio::test]
async fn the_vaults_answer_to_its_own_challenge_is_refused() {
    let mut world = World::new();
    world.pinned = world.vault.ak();
    let standing = world.claim_by_hand(Role::Broker, async |_, proof| {
        let reflected = proof.context;
        evidence_of_the_vault(&world, reflected).await
    });
    assert_eq!(refused(standing.await), "tpm-quote-challenge");
    assert_eq!(world.vault.binders().len(), 2);
}

#[tokio::test]
async fn a_peer_that_shows_the_vaults_own_tls_key_is_refused() {
    let world = World::new();
    let (ours, theirs) = pipe();
    let host = async {
        let stream = peer_tls(ours, tls::client(&world.identity).unwrap()).await.unwrap();
        Channel::new(TlsStream::Client(stream), world.identity.spki()).unwrap_err()
    };
    let (channel, heard) = tokio::join!(host, hear(theirs, &world.tls, &world.identity));
    assert!(matches!(channel, ChannelError::Reflected));
    assert_eq!(refused(heard), "tls-reflected");
}

#[tokio::test]
async fn a_hosts_evidence_opens_no_second_session() {
    let world = World::new();
    let mut heard = Vec::new();
    let first = world.claim_by_hand(Role::Broker, async |channel, proof| {
        let binder = channel.exporter.own_binder(Role::Broker, &proof.context).unwrap();
        heard = world.host.quote(binder.as_bytes());
        heard.clone()
    });
    assert!(first.await.is_ok());
    let second = world.claim_by_hand(Role::Broker, async |_, _| heard.clone()).await;
    assert_eq!(refused(second), "tpm-quote-challenge");
}

/// The vault's TLS key and the context are the same in both sessions: the exporter alone tells them apart.
#[tokio::test]
async fn evidence_of_the_same_key_over_the_same_context_from_another_connection_is_refused() {
    let world = World::new();
    let context = open(Role::Broker).context;
    let old = evidence_of_the_vault(&world, context).await;
    let (ours, theirs) = pipe();
    let host = async {
        let mut channel = peer_by_hand(ours).await;
        send(&mut channel, &open(Role::Broker)).await;
        let OpenReply::Proof(proof) = receive(&mut channel).await else { panic!("refused") };
        let judge = |evidence: &[u8]| {
            let binder = channel.exporter.peer_binder(Role::Vault, &context).unwrap();
            let expected =
                Expected { binder, role: Role::Vault, pinned: Pinned::Ak { name: &world.vault.ak(), earlier: None } };
            appraise(Evidence::decode(evidence).unwrap(), expected, &reference(Role::Vault)).map_err(|no| no.code())
        };
        (judge(proof.evidence.as_slice()), judge(&old))
    };
    let ((fresh, carried), _) = tokio::join!(host, world.claim(theirs));
    assert!(fresh.is_ok());
    assert_eq!(carried.unwrap_err(), "tpm-quote-challenge");
}

#[tokio::test]
async fn a_vaults_evidence_from_an_earlier_session_is_refused() {
    let world = World::new();
    let old = evidence_of_the_vault(&world, open(Role::Broker).context).await;
    let (ours, theirs) = pipe();
    let impostor = async {
        let mut channel = vault_by_hand(theirs).await;
        let _open: Open = receive(&mut channel).await;
        let proof = VaultProof {
            evidence: Bytes::new(old).unwrap(),
            context: Context([1; 32]),
            logs: WantedLogs::NONE,
            vouched: Bytes::new(vec![0; 64]).unwrap(),
        };
        send(&mut channel, &OpenReply::Proof(proof)).await;
        channel
    };
    let (established, _held) = tokio::join!(world.connect(ours), impostor);
    assert_eq!(code(established.unwrap_err()), "tpm-quote-challenge");
}

/// What the vault answers to this context in a session of its own.
async fn evidence_of_the_vault(world: &World, context: Context) -> Vec<u8> {
    let (ours, theirs) = pipe();
    let host = async {
        let mut channel = peer_by_hand(ours).await;
        send(&mut channel, &Open { context, ..open(Role::Broker) }).await;
        let OpenReply::Proof(proof) = receive(&mut channel).await else { panic!("refused") };
        proof.evidence.into_vec()
    };
    tokio::join!(host, world.claim(theirs)).0
}

fn code(error: ConnectError) -> &'static str {
    match error {
        ConnectError::VaultRefused { source } => source.code(),
        other => panic!("{other}"),
    }
}
