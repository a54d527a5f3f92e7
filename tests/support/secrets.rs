//! Everything of a fleet that must not be seen, as needles for an attacker.

use crate::fleet::Fleet;
use crate::oauth::OauthServer;
use crate::taken_front::contents_of;
use blindferry_proto::front::Table;
use blindferry_vault::sealed::recovery::RecoveryKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

/// The secrets of one fleet. Each needle is a line of the attacker's input.
#[derive(Debug)]
pub struct Secrets {
    /// The master of a signer of JWTs.
    pub signer: KeyPair,
    /// Where tokens are minted.
    pub server: OauthServer,
    /// A token that its worker told the test.
    pub told: Option<String>,
    /// What the vault seals to its TPM.
    pub key_encryption_key: String,
    standing: Vec<String>,
}

impl Secrets {
    /// Those of a vault that was made and does not run: the key-encryption key is in its store, wrapped by the recovery
    /// key.
    #[must_use]
    pub fn of(fleet: &Fleet, masters: &[&str], server: OauthServer) -> Self {
        let printed = fleet.enclave.recovery.clone();
        let symbols = printed.replace('-', "");
        assert!(symbols.len() > 32, "a recovery key was shown");
        let wrapped = contents_of(&fleet.enclave.store()).remove(&(Table::Sealed, b"recovery".to_vec())).unwrap();
        let opened = RecoveryKey::parse(printed.as_bytes()).unwrap().unwrap(&wrapped).unwrap().into_secret();
        #[expect(clippy::disallowed_methods, reason = "a test's needle")]
        let key_encryption_key = bytes(opened.expose());
        let recovery = bytes(&decode(&symbols));
        let signer = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        // In PKCS #8 of a P-256 key the private scalar stands at a fixed place (RFC 5958, RFC 5915).
        let scalar = bytes(&signer.serialize_der()[36..68]);
        let masters = masters.iter().map(|master| (*master).to_owned());
        let standing = masters.chain([scalar, recovery, printed, symbols, key_encryption_key.clone()]).collect();
        Self { signer, server, told: None, key_encryption_key, standing }
    }

    /// All of them, with every token minted so far.
    #[must_use]
    pub fn needles(&self) -> Vec<String> {
        let told = self.told.iter().cloned();
        self.standing.iter().cloned().chain(self.server.tokens().into_keys()).chain(told).collect()
    }
}

fn bytes(secret: &[u8]) -> String {
    format!("hex:{}", hex::encode(secret))
}

/// The 256 bits of a recovery key: Crockford's base32, without its checksum.
fn decode(symbols: &str) -> Vec<u8> {
    const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits: String = symbols.chars().map(|symbol| format!("{:05b}", ALPHABET.find(symbol).unwrap())).collect();
    (0..32).map(|byte| u8::from_str_radix(&bits[byte * 8..byte * 8 + 8], 2).unwrap()).collect()
}
