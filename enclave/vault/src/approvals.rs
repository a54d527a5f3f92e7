//! Approvals: under which PCR values the platform may unseal the key-encryption key, signed by the policy authority.
//!
//! They lie in the store in the clear, since they are needed before there is a key, and since they are worth nothing
//! without the authority's signature, whose key the sealed object names. Each carries a version. One whose version is
//! below the TPM's counter was revoked: the device process refuses it, and so do we.

use crate::sealed::PolicyAuthority;
use crate::store::{Backing, SealedName, StoreError, sealed_get, sealed_put};
use crate::vault::{Vault, lock};
use blindferry_attest::tpm::pcr::PcrError;
use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_device::approval::{APPROVAL_LIMIT, Approval, ApprovalError, PolicyRef, Terms};
use blindferry_device::authority::{Authority, AuthorityError};
use blindferry_device::client::DeviceError;
use blindferry_proto::bounded::{Bytes, CodecError, decode, encode};
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_STORED;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Approvals kept at once; the oldest go first.
pub const APPROVALS: usize = 16;

/// What the approvals of a vault are for.
#[must_use]
pub fn policy_ref() -> PolicyRef {
    PolicyRef::of("vault key-encryption key")
}

/// The authority's public key and its approvals, newest last, as they lie in the store.
#[derive(Clone, Debug)]
pub struct Approvals {
    /// Who approves.
    pub authority: Authority,
    /// What was approved, oldest first; not verified.
    pub list: Vec<Approval>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    point: Bytes<65>,
    list: Vec<Bytes<APPROVAL_LIMIT>>,
}

impl Approvals {
    /// Takes them from the store.
    ///
    /// # Errors
    /// [`ApprovalsError`] when there are none, or they do not parse.
    pub async fn load<B: Backing>(backing: &B) -> Result<Self, ApprovalsError> {
        let bytes = sealed_get(backing, SealedName::Approvals).await.map_err(ApprovalsError::Store)?;
        let bytes = bytes.ok_or(ApprovalsError::None)?;
        let stored: Stored = decode(&bytes, MAX_STORED).map_err(ApprovalsError::Codec)?;
        if stored.list.is_empty() || stored.list.len() > APPROVALS {
            return Err(ApprovalsError::None);
        }
        let authority = Authority::from_point(stored.point.as_slice()).map_err(ApprovalsError::Authority)?;
        let list = stored.list.iter().map(|approval| Approval::decode(approval.as_slice()));
        let list = list.collect::<Result<_, _>>().map_err(ApprovalsError::Approval)?;
        Ok(Self { authority, list })
    }

    /// The blob that [`Self::load`] reads.
    ///
    /// # Errors
    /// [`ApprovalsError::Codec`], which the bounds rule out.
    pub fn to_blob(&self) -> Result<Vec<u8>, ApprovalsError> {
        let too_long = |error| ApprovalsError::Codec(CodecError::TooLong(error));
        let list = self.list.iter().map(|approval| Bytes::new(approval.encode()));
        let stored = Stored {
            point: Bytes::new(self.authority.to_point()).map_err(too_long)?,
            list: list.collect::<Result<_, _>>().map_err(too_long)?,
        };
        encode(&stored, MAX_STORED).map_err(ApprovalsError::Codec)
    }

    /// Adds one, unless the newest says the same.
    pub fn add(&mut self, approval: Approval) {
        self.list.retain(|earlier| earlier.unverified_terms() != approval.unverified_terms());
        if self.list.len() >= APPROVALS {
            self.list.remove(0);
        }
        self.list.push(approval);
    }
}

/// Signs terms.
///
/// # Errors
/// [`ApprovalsError::Sign`].
pub fn approve(
    authority: &PolicyAuthority,
    values: PcrValues,
    version: u64,
    random: &dyn SecureRandom,
) -> Result<Approval, ApprovalsError> {
    let terms = Terms::new(values, policy_ref(), version);
    let signature = authority.sign(random, &terms.to_sign()).map_err(|_| ApprovalsError::Sign)?;
    Ok(terms.signed(signature))
}

