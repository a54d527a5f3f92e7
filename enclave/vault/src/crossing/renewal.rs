//! Renew → the next parcel: policy is asked again, and what the lease holds is minted anew.

use super::{Unrecorded, Wanted, allow, order_of, record, wrap};
use crate::lease::{LeaseError, RenewalTurn, Terms};
use crate::policy::Action;
use crate::vault::{Minted, Permit, Revocable, SessionEntry, Vault};
use blindferry_proto::audit::{Event, Sight};
use blindferry_proto::identifier::{LeaseId, RequestId};
use blindferry_proto::parcel::ParcelHeader;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{LeaseEnd, Parcelled, Renew};

/// The next token of a lease, encrypted to the same key.
pub(super) async fn renew(vault: &Vault, session: &SessionEntry, renewal: Renew) -> Result<Parcelled, Refusal> {
    let Renew { lease: id, request } = renewal;
    let of = vault.lease_terms(id, &session.host)?;
    let wanted = Wanted {
        credential: &of.credential,
        audience: of.audience.as_ref(),
        worker: of.worker,
        inherited: &of.inherited,
        parent: of.parent,
        // An approval is for what the worker does with it, which it may go on doing: the lease keeps it.
        approval: of.approval,
    };
    let permit = match allow(vault, session, Action::Renew, &wanted).await {
        Ok(permit) => permit,
        Err(refusal) => {
            vault.end_lease(id, &session.host, LeaseEnd::Denied).await;
            return Err(refusal);
        }
    };
    match vault.begin_renewal(id, &session.host, request) {
        Ok(RenewalTurn::Again(parcelled)) => return Ok(*parcelled),
        Ok(RenewalTurn::Mint) => {}
        Err(LeaseError::Unknown) => return Err(RefusalCode::Unknown.into()),
        Err(LeaseError::UnderWay | LeaseError::Full) => return Err(RefusalCode::Busy.into()),
    }
    let outcome = mint_renewal(vault, session, id, request, &of, permit).await;
    if outcome.is_err() {
        vault.not_renewed(id);
    }
    outcome
}

async fn mint_renewal(
    vault: &Vault,
    session: &SessionEntry,
    id: LeaseId,
    request: RequestId,
    of: &Terms,
    permit: Permit,
) -> Result<Parcelled, Refusal> {
    let policy_epoch = permit.policy_version();
    let order = order_of(vault, session, &of.audience, of.worker);
    let Minted { token, lease_idle, fetched } = match vault.mint(&order, permit).await {
        Ok(minted) => minted,
        Err(failed) => return Err(vault.not_minted(&of.credential, &session.host, failed).await),
    };
    let header = ParcelHeader { request, grant: of.grant, worker: of.worker_key, uid: of.worker.uid, policy_epoch };
    let wrapped = wrap(vault, &token, header, id, lease_idle);
    let revocable = Revocable::of(token, of.credential.clone());
    let parcelled = match wrapped {
        Ok(parcelled) => parcelled,
        Err(refusal) => {
            vault.revoke_if(revocable).await;
            return Err(refusal);
        }
    };
    let event = Event::Renewed { lease: id, credential: of.credential.clone(), sight: Sight::Plaintext };
    if let Err(Unrecorded::Fetched(refusal) | Unrecorded::Handed(refusal)) = record(vault, fetched, event).await {
        vault.revoke_if(revocable).await;
        return Err(refusal);
    }
    match vault.renewed(id, request, parcelled.clone(), revocable) {
        Ok(left_behind) => {
            for revocable in left_behind {
                vault.revoke(revocable).await;
            }
            vault.figures.count("renewals_total", None);
            Ok(parcelled)
        }
        Err(orphan) => {
            vault.revoke_if(orphan).await;
            Err(RefusalCode::Unknown.into())
        }
    }
}
