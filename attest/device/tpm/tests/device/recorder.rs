//! Sits on the bus between a client and a TPM: writes down everything, and can hold the client in the middle.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

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
    /// Change the response to the command of this code, and whether it is the one under way.
    tamper: Mutex<Option<(u32, bool)>>,
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
                    let [there, back_again] =
                        if channel == 0 { [Carry::Commands, Carry::Responses] } else { [Carry::Control; 2] };
                    thread::spawn(move || carry(client, tpm, &shared, there));
                    thread::spawn(move || carry(tpm_again, client_again, &back, back_again));
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

    /// From now on, flips one bit in the first parameter of each response to a command of this code.
    pub(crate) fn tamper_with_responses_to(&self, code: u32) {
        *self.shared.tamper.lock().unwrap() = Some((code, false));
    }

    /// Lets the next command of this code through, and holds the one after it.
    pub(crate) fn hold_after(&self, code: u32) {
        *self.shared.held.lock().unwrap() = Hold::After(code);
    }

    /// Waits until the client is held.
    pub(crate) fn wait_until_held(&self) {
        let held = self.shared.held.lock().unwrap();
        let waited = self.shared.changed.wait_timeout_while(held, PATIENCE, |hold| *hold != Hold::Held).unwrap();
        assert!(!waited.1.timed_out(), "the command to be held after did not go by");
    }

    pub(crate) fn release(&self) {
        *self.shared.held.lock().unwrap() = Hold::Off;
        self.shared.changed.notify_all();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Carry {
    Commands,
    Responses,
    Control,
}

fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared, what: Carry) {
    let mut buffer = vec![0; 8192];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..len];
        shared.heard.lock().unwrap().extend_from_slice(bytes);
        match what {
            Carry::Commands => hold(bytes, shared),
            Carry::Responses => tamper(bytes, shared),
            Carry::Control => {}
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn hold(bytes: &[u8], shared: &Shared) {
    if let Some((code, under_way)) = &mut *shared.tamper.lock().unwrap() {
        *under_way = bytes.get(6..10) == Some(&code.to_be_bytes());
    }
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

fn tamper(bytes: &mut [u8], shared: &Shared) {
    // After tag, length, code and the length of the parameters.
    if let (Some((_, true)), Some(byte)) = (*shared.tamper.lock().unwrap(), bytes.get_mut(17)) {
        *byte ^= 1;
    }
}

/// A request takes well below a second.
const PATIENCE: Duration = Duration::from_secs(10);