/// Approves PCR values beside those approved before.
pub(crate) async fn add(vault: &Vault, values: PcrValues) -> Result<(), Refusal> {
    let _alone = vault.sealing.lock().await;
    let version = counter(vault).await?;
    let mut approvals = Approvals::load(&vault.link).await.map_err(|error| refuse(&error))?;
    let approval = approve(&authority(vault), values, version, &vault.random).map_err(|error| refuse(&error))?;
    approvals.add(approval);
    save(vault, &approvals).await
}

/// Revokes all approvals but the newest: it is signed anew for the next version, and then the counter moves there. A
/// vault that is killed in between has both, and may be asked again.
pub(crate) async fn keep_newest(vault: &Vault) -> Result<(), Refusal> {
    let _alone = vault.sealing.lock().await;
    let next = counter(vault).await? + 1;
    let mut approvals = Approvals::load(&vault.link).await.map_err(|error| refuse(&error))?;
    let Some(newest) = approvals.list.pop() else { return Err(refuse(&ApprovalsError::None)) };
    let verified = newest.verify(&approvals.authority).map_err(|error| refuse(&ApprovalsError::Approval(error)))?;
    let values = verified.terms().values().clone();
    let renewed = approve(&authority(vault), values, next, &vault.random).map_err(|error| refuse(&error))?;
    approvals.add(newest);
    approvals.add(renewed.clone());
    save(vault, &approvals).await?;
    vault.device.counter_increment().await.map_err(|error| refuse(&ApprovalsError::Counter(error)))?;
    approvals.list = vec![renewed];
    save(vault, &approvals).await
}

/// PCR values from an operator's message.
pub(crate) fn values_of(pcrs: &[(u8, Digest)]) -> Result<PcrValues, Refusal> {
    let values: Vec<(u8, [u8; 32])> = pcrs.iter().map(|(index, value)| (*index, value.0)).collect();
    PcrSelection::new(values.iter().map(|(index, _)| *index))
        .and_then(|selection| PcrValues::new(selection, &values))
        .map_err(|error| refuse(&ApprovalsError::Values(error)))
}

/// PCR values in a line for the audit.
pub(crate) fn describe(values: &PcrValues) -> String {
    let each: Vec<String> = values.iter().map(|(index, value)| format!("{index}={}", hex::encode(value))).collect();
    each.join(" ")
}

fn authority(vault: &Vault) -> Arc<PolicyAuthority> {
    Arc::clone(&lock(&vault.authority))
}

async fn counter(vault: &Vault) -> Result<u64, Refusal> {
    vault.device.counter_read().await.map_err(|error| refuse(&ApprovalsError::Counter(error)))
}

async fn save(vault: &Vault, approvals: &Approvals) -> Result<(), Refusal> {
    let blob = approvals.to_blob().map_err(|error| refuse(&error))?;
    match sealed_put(&vault.link, vec![(SealedName::Approvals, blob)]).await {
        Ok(()) => Ok(()),
        Err(error) => Err(vault.store_failed(&error).await),
    }
}

fn refuse(error: &ApprovalsError) -> Refusal {
    let code = match error {
        ApprovalsError::Values(_) => RefusalCode::Malformed,
        ApprovalsError::Counter(_) => RefusalCode::NotReady,
        _ => RefusalCode::Store,
    };
    Refusal::new(code, &with_causes(error))
}

/// Approvals cannot be read, made or kept.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalsError {
    /// The store does not give them.
    #[error("cannot read the approvals")]
    Store(#[source] StoreError),
    /// There is none.
    #[error("the store holds no approvals: the vault was never initialised, or the store was emptied")]
    None,
    /// They do not parse.
    #[error("the approvals do not parse")]
    Codec(#[source] CodecError),
    /// One of them does not parse, or is not signed by the authority.
    #[error("an approval is not one")]
    Approval(#[source] ApprovalError),
    /// The authority's key is none.
    #[error("the authority's key is not one")]
    Authority(#[source] AuthorityError),
    /// The authority's key does not sign.
    #[error("cannot sign an approval")]
    Sign,
    /// The values are not PCR values.
    #[error("these are not PCR values")]
    Values(#[source] PcrError),
    /// The TPM's counter cannot be used.
    #[error("cannot use the counter against revoked approvals")]
    Counter(#[source] DeviceError),
}
