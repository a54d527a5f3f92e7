//! Of a front in other hands: does it learn a secret, or get anything minted that nobody may have?
//!
//! The test is the front: it holds the other end of the vault's socketpair, and the store.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use blindferry_device::spawn::spawn;
use blindferry_front::store::redb::{Redb, Transaction};
use blindferry_handle::packet::{Packet, PacketSocket};
use blindferry_proto::bounded::{Text, decode, encode};
use blindferry_proto::credential::{ClientAuthentication, Kind, OauthClient};
use blindferry_proto::front::{FromFront, FromVault, StoreReply, StoreRequest, Table};
use blindferry_proto::identifier::{RequestId, WorkerKey};
use blindferry_proto::limits::MAX_PACKET;
use blindferry_proto::refusal::RefusalCode;
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Ask, BrokerRequest, ProcessFacts, Redeem, WorkerConstraint};
use blindferry_tests::account::ENCLAVE;
use blindferry_tests::attack::{forms, search};
use blindferry_tests::fleet::{Fleet, HOST, OPERATOR, Plan};
use blindferry_tests::operator::{Operator, settings};
use blindferry_tests::peer::Peer;
use blindferry_tests::process::{Running, eventually, within};
use blindferry_tests::program::ours;
use command_fds::{CommandFdExt, FdMapping};
use rcgen::{CertificateParams, KeyPair};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const SECRET: &str = "client-secret-that-no-front-may-see-5d10";

/// What the front does when it should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Malice {
    /// Nothing bad.
    None,
    /// For a master it gives another record of the store.
    SwapMasters,
    /// It says that there are no masters.
    HideMasters,
    /// It dials a server of its own.
    OwnServer,
    /// It gives the vault a connection to the vault.
    ToItself,
    /// It answers a dial with what is no connection.
    NoConnection,
}

struct TakenFront {
    socket: Arc<PacketSocket>,
    listen: SocketAddr,
    vault: Running,
    device: Child,
    malice: Arc<Mutex<Malice>>,
    /// Everything that came from the vault, and over what it was made to dial.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl TakenFront {
    fn start(fleet: &Fleet) -> Self {
        let (device, for_vault) =
            spawn(&ours("blindferry-device"), &fleet.enclave.tpm.tcti(), &fleet.enclave.tpm.pins()).unwrap();
        let (front, vault_end) = PacketSocket::pair().unwrap();
        let mut command = ENCLAVE.command(&ours("blindferry-vault"));
        let fds = [(3, vault_end.into_fd()), (4, for_vault.into_fd())];
        let fds = fds.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        command.arg("serve").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).fd_mappings(fds.into()).unwrap();
        let vault = Running::start(command, &fleet.enclave.log_file());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = Self {
            socket: Arc::new(front),
            listen: listener.local_addr().unwrap(),
            vault,
            device,
            malice: Arc::new(Mutex::new(Malice::None)),
            seen: Arc::default(),
        };
        taken.answer(Redb::open(&fleet.enclave.store()).unwrap());
        let socket = Arc::clone(&taken.socket);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                connection.set_nonblocking(true).unwrap();
                hand(&socket, &FromFront::Accepted { from: Text::cut("the test") }, &[connection.as_fd()]);
            }
        });
        taken
    }

    /// Answers the vault until it is gone.
    fn answer(&self, mut store: Redb) {
        let (socket, malice, seen) = (Arc::clone(&self.socket), Arc::clone(&self.malice), Arc::clone(&self.seen));
        thread::spawn(move || {
            while let Ok(Packet { bytes, .. }) = socket.receive() {
                seen.lock().unwrap().extend_from_slice(&bytes);
                let malice = *malice.lock().unwrap();
                match decode(&bytes, MAX_PACKET).unwrap() {
                    FromVault::Store { id, request } => {
                        let reply = lie(malice, &mut store, request);
                        hand(&socket, &FromFront::Stored { id, reply }, &[]);
                    }
                    FromVault::Dial { id, .. } => dial(malice, &socket, id, &seen),
                    FromVault::Condition(_) | FromVault::Publish { .. } | FromVault::Failed(_) => {}
                }
            }
        });
    }

    fn turn(&self, malice: Malice) {
        *self.malice.lock().unwrap() = malice;
    }

    fn peer(&self, fleet: &Fleet, role: Role) -> Peer {
        let (tpm, name) = match role {
            Role::Operator => (&fleet.operator_tpm, OPERATOR),
            _ => (&fleet.host.tpm, HOST),
        };
        // It is not ready at once, and closes what comes before.
        eventually("a session", || Peer::connect(tpm, role, name, &fleet.enclave.reference, self.listen).ok())
    }

    fn saw_nothing(&self) {
        let seen = self.seen.lock().unwrap();
        assert!(!seen.is_empty());
        let found = search(&seen, &[forms(SECRET.as_bytes())], "what the front saw");
        assert!(found.is_empty(), "{found:?}");
    }
}

