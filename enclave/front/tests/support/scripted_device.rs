//! In the device process's place: writes down what it was started with, and then that its client has gone.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::fd::AsFd;
use std::{fs, io};

use blindferry_handle::packet::{PacketError, PacketSocket};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [serve, _, tcti, _, pins] = arguments.as_slice() else { panic!("{arguments:?}") };
    let note = |text: &str| fs::write(pins, text).unwrap();
    assert_eq!(serve, "serve");
    let client = PacketSocket::from_fd(io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    note(&format!("{tcti}, {} variables", std::env::vars_os().count()));
    assert!(matches!(client.receive(), Err(PacketError::Closed)));
    note("the client has gone");
}
