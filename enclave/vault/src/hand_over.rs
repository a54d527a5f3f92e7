//! Hands the key-encryption key over to the vault's next guest, so that an update of its image needs no recovery key.
//!
//! The next guest measures otherwise, so the firmware derives other keys for it. It comes as every peer comes: an operator
//! approved its processor and the reference values for successors, and its evidence was judged over this very channel. The
//! approval is spent when the key goes out. What comes back is the same key, sealed by the other guest's firmware: the
//! store keeps both, and either guest opens it until an operator withdraws the one that does not run.

mod carried;

use crate::log;
use crate::platform::SealedBy;
use crate::store::{Removed, SealedName, sealed_alone, sealed_get, sealed_put};
use crate::unseal::{Unsealed, unseal};
use crate::vault::{SessionEntry, Vault, lock};
use blindferry_proto::audit::Event;
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::DepositKey;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::Answer;
use blindferry_proto::succession::{HandedOver, SuccessorRequest};

pub(crate) use self::carried::{CarriedError, encrypt_to, receive};

/// For which guests the store has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guests {
    /// Where the form is that this guest opens.
    pub(crate) own: SealedName,
    /// Whether there is one that another guest opens.
    pub(crate) other: bool,
}

impl Guests {
    fn elsewhere(self) -> SealedName {
        match self.own {
            SealedName::Successor => SealedName::Platform,
            _ => SealedName::Successor,
        }
    }
}

/// Answers a successor.
pub(crate) async fn answer(
    vault: &Vault,
    session: &SessionEntry,
    request: SuccessorRequest,
) -> Result<Answer, Refusal> {
    if vault.sealed_by != SealedBy::Guest {
        let why = "this vault's key is sealed to a TPM: an update of its machine is approved by PCR values";
        return Err(Refusal::new(RefusalCode::Malformed, why));
    }
    match request {
        SuccessorRequest::Take { key } => take(vault, session, &key).await.map(Answer::HandedOver),
        SuccessorRequest::Keep { sealed } => keep(vault, session, sealed.into_vec()).await.map(|()| Answer::Done),
    }
}

async fn take(vault: &Vault, session: &SessionEntry, key: &DepositKey) -> Result<HandedOver, Refusal> {
    match vault.records.remove_host(&session.host).await {
        Ok(Removed::Gone) => {}
        Ok(Removed::WasNotThere) => {
            let why = "the approval of this successor is spent: an operator has to approve it once more";
            return Err(Refusal::new(RefusalCode::Denied, why));
        }
        Err(error) => return Err(vault.store_failed(&error).await),
    }
    vault.audit(Event::HandedOver { session: session.id, host: session.host.clone() }).await?;
    let failed = |line: String| {
        log::error("not-handed-over", "the key cannot be handed over", &[("why", line.clone())]);
        Refusal::new(RefusalCode::NotReady, &line)
    };
    let unsealed = unseal(&vault.link, &vault.device, vault.sealed_by).await;
    let Unsealed { key: own, .. } = unsealed.map_err(|error| failed(with_causes(&error)))?;
    let seed = vault.records.audit_seed().await.map_err(|error| failed(with_causes(&error)))?;
    let both = own.with_audit_seed(seed).joined().map_err(|error| failed(with_causes(&error)))?;
    carried::send(&both, key, &session.id).map_err(|error| failed(with_causes(&error)))
}

async fn keep(vault: &Vault, session: &SessionEntry, sealed: Vec<u8>) -> Result<(), Refusal> {
    match vault.records.host(&session.host).await {
        Ok(None) => {}
        Ok(Some(_)) => return Err(Refusal::new(RefusalCode::Malformed, "the key has not been handed over yet")),
        Err(error) => return Err(vault.store_failed(&error).await),
    }
    vault.audit(Event::SuccessorKept { session: session.id, host: session.host.clone() }).await?;
    let _alone = vault.sealing.lock().await;
    let elsewhere = lock(&vault.guests).elsewhere();
    if let Err(error) = sealed_put(&vault.link, vec![(elsewhere, sealed)]).await {
        return Err(vault.store_failed(&error).await);
    }
    lock(&vault.guests).other = true;
    Ok(())
}

/// Withdraws the key from whichever guest is not this one.
pub(crate) async fn withdraw_other(vault: &Vault) -> Result<(), Refusal> {
    let _alone = vault.sealing.lock().await;
    let own = lock(&vault.guests).own;
    let stored = match sealed_get(&vault.link, own).await {
        Ok(stored) => stored.ok_or_else(|| Refusal::from(RefusalCode::Internal))?,
        Err(error) => return Err(vault.store_failed(&error).await),
    };
    if let Err(error) = sealed_alone(&vault.link, stored).await {
        return Err(vault.store_failed(&error).await);
    }
    *lock(&vault.guests) = Guests { own: SealedName::Platform, other: false };
    Ok(())
}
