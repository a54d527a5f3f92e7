//! What seals the vault's key: a TPM 2.0, or the firmware under an SEV-SNP guest. The device process says which it is.

use crate::approvals::{Approvals, ApprovalsError, approve, policy_ref};
use crate::sealed::{KeyEncryptionKey, PolicyAuthority, SealError};
use crate::store::SealedName;
use blindferry_attest::tpm::pcr::PcrError;
use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_device::authority::{Authority, AuthorityError};
use blindferry_device::client::{Device, DeviceError};
use blindferry_device::pcr::never_extended;
use blindferry_device::protocol::{Description, SnpDescription, TpmDescription};
use blindferry_handle::secret::{InitError, SecretBytes, SecretError, SharedSecret};
use blindferry_proto::key_mix::KeyMix;
use ring::rand::SecureRandom;
use std::convert::Infallible;

/// The platform, as it describes itself.
#[derive(Debug)]
pub enum Platform {
    /// A TPM 2.0.
    Tpm(TpmDescription),
    /// An SEV-SNP guest, by a report that is nobody's evidence.
    Guest(SnpDescription),
}

/// The platform in a word, for those who need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedBy {
    /// A TPM in hardware, or in firmware.
    Tpm,
    /// A TPM in software.
    SoftwareTpm,
    /// The firmware of SEV-SNP.
    Guest,
}

/// How the key is going to be sealed.
#[derive(Clone, Debug)]
pub enum Sealing {
    /// By a TPM, under approvals, of which this is the first.
    Approved(PcrValues),
    /// By the firmware of SEV-SNP, to this guest.
    Guest(KeyMix),
}

/// A key that is sealed, and still here.
#[derive(Debug)]
pub struct SealedKey {
    /// The key.
    pub key: KeyEncryptionKey,
    /// What the store shall hold.
    pub blobs: Vec<(SealedName, Vec<u8>)>,
}

impl Platform {
    /// Asks the device process.
    ///
    /// # Errors
    /// [`PlatformError::Device`].
    pub async fn find(device: &Device) -> Result<Self, PlatformError> {
        match device.describe().await.map_err(PlatformError::Device)? {
            Description::Tpm(TpmDescription { azure: true, .. }) => Err(PlatformError::Azure),
            Description::Tpm(tpm) => Ok(Self::Tpm(tpm)),
            Description::Snp(guest) => Ok(Self::Guest(guest)),
        }
    }

    /// In a word.
    #[must_use]
    pub fn sealed_by(&self) -> SealedBy {
        match self {
            Self::Tpm(TpmDescription { software: true, .. }) => SealedBy::SoftwareTpm,
            Self::Tpm(_) => SealedBy::Tpm,
            Self::Guest(_) => SealedBy::Guest,
        }
    }

    /// How the key is sealed here: on a TPM to these PCRs as they are now, if that means anything; on a guest by `mix`.
    ///
    /// # Errors
    /// [`PlatformError::Selection`], [`PlatformError::NeverExtended`] unless `insist`, [`PlatformError::Device`].
    pub async fn sealing(
        &self,
        device: &Device,
        pcrs: &[u8],
        insist: bool,
        mix: KeyMix,
    ) -> Result<Sealing, PlatformError> {
        match self {
            Self::Tpm(_) => approvable(device, pcrs, insist).await.map(Sealing::Approved),
            Self::Guest(_) => Ok(Sealing::Guest(mix)),
        }
    }
}

impl SealedBy {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Tpm => "TPM 2.0",
            Self::SoftwareTpm => "software TPM 2.0",
            Self::Guest => "SEV-SNP firmware",
        }
    }
}

impl Sealing {
    /// The PCR values, on a TPM.
    #[must_use]
    pub fn approved(&self) -> Option<&PcrValues> {
        match self {
            Self::Approved(values) => Some(values),
            Self::Guest(_) => None,
        }
    }

