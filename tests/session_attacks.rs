//! Can evidence be carried over the network: through a relay, back to its maker, or to a later session?
//!
//! All against the real vault, behind its front, with real quotes. Each refusal has a control in which the same attack on
//! something weaker succeeds, or the same host without the attack comes in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_attest::attested::{Expected, Pinned, appraise};
use blindferry_attest::binder::Binder;
use blindferry_attest::evidence::{Evidence, TpmEvidence};
use blindferry_attest::reference::ReferenceValues;
use blindferry_attest::tpm::AkName;
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::operator::Approvee;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Open, OpenReply, PeerProof, ProofReply, Request, VERSION, VaultProof};
use blindferry_session::channel::Channel;
use blindferry_session::{Identity, tls};
use blindferry_tests::fleet::{Fleet, HOST};
use blindferry_tests::hand::Hand;
use blindferry_tests::process::eventually;
use blindferry_tests::relay::Relay;
use blindferry_tests::tpm::{PCRS, Tpm};
use blindferry_tests::worker::ask_for;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use tokio_rustls::{TlsAcceptor, TlsStream};

#[test]
fn a_broker_behind_a_relay_that_ends_tls_says_nothing_and_its_log_says_why() {
    let Some(mut fleet) = Fleet::start() else { return };
    fleet.host.stop();
    let relay = Relay::before(fleet.enclave.listen);
    let (straight, sessions, before) = (fleet.host.vault, fleet.host.sessions(), fleet.host.log().len());
    fleet.host.vault = relay.address;
    fleet.host.configure(HOST);
    fleet.host.start();
    let refused = "the vault's evidence does not meet the reference of the configuration; nothing was told to it";
    let log = eventually("the broker's refusal", || {
        let log = fleet.host.log().split_off(before);
        log.contains(refused).then_some(log)
    });
    assert!(log.contains("it is stale, relayed or reflected"), "{log}");
    assert!(relay.carried() > EVIDENCE, "the vault's evidence never came through the relay");
    assert_eq!(ask_for(&fleet, "api").unwrap_err().code, RefusalCode::NotReady);
    let operator = fleet.operator();
    // It never got as far as evidence: a connection that ended, counted and no more.
    assert!(operator.not_attested(HOST, 0).is_empty());
    assert!(operator.refused_handshakes("connection") >= 1);

    fleet.host.stop();
    assert_eq!(fleet.host.sessions(), sessions);
    fleet.host.vault = straight;
    fleet.host.configure(HOST);
    fleet.host.serve();
}

/// Nobody on this host looks at the vault's evidence, so that the vault's own look is what counts.
#[test]
fn the_vault_refuses_a_careless_host_behind_a_relay_and_the_audit_says_why() {
    let Some(mut fleet) = Fleet::start() else { return };
    fleet.host.stop();
    let operator = fleet.operator();
    let careless = Hand::on(&fleet.host.tpm);
    let relay = Relay::before(fleet.enclave.listen);
    let relayed = careless.begin(relay.address, Role::Broker, HOST, Context([1; 32]));
    let evidence = careless.evidence(&relayed);
    assert_not_attested(&careless.show(relayed, evidence));
    assert_eq!(operator.not_attested(HOST, 1), [CHALLENGE]);
    assert_eq!(operator.refused_handshakes(CHALLENGE), 1);
    assert!(relay.carried() > EVIDENCE);
    // The same host, without the man in the middle.
    assert_welcome(&attest(&careless, &fleet, HOST));
}

/// The control for both: a verifier that asks for a fresh quote by the right key, and does not ask over which channel.
#[test]
fn the_same_relay_gets_past_a_verifier_that_binds_evidence_to_no_channel() {
    let Some(mut fleet) = Fleet::start() else { return };
    fleet.host.stop();
    let careless = Hand::on(&fleet.host.tpm);
    let reference = ReferenceValues::parse(&fleet.host.tpm.reference(Role::Broker, "production")).unwrap();
    let (address, verdict) = weak_verifier(careless.ak(), reference);
    let relay = Relay::before(address);
    let relayed = careless.begin(relay.address, Role::Broker, HOST, Context([1; 32]));
    let evidence = careless.quote(*unbound(&relayed.proof.context).as_bytes());
    let _said = careless.show(relayed, evidence);
    assert_eq!(verdict.join().unwrap(), Ok(()));
}

