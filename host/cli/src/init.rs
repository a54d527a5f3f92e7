//! `init`: makes a new vault on this machine.

use crate::configuration::Pcrs;
use crate::confirm::confirm;
use crate::document;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::note;
use crate::reserve::Reserved;
use crate::setup::{self, EnclaveArguments, GuestArguments, NewVault};
use blindferry_attest::reference::ReferenceValues;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Text;
use blindferry_proto::limits::MAX_DOCUMENT;
use blindferry_proto::role::Role;
use blindferry_proto::setup::{FirstOperator, InitOrder, VERSION};
use blindferry_session::VaultReference;
use rustix::io::{Errno, write};
use rustix::stdio::stdout;
use serde::Serialize;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Make a new vault on this machine
///
/// Makes the key-encryption key, seals it to this machine's TPM and its present PCR values, or to this SEV-SNP guest, and
/// names the first operator. The recovery key is shown once. What is initialised already stays as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    #[command(flatten)]
    enclave: EnclaveArguments,
    /// The first operator's machine: its name, and the hash of its EK or its chip id as `blindferry tpm` shows it there
    #[arg(long, value_name = "NAME=HASH", value_parser = first_operator)]
    operator: FirstOperator,
    /// Reference values for operators' machines
    #[arg(long, value_name = "FILE")]
    operator_reference: PathBuf,
    /// Reference values for worker hosts; can be applied later
    #[arg(long, value_name = "FILE")]
    broker_reference: Option<PathBuf>,
    /// The policy; can be applied later, and nothing is allowed until then
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// On a TPM: the PCRs to whose present values the key is sealed
    #[arg(long, value_name = "LIST", default_value = "0-7")]
    pcrs: Pcrs,
    #[command(flatten)]
    guest: GuestArguments,
    /// Where the vault's reference goes, which operators and hosts need
    #[arg(long, value_name = "FILE")]
    reference_out: PathBuf,
    /// Where the recovery key goes instead of the terminal: a new file that only its owner can read
    #[arg(long, value_name = "FILE")]
    recovery_out: Option<PathBuf>,
    /// Start over although there is a vault: everything stored in it is lost
    #[arg(long)]
    force: bool,
    /// Go on although some of the PCRs were never extended, and sealing to them binds to nothing
    #[arg(long)]
    insist_unextended: bool,
    /// Do not ask before --force
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Initialised<'a> {
    initialised: bool,
    operator: &'a str,
    vault_reference: &'a Path,
    recovery_key_file: Option<&'a Path>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, init: &Init) -> Result<(), Failure> {
    let order = order(init)?;
    let on_terminal = io::stdout().is_terminal() && !invocation.output.is_json();
    if init.recovery_out.is_none() && !on_terminal {
        return Err(Failure::NowhereForRecoveryKey);
    }
    if init.force {
        confirm(LOST, init.yes)?;
    }
    let mut reference_file = reserve_reference(&init.reference_out)?;
    let recovery_file = init.recovery_out.as_deref().map(|path| Reserved::create(path, 0o600)).transpose()?;

    let NewVault { reference, recovery_key } = setup::init(invocation, &init.enclave, &order, init.force)?;

    // First of all, for it comes once.
    let recovery_path = match recovery_file {
        Some(file) => Some(keep(&recovery_key, file)?),
        None => show(&recovery_key).map(|()| None)?,
    };
    drop(recovery_key);
    reference_file.write(reference.as_str().as_bytes())?;
    let reference_path = reference_file.replace()?;
    check_reference(&reference_path, reference.as_str())?;

    if let Some(path) = recovery_path.as_deref() {
        note(&format!("The recovery key is in {}.\n{PURPOSE}", path.display()));
    }
    let result = Initialised {
        initialised: true,
        operator: order.operator.name.as_str(),
        vault_reference: &reference_path,
        recovery_key_file: recovery_path.as_deref(),
    };
    invocation.output.show(&result, || {
        format!(
            "The vault is initialised.\nIts reference is in {}: give it to the operators and to the hosts.\nNext: start \
             the enclave.\n",
            reference_path.display()
        )
    })
}

