//! In the vault's place: says what it was started with, as labels of a metric that there is, and does what connections tell it.
//!
//! A connection sends one word: `hello` is answered, `store` commits, `drop-device` closes the socket to the device
//! process, `die` ends, `malformed` sends the front what is no message.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::exit;

use blindferry_handle::inherit::take_inherited;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::bounded::{Bytes, Text, decode, encode};
use blindferry_proto::front::{
    Condition, Figure, FromFront, FromVault, Issuer, Operation, StoreReply, StoreRequest, Table,
};
use blindferry_proto::limits::MAX_PACKET;
use blindferry_proto::refusal::{Refusal, RefusalCode};

fn main() {
    let descriptors = open_descriptors();
    let front = PacketSocket::from_fd(take_inherited(3).unwrap()).unwrap();
    let mut device = Some(PacketSocket::from_fd(take_inherited(4).unwrap()).unwrap());
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => {}
        Some("init") => init(&front, &arguments),
        Some("recover") => recover(),
        _ => exit(64),
    }
    let figure = |name: &str, label: &str, value: usize| Figure {
        name: Text::cut(name),
        label: Some(Text::cut(label)),
        value: value.try_into().unwrap(),
        counter: true,
    };
    let figures = vec![
        figure("mint_failures_total", &format!("descriptors {descriptors}"), 1),
        figure("mint_failures_total", "environment", std::env::vars_os().count()),
        figure("mint_failures_total", &format!("arguments {}", arguments.join(" ")), arguments.len()),
    ];
    tell(&front, &FromVault::Condition(Condition { ready: true, figures, steps: Vec::new() }));
    let issuer = Issuer {
        url: Text::cut("https://id.example/prod"),
        jwks: Text::cut(r#"{"keys":[]}"#),
        algorithms: vec![Text::cut("ES256")],
    };
    tell(&front, &FromVault::Publish { issuers: vec![issuer] });

    loop {
        let Ok(mut packet) = front.receive() else { exit(0) };
        match decode(&packet.bytes, MAX_PACKET).unwrap() {
            FromFront::Accepted { .. } => {
                let mut connection = TcpStream::from(packet.descriptors.remove(0));
                connection.set_nonblocking(false).unwrap();
                let mut word = [0; 16];
                let length = connection.read(&mut word).unwrap();
                match word.get(..length).unwrap() {
                    b"hello" => connection.write_all(b"hello from the vault").unwrap(),
                    b"store" => {
                        let stored = create(&front, b"stored");
                        connection.write_all(format!("{stored:?}").as_bytes()).unwrap();
                    }
                    b"drop-device" => device = None,
                    b"malformed" => front.send(&[0xff; 9], &[]).unwrap(),
                    b"die" => exit(7),
                    _ => {}
                }
            }
            FromFront::Look { id } => tell(&front, &FromVault::Here { id }),
            FromFront::Stop => exit(0),
            other => panic!("{other:?} (device: {device:?})"),
        }
    }
}

fn init(front: &PacketSocket, arguments: &[String]) -> ! {
    // The first of all: the front must not see this.
    let mut output = fs::File::from(take_inherited(5).unwrap());
    if create(front, b"sealed") == StoreReply::Exists && !arguments.iter().any(|argument| argument == "--force") {
        tell(front, &FromVault::Failed(Refusal::new(RefusalCode::Exists, "there is a sealed key already")));
        exit(3);
    }
    writeln!(output, "recovery key: {}", arguments.join(" ")).unwrap();
    exit(0)
}

fn recover() -> ! {
    let mut output = fs::File::from(take_inherited(5).unwrap());
    let mut input = String::new();
    fs::File::from(take_inherited(6).unwrap()).read_to_string(&mut input).unwrap();
    writeln!(output, "recovered with {input}").unwrap();
    exit(9)
}

fn create(front: &PacketSocket, at: &[u8]) -> StoreReply {
    let operation = Operation::Create {
        table: Table::Sealed,
        key: Bytes::new(at.to_vec()).unwrap(),
        value: Bytes::new(vec![1]).unwrap(),
    };
    tell(front, &FromVault::Store { id: 5, request: StoreRequest::Commit { operations: vec![operation] } });
    match decode(&front.receive().unwrap().bytes, MAX_PACKET).unwrap() {
        FromFront::Stored { id: 5, reply } => reply,
        other => panic!("{other:?}"),
    }
}

fn tell(front: &PacketSocket, message: &FromVault) {
    front.send(&encode(message, MAX_PACKET).unwrap(), &[]).unwrap();
}

/// Their numbers, but for the one of the listing itself.
fn open_descriptors() -> String {
    let mut numbers: Vec<u32> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !fs::read_link(entry.path()).is_ok_and(|to| to.starts_with("/proc")))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
