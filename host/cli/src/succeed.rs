//! `succeed`: makes this guest the next one of a vault that runs.

use crate::configuration::Address;
use crate::document;
use crate::failure::Failure;
use crate::init::{check_reference, reserve_reference};
use crate::invocation::Invocation;
use crate::session::{vault_reference, warn_of};
use crate::setup::{self, EnclaveArguments, GuestArguments};
use blindferry_proto::bounded::Text;
use blindferry_proto::name::HostName;
use blindferry_proto::setup::{SucceedOrder, VERSION};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Have a running vault hand its key over to this SEV-SNP guest
///
/// For an update of the vault's image: run it on the new guest while the old one serves. An operator has approved this
/// guest there with `host approve --role successor`, and the image with `reference apply`. Nothing is stored here: the old
/// vault's store opens for this guest too from then on.
#[derive(Debug, clap::Args)]
pub(crate) struct Succeed {
    #[command(flatten)]
    enclave: EnclaveArguments,
    /// Where the vault serves that runs
    #[arg(long, value_name = "HOST:PORT")]
    vault: Address,
    /// The reference of the vault that runs
    #[arg(long, value_name = "FILE")]
    vault_reference: PathBuf,
    /// The name under which this guest was approved there
    #[arg(long, value_name = "NAME", default_value = "successor")]
    name: HostName,
    #[command(flatten)]
    guest: GuestArguments,
    /// Where the reference of the vault as this guest goes, which operators and hosts need once it serves
    #[arg(long, value_name = "FILE")]
    reference_out: PathBuf,
}

#[derive(Serialize)]
struct Succeeded<'a> {
    succeeded: bool,
    vault_reference: &'a Path,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, succeed: &Succeed) -> Result<(), Failure> {
    // Here first: a mistake in it is told with its place.
    warn_of(&vault_reference(&succeed.vault_reference)?.reference);
    let order = SucceedOrder {
        version: VERSION,
        host: Text::cut(&succeed.vault.host),
        port: succeed.vault.port,
        predecessor: document::read(&succeed.vault_reference)?,
        name: succeed.name.clone(),
        mix: succeed.guest.mix(),
        vault_reference: succeed.guest.vault_reference()?,
    };
    let mut file = reserve_reference(&succeed.reference_out)?;
    let reference = setup::succeed(invocation, &succeed.enclave, &order)?;
    file.write(reference.as_str().as_bytes())?;
    let path = file.replace()?;
    check_reference(&path, reference.as_str())?;
    invocation.output.show(&Succeeded { succeeded: true, vault_reference: &path }, || {
        format!(
            "The vault's store opens for this guest too.\nIts reference as this guest is in {}: give it to the operators and \
             to the hosts.\nNext: stop the old enclave, bring its store here, start this enclave, and withdraw the old guest \
             with `blindferry enclave revoke-old`.\n",
            path.display()
        )
    })
}
