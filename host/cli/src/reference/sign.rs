//! `reference sign`, and the signature that `reference apply --signed-by` asks for.

use super::compute::read;
use crate::document::{self, DocumentError};
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::reserve::Reserved;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blindferry_attest::reference::{
    KeyId, MAX_SIGNATURE, ReferenceValues, Signature, SignatureError, Signed, SigningKey,
};
use clap::Args;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Serialize;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Sign reference values: writes FILE.sig
///
/// A key: openssl genpkey -algorithm ed25519 -out KEY.pem; its public half: openssl pkey -in KEY.pem -pubout
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// Reference values in TOML
    file: PathBuf,
    /// The private Ed25519 key, PKCS#8 in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    signature: &'a Path,
    key: String,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(super) fn run(invocation: &Invocation, sign: &Sign) -> Result<(), Failure> {
    let values = super::parse(&sign.file, document::read(&sign.file)?.as_str())?;
    let pair = private_key(&sign.key)?;
    let public =
        pair.public_key().as_ref().try_into().map_err(|_| SigningError::PrivateKey { path: sign.key.clone() })?;
    let key = SigningKey::from_point(public).id();
    let value = pair.sign(&values.to_be_signed());
    let value = value.as_ref().try_into().map_err(|_| SigningError::PrivateKey { path: sign.key.clone() })?;
    let path = beside(&sign.file);
    let mut file = Reserved::create(&path, 0o644)?;
    file.write(Signature::new(key, value).to_toml().as_bytes())?;
    let path = file.replace()?;
    let written = Written { signature: &path, key: key.to_string() };
    invocation.output.show(&written, || format!("{} signed with key {key}", path.display()))
}

/// Checks the signature beside a file of values.
///
/// # Errors
/// [`SigningError`], or files that cannot be read.
pub(super) fn check(file: &Path, values: ReferenceValues, trusted: &Path) -> Result<(KeyId, ReferenceValues), Failure> {
    let key = document::read_bounded::<MAX_SIGNATURE>(trusted)?;
    let key = SigningKey::from_pem(key.as_str())
        .map_err(|source| SigningError::PublicKey { path: trusted.to_owned(), source })?;
    let path = beside(file);
    let signature = document::read_bounded::<MAX_SIGNATURE>(&path)?;
    let refused = |source| SigningError::Refused { path: path.clone(), source: Box::new(source) };
    let signature = Signature::parse(signature.as_str()).map_err(refused)?;
    let signed: Signed = signature.verify(values, &key).map_err(refused)?;
    Ok((signed.by(), signed.into_values()))
}

/// Where the signature of a file lies.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// The heap wipes what it frees, so that nothing of the key stays in copies that moved.
fn private_key(path: &Path) -> Result<Ed25519KeyPair, Failure> {
    let refused = || SigningError::PrivateKey { path: path.to_owned() };
    let pem = Zeroizing::new(read(path, MAX_SIGNATURE)?);
    let text = str::from_utf8(&pem).map_err(|_| DocumentError::NotText { path: path.to_owned() })?;
    let body = text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----").ok_or_else(refused)?;
    let body = body.strip_suffix("-----END PRIVATE KEY-----").ok_or_else(refused)?;
    let body = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
    let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| refused())?);
    // OpenSSL leaves the public key out; ring computes it then.
    Ok(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| refused())?)
}

/// Why values are not signed, or not by whom they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    #[error("{path} is no private Ed25519 key (PKCS#8 in PEM)", path = path.display())]
    PrivateKey { path: PathBuf },
    #[error("{path} is no public key", path = path.display())]
    PublicKey { path: PathBuf, source: SignatureError },
    #[error("{path} does not vouch for the values", path = path.display())]
    Refused { path: PathBuf, source: Box<SignatureError> },
}
