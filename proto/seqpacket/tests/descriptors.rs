//! A process that has no descriptor left, by itself, since the limit is the whole process's.

use blindferry_handle::packet::{MAX_PACKET, PacketSocket};
use blindferry_seqpacket::AsyncPackets;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::iter;

#[tokio::test]
async fn a_full_socket_is_waited_for_when_no_descriptor_is_left_to_wait_with() {
    let (one, other) = PacketSocket::pair().unwrap();
    let (one, other) = (AsyncPackets::new(one).unwrap(), AsyncPackets::new(other).unwrap());
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) }).unwrap();
    let taken: Vec<File> = iter::from_fn(|| File::open("/dev/null").ok()).take(64).collect();
    assert!(taken.len() < 64, "one is left");
    let sender = tokio::spawn(async move {
        for mark in 0..20_u8 {
            one.send(&vec![mark; MAX_PACKET], &[]).await.unwrap();
        }
    });
    for mark in 0..20_u8 {
        assert_eq!(other.receive().await.unwrap().bytes.first(), Some(&mark));
    }
    sender.await.unwrap();
}
