//! Makes an EAT Attestation Result (EAR) from a verdict: a signed JWT, for those who trust this verifier.
//!
//! `cargo run -p blindferry-attest --example make_result`

use std::error::Error;

use blindferry_attest::{
    attested::{Expected, Pinned, PinnedGuest, PinnedMachine, appraise},
    binder::Binder,
    evidence::Evidence,
    reference::ReferenceValues,
    result::{Algorithm, Channel, SigningKey, Terms, sign},
    snp::SnpEvidence,
};
use blindferry_proto::role::Role;
use ring::{rand::SystemRandom, signature::Ed25519KeyPair};

fn main() -> Result<(), Box<dyn Error>> {
    let attested = {
        let report = include_bytes!("evidence/report.bin").to_vec();
        let certificates =
            vec![include_bytes!("evidence/vcek.der").to_vec(), include_bytes!("evidence/ask.der").to_vec()];
        let evidence = Evidence::Snp(SnpEvidence::new(report, certificates, vec![])?);
        let machine = PinnedMachine::ByReference;
        let guest = PinnedGuest { machine, report_id: None, now: NOW, crls: &[], endorsed: None };
        let binder = Binder::compute(Role::Vault, TLS_KEY, &EXPORTER)?;
        let expected = Expected { binder, role: Role::Vault, pinned: Pinned::Guest(guest) };
        appraise(evidence, expected, &ReferenceValues::parse(include_str!("evidence/guest.toml"))?)?
    };

    let random = SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| "no randomness")?;
    let key = SigningKey::from_pkcs8(Algorithm::EdDsa, pkcs8.as_ref(), &random)?;
    let terms = Terms {
        judged: NOW,
        lifetime: 600,
        policy: "https://policy.example/vaults/7",
        // Names the peer's TLS key in the result, after comparing that the verdict is of this channel.
        channel: Some(Channel { spki: TLS_KEY, exporter: &EXPORTER }),
    };
    let result = sign(&attested, &terms, &key, &random)?;
    println!("{}", result.as_str());
    println!("{}", key.public_jwk());
    Ok(())
}

/// What the peer showed in TLS (DER SubjectPublicKeyInfo), and what both ends exported from the channel.
const TLS_KEY: &[u8] = b"a TLS key";
const EXPORTER: [u8; 32] = [7; 32];

/// 2026-11-21.
const NOW: u64 = 1_795_219_200;
