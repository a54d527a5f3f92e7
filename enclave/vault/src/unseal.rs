//! From sealed to open: the platform gives the key-encryption key, a TPM if its PCRs hold what was approved, the firmware
//! of SEV-SNP if this is the guest that the key was sealed to.

use crate::approvals::{Approvals, ApprovalsError};
use crate::platform::{PlatformError, SealedBy, SealedKey, seal_to_guest};
use crate::sealed::{KeyEncryptionKey, SealError};
use crate::store::{Backing, SealedName, StoreError, sealed_get, sealed_put};
use blindferry_device::approval::Approval;
use blindferry_device::client::{Device, DeviceError, GuestKey};
use blindferry_device::protocol::{DeviceRefusal, DifferingField};
use blindferry_proto::key_mix::KeyMix;

/// The key-encryption key, open.
#[derive(Debug)]
pub struct Unsealed {
    /// The key.
    pub key: KeyEncryptionKey,
    /// Which of the stored forms it was.
    pub form: SealedName,
    /// Whether it should be sealed anew.
    pub outdated: Option<Outdated>,
}

/// A key that is sealed to less than the guest has by now.
#[derive(Debug)]
pub struct Outdated {
    form: SealedName,
    mix: KeyMix,
    risen: Vec<DifferingField>,
}

/// Unseals the key-encryption key: on a TPM under the newest approval that fits, on a guest by its firmware, whichever of
/// the two guests it is that the store may open for.
///
/// # Errors
/// [`UnsealError`]; [`UnsealError::NoneFits`] says what differs.
pub async fn unseal<B: Backing>(backing: &B, device: &Device, sealed_by: SealedBy) -> Result<Unsealed, UnsealError> {
    let blob = sealed_get(backing, SealedName::Platform).await.map_err(UnsealError::Store)?;
    let blob = blob.ok_or(UnsealError::NotInitialised)?;
    match sealed_by {
        SealedBy::Tpm | SealedBy::SoftwareTpm => {
            let approvals = Approvals::load(backing).await.map_err(UnsealError::Approvals)?;
            let key = approved(&approvals, device, &blob).await?;
            Ok(Unsealed { key, form: SealedName::Platform, outdated: None })
        }
        SealedBy::Guest => match as_guest(device, &blob, SealedName::Platform).await {
            Err(UnsealError::OtherGuest(first)) => {
                let handed = sealed_get(backing, SealedName::Successor).await.map_err(UnsealError::Store)?;
                let Some(blob) = handed else { return Err(UnsealError::OtherGuest(first)) };
                as_guest(device, &blob, SealedName::Successor).await.map_err(|error| match error {
                    UnsealError::OtherGuest(second) => UnsealError::OtherGuest(nearer(first, second)),
                    error => error,
                })
            }
            unsealed => unsealed,
        },
    }
}

/// Of two guests that this one is not, the one that it is almost: what it lacks is what an operator wants to know.
fn nearer(first: DeviceRefusal, second: DeviceRefusal) -> DeviceRefusal {
    let distance = |refusal: &DeviceRefusal| match refusal {
        DeviceRefusal::GuestDiffers { differing } => differing.len(),
        _ => usize::MAX,
    };
    if distance(&second) < distance(&first) { second } else { first }
}

/// Unseals under the newest of these approvals that fits.
pub(crate) async fn approved(
    approvals: &Approvals,
    device: &Device,
    blob: &[u8],
) -> Result<KeyEncryptionKey, UnsealError> {
    let counter = device.counter_read().await.map_err(UnsealError::Counter)?;
    let mut newest_failure = None;
    for approval in approvals.list.iter().rev() {
        match try_one(device, blob, approvals, approval, counter).await {
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

async fn as_guest(device: &Device, blob: &[u8], form: SealedName) -> Result<Unsealed, UnsealError> {
    match device.unseal_as_guest(blob).await {
        Ok(GuestKey { secret, mix, risen }) => {
            let key = KeyEncryptionKey::from_secret(secret).map_err(UnsealError::Key)?;
            let outdated = (!risen.is_empty()).then_some(Outdated { form, mix, risen });
            Ok(Unsealed { key, form, outdated })
        }
        Err(DeviceError::Refused(refusal @ (DeviceRefusal::GuestDiffers { .. } | DeviceRefusal::GuestForeign))) => {
            Err(UnsealError::OtherGuest(refusal))
        }
        Err(error) => Err(UnsealError::Device(error)),
    }
}

impl Outdated {
    /// Seals the key anew, so that what the guest had before cannot open what is stored from now on. Gives the key back,
    /// and says what has risen.
    ///
    /// # Errors
    /// [`UnsealError`]; then what is stored is as it was.
    pub async fn seal_anew<B: Backing>(
        self,
        backing: &B,
        device: &Device,
        key: KeyEncryptionKey,
    ) -> Result<(KeyEncryptionKey, String), UnsealError> {
        let SealedKey { key, blobs } = seal_to_guest(device, key, self.mix).await.map_err(UnsealError::Anew)?;
        sealed_put(backing, blobs.into_iter().map(|(_, blob)| (self.form, blob)).collect())
            .await
            .map_err(UnsealError::Store)?;
        let risen = self.risen.iter().map(|field| format!("{} {} to {}", field.name, field.sealed, field.found));
        Ok((key, risen.collect::<Vec<_>>().join("; ")))
    }
}

/// The key-encryption key stays sealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The store does not answer.
    #[error("cannot read or write what is sealed")]
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
    /// It was sealed to another guest.
    #[error(
        "{0}; if the image, the chip or the guest's policy was changed on purpose, have the guest before hand its key over \
         with `blindferry succeed`, or use the recovery key with `blindferry recover`"
    )]
    OtherGuest(DeviceRefusal),
    /// The device process refused for another reason.
    #[error("the platform does not unseal the key-encryption key")]
    Device(#[source] DeviceError),
    /// What was unsealed is no key.
    #[error("what the platform unsealed is not a key")]
    Key(#[source] SealError),
    /// The key is open, and cannot be sealed to what the guest is now.
    #[error("cannot seal the key-encryption key anew")]
    Anew(#[source] PlatformError),
}
