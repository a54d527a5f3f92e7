//! A process that has no descriptor left.

use crate::connections::from_address;
use crate::ground::Ground;
use blindferry_handle::packet::PacketSocket;
use blindferry_tests::account::{Account, BROKER, ENCLAVE};
use blindferry_tests::fleet::http_get;
use blindferry_tests::process::{eventually, within};
use blindferry_tests::worker::ask_for;
use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_front_without_descriptors_serves_who_is_connected_and_others_again_when_it_has_some() {
    let Some(ground) = Ground::start() else { return };
    let (others, front) = (ground.others(), ground.process("front"));
    let before = exhaust(front, ENCLAVE);
    // They wait to be accepted, and the front waits between its attempts.
    let from = Ipv4Addr::new(127, 0, 7, 9);
    let waiting: Vec<_> = (0..20).filter_map(|_| from_address(from, ground.fleet.enclave.listen)).collect();
    eventually("the front to say so", || ground.fleet.enclave.log().contains("accept-failed").then_some(()));
    others.wait_for(3);
    drop(waiting);
    set(front, ENCLAVE, before);
    let ready = || http_get(ground.fleet.enclave.public, "/readyz").filter(|(status, _)| *status == 200);
    eventually("the front to answer", ready);
    others.end_without_a_refusal();
    ground.settles_within(16);
}

#[test]
fn a_broker_without_descriptors_serves_again_when_it_has_some() {
    let Some(ground) = Ground::start() else { return };
    let broker = ground.process("broker");
    assert!(ask_for(&ground.fleet, "api").is_ok());
    let before = exhaust(broker, BROKER);
    let parents = ground.fleet.host.parents();
    let waiting: Vec<_> = (0..20).filter_map(|_| PacketSocket::connect(&parents).ok()).collect();
    assert!(!waiting.is_empty());
    eventually("the broker to say so", || ground.fleet.host.log().contains("accept").then_some(()));
    assert!(ground.fleet.operator().status().sessions >= 2, "its session stands");
    drop(waiting);
    set(broker, BROKER, before);
    eventually("a grant", || ask_for(&ground.fleet, "api").ok());
    let others = ground.others();
    others.wait_for(3);
    others.end_without_a_refusal();
    ground.settles_within(16);
}

#[test]
fn a_vault_without_descriptors_ends_as_a_whole_or_serves_and_never_takes_a_half_message() {
    let Some(mut ground) = Ground::start() else { return };
    let vault = ground.process("vault");
    exhaust(vault, ENCLAVE);
    let sessions = ground.fleet.host.sessions();
    let _knock = from_address(Ipv4Addr::new(127, 0, 7, 9), ground.fleet.enclave.listen);
    // A connection that the vault has no descriptor for cannot reach it.
    let ended = within(Duration::from_secs(10), || ground.fleet.enclave.front().ended());
    println!("after a connection that it could not take: {ended:?}");
    if ended.is_some() {
        ground.fleet.enclave.wait();
        ground.fleet.enclave.serve();
        ground.fleet.host.wait_for_session_after(sessions);
    } else {
        assert!(ask_for(&ground.fleet, "api").is_ok());
    }
    let others = ground.others();
    others.wait_for(3);
    others.end_without_a_refusal();
}

/// Leaves a process no number for another descriptor, and gives what it was allowed before.
fn exhaust(process: u32, account: Account) -> u64 {
    let open: BTreeSet<u64> = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten().map(number).collect();
    let lowest = (0..).find(|number| !open.contains(number)).unwrap();
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let before = line.split_ascii_whitespace().next().unwrap().parse().unwrap();
    set(process, account, lowest);
    before
}

fn number(entry: DirEntry) -> u64 {
    entry.file_name().to_str().unwrap().parse().unwrap()
}

/// Its soft limit, which its own user may change as well.
fn set(process: u32, account: Account, limit: u64) {
    let mut prlimit = account.command(Path::new("prlimit"));
    let done = prlimit.args(["--pid", &process.to_string(), &format!("--nofile={limit}:")]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