/// The vault's machine is enrolled as a host, too, so that its evidence is by the right key, of the right software, and
/// nothing but the binder stands in the way.
#[test]
fn the_vaults_own_evidence_sent_back_to_it_is_refused() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    let mirror = Hand::on(&fleet.enclave.tpm);
    operator.approve("mirror", Approvee::Ek(fleet.enclave.tpm.ek()));
    operator.apply_reference(&both(&fleet));
    assert_welcome(&attest(&mirror, &fleet, "mirror"));

    // What it has just said of itself.
    let begun = mirror.begin(fleet.enclave.listen, Role::Broker, "mirror", Context([2; 32]));
    let own = begun.proof.evidence.clone().into_vec();
    assert_not_attested(&mirror.show(begun, own));
    // What it says to its own challenge, over a second session.
    let begun = mirror.begin(fleet.enclave.listen, Role::Broker, "mirror", Context([3; 32]));
    let second = mirror.begin(fleet.enclave.listen, Role::Broker, "mirror", begun.proof.context);
    assert_not_attested(&mirror.show(begun, second.proof.evidence.into_vec()));
    assert_eq!(operator.not_attested("mirror", 2), [CHALLENGE; 2]);
    assert_welcome(&attest(&mirror, &fleet, "mirror"));
}

#[test]
fn evidence_of_an_earlier_session_of_nothing_and_of_no_challenge_at_all_is_refused() {
    let Some(mut fleet) = Fleet::start() else { return };
    fleet.host.stop();
    let operator = fleet.operator();
    let host = Hand::on(&fleet.host.tpm);
    let begin = || host.begin(fleet.enclave.listen, Role::Broker, HOST, Context([4; 32]));
    let first = begin();
    let recorded = host.evidence(&first);
    assert_welcome(&host.show(first, recorded.clone()));
    assert_not_attested(&host.show(begin(), recorded));

    assert_not_attested(&host.show(begin(), host.quote([0; 32])));
    let unchallenged = quote_without_challenge(&fleet.host.tpm, host.endorsement().ak_public.as_slice());
    assert_eq!(appraised(&fleet, &host, &unchallenged), Err(CHALLENGE));
    assert_not_attested(&host.show(begin(), unchallenged));
    assert_eq!(operator.not_attested(HOST, 3), [CHALLENGE; 3]);
    assert_welcome(&attest(&host, &fleet, HOST));
}

#[test]
fn a_client_that_wants_to_resume_or_to_send_early_finds_the_vault_giving_no_ticket() {
    let Some(fleet) = Fleet::start() else { return };
    let (lax, _serving) = lax_server();
    for (address, resumes) in [(fleet.enclave.listen, false), (lax, true)] {
        let client = eager_client();
        let (first, tickets, _) = talk(&client, address);
        let (second, _, early) = talk(&client, address);
        assert_eq!((first, tickets > 0), (HandshakeKind::Full, resumes));
        // Only who was given a ticket can try; the second server shows that this client does.
        assert_eq!((second == HandshakeKind::Resumed, early), (resumes, resumes));
    }
}

#[test]
fn evidence_that_the_vault_did_not_ask_for_ends_the_session() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    fleet.host.stop();
    let host = Hand::on(&fleet.host.tpm);
    let peer = fleet.peer(&fleet.host.tpm, Role::Broker, HOST).unwrap();
    // Good by itself: of this machine, as it is now.
    let evidence = Bytes::new(host.quote([5; 32])).unwrap();
    let refused = peer.ask(Request::Reattest { evidence }).unwrap_err();
    assert_eq!(refused.code, RefusalCode::NotAttested);
    eventually("the end of the session", || peer.over());
    let unasked = |event: &Event| {
        matches!(event, Event::SessionEnded { host, why, .. }
            if host.as_str() == HOST && why.as_str() == "evidence-unasked")
    };
    eventually("a record of it", || operator.events().iter().any(unasked).then_some(()));
    assert!(fleet.peer(&fleet.host.tpm, Role::Broker, HOST).is_ok());
}

