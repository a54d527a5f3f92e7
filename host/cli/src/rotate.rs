//! `rotate`: replaces the keys that the enclave is sealed by, while it serves.

use crate::confirm::confirm;
use crate::failure::Failure;
use crate::init::{PURPOSE, keep, show};
use crate::invocation::Invocation;
use crate::output::note;
use crate::reserve::Reserved;
use crate::session::with_session;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError};
use blindferry_proto::identifier::{DepositKey, Digest, SessionId};
use blindferry_proto::operator::{OperatorReply, OperatorRequest, RECOVERY_INFO};
use clap::{Args, Subcommand};
use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256 as Suite;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, Serializable, single_shot_open_inout_detached};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Replace a key of the enclave, while it serves
#[derive(Debug, Subcommand)]
pub(crate) enum Rotate {
    KeyEncryptionKey(KeyEncryptionKey),
    /// Replace the key that approves PCR values; what is approved stays so
    PolicyAuthority,
}

/// Replace the key that everything stored is encrypted under, and its recovery key
///
/// The new recovery key is shown once, before anything changes. Then the vault seals the new key to its TPM or guest and
/// encrypts the store anew while it serves; `blindferry status` says so until it is done. The old recovery key opens old
/// backups, and nothing else.
#[derive(Debug, Args)]
pub(crate) struct KeyEncryptionKey {
    /// Where the new recovery key goes instead of the terminal: a new file that only its owner can read
    #[arg(long, value_name = "FILE")]
    recovery_out: Option<PathBuf>,
    /// Do not ask whether the new recovery key is kept
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Rotated<'a> {
    rotated: &'static str,
    recovery_key_file: Option<&'a Path>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, rotate: Rotate) -> Result<(), Failure> {
    match rotate {
        Rotate::KeyEncryptionKey(options) => key(invocation, &options),
        Rotate::PolicyAuthority => {
            let doing = "replace the policy authority";
            with_session(invocation, async |session| session.order(doing, OperatorRequest::ChangeAuthority).await)?;
            let rotated = Rotated { rotated: "policy-authority", recovery_key_file: None };
            invocation
                .output
                .show(&rotated, || "The policy authority is another one; what was approved is.\n".to_owned())
        }
    }
}

fn key(invocation: &Invocation, options: &KeyEncryptionKey) -> Result<(), Failure> {
    let on_terminal = io::stdout().is_terminal() && !invocation.output.is_json();
    if options.recovery_out.is_none() && !on_terminal {
        return Err(Failure::NowhereForRecoveryKey);
    }
    let file = options.recovery_out.as_deref().map(|path| Reserved::create(path, 0o600)).transpose()?;
    let pair = Pair::generate()?;
    let doing = "prepare a key";
    let (name, recovery) = with_session(invocation, async |session| {
        match session.ask(doing, OperatorRequest::PrepareKey { key: pair.public() }).await? {
            OperatorReply::KeyPrepared { prepared, encapsulated, recovery } => {
                let opened = pair.open(&session.welcome.session, &encapsulated, recovery.as_slice());
                Ok((prepared, opened?))
            }
            _ => Err(Failure::Unexpected { doing }),
        }
    })?;
    let path = match file {
        Some(file) => Some(keep(&recovery, file)?),
        None => show(&recovery).map(|()| None)?,
    };
    drop(recovery);
    if let Some(path) = path.as_deref() {
        note(&format!("The new recovery key is in {}.\n{PURPOSE}", path.display()));
    }
    // Between two sessions: a person may take longer than a session waits for an answer.
    confirm(KEPT, options.yes || path.is_some())?;
    let order = OperatorRequest::ChangeKey { prepared: name };
    with_session(invocation, async |session| session.order("put the new key in force", order).await)?;
    let rotated = Rotated { rotated: "key-encryption-key", recovery_key_file: path.as_deref() };
    invocation.output.show(&rotated, || {
        "The new key is in force, and the store is being encrypted anew.\nThe old recovery key opens backups that are older \
         than this, and nothing else. Those still open on this TPM too, until `blindferry enclave revoke-old`.\nNext: \
         `blindferry backup`, and when all is well destroy the old recovery key.\n"
            .to_owned()
    })
}

const KEPT: &str = "\
Keep the recovery key above now: once the new key is in force, the old recovery key opens nothing but old backups.";

/// A key pair for one answer.
struct Pair {
    seed: SecretBytes,
}

impl Pair {
    fn generate() -> Result<Self, RecoveryKeyError> {
        let random = SystemRandom::new();
        let seed = SecretBytes::init(SEED, |seed| random.fill(seed).map(|()| SEED));
        seed.map(|seed| Self { seed }).map_err(|error| match error {
            InitError::Fill(_) => RecoveryKeyError::Random,
            InitError::Secret(source) => RecoveryKeyError::Memory { source },
        })
    }

    fn derive(&self) -> (<Suite as Kem>::PrivateKey, <Suite as Kem>::PublicKey) {
        #[expect(clippy::disallowed_methods, reason = "derives a key that is wiped after its one use")]
        let seed = self.seed.expose();
        Suite::derive_keypair(seed)
    }

    fn public(&self) -> DepositKey {
        DepositKey(self.derive().1.to_bytes().into())
    }

    /// The recovery key of an answer, from the wire into secret pages.
    fn open(
        &self,
        session: &SessionId,
        encapsulated: &Digest,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, RecoveryKeyError> {
        let wrong = |source| RecoveryKeyError::Open { source };
        let encapsulated = <Suite as Kem>::EncappedKey::from_bytes(encapsulated.as_bytes()).map_err(wrong)?;
        let length = ciphertext.len().saturating_sub(TAG);
        let (body, tag) = ciphertext.split_at_checked(length).unwrap_or_default();
        let tag = AeadTag::<ChaCha20Poly1305>::from_bytes(tag).map_err(wrong)?;
        let (private, _) = self.derive();
        let opened = SecretBytes::init(body.len(), |place| {
            place.copy_from_slice(body);
            let length = place.len();
            single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, Suite>(
                &OpModeR::Base,
                &private,
                &encapsulated,
                RECOVERY_INFO,
                place.into(),
                &session.0,
                &tag,
            )
            .map(|()| length)
        });
        opened.map_err(|error| match error {
            InitError::Fill(source) => RecoveryKeyError::Open { source },
            InitError::Secret(source) => RecoveryKeyError::Memory { source },
        })
    }
}

/// The new recovery key did not arrive; the old one is in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryKeyError {
    #[error("the system gives no random bytes")]
    Random,
    #[error("cannot keep it in secret memory")]
    Memory { source: SecretError },
    #[error("it was not encrypted to this command")]
    Open { source: HpkeError },
}

/// Bytes of a seed: the length of a private key of the suite.
const SEED: usize = 32;
/// Bytes of ChaCha20-Poly1305's tag.
const TAG: usize = 16;
