//! Verifies an attestation result with the crate `ear`. Standard input: JSON with alg, jwk and token. Writes what it says,
//! or refuses. Built by a test, outside the workspace.

use ear::{Algorithm, Ear, RawValue};
use serde_json::{Value, json};

fn main() {
    let asked: Value = serde_json::from_reader(std::io::stdin()).unwrap();
    let algorithm = match asked["alg"].as_str().unwrap() {
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        other => panic!("unknown algorithm {other}"),
    };
    let result = match Ear::from_jwt_jwk(asked["token"].as_str().unwrap(), algorithm, asked["jwk"].to_string().as_bytes()) {
        Ok(result) => result,
        Err(error) => {
            eprintln!("refused: {error}");
            std::process::exit(1);
        }
    };
    let tpm = &result.submods["tpm"];
    let Some(RawValue::String(reference)) = tpm.attester_claims.get("reference") else { panic!("no reference") };
    let said = json!({
        "profile": result.profile,
        "nonce": result.nonce.unwrap().to_string(),
        "status": tpm.status.to_string(),
        "identity": tpm.trust_vector.instance_identity.value(),
        "reference": reference,
    });
    println!("{said}");
}