/// Bytes; no evidence is shorter: a quote, a signature, a key and three PCR values.
const EVIDENCE: u64 = 400;
/// The code of evidence whose challenge is not what it must be.
const CHALLENGE: &str = "tpm-quote-challenge";

/// Comes in as this host, with evidence as it has to be.
fn attest(hand: &Hand, fleet: &Fleet, name: &str) -> ProofReply {
    let begun = hand.begin(fleet.enclave.listen, Role::Broker, name, Context([7; 32]));
    let evidence = hand.evidence(&begun);
    hand.show(begun, evidence)
}

fn assert_welcome(reply: &ProofReply) {
    assert!(matches!(reply, ProofReply::Welcome(_)), "{reply:?}");
}

/// Refused, and told nothing but that.
fn assert_not_attested(reply: &ProofReply) {
    assert_eq!(*reply, ProofReply::Refused(Refusal::from(RefusalCode::NotAttested)));
}

/// Reference values for brokers that accept the worker host and the enclave's machine.
fn both(fleet: &Fleet) -> String {
    let (host, enclave) =
        (fleet.host.tpm.reference(Role::Broker, "host"), fleet.enclave.tpm.reference(Role::Broker, "enclave"));
    let (_, platform) = enclave.split_once("[[tpm]]").unwrap();
    format!("{host}\n[[tpm]]{platform}")
}

/// What a quote has to say to the weak verifier.
fn unbound(context: &Context) -> Binder {
    Binder::compute(Role::Broker, b"of any key", &context.0).unwrap()
}

/// A server that judges one host as the vault does, but for the channel. Gives its verdict.
fn weak_verifier(ak: AkName, reference: ReferenceValues) -> (SocketAddr, thread::JoinHandle<Result<(), &'static str>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let verdict = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let identity = Identity::generate().unwrap();
            let acceptor = TlsAcceptor::from(tls::server(&identity).unwrap());
            let stream = acceptor.accept(tokio::net::TcpStream::from_std(stream).unwrap()).await.unwrap();
            let mut channel = Channel::new(TlsStream::Server(stream), identity.spki()).unwrap();
            let _open: Open = channel.reader.receive(MAX_FRAME_UNATTESTED).await.unwrap();
            let context = Context([9; 32]);
            let evidence = Bytes::new(b"who looks at it".to_vec()).unwrap();
            let proof = OpenReply::Proof(VaultProof {
                evidence,
                context,
                logs: WantedLogs::NONE,
                vouched: Bytes::new(Vec::new()).unwrap(),
            });
            channel.writer.send(&proof, MAX_FRAME_UNATTESTED).await.unwrap();
            let shown: PeerProof = channel.reader.receive(MAX_FRAME_UNATTESTED).await.unwrap();
            let goodbye = ProofReply::Refused(RefusalCode::Busy.into());
            channel.writer.send(&goodbye, MAX_FRAME_UNATTESTED).await.unwrap();
            let pinned = Pinned::Ak { name: &ak, earlier: None };
            let expected = Expected { binder: unbound(&context), role: Role::Broker, pinned };
            let evidence = Evidence::decode(shown.evidence.as_slice()).unwrap();
            appraise(evidence, expected, &reference).map(drop).map_err(|refused| refused.code())
        })
    });
    (address, verdict)
}

