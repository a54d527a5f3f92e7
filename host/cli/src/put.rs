//! `put`: stores a master.

use crate::deposit;
use crate::failure::Failure;
use crate::generate::signing_key;
use crate::invocation::Invocation;
use crate::kind::{AlgorithmName, KindArguments};
use crate::secret_input;
use crate::session::with_session;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::limits::MAX_MASTER;
use blindferry_proto::name::CredentialName;
use blindferry_proto::operator::OperatorRequest;
use ring::rand::SystemRandom;
use serde::Serialize;
use std::ffi::OsString;
use std::os::fd::RawFd;

/// Store a master: a secret that the vault keeps, and makes tokens from
///
/// The master is read from standard input; where that is a terminal it is asked for twice and not shown. One newline at
/// the end of a text is not taken for part of it. It is encrypted to the vault's key after the vault proved itself. It
/// is never taken from the command line, which every process of this machine can read.
#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// What the credential shall be asked for by
    // Not parsed by clap, which would repeat in its error what may be a secret.
    name: OsString,
    #[command(flatten)]
    kind: KindArguments,
    /// Replace the credential of that name
    #[arg(long)]
    replace: bool,
    /// Read the master from this inherited descriptor, byte for byte
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    from_fd: Option<RawFd>,
    /// Make the key here, so that nobody else ever had it (jwt-signer)
    #[arg(long, value_name = "ALGORITHM", conflicts_with = "from_fd")]
    generate: Option<AlgorithmName>,
}

#[derive(Serialize)]
struct Stored<'a> {
    stored: &'a CredentialName,
    replaced_allowed: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, put: Put) -> Result<(), Failure> {
    let Put { name, kind, replace, from_fd, generate } = put;
    let name = credential_name(&name)?;
    let settings = kind.settings(generate)?;
    // Before the session: a person may take longer to type than the vault waits for an answer.
    let master = master(&name, generate, from_fd)?;
    with_session(invocation, async |session| {
        let deposit = deposit::seal(master, &name, &session.welcome.deposit_key).map_err(Failure::Deposit)?;
        let request = OperatorRequest::Put {
            name: name.clone(),
            settings: Box::new(settings),
            encapsulated: deposit.encapsulated,
            ciphertext: deposit.ciphertext,
            replace,
        };
        session.order("store the credential", request).await
    })?;
    invocation.output.show(&Stored { stored: &name, replaced_allowed: replace }, || format!("stored {name}"))
}

fn master(
    name: &CredentialName,
    generate: Option<AlgorithmName>,
    from_fd: Option<RawFd>,
) -> Result<SecretBytes, Failure> {
    match generate {
        Some(algorithm) => signing_key(algorithm.into(), &SystemRandom::new()).map_err(Failure::Generate),
        None => secret_input::secret(&format!("Master for {name}"), from_fd, MAX_MASTER)
            .map_err(|source| Failure::Secret { what: "the master", source }),
    }
}

/// The name, and never an error that repeats what may be a secret.
fn credential_name(given: &OsString) -> Result<CredentialName, Failure> {
    let text = given.to_str().ok_or(Failure::NotAName)?;
    if text.contains('=') {
        return Err(Failure::SecretOnCommandLine);
    }
    text.parse().map_err(|_| Failure::NotAName)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_behind_the_name_is_refused_and_not_repeated() {
        let refused = credential_name(&"deploy=hunter2".into()).unwrap_err();
        assert!(matches!(refused, Failure::SecretOnCommandLine));
        let told = format!("{refused} {:?}", refused.hint());
        assert!(told.contains("standard input") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn what_is_no_name_is_refused_and_not_repeated() {
        let refused = credential_name(&"Hunter2!".into()).unwrap_err();
        assert!(!refused.to_string().contains("unter2"));
        assert_eq!(credential_name(&"github-deploy".into()).unwrap().as_str(), "github-deploy");
    }
}