    /// Seals the key, and opens it again to see that it works.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn seal(
        self,
        device: &Device,
        key: KeyEncryptionKey,
        authority: &PolicyAuthority,
        random: &(dyn SecureRandom + Sync),
    ) -> Result<SealedKey, PlatformError> {
        match self {
            Self::Guest(mix) => seal_to_guest(device, key, mix).await,
            Self::Approved(values) => {
                let secret = key.into_secret();
                let version = device.counter_create().await.map_err(PlatformError::Device)?;
                let approval = approve(authority, values, version, random).map_err(PlatformError::Approvals)?;
                let point = authority.public_point(random).map_err(PlatformError::Seal)?;
                let public = Authority::from_point(&point).map_err(PlatformError::Authority)?;
                let sealed = device.seal(share(&secret)?, &public, policy_ref()).await;
                let blob = sealed.map_err(PlatformError::Device)?;
                let opened = device.unseal(&blob, &public, &approval).await.map_err(PlatformError::Device)?;
                let approvals = Approvals { authority: public, list: vec![approval] };
                let approvals = approvals.to_blob().map_err(PlatformError::Approvals)?;
                let blobs = vec![(SealedName::Platform, blob), (SealedName::Approvals, approvals)];
                compared(secret, &opened, blobs)
            }
        }
    }
}

/// Seals the key to this guest, and opens it again to see that it works.
///
/// # Errors
/// [`PlatformError`].
pub async fn seal_to_guest(device: &Device, key: KeyEncryptionKey, mix: KeyMix) -> Result<SealedKey, PlatformError> {
    let secret = key.into_secret();
    let blob = device.seal_to_guest(share(&secret)?, mix).await.map_err(PlatformError::Device)?;
    let opened = device.unseal_as_guest(&blob).await.map_err(PlatformError::Device)?;
    compared(secret, &opened.secret, vec![(SealedName::Platform, blob)])
}

fn compared(
    secret: SecretBytes,
    opened: &SecretBytes,
    blobs: Vec<(SealedName, Vec<u8>)>,
) -> Result<SealedKey, PlatformError> {
    #[expect(clippy::disallowed_methods, reason = "compares what was sealed with what was unsealed")]
    if !opened.ct_eq(secret.expose()) {
        return Err(PlatformError::SealedWrongly);
    }
    Ok(SealedKey { key: KeyEncryptionKey::from_secret(secret).map_err(PlatformError::Seal)?, blobs })
}

/// The PCRs as they are now, if sealing to them means anything.
async fn approvable(device: &Device, pcrs: &[u8], insist: bool) -> Result<PcrValues, PlatformError> {
    let selection = PcrSelection::new(pcrs.iter().copied()).map_err(PlatformError::Selection)?;
    let values = device.pcrs(&selection).await.map_err(PlatformError::Device)?;
    let idle = never_extended(&values);
    if !idle.is_empty() && !insist {
        return Err(PlatformError::NeverExtended { pcrs: idle });
    }
    Ok(values)
}

pub(crate) fn share(secret: &SecretBytes) -> Result<SharedSecret, PlatformError> {
    #[expect(clippy::disallowed_methods, reason = "from one secret page into another, which the device process maps")]
    let shared = SharedSecret::create(secret.len(), |place| {
        place.copy_from_slice(secret.expose());
        Ok::<_, Infallible>(())
    });
    shared.map_err(|error| match error {
        InitError::Secret(source) => PlatformError::Memory(source),
        InitError::Fill(never) => match never {},
    })
}

/// The platform does not seal.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The platform says no.
    #[error("the platform refuses")]
    Device(#[source] DeviceError),
    /// A machine of Azure.
    #[error("a vault does not run on a confidential machine of Azure: its hosts and operators may")]
    Azure,
    /// Not a selection of PCRs.
    #[error("these are not PCRs to seal to")]
    Selection(#[source] PcrError),
    /// Sealing to these PCRs would bind to nothing.
    #[error(
        "PCRs {pcrs:?} were never extended, so sealing to them protects nothing: measure the boot, or choose other PCRs, \
         or insist with --insist-unextended"
    )]
    NeverExtended {
        /// Which.
        pcrs: Vec<u8>,
    },
    /// An approval could not be made.
    #[error("cannot approve the present PCR values")]
    Approvals(#[source] ApprovalsError),
    /// The authority's key is none.
    #[error("the authority's key is not one")]
    Authority(#[source] AuthorityError),
    /// A key could not be made or used.
    #[error("cannot use the vault's keys")]
    Seal(#[source] SealError),
    /// The platform gave back something else than it was given.
    #[error("what the platform unsealed is not what was sealed")]
    SealedWrongly,
    /// No secret memory.
    #[error("cannot keep a secret")]
    Memory(#[source] SecretError),
}
