//! An upstream of an attacker's, with the name of a real one.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

/// What an attacker's server was told.
#[derive(Debug, Default)]
pub struct Heard {
    /// How many connections came.
    pub connections: usize,
    /// What they said inside of TLS.
    pub plain: Vec<u8>,
}

/// A TLS server with the right name in a certificate that nobody vouches for.
#[must_use]
pub fn attackers_server() -> (SocketAddr, Arc<Mutex<Heard>>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["login.example.org".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let keeping = Arc::clone(&heard);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, keeping) = (Arc::clone(&config), Arc::clone(&keeping));
            thread::spawn(move || {
                keeping.lock().unwrap().connections += 1;
                let server = rustls::ServerConnection::new(config).unwrap();
                let mut plain = Vec::new();
                let _refused = rustls::StreamOwned::new(server, stream).read_to_end(&mut plain);
                keeping.lock().unwrap().plain.extend(plain);
            });
        }
    });
    (address, heard)
}
