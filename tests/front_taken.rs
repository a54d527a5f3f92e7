//! What does an attacker get who has taken the front over: who hands the vault its packets, its connections and its
//! store?
//!
//! He gets to stop the service. The vault ends with a line that says why, or goes on serving the honest, and in all that
//! he ever sees there is no secret.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::credential::{CredentialSettings, Kind, OauthClient};
use blindferry_proto::front::{FromFront, StoreReply, Table};
use blindferry_proto::identifier::{RequestId, WorkerKey};
use blindferry_proto::operator::{Approvee, OperatorReply, OperatorRequest};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Ask, BrokerRequest, Parcelled, ProcessFacts, Redeem, WorkerConstraint};
use blindferry_session::client::ConnectError;
use blindferry_tests::attackers_server::attackers_server;
use blindferry_tests::fleet::{Fleet, HOST, OPERATOR, Plan};
use blindferry_tests::operator::{Operator, oauth_client, settings};
use blindferry_tests::peer::Peer;
use blindferry_tests::process::eventually;
use blindferry_tests::taken_front::{Dialler, TakenFront, contents_of};
use rustix::pipe::pipe;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

const MASTER: &str = "sk-live-that-the-front-must-not-see-0d51";
const OTHER: &str = "sk-live-that-came-before-it-and-was-replaced";
const SECRET: &str = "an-oauth-client-secret-for-another-server";

