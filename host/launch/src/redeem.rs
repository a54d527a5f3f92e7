//! Grants for tokens: this process is the worker, before and after it becomes the program.
//!
//! The lease follows the process. Its broker holds a pidfd of it, and execve(2) does not change which process that is;
//! so the connection may end here, and the lease ends with the program.

use crate::failure::Failure;
use blindferry_handle::memfd::Handle;
use blindferry_proto::identifier::Digest;
use blindferry_proto::name::{CredentialName, VariableName};
use blindferry_proto::protection::ProtectionLevel;
use blindferry_worker::{Leased, Token, Worker, WorkerError};
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

/// The leases of one launch, in the order of their credentials: all of them, or none.
pub(crate) struct Leases(Vec<Leased>);

impl Leases {
    /// Redeems every grant.
    ///
    /// # Errors
    /// [`Failure::Redeem`] with the first that failed; the leases of those before it were given back.
    pub(crate) fn redeem(
        grants: Vec<Handle>,
        credentials: &[CredentialName],
        workers: &Path,
        told: &Told,
    ) -> Result<Self, Failure> {
        let mut leases = Self(Vec::new());
        let several = grants.len() > 1;
        for (index, grant) in grants.into_iter().enumerate() {
            match redeem(grant, workers, told) {
                Ok(leased) => leases.0.push(leased),
                Err(source) => {
                    leases.end();
                    let credential = credentials.get(index).filter(|_| several).cloned();
                    return Err(Failure::Redeem { credential, source });
                }
            }
        }
        Ok(leases)
    }

    /// In the order of the credentials.
    pub(crate) fn all(&self) -> &[Leased] {
        &self.0
    }

    /// The tokens, in the order of the credentials.
    pub(crate) fn tokens(&self) -> Vec<&Token> {
        self.0.iter().map(Leased::token).collect()
    }

    /// Goes on when the next step went well, else gives all of them back.
    pub(crate) fn unless_failed<T, E>(self, step: Result<T, E>) -> Result<(Self, T), E> {
        match step {
            Ok(done) => Ok((self, done)),
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// Gives all of them back.
    pub(crate) fn end(self) {
        for leased in self.0 {
            // Where the broker does not hear it, it ends the lease with this process, which is about to end.
            let _unheard = leased.end();
        }
    }
}

fn redeem(grant: Handle, workers: &Path, told: &Told) -> Result<Leased, WorkerError> {
    let Told { executable, protection, inherited } = told;
    let worker = Worker::connect(workers)?.under_protection(*protection).passing_on(inherited.clone());
    let worker = match executable {
        Some(digest) => worker.about_to_execute(*digest),
        None => worker,
    };
    worker.redeem(grant)
}
