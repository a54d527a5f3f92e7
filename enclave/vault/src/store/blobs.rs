//! Blobs that are sealed by nature: what the platform or the recovery key opens, needed before there is a key.

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::front::{Key, Operation, StoreReply, StoreRequest, Table, Value};
use blindferry_proto::limits::MAX_OPERATIONS;

use super::{Backing, StoreError, Tampering, list, unexpected, value};
use crate::sealed::{RecordKey, SealError, authority, retired};

/// The blobs of [`Table::Sealed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedName {
    /// The key-encryption key, sealed to the platform.
    Platform,
    /// The same, sealed to another SEV-SNP guest, that of the vault before or after this one.
    Successor,
    /// The key-encryption key, wrapped by the recovery key.
    Recovery,
    /// The PCR values that were approved, signed.
    Approvals,
    /// The key that approves, encrypted; see [`crate::sealed::authority`].
    PolicyAuthority,
    /// Of a key-encryption key that replaced another: the seed of the audit's key, encrypted.
    AuditSeed,
    /// The keys of records before, while the store is encrypted anew; see [`crate::sealed::retired`].
    RetiredKeys,
}

impl SealedName {
    pub(super) fn key(self) -> Result<Key, StoreError> {
        let key = match self {
            Self::Platform => &b"platform"[..],
            Self::Successor => &b"successor"[..],
            Self::Recovery => b"recovery",
            Self::Approvals => b"approvals",
            Self::PolicyAuthority => authority::KEY,
            Self::AuditSeed => AUDIT_SEED,
            Self::RetiredKeys => retired::KEY,
        };
        Bytes::new(key.to_vec()).map_err(StoreError::RecordTooLong)
    }
}

/// Where the audit's seed lies, in [`Table::Sealed`].
pub(crate) const AUDIT_SEED: &[u8] = b"audit-seed";

/// The audit's seed, where the store keeps one for this key-encryption key.
///
/// # Errors
/// [`StoreError::Tampered`] when it is another key's.
pub async fn audit_seed<B: Backing>(backing: &B, key: &RecordKey) -> Result<Option<SecretBytes>, StoreError> {
    let Some(stored) = sealed_get(backing, SealedName::AuditSeed).await? else { return Ok(None) };
    match key.open_secret(Table::Sealed, AUDIT_SEED, &stored) {
        Ok((_, seed)) => Ok(Some(seed)),
        Err(SealError::Secret(source)) => Err(StoreError::Seal(SealError::Secret(source))),
        Err(_) => {
            let key = String::from_utf8_lossy(AUDIT_SEED).into_owned();
            Err(StoreError::Tampered { table: Table::Sealed, key, what: Tampering::Changed })
        }
    }
}

/// Reads a blob. It is whatever the store gives: only opening it shows what it is worth.
///
/// # Errors
/// [`StoreError::Unreachable`], [`StoreError::Refused`].
pub async fn sealed_get<B: Backing>(backing: &B, name: SealedName) -> Result<Option<Vec<u8>>, StoreError> {
    match backing.request(StoreRequest::Get { table: Table::Sealed, key: name.key()? }).await? {
        StoreReply::Got(found) => Ok(found.map(Value::into_vec)),
        other => Err(unexpected(other)),
    }
}

/// Stores blobs, all or none, in place of those before.
///
/// # Errors
/// [`StoreError::RecordTooLong`], [`StoreError::Unreachable`], [`StoreError::Refused`].
pub async fn sealed_put<B: Backing>(backing: &B, blobs: Vec<(SealedName, Vec<u8>)>) -> Result<(), StoreError> {
    let operations = blobs.into_iter().map(|(name, blob)| put(name, blob));
    commit(backing, operations.collect::<Result<_, StoreError>>()?).await
}

pub(super) fn put(name: SealedName, blob: Vec<u8>) -> Result<Operation, StoreError> {
    Ok(Operation::Put { table: Table::Sealed, key: name.key()?, value: value(blob)? })
}

/// Stores this as the one form of the key that a guest opens; that of another guest goes in the same transaction.
///
/// # Errors
/// As [`sealed_put`].
pub async fn sealed_alone<B: Backing>(backing: &B, blob: Vec<u8>) -> Result<(), StoreError> {
    let put = put(SealedName::Platform, blob)?;
    let delete = Operation::Delete { table: Table::Sealed, key: SealedName::Successor.key()? };
    commit(backing, vec![put, delete]).await
}

/// Empties the store, to start over: every master, host, document and audit record is lost. Interrupted, it can be
/// begun again; the manifest goes last, so that a half-empty store is never taken for a new one.
///
/// # Errors
/// [`StoreError::Unreachable`], [`StoreError::Refused`].
pub async fn erase<B: Backing>(backing: &B) -> Result<(), StoreError> {
    for table in [Table::Masters, Table::Hosts, Table::Documents, Table::Audit, Table::Sealed, Table::Manifest] {
        loop {
            let page = list(backing, table, None).await?;
            if page.is_empty() {
                break;
            }
            let mut keys = page.into_iter().map(|(key, _)| key).peekable();
            while keys.peek().is_some() {
                let some = keys.by_ref().take(MAX_OPERATIONS);
                commit(backing, some.map(|key| Operation::Delete { table, key }).collect()).await?;
            }
        }
    }
    Ok(())
}

async fn commit<B: Backing>(backing: &B, operations: Vec<Operation>) -> Result<(), StoreError> {
    match backing.request(StoreRequest::Commit { operations }).await? {
        StoreReply::Committed => Ok(()),
        other => Err(unexpected(other)),
    }
}
