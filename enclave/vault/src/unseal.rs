//! From sealed to open: the platform gives the key-encryption key if the PCRs hold what was approved.

use crate::approvals::{Approvals, ApprovalsError};
use crate::sealed::{KeyEncryptionKey, SealError};
use crate::store::{Backing, SealedName, StoreError, sealed_get};
use blindferry_device::approval::Approval;
use blindferry_device::client::{Device, DeviceError};
use blindferry_device::protocol::DeviceRefusal;

/// Unseals the key-encryption key under the newest approval that fits.
///
/// # Errors
/// [`UnsealError`]; [`UnsealError::NoneFits`] says which PCRs differ from the newest approval.
pub async fn unseal<B: Backing>(backing: &B, device: &Device) -> Result<KeyEncryptionKey, UnsealError> {
    let blob = sealed_get(backing, SealedName::Platform).await.map_err(UnsealError::Store)?;
    let blob = blob.ok_or(UnsealError::NotInitialised)?;
    let approvals = Approvals::load(backing).await.map_err(UnsealError::Approvals)?;
    let counter = device.counter_read().await.map_err(UnsealError::Counter)?;
    let mut newest_failure = None;
    for approval in approvals.list.iter().rev() {
        match try_one(device, &blob, &approvals, approval, counter).await {
            Ok(key) => return Ok(key),
            Err(UnsealError::Device(DeviceError::Refused(
                refusal @ (DeviceRefusal::WrongPcrs { .. } | DeviceRefusal::ApprovalReplaced { .. }),
            ))) => {
                newest_failure.get_or_insert(refusal);
            }
            Err(error) => return Err(error),
        }
    }
    Err(newest_failure.map_or(UnsealError::NotInitialised, UnsealError::NoneFits))
}

async fn try_one(
    device: &Device,
    blob: &[u8],
    approvals: &Approvals,
    approval: &Approval,
    counter: u64,
) -> Result<KeyEncryptionKey, UnsealError> {
    // The device process compares too; it is the vault whose word counts, since tss-esapi cannot put the counter into
    // the policy itself.
    let version = approval.unverified_terms().version();
    if version < counter {
        return Err(UnsealError::Device(DeviceError::Refused(DeviceRefusal::ApprovalReplaced { version, counter })));
    }
    let secret = device.unseal(blob, &approvals.authority, approval).await.map_err(UnsealError::Device)?;
    KeyEncryptionKey::from_secret(secret).map_err(UnsealError::Key)
}

/// The key-encryption key stays sealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The store does not answer.
    #[error("cannot read what is sealed")]
    Store(#[source] StoreError),
    /// Nothing is sealed.
    #[error("this vault is not initialised; run `blindferry init`")]
    NotInitialised,
    /// The approvals cannot be used.
    #[error("cannot use the approvals")]
    Approvals(#[source] ApprovalsError),
    /// The counter cannot be read.
    #[error("cannot read the counter against revoked approvals")]
    Counter(#[source] DeviceError),
    /// No approval fits.
    #[error(
        "{0}; if this machine was updated on purpose, start the old software and approve the new values with \
         `blindferry enclave approve`, or use the recovery key with `blindferry recover`"
    )]
    NoneFits(DeviceRefusal),
    /// The device process refused for another reason.
    #[error("the platform does not unseal the key-encryption key")]
    Device(#[source] DeviceError),
    /// What was unsealed is no key.
    #[error("what the platform unsealed is not a key")]
    Key(#[source] SealError),
}
