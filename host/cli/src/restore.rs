//! `restore`: makes a store of a backup.

use crate::backup::CopyError;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::moment;
use crate::setup::{self, EnclaveArguments};
use blindferry_proto::backup::Manifest;
use blindferry_proto::identifier::{AuditKey, Digest};
use serde::Serialize;
use std::fs::File;
use std::path::PathBuf;

/// Make a store of a backup, on the enclave's machine, with the enclave stopped
///
/// The file is read and verified first. On the TPM or guest of the backup the enclave can then be started; elsewhere the
/// recovery key opens the store (`blindferry recover`). What was changed after the backup was taken is not in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    enclave: EnclaveArguments,
    /// Put it in the place of a store that is there: what that one holds is lost
    #[arg(long)]
    force: bool,
    /// Do not ask before --force
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Restored<'a> {
    restored: bool,
    taken: u64,
    record: u64,
    hash: &'a Digest,
    audit_key: &'a AuditKey,
    values: u64,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, restore: &Restore) -> Result<(), Failure> {
    let opened = File::open(&restore.file);
    let backup = opened.map_err(|source| CopyError::Open { path: restore.file.clone(), source })?;
    if restore.force {
        confirm("The backup takes the place of the store that is there, whose contents are lost.", restore.yes)?;
    }
    let (manifest, values) = setup::restore(invocation, &restore.enclave, backup, restore.force)?;
    let Manifest { taken, audit_key, record, hash, .. } = &manifest;
    let restored = Restored { restored: true, taken: *taken, record: *record, hash, audit_key, values };
    invocation.output.show(&restored, || {
        format!(
            "The store is that of {}, up to audit record {record}:{hash}.\nWhat was changed since then is undone: removed \
             hosts and credentials, older policy and reference values are back.\nNext: start the enclave; on another TPM or \
             guest, `blindferry recover` first. Then look at hosts, credentials and policy.\n",
            moment(*taken)
        )
    })
}
