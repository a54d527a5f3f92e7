//! Replaces what seals the store, while the vault serves: its key-encryption key, and the key that approves PCR values.
//!
//! ```text
//! operator ── PrepareKey {his key} ─────────────▶ vault   makes key and recovery key; nothing is stored
//! operator ◀─ KeyPrepared {recovery key} ──────── vault   encrypted to him; he keeps it before he goes on
//! operator ── ChangeKey {prepared} ─────────────▶ vault   seals the key, and changes keys in one transaction
//!                                                         then encrypts everything anew, record by record
//! ```
//!
//! A vault that ends before the transaction has the old key, and the recovery key that was shown opens nothing. One that
//! ends after it has the new key, and goes on where it was at its next start.

use crate::approvals::{self, Approvals, ApprovalsError};
use crate::hand_over::{Guests, encrypt_to};
use crate::platform::{self, SealedBy, seal_to_guest};
use crate::sealed::{KeyEncryptionKey, PolicyAuthority, RecoveryKey, SealError};
use crate::store::{SealedName, StoreError, sealed_get, sealed_put};
use crate::unseal::{approved, unseal};
use crate::vault::{SessionEntry, Vault, lock};
use blindferry_device::authority::Authority;
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::{Bytes, Text};
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::{DepositKey, Digest};
use blindferry_proto::name::HostName;
use blindferry_proto::operator::{OperatorReply, RECOVERY_INFO};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use ring::digest::{SHA256, digest};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// A key that was made and is not in force.
#[derive(Debug)]
pub(crate) struct Prepared {
    name: Digest,
    host: HostName,
    key: KeyEncryptionKey,
    wrapped: Vec<u8>,
    until: u64,
}

/// Makes a key-encryption key and its recovery key.
pub(crate) async fn prepare(vault: &Vault, session: &SessionEntry, to: &DepositKey) -> Result<OperatorReply, Refusal> {
    refuse_while_changing(vault)?;
    note(vault, &session.host, "prepare key-encryption-key").await?;
    let key = KeyEncryptionKey::generate(&vault.random).map_err(|error| failed(&error))?;
    let recovery = RecoveryKey::generate(&vault.random).map_err(|error| failed(&error))?;
    let wrapped = recovery.wrap(&key, &vault.random).map_err(|error| failed(&error))?;
    let printed = recovery.printed().map_err(|error| failed(&error))?;
    let (encapsulated, ciphertext) =
        encrypt_to(&printed, to, RECOVERY_INFO, &session.id).map_err(|error| failed(&error))?;
    let mut name = Digest([0; Digest::LEN]);
    name.0.copy_from_slice(digest(&SHA256, &wrapped).as_ref());
    let until = vault.clock.now() + PREPARED_FOR;
    let prepared = Prepared { name, host: session.host.clone(), key, wrapped, until };
    *vault.sealing.lock().await = Some(prepared);
    let recovery = Bytes::new(ciphertext).map_err(|_| Refusal::from(RefusalCode::Internal))?;
    Ok(OperatorReply::KeyPrepared { prepared: name, encapsulated, recovery })
}

/// Puts the prepared key in force, and begins to encrypt the store anew.
pub(crate) async fn change(vault: &Arc<Vault>, session: &SessionEntry, name: Digest) -> Result<OperatorReply, Refusal> {
    let (vault, host) = (Arc::clone(vault), session.host.clone());
    to_its_end(async move { change_key(&vault, &host, name).await }).await
}

/// Replaces the key that approves PCR values: what is approved is signed anew, and the key-encryption key sealed anew
/// under the new authority, in one transaction.
pub(crate) async fn change_authority(vault: &Arc<Vault>, session: &SessionEntry) -> Result<OperatorReply, Refusal> {
    let (vault, host) = (Arc::clone(vault), session.host.clone());
    to_its_end(async move { authority(&vault, &host).await }).await
}

/// In a task of its own: what is stored and what is in memory change together, whether or not the operator's session lives
/// that long.
async fn to_its_end(
    work: impl Future<Output = Result<OperatorReply, Refusal>> + Send + 'static,
) -> Result<OperatorReply, Refusal> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(Refusal::from(RefusalCode::Internal)))
}

