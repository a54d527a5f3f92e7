//! Sits on the bus between a device process and a TPM, and writes down everything.

use crate::tpm::{adjacent_ports, tcti};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A bus with an ear on it. Its threads end with the test's process.
#[derive(Clone, Debug)]
pub struct Bus {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Bus {
    /// Listens beside the TPM at `tpm`, on two ports as swtpm does.
    #[must_use]
    pub fn before(tpm: u16) -> Self {
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let port = adjacent_ports();
        for channel in 0..2 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port + channel)).unwrap();
            let heard = Arc::clone(&heard);
            thread::spawn(move || {
                for client in listener.incoming() {
                    let Ok(client) = client else { continue };
                    let Ok(tpm) = TcpStream::connect((Ipv4Addr::LOCALHOST, tpm + channel)) else { continue };
                    let (client_again, tpm_again) = (client.try_clone().unwrap(), tpm.try_clone().unwrap());
                    let (there, back) = (Arc::clone(&heard), Arc::clone(&heard));
                    thread::spawn(move || carry(client, tpm, &there));
                    thread::spawn(move || carry(tpm_again, client_again, &back));
                }
            });
        }
        Self { port, heard }
    }

    /// Where a device process finds the TPM through it.
    #[must_use]
    pub fn tcti(&self) -> String {
        tcti(self.port)
    }

    /// All that went by, in either direction.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, heard: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        heard.lock().unwrap().extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Gone already, at worst.
    let _gone = to.shutdown(Shutdown::Both);
}