/// What this evidence is refused for by the fleet's reference values, when any binder is asked of it.
fn appraised(fleet: &Fleet, host: &Hand, evidence: &[u8]) -> Result<(), &'static str> {
    let reference = ReferenceValues::parse(&fleet.host.tpm.reference(Role::Broker, "production")).unwrap();
    let binder = unbound(&Context([8; 32]));
    let ak = host.ak();
    let expected = Expected { binder, role: Role::Broker, pinned: Pinned::Ak { name: &ak, earlier: None } };
    appraise(Evidence::decode(evidence).unwrap(), expected, &reference).map(drop).map_err(|refused| refused.code())
}

/// A quote by the machine's own attestation key, over no qualifying data at all. Our device process makes none; whoever
/// owns the machine makes the key anew from its template and asks the TPM himself.
fn quote_without_challenge(tpm: &Tpm, ak_public: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    // Two TPM2B_ECC_PARAMETER as libtss2 holds them: a length, and room for 128 bytes.
    let mut unique = [&[32, 0], &b"blindferry attestation key"[..]].concat();
    unique.resize(130, 0);
    unique.extend([32, 0]);
    unique.resize(2 * 130, 0);
    fs::write(at("unique"), unique).unwrap();
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign|noda";
    let [key, unique, quote, signature] = ["key", "unique", "quote", "signature"].map(at);
    let template = ["-C", "e", "-G", "ecc256:ecdsa-sha256:null", "-g", "sha256", "-a", attributes, "-u", &unique];
    tpm.tool("tpm2_createprimary", &[&template[..], &["-c", &key]].concat());
    let pcrs = PCRS.map(|pcr| pcr.to_string()).join(",");
    tpm.tool("tpm2_quote", &["-c", &key, "-l", &format!("sha256:{pcrs}"), "-m", &quote, "-s", &signature]);
    tpm.tool("tpm2_flushcontext", &["-t"]);
    let values = tpm.values().iter().map(|(pcr, value)| (pcr, *value)).collect();
    let read = |path: &str| fs::read(path).unwrap();
    Evidence::Tpm(TpmEvidence::new(read(&quote), read(&signature), ak_public.to_vec(), values).unwrap()).encode()
}

/// Ours, but for that it keeps tickets and would use them for early data.
fn eager_client() -> Arc<ClientConfig> {
    let mut client = (*tls::client(&Identity::generate().unwrap()).unwrap()).clone();
    client.resumption = Resumption::in_memory_sessions(8);
    client.enable_early_data = true;
    Arc::new(client)
}

/// One connection, up to what the vault answers to an `Open`: which handshake, how many tickets, and whether there was
/// something to send early data under.
fn talk(client: &Arc<ClientConfig>, address: SocketAddr) -> (HandshakeKind, u32, bool) {
    let mut tls = ClientConnection::new(Arc::clone(client), ServerName::try_from("vault.invalid").unwrap()).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let early = tls.early_data().is_some();
    let open = Open {
        version: VERSION,
        role: Role::Operator,
        name: "desk".parse().unwrap(),
        context: Context([1; 32]),
        logs: WantedLogs::NONE,
    };
    let body = blindferry_proto::bounded::encode(&open, MAX_FRAME_UNATTESTED).unwrap();
    let header = blindferry_proto::frame::header(body.len(), MAX_FRAME_UNATTESTED).unwrap();
    let mut tls = rustls::Stream::new(&mut tls, &mut stream);
    tls.write_all(&[&header, body.as_slice()].concat()).unwrap();
    tls.flush().unwrap();
    tls.read_exact(&mut [0; 4]).unwrap();
    (tls.conn.handshake_kind().unwrap(), tls.conn.tls13_tickets_received(), early)
}

/// What our own server would be if it gave tickets and took early data.
fn lax_server() -> (SocketAddr, thread::JoinHandle<()>) {
    let mut config: ServerConfig = (*tls::server(&Identity::generate().unwrap()).unwrap()).clone();
    config.session_storage = ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    config.max_early_data_size = 1024;
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let heard = tls.read(&mut [0; 256]);
            let _answered = heard.and_then(|_| tls.write_all(b"answer")).and_then(|()| tls.flush());
        }
    });
    (address, serving)
}