async fn change_key(vault: &Arc<Vault>, host: &HostName, name: Digest) -> Result<OperatorReply, Refusal> {
    let mut sealing = vault.sealing.lock().await;
    refuse_while_changing(vault)?;
    let now = vault.clock.now();
    let fits = |prepared: &Prepared| prepared.name == name && prepared.host == *host && now <= prepared.until;
    let Some(Prepared { key, wrapped, .. }) = sealing.take().filter(fits) else {
        return Err(Refusal::new(RefusalCode::Unknown, "no such key is prepared, or it was not put in force in time"));
    };
    note(vault, host, "rotate key-encryption-key").await?;
    let record_key = key.record_key().map_err(|error| failed(&error))?;
    let authority = lock(&vault.authority).clone();
    let authority = authority.seal(&vault.random, &record_key).map_err(|error| failed(&error))?;
    let seed = vault.auditor.signer().seal_seed(&vault.random, &record_key).map_err(|error| failed(&error))?;
    let (key, platform) = seal(vault, key).await?;
    let blobs = vec![
        (SealedName::Platform, platform),
        (SealedName::Recovery, wrapped),
        (SealedName::PolicyAuthority, authority),
        (SealedName::AuditSeed, seed),
    ];
    // A guest before or after this one has the old key, which opens nothing from here on.
    if let Err(error) = vault.records.change_keys(&key, blobs, SealedName::Successor).await {
        return Err(vault.store_failed(&error).await);
    }
    if vault.sealed_by == SealedBy::Guest {
        *lock(&vault.guests) = Guests::alone();
    }
    drop(tokio::spawn(renew(Arc::clone(vault))));
    Ok(OperatorReply::Done)
}

/// Encrypts anew what is under keys before, until all of it is done. Begun at each start that finds it unfinished.
pub(crate) async fn renew(vault: Arc<Vault>) {
    while vault.records.are_keys_changing() {
        match vault.records.renew_all().await {
            Ok(renewed) => {
                // Whether or not it can be recorded, it is done.
                let _unwritten = vault.audit(Event::StoreRenewed { renewed }).await;
            }
            Err(error @ StoreError::Tampered { .. }) => {
                drop(vault.store_failed(&error).await);
                return;
            }
            Err(error) => {
                eprintln!("blindferry-vault: cannot encrypt the store anew yet: {}", with_causes(&error));
                tokio::time::sleep(RENEW_AGAIN).await;
            }
        }
    }
}

async fn authority(vault: &Vault, host: &HostName) -> Result<OperatorReply, Refusal> {
    let _alone = vault.sealing.lock().await;
    if vault.sealed_by == SealedBy::Guest {
        let why = "the vault's key is sealed to its SEV-SNP guest: nothing is approved by PCR values";
        return Err(Refusal::new(RefusalCode::Malformed, why));
    }
    note(vault, host, "rotate policy-authority").await?;
    let authority = PolicyAuthority::generate(&vault.random).map_err(|error| failed(&error))?;
    let point = authority.public_point(&vault.random).map_err(|error| failed(&error))?;
    let public = Authority::from_point(&point).map_err(|error| failed(&error))?;
    let old = Approvals::load(&vault.link).await.map_err(|error| failed(&error))?;
    let mut list = Vec::with_capacity(old.list.len());
    for approval in old.list {
        // What the store slipped in is not signed.
        let Ok(verified) = approval.verify(&old.authority) else { continue };
        let (values, version) = (verified.terms().values().clone(), verified.terms().version());
        list.push(approvals::approve(&authority, values, version, &vault.random).map_err(|error| failed(&error))?);
    }
    let renewed = Approvals { authority: public, list };
    let unsealed = unseal(&vault.link, &vault.device, vault.sealed_by).await.map_err(|error| not_ready(&error))?;
    let (_, platform) = seal_under(vault, unsealed.key, &renewed).await?;
    let stored = vault.records.seal_authority(&authority).map_err(|error| failed(&error))?;
    let blobs = vec![
        (SealedName::Platform, platform),
        (SealedName::Approvals, renewed.to_blob().map_err(|error| failed(&error))?),
        (SealedName::PolicyAuthority, stored),
    ];
    if let Err(error) = sealed_put(&vault.link, blobs).await {
        return Err(vault.store_failed(&error).await);
    }
    *lock(&vault.authority) = Arc::new(authority);
    Ok(OperatorReply::Done)
}

