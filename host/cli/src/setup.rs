//! Speaks with `blindferry-enclave init`, `recover` and `succeed` over their standard streams, see [`blindferry_proto::setup`].
//! The recovery key crosses in secret memory on this side.

use crate::failure::Failure;
use crate::init::reference_values;
use crate::invocation::Invocation;
use crate::secret_input::{LastNewline, SecretInputError, read_whole};
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::backup::Manifest;
use blindferry_proto::bounded::Text;
use blindferry_proto::key_mix::{KeyMix, RootKey};
use blindferry_proto::limits::MAX_DOCUMENT;
use blindferry_proto::platform::Choice;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::role::Role;
use blindferry_proto::setup::{InitOrder, MAX_ORDER, RecoverOrder, SetupReply, SucceedOrder};
use rustix::io::{Errno, read, write};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Which enclave is set up.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EnclaveArguments {
    /// The enclave's configuration
    #[arg(long = "enclave", value_name = "FILE")]
    config: PathBuf,
    /// The executable of the enclave [default: blindferry-enclave beside this one]
    #[arg(long = "enclave-program", value_name = "FILE")]
    program: Option<PathBuf>,
    /// Which hardware seals: auto, tpm or snp [default: as the enclave's configuration says]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Choice>,
}

/// How the key is sealed where the enclave is an SEV-SNP guest: to its measurement and its guest policy in any case.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GuestArguments {
    /// On an SEV-SNP guest: derive from the key of its migration agent, not of its chip
    #[arg(long)]
    snp_vmrk: bool,
    /// On an SEV-SNP guest: do not bind to the committed TCB version, so that older firmware can unseal too
    #[arg(long)]
    snp_any_tcb: bool,
    /// On an SEV-SNP guest: bind to the guest SVN of its ID block
    #[arg(long)]
    snp_guest_svn: bool,
    /// On an SEV-SNP guest: bind to the family id of its ID block
    #[arg(long)]
    snp_family_id: bool,
    /// On an SEV-SNP guest: bind to the image id of its ID block
    #[arg(long)]
    snp_image_id: bool,
    /// On an SEV-SNP guest: reference values for the vault itself [default: those that accept it as it is]
    #[arg(long, value_name = "FILE")]
    vault_values: Option<PathBuf>,
}

impl GuestArguments {
    pub(crate) fn mix(&self) -> KeyMix {
        KeyMix {
            root: if self.snp_vmrk { RootKey::Vmrk } else { RootKey::Vcek },
            tcb: !self.snp_any_tcb,
            guest_svn: self.snp_guest_svn,
            family_id: self.snp_family_id,
            image_id: self.snp_image_id,
        }
    }

    pub(crate) fn vault_reference(&self) -> Result<Option<Text<MAX_DOCUMENT>>, Failure> {
        self.vault_values.as_deref().map(|path| reference_values(path, Role::Vault)).transpose()
    }
}

/// What a new vault gives, once.
#[derive(Debug)]
pub(crate) struct NewVault {
    /// What hosts and operators have to know of it beforehand.
    pub(crate) reference: Text<MAX_DOCUMENT>,
    /// Opens the store wherever it is.
    pub(crate) recovery_key: SecretBytes,
}

/// Makes a new vault.
///
/// # Errors
/// [`Failure::Setup`]; [`SetupError::Refused`] says that nothing was changed.
pub(crate) fn init(
    invocation: &Invocation,
    enclave: &EnclaveArguments,
    order: &InitOrder,
    force: bool,
) -> Result<NewVault, Failure> {
    let order = serde_json::to_vec(order).map_err(|source| SetupError::Encode { source })?;
    let mut words = vec!["init"];
    words.extend(force.then_some("--force"));
    let mut started = start(invocation, enclave, &words)?;
    let _progress = invocation.progress("the enclave makes its keys");
    let new = started.tell(&[&order]).and_then(|()| {
        let reference = started.reply()?;
        let recovery_key = started.recovery_key()?;
        Ok(NewVault { reference, recovery_key })
    });
    Ok(started.end(new)?)
}

/// Seals to this machine what the recovery key opens, and gives the new vault reference.
///
/// # Errors
/// As [`init`].
pub(crate) fn recover(
    invocation: &Invocation,
    enclave: &EnclaveArguments,
    key: &SecretBytes,
    order: &RecoverOrder,
) -> Result<Text<MAX_DOCUMENT>, Failure> {
    let order = serde_json::to_vec(order).map_err(|source| SetupError::Encode { source })?;
    #[expect(clippy::disallowed_methods, reason = "written from here to the pipe of the process that needs it")]
    let key = key.expose();
    if key.contains(&b'\n') {
        return Err(SetupError::KeyOfLines.into());
    }
    let mut started = start(invocation, enclave, &["recover"])?;
    let _progress = invocation.progress("the enclave seals its key to this machine");
    let reference = started.tell(&[key, b"\n", &order]).and_then(|()| started.reply());
    Ok(started.end(reference)?)
}

/// Takes over from a vault that runs, and gives the vault reference of this guest.
///
/// # Errors
/// As [`init`].
pub(crate) fn succeed(
    invocation: &Invocation,
    enclave: &EnclaveArguments,
    order: &SucceedOrder,
) -> Result<Text<MAX_DOCUMENT>, Failure> {
    let order = serde_json::to_vec(order).map_err(|source| SetupError::Encode { source })?;
    let mut started = start(invocation, enclave, &["succeed"])?;
    let _progress = invocation.progress("proving this guest and the vault to each other");
    let reference = started.tell(&[&order]).and_then(|()| started.reply());
    Ok(started.end(reference)?)
}

