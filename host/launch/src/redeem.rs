//! The grant for the token: this process is the worker, before and after it becomes the program.
//!
//! The lease follows the process. Its broker holds a pidfd of it, and execve(2) does not change which process that is;
//! so the connection may end here, and the lease ends with the program.

use blindferry_handle::memfd::Handle;
use blindferry_proto::identifier::Digest;
use blindferry_proto::name::VariableName;
use blindferry_proto::protection::ProtectionLevel;
use blindferry_worker::{Token, Worker, WorkerError};
use std::path::Path;

/// What the vault is told of the launch, on the launcher's word.
pub(crate) struct Told {
    /// The SHA-256 of what will run, where it is known.
    pub(crate) executable: Option<Digest>,
    /// The level of protection that holds.
    pub(crate) protection: ProtectionLevel,
    /// Credentials of the parent that the program gets as well.
    pub(crate) inherited: Vec<VariableName>,
}

pub(crate) fn redeem(grant: Handle, workers: &Path, told: Told) -> Result<Token, WorkerError> {
    let Told { executable, protection, inherited } = told;
    let worker = Worker::connect(workers)?.under_protection(protection).passing_on(inherited);
    let worker = match executable {
        Some(digest) => worker.about_to_execute(digest),
        None => worker,
    };
    Ok(worker.redeem(grant)?.into_token())
}
