//! Connections without end, at every door; and one address that wants all places.

use crate::ground::{Ground, times};
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::role::Role;
use blindferry_tests::fleet::{OPERATOR, http_get};
use blindferry_tests::operator::Operator;
use blindferry_tests::process::{eventually, within};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// A TLS record of a ClientHello that says 512 bytes and has few of them.
const HALF: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
/// The vault's places for handshakes.
const PLACES: usize = 32;

#[test]
fn connections_opened_and_dropped_by_the_thousand_cost_no_memory_and_hold_up_nobody() {
    let Some(ground) = Ground::start() else { return };
    let others = ground.others();
    others.wait_for(1);
    let (count, began) = (times(20_000), Instant::now());
    let doors = [ground.fleet.enclave.listen, ground.fleet.enclave.public];
    for number in 0..count {
        // Each of 250 addresses knocks at each door in each way.
        let from = Ipv4Addr::new(127, 0, 7, u8::try_from(number % 250).unwrap() + 1);
        let Some(mut stream) = from_address(from, doors[usize::try_from(number % 2).unwrap()]) else { continue };
        match number / 2 % 4 {
            0 => {}
            1 => drop(stream.write_all(&HALF)),
            2 => drop(stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: ")),
            // A reset instead of an end.
            _ => sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
        }
    }
    println!("{count} connections in {:.1} s", began.elapsed().as_secs_f64());
    others.wait_for(3);
    println!("others crossed {} times meanwhile", others.end_without_a_refusal());
    let accepted = || counted(&ground, "blindferry_front_accepted_total");
    assert!(eventually("the metrics", accepted) > u64::from(count / 8), "they came through to the vault");
    let status = ground.fleet.operator().status();
    assert_eq!(status.leases, 0);
    ground.settles_within(24);
}

#[test]
fn connections_to_the_brokers_sockets_cost_no_memory_and_hold_up_nobody() {
    let Some(ground) = Ground::start() else { return };
    let others = ground.others();
    let doors = [ground.fleet.host.parents(), ground.fleet.host.workers()];
    let (count, mut connected) = (times(20_000), 0);
    let knock = |path: &Path, says: &[u8]| {
        let socket = PacketSocket::connect(path).ok()?;
        socket.send(says, &[]).ok()
    };
    for number in 0..count {
        let says: &[u8] = [&b"{"[..], b"{\"ask\":", &[0xff; 4096], b"[[[[[[[["][usize::try_from(number % 4).unwrap()];
        connected += u32::from(knock(&doors[usize::try_from(number / 4 % 2).unwrap()], says).is_some());
    }
    println!("{count} connections, of which {connected} were open for long enough to say something");
    assert!(connected > count / 2);
    others.wait_for(3);
    others.end_without_a_refusal();
    ground.settles_within(16);
}

#[test]
fn one_address_that_wants_all_places_for_handshakes_keeps_no_other_out() {
    let Some(ground) = Ground::start() else { return };
    let (others, listen) = (ground.others(), ground.fleet.enclave.listen);
    let greedy = Ipv4Addr::new(127, 0, 7, 7);
    let open = |count: usize| (0..count).filter_map(|_| from_address(greedy, listen)).collect::<Vec<_>>();
    let before = ground.fleet.operator().refused_handshakes("busy");
    for round in 0..times(3) {
        let silent = open(PLACES + 8);
        assert!(silent.len() > PLACES);
        let began = Instant::now();
        // It has them all, so that this operator takes one of them away, and is not made to wait for their end.
        // (A burst may be faster than the vault takes connections, and then the newest are closed: who comes again comes in.)
        let fleet = &ground.fleet;
        let session = || fleet.peer(&fleet.operator_tpm, Role::Operator, OPERATOR).ok();
        let operator = Operator(eventually("a session", session));
        let took = began.elapsed();
        println!("an operator's session beside {} silent connections: {took:?}", silent.len());
        assert!(took < Duration::from_secs(8), "{took:?}: silent ones are dropped after 10 s");
        let busy = operator.refused_handshakes("busy");
        assert!(busy > before + u64::from(round), "all places were taken: {busy} refused");
        drop(silent);
    }
    others.wait_for(3);
    others.end_without_a_refusal();
    ground.settles_within(16);
}

/// A connection from this address of ours.
pub(crate) fn from_address(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    bind(&socket, &SocketAddr::from((from, 0))).ok()?;
    connect(&socket, &to).ok()?;
    Some(TcpStream::from(socket))
}

/// A metric of the front's, all its kinds together.
pub(crate) fn counted(ground: &Ground, name: &str) -> Option<u64> {
    let (_, metrics) = within(Duration::from_secs(5), || http_get(ground.fleet.enclave.public, "/metrics"))?;
    let values = metrics.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    Some(values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum())
}