/// Makes the store of a backup, and gives what that says of itself and how many values it had.
///
/// # Errors
/// As [`init`].
pub(crate) fn restore(
    invocation: &Invocation,
    enclave: &EnclaveArguments,
    backup: File,
    force: bool,
) -> Result<(Manifest, u64), Failure> {
    let mut words = vec!["restore"];
    words.extend(force.then_some("--force"));
    let started = start_with(invocation, enclave, &words, backup.into())?;
    let _progress = invocation.progress("reading the backup");
    let restored = started.answer().and_then(|answer| match answer {
        SetupReply::Restored { manifest, values } => Ok((manifest, values)),
        SetupReply::Refused(refusal) => Err(SetupError::Refused(refusal)),
        SetupReply::Done { .. } => Err(SetupError::Unexpected),
    });
    Ok(started.end(restored)?)
}

fn start(invocation: &Invocation, enclave: &EnclaveArguments, words: &[&str]) -> Result<Started, Failure> {
    start_with(invocation, enclave, words, Stdio::piped())
}

fn start_with(
    invocation: &Invocation,
    enclave: &EnclaveArguments,
    words: &[&str],
    input: Stdio,
) -> Result<Started, Failure> {
    let program = match &enclave.program {
        Some(program) => program.clone(),
        None => invocation.neighbour("blindferry-enclave")?,
    };
    let (verb, options) = words.split_first().unwrap_or((&"init", &[]));
    let spawned = Command::new(&program)
        .arg(verb)
        .arg("--config")
        .arg(&enclave.config)
        .args(enclave.platform.iter().flat_map(|platform| ["--platform", platform.as_str()]))
        .args(options)
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn();
    let child = spawned.map_err(|source| SetupError::Start { program, source })?;
    Ok(Started { child })
}

/// The enclave's process.
struct Started {
    child: Child,
}

impl Started {
    /// Writes everything and closes the pipe. A process that does not read to the end says why in its reply.
    fn tell(&mut self, parts: &[&[u8]]) -> Result<(), SetupError> {
        let Some(pipe) = self.child.stdin.take() else { return Ok(()) };
        for part in parts {
            let mut left = *part;
            while !left.is_empty() {
                match write(&pipe, left) {
                    Ok(written) => left = left.get(written..).unwrap_or_default(),
                    Err(Errno::INTR) => {}
                    Err(Errno::PIPE) => return Ok(()),
                    Err(error) => return Err(SetupError::Talk { source: error.into() }),
                }
            }
        }
        Ok(())
    }

    fn reply(&self) -> Result<Text<MAX_DOCUMENT>, SetupError> {
        match self.answer()? {
            SetupReply::Done { vault_reference } => Ok(vault_reference),
            SetupReply::Refused(refusal) => Err(SetupError::Refused(refusal)),
            SetupReply::Restored { .. } => Err(SetupError::Unexpected),
        }
    }

    fn answer(&self) -> Result<SetupReply, SetupError> {
        let pipe = self.child.stdout.as_ref().ok_or(SetupError::Silent)?;
        serde_json::from_slice(&line(pipe)?).map_err(|source| SetupError::Decode { source })
    }

    fn recovery_key(&self) -> Result<SecretBytes, SetupError> {
        let pipe = self.child.stdout.as_ref().ok_or(SetupError::Silent)?;
        read_whole(pipe, LastNewline::Removed, MAX_RECOVERY_KEY).map_err(|source| SetupError::RecoveryKey { source })
    }

    /// Waits for the end: a result counts only if the process says so by its exit status too.
    fn end<T>(mut self, result: Result<T, SetupError>) -> Result<T, SetupError> {
        // A process that still writes would wait for a reader that is not there.
        drop(self.child.stdout.take());
        let status = self.child.wait().map_err(|source| SetupError::Talk { source })?;
        match result {
            Err(SetupError::Silent) => Err(SetupError::Ended { status }),
            Ok(_) if !status.success() => Err(SetupError::Ended { status }),
            result => result,
        }
    }
}

/// A line without its end. A byte at a time, so that nothing of the next line, which may be a secret, is read here.
fn line(pipe: impl AsFd) -> Result<Vec<u8>, SetupError> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match read(&pipe, &mut byte) {
            Ok(0) if line.is_empty() => return Err(SetupError::Silent),
            Ok(0) => return Ok(line),
            Ok(_) if byte == *b"\n" => return Ok(line),
            Ok(_) if line.len() == MAX_ORDER => return Err(SetupError::TooLong),
            Ok(_) => line.extend(byte),
            Err(Errno::INTR) => {}
            Err(error) => return Err(SetupError::Talk { source: error.into() }),
        }
    }
}

/// The enclave was not set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("cannot start {program}", program = program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot write the order")]
    Encode { source: serde_json::Error },
    #[error("cannot talk to it")]
    Talk { source: io::Error },
    #[error("it said nothing")]
    Silent,
    #[error("it ended with {status} and what it said does not count; its own messages are above")]
    Ended { status: ExitStatus },
    #[error("its reply is too long")]
    TooLong,
    #[error("its reply is none")]
    Decode { source: serde_json::Error },
    #[error("its reply belongs to another order")]
    Unexpected,
    #[error("{0}")]
    Refused(Refusal),
    #[error("it gave no recovery key")]
    RecoveryKey { source: SecretInputError },
    #[error("a recovery key is one line")]
    KeyOfLines,
}

/// Bytes of a recovery key as text.
pub(crate) const MAX_RECOVERY_KEY: usize = 1024;
