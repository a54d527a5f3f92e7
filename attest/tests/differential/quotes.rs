//! The same quote through `tpm2_checkquote` and through Python's `cryptography`, and where our verifier is the stricter.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::registry;

/// A quote as others take it: TPMS_ATTEST, TPMT_SIGNATURE, TPMT_PUBLIC, what it should answer, values of SHA-256 PCRs.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) message: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) public: Vec<u8>,
    pub(crate) challenge: Vec<u8>,
    pub(crate) pcrs: Vec<(u8, [u8; 32])>,
}

impl Asked {
    fn values(&self) -> Vec<u8> {
        self.pcrs.iter().flat_map(|(_, value)| *value).collect()
    }
}

/// What `tpm2_checkquote` makes of each; nothing when it is not installed, and why is printed.
pub(crate) fn tpm2_checkquote(asked: &[Asked]) -> Option<Vec<Result<(), String>>> {
    if Command::new("tpm2_checkquote").arg("--version").output().is_err() {
        println!("skipped: tpm2_checkquote is not installed (package tpm2-tools)");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let judged = asked.iter().map(|one| {
        let sized = [&u16::try_from(one.public.len()).unwrap().to_be_bytes()[..], &one.public].concat();
        let files = [("public", &sized), ("message", &one.message), ("signature", &one.signature)];
        for (name, bytes) in files.into_iter().chain([("pcrs", &one.values())]) {
            fs::write(place.path().join(name), bytes).unwrap();
        }
        let indices: Vec<_> = one.pcrs.iter().map(|(pcr, _)| pcr.to_string()).collect();
        let mut command = Command::new("tpm2_checkquote");
        command.args(["-u", "public", "-m", "message", "-s", "signature", "-g", "sha256", "-f", "pcrs"]);
        command.args(["-l", &format!("sha256:{}", indices.join(","))]);
        command.args(["-q", &hex::encode(&one.challenge)]);
        let output = command.current_dir(place.path()).stdin(Stdio::null()).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    Some(judged.collect())
}

/// What Python's `cryptography` makes of each; nothing when it cannot be had, and why is printed.
pub(crate) fn python(asked: &[Asked]) -> Option<Vec<Result<(), String>>> {
    let pip = ["venv/bin/pip", "install", "--quiet", "cryptography==48.0.0"];
    let place = registry::install("quote.py", &[&["python3", "-m", "venv", "venv"], &pip])?;
    let asked: Vec<Value> = asked
        .iter()
        .map(|one| {
            let parts = [&one.message, &one.signature, &one.public, &one.challenge, &one.values()].map(hex::encode);
            let [message, signature, public, challenge, pcrs] = parts;
            json!({ "message": message, "signature": signature, "public": public, "challenge": challenge, "pcrs": pcrs })
        })
        .collect();
    let mut python = Command::new(place.join("venv/bin/python"))
        .arg(place.join("quote.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(Value::from(asked).to_string().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "the verifier broke");
    let judged: Vec<Option<String>> = serde_json::from_slice(&output.stdout).unwrap();
    Some(judged.into_iter().map(|refused| refused.map_or(Ok(()), Err)).collect())
}