#[test]
fn what_breaks_the_protocol_ends_the_vault_with_a_line_that_says_why() {
    let Some(fleet) = initialised() else { return };
    let connection = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let fd = connection.as_fd();
    let accepted = FromFront::Accepted { from: Text::cut("x") };
    let stored = FromFront::Stored { id: 1, reply: StoreReply::Committed };
    let breaks: [(&str, Breach<'_>); 8] = [
        ("not a message", &|front| assert!(front.send(&[0xff; 64], &[]))),
        ("not a message", &|front| assert!(front.send(&[0xff; 128 * 1024], &[]))),
        ("descriptors", &|front| assert!(front.tell(&accepted, &[]))),
        ("descriptors", &|front| assert!(front.tell(&accepted, &[fd, fd]))),
        ("descriptors", &|front| assert!(front.tell(&stored, &[fd]))),
        ("descriptors", &|front| assert!(front.tell(&FromFront::Dialled { id: 1 }, &[]))),
        ("descriptors", &|front| assert!(front.tell(&FromFront::Report, &[fd]))),
        ("descriptors", &|front| assert!(front.tell(&FromFront::PageAt { id: 1, origin: None }, &[fd]))),
    ];
    for (why, does) in breaks {
        let mut front = TakenFront::start(&fleet.enclave, contents_of(&fleet.enclave.store()));
        front.wait_until_ready();
        does(&front);
        let log = front.wait_for_end();
        assert!(log.lines().any(|line| line.contains(" blindferry-vault: ") && line.contains(why)), "{why}: {log}");
    }
}

#[test]
fn the_honest_are_served_past_everything_that_is_no_connection_and_nothing_is_seen() {
    let Some(fleet) = initialised() else { return };
    let (mut front, operator, broker) = serving(&fleet);
    let grant = granted(&broker, "api");
    assert!(redeemed(&broker, &grant).is_ok());

    // Answers to questions that nobody asked.
    for id in [0, 1, 77, u64::MAX] {
        front.tell(&FromFront::Stored { id, reply: StoreReply::Got(None) }, &[]);
        front.tell(&FromFront::NotDialled { id, why: Text::cut("never asked") }, &[]);
        front.tell(&FromFront::Dialled { id }, &[TcpStream::connect(front.address).unwrap().as_fd()]);
    }
    // What was accepted is none.
    let (reading, writing) = pipe().unwrap();
    let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let null = File::open("/dev/null").unwrap();
    let twice = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
    let fds = [reading.as_fd(), writing.as_fd(), listening.as_fd(), null.as_fd(), twice.as_fd(), twice.as_fd()];
    for fd in fds {
        assert!(front.tell(&FromFront::Accepted { from: Text::cut("nowhere") }, &[fd]));
    }
    assert!(redeemed(&broker, &granted(&broker, "api")).is_ok());
    assert_eq!(operator.status().leases, 2);

    // A flood of connections that say nothing.
    let before = resident(front.vault());
    for _ in 0..FLOOD {
        let silent = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        let (_client, _) = listening.accept().unwrap();
        assert!(front.tell(&FromFront::Accepted { from: Text::cut("many") }, &[silent.as_fd()]));
    }
    assert!(redeemed(&broker, &granted(&broker, "api")).is_ok());
    let grown = resident(front.vault()).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more after a flood");
    eventually("a place for the honest", || fleet_peer(&fleet, &front, Role::Operator, OPERATOR).ok());

    front.wait_until_ready();
    assert_nothing_seen(&front, &fleet);
}

#[test]
fn a_store_that_lies_to_a_running_vault_costs_a_refusal_and_is_an_alarm() {
    let Some(fleet) = initialised() else { return };
    let (front, operator, broker) = serving(&fleet);
    let honest = front.contents();
    let of = |name: &str| {
        let masters = honest.keys().filter(|(table, _)| *table == Table::Masters);
        masters.into_iter().find(|(_, key)| String::from_utf8_lossy(key).contains(name)).unwrap().clone()
    };
    let (api, second) = (of("api"), of("second"));
    let mut replaced = honest.clone();
    replaced.insert(api.clone(), honest[&second].clone());
    let mut omitted = honest.clone();
    omitted.remove(&api);
    let mut changed = honest.clone();
    changed.get_mut(&api).unwrap()[40] ^= 1;
    for (what, contents) in [("swapped", replaced), ("omitted", omitted), ("changed", changed)] {
        front.replace(contents);
        let alarms = front.log().matches("ALARM").count();
        assert_eq!(found_out(&broker).code, RefusalCode::Store, "{what}");
        assert!(front.log().matches("ALARM").count() > alarms, "{what}: {}", front.log());
        let audit =
            front.contents().into_iter().filter(|((table, _), _)| matches!(table, Table::Audit | Table::Manifest));
        let mut mended = honest.clone();
        mended.extend(audit);
        front.replace(mended);
        redeemed(&broker, &granted(&broker, "api")).unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    }
    // An older value under its own name: before the operator replaced it.
    let older = front.contents()[&api].clone();
    operator.ask(remove("api")).unwrap();
    operator.put("api", settings(Kind::Release), OTHER.as_bytes());
    let mut replayed = front.contents();
    replayed.insert(api, older);
    front.replace(replayed);
    assert_eq!(found_out(&broker).code, RefusalCode::Store);
    assert_nothing_seen(&front, &fleet);
}

#[test]
fn a_dial_that_ends_at_the_attacker_gives_him_no_secret() {
    let Some(fleet) = initialised() else { return };
    let (front, operator, broker) = serving(&fleet);
    let (attacker, heard) = attackers_server();
    let elsewhere = OauthClient {
        token_url: Text::new("https://login.example.org/token").unwrap(),
        revocation_url: None,
        ..client_of(attacker)
    };
    let long = CredentialSettings { ..settings(Kind::OauthClient(elsewhere)) };
    operator.put("oauth", long, SECRET.as_bytes());
    let listening = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let same = Arc::new(TcpStream::connect(attacker).unwrap());
    let itself = front.address;
    let dials: [(&str, Dialler); 6] = [
        ("the vault itself", Box::new(move || Some(TcpStream::connect(itself).unwrap().into()))),
        ("his server", Box::new(move || Some(TcpStream::connect(attacker).unwrap().into()))),
        ("a pipe", Box::new(|| Some(pipe().unwrap().1))),
        ("a listener", Box::new(move || Some(listening.as_fd().try_clone_to_owned().unwrap()))),
        ("one socket", Box::new(move || Some(same.as_fd().try_clone_to_owned().unwrap()))),
        ("nothing", Box::new(|| None)),
    ];
    for (what, dialler) in dials {
        front.answer_dials(dialler);
        // One socket for two dials is something else than for one.
        for _ in 0..if what == "one socket" { 2 } else { 1 } {
            let refused = redeemed(&broker, &granted(&broker, "oauth")).unwrap_err();
            assert!(matches!(refused.code, RefusalCode::Upstream | RefusalCode::NotReady), "{what}: {refused}");
            if matches!(what, "a pipe" | "a listener") {
                assert_eq!(refused.detail.as_str(), "upstream-not-a-connection", "{what}: not found out at once");
            }
        }
        assert!(redeemed(&broker, &granted(&broker, "api")).is_ok(), "{what}");
    }
    let heard = heard.lock().unwrap();
    assert!(heard.connections > 0 && heard.plain.is_empty(), "{} bytes reached him", heard.plain.len());
    assert_nothing_seen(&front, &fleet);
}

#[test]
fn neither_a_tpm_of_his_own_nor_a_forged_grant_gets_him_anything() {
    let Some(fleet) = initialised() else { return };
    let old_grant = {
        let (_front, _operator, broker) = serving(&fleet);
        granted(&broker, "api")
    };
    let (front, _operator, broker) = serving(&fleet);
    // The host's TPM is known, under another name and for another role.
    for (role, name) in [(Role::Operator, "attacker"), (Role::Operator, OPERATOR), (Role::Operator, HOST)] {
        let own = Peer::connect(&fleet.host.tpm, role, name, &fleet.enclave.reference, front.address);
        let Err(refused) = own else { panic!("{name} got a session as {role:?}") };
        if name == "attacker" {
            assert_eq!(refusal_of(&refused).map(|refusal| refusal.code), Some(RefusalCode::HostPending), "{refused:?}");
        }
    }
    assert!(front.log().contains("ALARM") && front.log().contains("IdentityChanged"), "{}", front.log());

    let good = granted(&broker, "api");
    let mut flipped = good.as_slice().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let forged = [vec![0; good.as_slice().len()], vec![7; 1024], vec![1], flipped, old_grant.as_slice().to_vec()];
    for grant in forged {
        let refused = redeemed(&broker, &Bytes::new(grant).unwrap()).unwrap_err();
        assert!(!matches!(refused.code, RefusalCode::Internal), "{refused}");
    }
    assert!(redeemed(&broker, &good).is_ok());
    assert_nothing_seen(&front, &fleet);
}

#[test]
fn a_taken_front_learns_who_uses_what_only_while_an_operator_may_look() {
    let Some(fleet) = initialised() else { return };
    let (front, operator, broker) = serving(&fleet);
    assert!(redeemed(&broker, &granted(&broker, "api")).is_ok());
    // Asks until there is one more answer: those that come too soon have none.
    let next = || {
        let before = front.reports().len();
        eventually("an answer", || {
            assert!(front.tell(&FromFront::Report, &[]));
            front.reports().get(before).cloned()
        })
    };
    let refused = || next().is_none();

    assert!(refused(), "before an operator asked");
    // Nor by an answer to a question that the vault did not ask.
    for id in [0, 1, 77, u64::MAX] {
        assert!(front.tell(&FromFront::PageAt { id, origin: Some(Text::cut("http://page.example")) }, &[]));
    }
    assert!(refused(), "after an answer that was not asked for");
    assert!(!operator.events().iter().any(opens));

    let OperatorReply::Page { origin, ticket } = operator.ask(OperatorRequest::Page).unwrap() else {
        panic!("no page")
    };
    assert_eq!(origin.as_str(), "http://page.example", "the front says where, and the command what is an origin");
    let report = next().unwrap();
    let [lease] = report.leases.as_slice() else { panic!("{:?}", report.leases) };
    assert_eq!((lease.credential.as_str(), lease.host.as_str()), ("api", HOST), "positive control");
    assert!(report.attested.iter().any(|session| session.name.as_str() == HOST), "{:?}", report.attested);
    assert_eq!(operator.events().iter().filter(|event| opens(event)).count(), 1, "the opening is in the audit");
    // Its hash is what the front has of the ticket, neither its bytes nor its text.
    let text = ticket.to_text();
    assert!(!front.has_seen(text.as_bytes()) && !front.has_seen(&hex::decode(&text).unwrap()));

    // A flood of questions is answered twice a second, and the honest are served meanwhile.
    let (before, begun) = (front.reports().len(), Instant::now());
    for _ in 0..FLOOD {
        assert!(front.tell(&FromFront::Report, &[]));
    }
    assert!(redeemed(&broker, &granted(&broker, "second")).is_ok());
    let asked_last = next().unwrap();
    assert_eq!(asked_last.leases.len(), 2, "what happened meanwhile is in it");
    let counted =
        asked_last.minutes.iter().fold((0, 0), |sum, minute| (sum.0 + minute.granted, sum.1 + minute.redeemed));
    assert_eq!(counted, (2, 2), "each grant and each redemption of the last hour");
    let answers = u64::try_from(front.reports().len() - before).unwrap();
    assert!(answers <= 2 * (begun.elapsed().as_secs() + 1), "{answers} in {:?}", begun.elapsed());
    assert_nothing_seen(&front, &fleet);
}

fn opens(event: &Event) -> bool {
    matches!(event, Event::Operator { action, .. } if action.as_str() == "page")
}

/// A fleet that was initialised, and is served by nobody.
fn initialised() -> Option<Fleet> {
    let plan = Plan::default();
    let mut fleet = Fleet::set_up(&plan)?;
    fleet.init(&plan);
    Some(fleet)
}

/// The vault behind a taken front, an operator who has stored masters, and a host.
fn serving(fleet: &Fleet) -> (TakenFront, Operator, Peer) {
    let mut front = TakenFront::start(&fleet.enclave, contents_of(&fleet.enclave.store()));
    front.wait_until_ready();
    let operator = Operator(fleet_peer(fleet, &front, Role::Operator, OPERATOR).unwrap());
    operator.put("api", settings(Kind::Release), MASTER.as_bytes());
    operator.put("second", settings(Kind::Release), OTHER.as_bytes());
    operator.approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
    let broker = fleet_peer(fleet, &front, Role::Broker, HOST).unwrap();
    (front, operator, broker)
}

fn fleet_peer(fleet: &Fleet, front: &TakenFront, role: Role, name: &str) -> Result<Peer, ConnectError> {
    let tpm = if role == Role::Operator { &fleet.operator_tpm } else { &fleet.host.tpm };
    Peer::connect(tpm, role, name, &fleet.enclave.reference, front.address)
}

fn ask(broker: &Peer, credential: &str) -> Result<Grant, Refusal> {
    let ask = Ask {
        credential: credential.parse().unwrap(),
        audience: None,
        worker: WorkerConstraint::default(),
        parent: PROCESS,
        wait: None,
    };
    match broker.ask_as_broker(BrokerRequest::Ask(ask))? {
        Answer::Granted(granted) => Ok(granted.grant),
        other => panic!("not a grant: {other:?}"),
    }
}

fn granted(broker: &Peer, credential: &str) -> Grant {
    ask(broker, credential).unwrap()
}

fn redeemed(broker: &Peer, grant: &Grant) -> Result<Parcelled, Refusal> {
    let redeem = Redeem {
        grant: grant.clone(),
        request: RequestId([3; RequestId::LEN]),
        worker_key: WorkerKey([9; 32]),
        worker: PROCESS,
        inherited: Vec::new(),
    };
    match broker.ask_as_broker(BrokerRequest::Redeem(redeem))? {
        Answer::Parcelled(parcelled) => Ok(parcelled),
        other => panic!("not a parcel: {other:?}"),
    }
}

/// The refusal of a crossing after the store has changed the credential: at once, or when what the vault has just read is
/// not held any more.
fn found_out(broker: &Peer) -> Refusal {
    eventually("that the lie is found out", || {
        ask(broker, "api").and_then(|grant| redeemed(broker, &grant).map(|_| ())).err()
    })
}

fn remove(name: &str) -> OperatorRequest {
    OperatorRequest::Remove { name: name.parse().unwrap() }
}

fn client_of(server: SocketAddr) -> OauthClient {
    match oauth_client(server) {
        Kind::OauthClient(client) => client,
        other => panic!("{other:?}"),
    }
}

fn refusal_of(error: &ConnectError) -> Option<&Refusal> {
    match error {
        ConnectError::Refused { refusal, .. } => Some(refusal),
        _ => None,
    }
}

/// Searches packets, store and connections; and shows that the search finds what is there.
fn assert_nothing_seen(front: &TakenFront, fleet: &Fleet) {
    for needle in [MASTER, OTHER, SECRET, fleet.enclave.recovery.as_str()] {
        assert!(needle.len() > 16 && !front.has_seen(needle.as_bytes()), "{needle} was seen");
    }
    // Names go by in the clear only where the protocol says so: the address of a connection.
    assert!(front.has_seen(b"ledger_entries"), "the figures that the vault shows are seen");
    front.plant(MASTER.as_bytes());
    assert!(front.has_seen(MASTER.as_bytes()), "a search that finds nothing shows nothing");
    let mut plain = front.contents();
    plain.insert((Table::Masters, b"plain".to_vec()), SECRET.as_bytes().to_vec());
    front.replace(plain);
    assert!(front.has_seen(SECRET.as_bytes()), "nor one that does not look into the store");
}

/// KiB of memory that a process has now.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Something that a front in good order never does.
type Breach<'a> = &'a dyn Fn(&TakenFront);
type Grant = Bytes<{ blindferry_proto::limits::MAX_GRANT }>;

const PROCESS: ProcessFacts = ProcessFacts { uid: 1000, gid: 1000, pid: 4711, executable: None, protection: None };
/// More than wait for a place at once, many times.
const FLOOD: usize = 3000;