/// Seals a key as the one in force is sealed, and opens it again to see that it works.
async fn seal(vault: &Vault, key: KeyEncryptionKey) -> Result<(KeyEncryptionKey, Vec<u8>), Refusal> {
    match vault.sealed_by {
        SealedBy::Tpm | SealedBy::SoftwareTpm => {
            let approvals = Approvals::load(&vault.link).await.map_err(|error| failed(&error))?;
            seal_under(vault, key, &approvals).await
        }
        SealedBy::Guest => {
            let own = lock(&vault.guests).own;
            let stored = sealed_get(&vault.link, own).await.map_err(|error| failed(&error))?;
            let stored = stored.ok_or_else(|| failed(&ApprovalsError::None))?;
            let guest = vault.device.unseal_as_guest(&stored).await.map_err(|error| not_ready(&error))?;
            let sealed = seal_to_guest(&vault.device, key, guest.mix).await.map_err(|error| not_ready(&error))?;
            let (_, blob) = sealed.blobs.into_iter().next().ok_or_else(|| Refusal::from(RefusalCode::Internal))?;
            Ok((sealed.key, blob))
        }
    }
}

async fn seal_under(
    vault: &Vault,
    key: KeyEncryptionKey,
    approvals: &Approvals,
) -> Result<(KeyEncryptionKey, Vec<u8>), Refusal> {
    let secret = key.into_secret();
    let shared = platform::share(&secret).map_err(|error| failed(&error))?;
    let sealed = vault.device.seal(shared, &approvals.authority, approvals::policy_ref()).await;
    let blob = sealed.map_err(|error| not_ready(&error))?;
    let opened = approved(approvals, &vault.device, &blob).await.map_err(|error| not_ready(&error))?;
    let opened = opened.into_secret();
    #[expect(clippy::disallowed_methods, reason = "compares what was sealed with what was unsealed")]
    if !opened.ct_eq(secret.expose()) {
        return Err(Refusal::from(RefusalCode::Internal));
    }
    Ok((KeyEncryptionKey::from_secret(secret).map_err(|error: SealError| failed(&error))?, blob))
}

/// What an operator should know while it is not done.
pub(crate) fn warning(vault: &Vault) -> Option<Text<256>> {
    let why = "the key-encryption key was changed, and the store is still being encrypted anew";
    vault.records.are_keys_changing().then(|| Text::cut(why))
}

fn refuse_while_changing(vault: &Vault) -> Result<(), Refusal> {
    if vault.records.are_keys_changing() {
        return Err(Refusal::new(
            RefusalCode::Busy,
            "the store is still encrypted anew after the last change of its key",
        ));
    }
    Ok(())
}

async fn note(vault: &Vault, host: &HostName, action: &str) -> Result<(), Refusal> {
    let event = Event::Operator { host: host.clone(), action: Text::cut(action), subject: Text::cut("") };
    vault.audit(event).await
}

fn failed(error: &(dyn Error + 'static)) -> Refusal {
    let line = with_causes(error);
    eprintln!("blindferry-vault: cannot rotate: {line}");
    Refusal::new(RefusalCode::Internal, &line)
}

fn not_ready(error: &(dyn Error + 'static)) -> Refusal {
    let line = with_causes(error);
    eprintln!("blindferry-vault: cannot rotate: {line}");
    Refusal::new(RefusalCode::NotReady, &line)
}

/// Seconds that a prepared key waits to be put in force: a person writes the recovery key down meanwhile.
const PREPARED_FOR: u64 = 900;
/// After a store that could not.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
