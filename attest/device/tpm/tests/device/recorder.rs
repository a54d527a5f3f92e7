//! Sits on the bus between a client and a TPM: writes down everything, and can hold the client in the middle.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::swtpm::adjacent_ports;

/// A bus with an ear on it. Its threads end with the test process.
pub(crate) struct Recorder {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<u8>>,
    held: Mutex<Hold>,
    changed: Condvar,
}

#[derive(Default, PartialEq, Clone, Copy)]
enum Hold {
    #[default]
    Off,
    /// Hold the first command after the one of this code.
    After(u32),
    /// The code went by.
    Next,
    Held,
}

impl Recorder {
    /// Listens beside the TPM at `tpm`, on two ports as swtpm does.
    pub(crate) fn before(tpm: u16) -> Self {
        let shared = Arc::new(Shared::default());
        let port = adjacent_ports();
        for channel in 0..2 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port + channel)).unwrap();
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for client in listener.incoming() {
                    let (client, shared) = (client.unwrap(), Arc::clone(&shared));
                    let tpm = TcpStream::connect((Ipv4Addr::LOCALHOST, tpm + channel)).unwrap();
                    let (client_again, tpm_again) = (client.try_clone().unwrap(), tpm.try_clone().unwrap());
                    let back = Arc::clone(&shared);
                    thread::spawn(move || carry(client, tpm, &shared, channel == 0));
                    thread::spawn(move || carry(tpm_again, client_again, &back, false));
                }
            });
        }
        Self { port, shared }
    }

    /// Whether these bytes went over the bus, in either direction.
    pub(crate) fn heard(&self, secret: &[u8]) -> bool {
        self.shared.heard.lock().unwrap().windows(secret.len()).any(|window| window == secret)
    }

    /// Whether a command of this code went over the bus: the check that the recorder sits where it should.
    pub(crate) fn heard_command(&self, code: u32) -> bool {
        self.heard(&code.to_be_bytes())
    }

    /// Lets the next command of this code through, and holds the one after it.
    pub(crate) fn hold_after(&self, code: u32) {
        *self.shared.held.lock().unwrap() = Hold::After(code);
    }

    /// Waits until the client is held.
    pub(crate) fn wait_until_held(&self) {
        let held = self.shared.held.lock().unwrap();
        drop(self.shared.changed.wait_while(held, |hold| *hold != Hold::Held).unwrap());
    }

    pub(crate) fn release(&self) {
        *self.shared.held.lock().unwrap() = Hold::Off;
        self.shared.changed.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared, commands: bool) {
    let mut buffer = vec![0; 8192];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..len];
        shared.heard.lock().unwrap().extend_from_slice(bytes);
        if commands {
            hold(bytes, shared);
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn hold(bytes: &[u8], shared: &Shared) {
    let mut held = shared.held.lock().unwrap();
    match *held {
        // libtss2 writes a command in one piece; its code follows tag and length.
        Hold::After(code) if bytes.get(6..10) == Some(&code.to_be_bytes()) => *held = Hold::Next,
        Hold::Next => {
            *held = Hold::Held;
            shared.changed.notify_all();
            drop(shared.changed.wait_while(held, |hold| *hold == Hold::Held).unwrap());
        }
        _ => {}
    }
}