fn order(init: &Init) -> Result<InitOrder, Failure> {
    Ok(InitOrder {
        version: VERSION,
        pcrs: init.pcrs.0.indices().collect(),
        insist_unextended: init.insist_unextended,
        mix: init.guest.mix(),
        vault_reference: init.guest.vault_reference()?,
        operator: init.operator.clone(),
        operator_reference: reference_values(&init.operator_reference, Role::Operator)?,
        broker_reference: init
            .broker_reference
            .as_deref()
            .map(|path| reference_values(path, Role::Broker))
            .transpose()?,
        policy: init.policy.as_deref().map(document::read).transpose()?,
    })
}

/// Reference values for peers of this role, looked at here so that a mistake is found before anything is made.
pub(crate) fn reference_values(path: &Path, role: Role) -> Result<Text<MAX_DOCUMENT>, Failure> {
    let text = document::read(path)?;
    let values = ReferenceValues::parse(text.as_str())
        .map_err(|source| Failure::Reference { path: path.to_owned(), source: Box::new(source) })?;
    if values.role() != role {
        return Err(Failure::ReferenceRole { path: path.to_owned(), found: values.role(), wanted: role });
    }
    Ok(text)
}

/// A place for the vault's reference. One that exists is replaced in the end if it is an earlier reference; no other
/// file is.
pub(crate) fn reserve_reference(path: &Path) -> Result<Reserved, Failure> {
    let earlier = fs::symlink_metadata(path).is_ok();
    if earlier && document::read(path).is_ok_and(|text| VaultReference::parse(text.as_str()).is_err()) {
        return Err(Failure::InTheWay { path: path.to_owned() });
    }
    Ok(Reserved::create(path, 0o644)?)
}

/// Looks at what was written as hosts and operators will.
pub(crate) fn check_reference(path: &Path, text: &str) -> Result<(), Failure> {
    VaultReference::parse(text)
        .map(drop)
        .map_err(|source| Failure::VaultReference { path: path.to_owned(), source: Box::new(source) })
}

pub(crate) fn keep(key: &SecretBytes, mut file: Reserved) -> Result<PathBuf, Failure> {
    #[expect(clippy::disallowed_methods, reason = "goes into the file that the operator named for it")]
    let written = file.write(key.expose()).and_then(|()| file.write(b"\n"));
    written?;
    Ok(file.settle()?)
}

pub(crate) fn show(key: &SecretBytes) -> Result<(), Failure> {
    #[expect(clippy::disallowed_methods, reason = "shown once, to the terminal of whoever makes the vault")]
    let key = key.expose();
    let rule = "=".repeat(72);
    let before = format!("\n{rule}\nRECOVERY KEY, shown once:\n\n    ");
    let after = format!("\n\n{PURPOSE}\n{rule}\n\n");
    // Past the buffer of the standard library, which is not wiped.
    for part in [before.as_bytes(), key, after.as_bytes()] {
        let mut left = part;
        while !left.is_empty() {
            match write(stdout(), left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::Output { source: error.into() }),
            }
        }
    }
    Ok(())
}

fn first_operator(text: &str) -> Result<FirstOperator, String> {
    let (name, machine) = text.split_once('=').ok_or("expected NAME=HASH")?;
    Ok(FirstOperator {
        name: name.parse().map_err(|error| format!("{error}"))?,
        machine: machine.parse().map_err(|error| format!("the machine: {error}"))?,
    })
}

const LOST: &str = "\
This makes a new vault in place of the one that is there. All stored credentials, enrolled hosts, the policy and the
audit's key are lost for good, unless the old recovery key and a copy of the store are kept.";

pub(crate) const PURPOSE: &str = "\
It opens the store when this TPM or chip is lost, cleared, or does not unseal any more. Whoever has it and a copy of the store
has every master: keep it offline, away from the store. Nobody can show it again.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_operator_has_a_name_and_a_hash() {
        let hash = "ab".repeat(32);
        let operator = first_operator(&format!("desk={hash}")).unwrap();
        assert_eq!((operator.name.as_str(), operator.machine.to_string()), ("desk", hash.clone()));
        for bad in ["desk".to_owned(), format!("={hash}"), format!("Desk={hash}"), format!("desk={}", &hash[1..])] {
            assert!(first_operator(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_is_no_reference_is_not_replaced_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwd");
        fs::write(&path, "root:x:0:0\n").unwrap();
        assert!(matches!(reserve_reference(&path), Err(Failure::InTheWay { .. })));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
