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
use blindferry_proto::identifier::{DepositKey, SessionId};
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
    /// The session in which a successor took the key that is in force, and has not yet given its form of it back.
    taken: Option<SessionId>,
}

impl Guests {
    /// What a start finds in the store.
    pub(crate) fn found(own: SealedName, other: bool) -> Self {
        Self { own, other, taken: None }
    }

    /// The store has the key for this guest alone. What a successor took before that is worth nothing.
    pub(crate) fn alone() -> Self {
        Self::found(SealedName::Platform, false)
    }

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
    // What goes out is what is in force until the form of it comes back, or it is not taken back.
    let _alone = vault.sealing.lock().await;
    let unsealed = unseal(&vault.link, &vault.device, vault.sealed_by).await;
    let Unsealed { key: own, .. } = unsealed.map_err(|error| failed(with_causes(&error)))?;
    let seed = vault.records.audit_seed().await.map_err(|error| failed(with_causes(&error)))?;
    let both = own.with_audit_seed(seed).joined().map_err(|error| failed(with_causes(&error)))?;
    let handed = carried::send(&both, key, &session.id).map_err(|error| failed(with_causes(&error)))?;
    lock(&vault.guests).taken = Some(session.id);
    Ok(handed)
}

async fn keep(vault: &Vault, session: &SessionEntry, sealed: Vec<u8>) -> Result<(), Refusal> {
    match vault.records.host(&session.host).await {
        Ok(None) => {}
        Ok(Some(_)) => return Err(Refusal::new(RefusalCode::Malformed, "the key has not been handed over yet")),
        Err(error) => return Err(vault.store_failed(&error).await),
    }
    let _alone = vault.sealing.lock().await;
    if lock(&vault.guests).taken != Some(session.id) {
        let why =
            "the key was changed or withdrawn after it was handed over: an operator has to approve this successor anew";
        return Err(Refusal::new(RefusalCode::Denied, why));
    }
    vault.audit(Event::SuccessorKept { session: session.id, host: session.host.clone() }).await?;
    let elsewhere = lock(&vault.guests).elsewhere();
    if let Err(error) = sealed_put(&vault.link, vec![(elsewhere, sealed)]).await {
        return Err(vault.store_failed(&error).await);
    }
    let mut guests = lock(&vault.guests);
    *guests = Guests { other: true, taken: None, ..*guests };
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
    *lock(&vault.guests) = Guests::alone();
    Ok(())
}