impl Drop for TakenFront {
    fn drop(&mut self) {
        self.vault.kill();
        let _gone = self.device.kill();
        let _reaped = self.device.wait();
    }
}

#[test]
fn a_front_that_lies_about_upstreams_and_records_learns_no_secret_and_nothing_is_minted() {
    let Some(fleet) = made() else { return };
    let front = TakenFront::start(&fleet);
    let operator = Operator(front.peer(&fleet, Role::Operator));
    operator.put("oauth", settings(client_of_a_real_upstream()), SECRET.as_bytes());
    operator.put("other", settings(Kind::Release), b"another record to be swapped with");
    operator.approve(HOST, blindferry_proto::operator::Approvee::Ek(fleet.host.tpm.ek()));
    let broker = front.peer(&fleet, Role::Broker);

    let mut number = 0;
    for malice in [Malice::OwnServer, Malice::ToItself, Malice::NoConnection, Malice::SwapMasters, Malice::HideMasters]
    {
        front.turn(Malice::None);
        // Where records are hidden, there is not even a grant.
        let Ok(Answer::Granted(granted)) = broker.ask_as_broker(BrokerRequest::Ask(ask())) else { panic!("no grant") };
        front.turn(malice);
        number += 1;
        let redeem = Redeem {
            grant: granted.grant,
            request: RequestId([number; 16]),
            worker_key: WorkerKey([9; 32]),
            worker: process(),
        };
        let refused = broker.ask_as_broker(BrokerRequest::Redeem(redeem)).unwrap_err();
        let expected: &[RefusalCode] = match malice {
            Malice::SwapMasters | Malice::HideMasters => &[RefusalCode::Store],
            _ => &[RefusalCode::Upstream],
        };
        assert!(expected.contains(&refused.code), "{malice:?}: {refused}");
        front.turn(Malice::None);
        front.saw_nothing();
    }
}

