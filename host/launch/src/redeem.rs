//! The grant for the token: this process is the worker, before and after it becomes the program.
//!
//! The lease follows the process. Its broker holds a pidfd of it, and execve(2) does not change which process that is;
//! so the connection may end here, and the lease ends with the program.

use blindferry_handle::memfd::Handle;
use blindferry_proto::identifier::Digest;
use blindferry_worker::{Token, Worker, WorkerError};
use std::path::Path;

pub(crate) fn redeem(grant: Handle, workers: &Path, executable: Option<Digest>) -> Result<Token, WorkerError> {
    let worker = Worker::connect(workers)?;
    let worker = match executable {
        Some(digest) => worker.about_to_execute(digest),
        None => worker,
    };
    Ok(worker.redeem(grant)?.into_token())
}
