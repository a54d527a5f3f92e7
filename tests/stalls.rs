//! Does a peer that falls silent hold up anybody but itself?

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindferry_proto::credential::Kind;
use blindferry_proto::role::{Context, Role};
use blindferry_session::{Identity, tls};
use blindferry_tests::fleet::{Fleet, OPERATOR};
use blindferry_tests::hand::Hand;
use blindferry_tests::operator::settings;
use blindferry_tests::process::within;
use blindferry_tests::worker::{ScriptedWorker, ask_for};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn who_stops_in_the_middle_of_the_handshake_is_dropped_in_bounded_time_and_others_are_served_meanwhile() {
    let Some(fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"while others are silent");
    let (address, began) = (fleet.enclave.listen, Instant::now());
    let connect = || TcpStream::connect(address).unwrap();
    let dropped = |mut stream: TcpStream| {
        thread::spawn(move || {
            // An alert, or the rest of a reply, may come before the end.
            let _reset = stream.read_to_end(&mut Vec::new());
            began.elapsed()
        })
    };
    // A TLS record of a ClientHello that says 512 bytes and has few of them.
    let half = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut halfway = connect();
    halfway.write_all(&half).unwrap();
    let mut trickling = connect();
    let trickles = trickling.try_clone().unwrap();
    let early = [
        ("says nothing", dropped(connect())),
        ("half a ClientHello", dropped(halfway)),
        ("a byte a second", dropped(trickles)),
        ("TLS, and then nothing", dropped(after_tls(address))),
    ];
    let trickle = thread::spawn(move || {
        for byte in half.iter().chain(&[0; 120]) {
            if trickling.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    let silent = Hand::on(&fleet.operator_tpm);
    let asked = silent.begin(address, Role::Operator, OPERATOR, Context([6; 32]));

    let mut worker = ScriptedWorker::start(&fleet, ask_for(&fleet, "api").unwrap(), fleet.enclave.public);
    assert!(worker.says()["lease"].is_string());
    assert!(fleet.operator().status().sessions >= 2, "who behaves comes in");
    for (who, dropped) in early {
        let after = dropped.join().unwrap();
        assert!((HEAR_TIME - SLACK..HEAR_TIME + SLACK).contains(&after), "{who}: {after:?}");
    }
    trickle.join().unwrap();
    // Who has been shown evidence has the time that a slow TPM may take, and no more.
    let late = within(HANDSHAKE_TIME + SLACK, || (operator.refused_handshakes("late") >= 5).then(|| began.elapsed()));
    let late = late.unwrap();
    assert!(late > HANDSHAKE_TIME - SLACK, "{late:?}");
    drop(asked);
}

/// A connection after its TLS handshake, on which nothing more will be said.
fn after_tls(address: SocketAddr) -> TcpStream {
    let client = tls::client(&Identity::generate().unwrap()).unwrap();
    let mut tls = ClientConnection::new(client, ServerName::try_from("vault.invalid").unwrap()).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).unwrap();
    }
    stream
}

/// From the first byte, for TLS and `Open`: nothing in that needs a TPM.
const HEAR_TIME: Duration = Duration::from_secs(10);
/// From the first byte, for all of it.
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// Tests share two cores.
const SLACK: Duration = Duration::from_secs(8);