#[test]
fn a_front_that_hands_over_what_is_no_message_ends_the_vault_and_not_its_secrets() {
    let Some(fleet) = made() else { return };
    let no_descriptor: [BorrowedFd<'_>; 0] = [];
    let null = File::open("/dev/null").unwrap();
    let accepted = encode(&FromFront::Accepted { from: Text::cut("x") }, MAX_PACKET).unwrap();
    let unasked = encode(&FromFront::Stored { id: 77, reply: StoreReply::Committed }, MAX_PACKET).unwrap();
    let garbage = vec![0xff; 512];
    let cases: [(&str, &[u8], Vec<BorrowedFd<'_>>, bool); 5] = [
        ("garbage", &garbage, no_descriptor.to_vec(), true),
        ("a connection without one", &accepted, Vec::new(), true),
        ("two connections in one", &accepted, vec![null.as_fd(), null.as_fd()], true),
        ("a file for a connection", &accepted, vec![null.as_fd()], false),
        ("an answer that nobody asked for", &unasked, Vec::new(), false),
    ];
    for (name, bytes, descriptors, ends) in cases {
        let mut front = TakenFront::start(&fleet);
        let session = front.peer(&fleet, Role::Operator);
        front.socket.send(bytes, &descriptors).unwrap();
        let ended = within(Duration::from_secs(if ends { 10 } else { 1 }), || front.vault.ended());
        assert_eq!(ended.is_some(), ends, "{name}: {ended:?}");
        assert!(ends || session.over().is_none(), "{name} is nobody else's business");
        front.saw_nothing();
        drop(front);
        // The store's file is free again when its thread is gone.
        eventually("the store", || Redb::open(&fleet.enclave.store()).ok().map(drop));
    }
}

fn made() -> Option<Fleet> {
    let plan = Plan::default();
    let mut fleet = Fleet::set_up(&plan)?;
    fleet.init(&plan);
    Some(fleet)
}

fn lie(malice: Malice, store: &mut Redb, request: StoreRequest) -> StoreReply {
    match (malice, request) {
        (Malice::SwapMasters, StoreRequest::Get { table: Table::Masters, key }) => {
            let all = store.list(Table::Masters, None, 8);
            let StoreReply::Page(page) = all else { panic!("no page: {all:?}") };
            StoreReply::Got(page.into_iter().find(|(found, _)| *found != key).map(|(_, value)| value))
        }
        (Malice::HideMasters, StoreRequest::Get { table: Table::Masters, .. }) => StoreReply::Got(None),
        (_, request) => honest(store, request),
    }
}

fn honest(store: &mut Redb, request: StoreRequest) -> StoreReply {
    match request {
        StoreRequest::Get { table, key } => store.get(table, &key),
        StoreRequest::List { table, after, most } => store.list(table, after.as_ref(), most),
        StoreRequest::Last { table } => store.last(table),
        StoreRequest::Commit { operations } => {
            store.commit_group(&[Transaction::new(operations).unwrap()]).pop().unwrap()
        }
    }
}

fn dial(malice: Malice, socket: &PacketSocket, id: u64, seen: &Arc<Mutex<Vec<u8>>>) {
    let (near, far) = tcp_pair();
    match malice {
        Malice::ToItself => {
            hand(socket, &FromFront::Accepted { from: Text::cut("itself") }, &[far.as_fd()]);
            hand(socket, &FromFront::Dialled { id }, &[near.as_fd()]);
        }
        Malice::NoConnection => {
            let null: OwnedFd = File::open("/dev/null").unwrap().into();
            hand(socket, &FromFront::Dialled { id }, &[null.as_fd()]);
        }
        _ => {
            hand(socket, &FromFront::Dialled { id }, &[near.as_fd()]);
            let seen = Arc::clone(seen);
            thread::spawn(move || listen_in(far, &seen));
        }
    }
}

/// Takes what comes, and answers as if there were no TLS.
fn listen_in(mut connection: TcpStream, seen: &Mutex<Vec<u8>>) {
    connection.set_nonblocking(false).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = connection.read(&mut buffer) {
        seen.lock().unwrap().extend_from_slice(buffer.get(..length).unwrap());
        if connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
            break;
        }
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
    }
    (near, far)
}

fn hand(socket: &PacketSocket, message: &FromFront, descriptors: &[BorrowedFd<'_>]) {
    // A vault that is gone is what some tests are about.
    let _gone = socket.send(&encode(message, MAX_PACKET).unwrap(), descriptors);
}

/// Over TLS, by a certificate of its own.
fn client_of_a_real_upstream() -> Kind {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["login.example.org".to_owned()]).unwrap().self_signed(&key).unwrap();
    Kind::OauthClient(OauthClient {
        token_url: Text::cut("https://login.example.org/token"),
        revocation_url: None,
        client_id: Text::cut("blindferry"),
        authentication: ClientAuthentication::ClientSecretPost,
        scope: None,
        resource: None,
        trust: Some(Text::new(certificate.pem()).unwrap()),
    })
}

fn ask() -> Ask {
    Ask { credential: "oauth".parse().unwrap(), audience: None, worker: WorkerConstraint::default(), parent: process() }
}

fn process() -> ProcessFacts {
    ProcessFacts { uid: 1000, gid: 1000, pid: 1, executable: None }
}
