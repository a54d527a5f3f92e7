//! `recover`: seals to this machine what the recovery key opens.

use crate::configuration::Pcrs;
use crate::failure::Failure;
use crate::init::{check_reference, reserve_reference};
use crate::invocation::Invocation;
use crate::secret_input::known_secret;
use crate::setup::{self, EnclaveArguments, GuestArguments, MAX_RECOVERY_KEY};
use blindferry_proto::setup::{RecoverOrder, VERSION};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Open a store on this machine by its recovery key
///
/// For a TPM or a chip that was lost, cleared, or does not unseal any more. The recovery key is asked for and not shown, or read
/// from standard input where that is no terminal.
#[derive(Debug, clap::Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    enclave: EnclaveArguments,
    /// On a TPM: the PCRs to whose present values the key is sealed
    #[arg(long, value_name = "LIST", default_value = "0-7")]
    pcrs: Pcrs,
    #[command(flatten)]
    guest: GuestArguments,
    /// Where the vault's new reference goes, which operators and hosts need from now on
    #[arg(long, value_name = "FILE")]
    reference_out: PathBuf,
    /// Go on although some of the PCRs were never extended, and sealing to them binds to nothing
    #[arg(long)]
    insist_unextended: bool,
}

#[derive(Serialize)]
struct Recovered<'a> {
    recovered: bool,
    vault_reference: &'a Path,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, recover: &Recover) -> Result<(), Failure> {
    let order = RecoverOrder {
        version: VERSION,
        pcrs: recover.pcrs.0.indices().collect(),
        insist_unextended: recover.insist_unextended,
        mix: recover.guest.mix(),
        vault_reference: recover.guest.vault_reference()?,
    };
    let mut file = reserve_reference(&recover.reference_out)?;
    let key = known_secret("Recovery key", MAX_RECOVERY_KEY)
        .map_err(|source| Failure::Secret { what: "the recovery key", source })?;
    let reference = setup::recover(invocation, &recover.enclave, &key, &order)?;
    drop(key);
    file.write(reference.as_str().as_bytes())?;
    let path = file.replace()?;
    check_reference(&path, reference.as_str())?;
    invocation.output.show(&Recovered { recovered: true, vault_reference: &path }, || {
        format!(
            "The store opens on this machine now.\nThe vault's new reference is in {}: give it to the operators and to \
             the hosts.\nNext: start the enclave.\n",
            path.display()
        )
    })
}
