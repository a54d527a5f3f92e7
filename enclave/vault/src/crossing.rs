//! The crossing, as the vault does it: ask → grant, redeem → parcel, renew, acknowledge, keep, end.
//!
//! Policy is asked at the grant, again at redemption and at each renewal, each time about the host as it was last
//! attested. The verdict goes by value into what it allows.

mod asked;
mod renewal;

pub(crate) use asked::grant_approved;

use crate::audit::Entered;
use crate::grant::{GrantError, OpenedGrant};
use crate::lease::Terms;
use crate::ledger::{Claim, Failure, LedgerError, Ticket, Turn};
use crate::mint::{Order, Token};
use crate::parcel;
use crate::policy::{Action, Approver};
use crate::traced;
use crate::vault::{Minted, NotPermitted, Permit, Revocable, SessionEntry, Vault};
use crate::waiting;
use blindferry_proto::audit::{Alarm, Event, Sight};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::{GrantId, LeaseId, RequestId};
use blindferry_proto::limits::MAX_PAGE;
use blindferry_proto::name::{Audience, CredentialName, VariableName};
use blindferry_proto::parcel::ParcelHeader;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{
    Answer, BrokerRequest, Delivered, LeaseEnd, Parcelled, ProcessFacts, Redeem, WorkerConstraint,
};
use blindferry_proto::waiting::AskEnd;

/// Answers a broker.
pub(crate) async fn answer(vault: &Vault, session: &SessionEntry, request: BrokerRequest) -> Result<Answer, Refusal> {
    match request {
        BrokerRequest::Ask(ask) => asked::grant(vault, session, ask).await,
        BrokerRequest::Delivered(delivered) => note_delivery(vault, delivered).await,
        BrokerRequest::Redeem(redemption) => redeem(vault, session, redemption).await.map(Answer::Parcelled),
        BrokerRequest::Acknowledge { lease, request } => acknowledge(vault, session, lease, request).await,
        BrokerRequest::Renew(renewal) => renewal::renew(vault, session, renewal).await.map(Answer::Parcelled),
        BrokerRequest::Keep { leases } => keep(vault, session, &leases),
        BrokerRequest::End { lease, why } => end(vault, session, lease, why).await,
        BrokerRequest::Collect { ask } => waiting::collect(vault, session, ask).await,
        BrokerRequest::Withdraw { ask } => {
            waiting::withdraw(vault, session, ask, AskEnd::Withdrawn).await;
            Ok(Answer::Done)
        }
    }
}

async fn note_delivery(vault: &Vault, delivered: Delivered) -> Result<Answer, Refusal> {
    let Delivered { grant, taken } = delivered;
    traced::about(grant);
    vault.audit_after(Event::GrantDelivered { grant, taken, sight: Sight::Opaque }).await?;
    Ok(Answer::Done)
}

/// Spends a grant for one token, encrypted to one key.
async fn redeem(vault: &Vault, session: &SessionEntry, redemption: Redeem) -> Result<Parcelled, Refusal> {
    let Redeem { grant, request, worker_key, worker, inherited } = redemption;
    let opened = match vault.open_grant(grant.as_slice(), &session.host) {
        Ok(opened) => opened,
        Err(GrantError::Astray { id }) => {
            vault.alarm(Alarm::GrantAstray { grant: id, host: session.host.clone() }).await;
            return Err(RefusalCode::GrantForeign.into());
        }
        Err(GrantError::Expired { id, credential }) => return Err(late(vault, session, id, &credential).await),
        Err(GrantError::NotOurs) => return Err(RefusalCode::GrantForeign.into()),
        Err(GrantError::TooLong | GrantError::Random) => return Err(RefusalCode::Internal.into()),
    };
    traced::about(opened.body().id);
    fits(vault, session, &opened, &worker).await?;
    let body = opened.body();
    let wanted = Wanted {
        credential: &body.credential,
        audience: body.audience.as_ref(),
        worker,
        inherited: &inherited,
        parent: body.parent,
        approval: body.approval,
    };
    let permit = allow(vault, session, Action::Redeem, &wanted).await?;
    vault.room_for_lease(&session.host)?;
    let (id, credential, claim) = (body.id, body.credential.clone(), Claim { worker_key, request });
    match vault.spend(opened, claim) {
        Ok(Turn::Again(parcelled)) => Ok(*parcelled),
        Ok(Turn::Mint(ticket)) => fulfil(vault, session, *ticket, (worker, inherited), permit).await,
        Err(LedgerError::Contested { winner }) => {
            let host = session.host.clone();
            vault.alarm(Alarm::GrantContested { grant: id, winner, loser: worker_key, process: worker, host }).await;
            Err(RefusalCode::GrantSpent.into())
        }
        Err(LedgerError::Over) => Err(late(vault, session, id, &credential).await),
        Err(LedgerError::Acknowledged) => Err(RefusalCode::GrantSpent.into()),
        Err(LedgerError::UnderWay | LedgerError::Full) => Err(RefusalCode::Busy.into()),
    }
}

/// A grant whose time is over, when it came or by the time that policy had answered.
async fn late(vault: &Vault, session: &SessionEntry, id: GrantId, credential: &CredentialName) -> Refusal {
    let refusal = Refusal::new(RefusalCode::GrantExpired, &format!("the time of grant {id} is over"));
    vault.denied(credential, &session.host, &refusal).await;
    refusal
}

/// Whether the worker is one that the grant was made for.
async fn fits(
    vault: &Vault,
    session: &SessionEntry,
    grant: &OpenedGrant,
    worker: &ProcessFacts,
) -> Result<(), Refusal> {
    let Some(mismatch) = mismatch(grant.body().worker, worker) else {
        return Ok(());
    };
    let refusal = Refusal::new(RefusalCode::WorkerMismatch, &mismatch);
    vault.denied(&grant.body().credential, &session.host, &refusal).await;
    Err(refusal)
}

/// What the grant asks for and this worker is not, in words.
fn mismatch(wanted: WorkerConstraint, found: &ProcessFacts) -> Option<String> {
    let WorkerConstraint { uid, executable, protection } = wanted;
    if let Some(uid) = uid.filter(|uid| *uid != found.uid) {
        return Some(format!("the grant is for uid {uid}, the worker has {}", found.uid));
    }
    if let Some(digest) = executable.filter(|digest| found.executable != Some(*digest)) {
        return Some(match found.executable {
            Some(found) => format!("the grant is for executable {digest}, the worker's is {found}"),
            None => format!("the grant is for executable {digest}, and no launcher measured the worker's"),
        });
    }
    let level = protection.filter(|level| found.protection < Some(*level))?;
    Some(match found.protection {
        Some(found) => format!("the grant is for --protection {level}, the worker's is {found}"),
        None => format!("the grant is for --protection {level}, and no launcher protects the worker"),
    })
}

/// Mints for a ticket, and makes sure that the ticket ends one way or the other.
async fn fulfil(
    vault: &Vault,
    session: &SessionEntry,
    ticket: Ticket,
    (worker, inherited): (ProcessFacts, Vec<VariableName>),
    permit: Permit,
) -> Result<Parcelled, Refusal> {
    let body = ticket.grant().body().clone();
    let Claim { worker_key, request } = ticket.claim();
    let epoch = permit.policy_version();
    let order = order_of(vault, session, &body.audience, worker);
    let Minted { token, lease_idle, fetched } = match vault.mint(&order, permit).await {
        Ok(minted) => minted,
        Err(failed) => {
            vault.settle(ticket, failed.failure);
            return Err(vault.not_minted(&body.credential, &session.host, failed).await);
        }
    };
    let lease = match vault.draw() {
        Ok(id) => LeaseId(id),
        Err(refusal) => return Err(lose(vault, ticket, token, &body.credential, refusal).await),
    };
    let header = ParcelHeader { request, grant: body.id, worker: worker_key, uid: worker.uid, policy_epoch: epoch };
    let parcelled = match wrap(vault, &token, header, lease, lease_idle) {
        Ok(parcelled) => parcelled,
        Err(refusal) => return Err(lose(vault, ticket, token, &body.credential, refusal).await),
    };
    let event = Event::Redeemed {
        grant: body.id,
        lease,
        credential: body.credential.clone(),
        host: session.host.clone(),
        worker_key,
        worker,
        inherited: inherited.clone(),
        sight: Sight::Plaintext,
        carried: Sight::Opaque,
    };
    match record(vault, fetched, event).await {
        Ok(()) => {}
        Err(Unrecorded::Fetched(refusal)) => {
            // Nothing has left the vault, and nothing will: as if it had never been minted.
            vault.settle(ticket, Failure::NoToken);
            return Err(refusal);
        }
        Err(Unrecorded::Handed(refusal)) => return Err(lose(vault, ticket, token, &body.credential, refusal).await),
    }
    let terms = Terms {
        grant: body.id,
        credential: body.credential.clone(),
        host: session.host.clone(),
        session: session.id,
        worker_key,
        worker,
        inherited,
        parent: body.parent,
        audience: body.audience,
        idle: parcelled.lease_idle,
        approval: body.approval,
    };
    vault.begin_lease(lease, terms, Revocable::of(token, body.credential));
    vault.fulfil(ticket, parcelled.clone());
    vault.figures.count("redemptions_total", None);
    Ok(parcelled)
}

/// Which record is missing.
enum Unrecorded {
    /// That the master was opened.
    Fetched(Refusal),
    /// That the token is handed over.
    Handed(Refusal),
}

/// Records that a token is handed over, and in the same transaction that its master was opened if that still waits.
async fn record(vault: &Vault, fetched: Option<Entered>, event: Event) -> Result<(), Unrecorded> {
    let handed = vault.enter(event).await.map_err(Unrecorded::Handed)?;
    if let Some(fetched) = fetched {
        vault.durable(fetched).await.map_err(Unrecorded::Fetched)?;
    }
    vault.durable(handed).await.map_err(Unrecorded::Handed)
}

/// A token exists that nobody will receive: it is revoked if it can be, and its grant is spent.
async fn lose(vault: &Vault, ticket: Ticket, token: Token, credential: &CredentialName, refusal: Refusal) -> Refusal {
    vault.settle(ticket, Failure::Unknown);
    if let Some(revocable) = Revocable::of(token, credential.clone()) {
        vault.revoke(revocable).await;
    }
    refusal
}

async fn acknowledge(
    vault: &Vault,
    session: &SessionEntry,
    lease: LeaseId,
    request: RequestId,
) -> Result<Answer, Refusal> {
    if vault.acknowledge(lease, &session.host, request).await? {
        vault.audit_after(Event::Acknowledged { lease, request }).await?;
    }
    Ok(Answer::Done)
}

fn keep(vault: &Vault, session: &SessionEntry, leases: &[LeaseId]) -> Result<Answer, Refusal> {
    if leases.len() > MAX_PAGE {
        return Err(Refusal::new(RefusalCode::Malformed, "too many leases in one message"));
    }
    for lease in leases {
        if !vault.keep_lease(*lease, session) {
            session.push_lease_end(*lease, LeaseEnd::Idle);
        }
    }
    Ok(Answer::Done)
}

async fn end(vault: &Vault, session: &SessionEntry, lease: LeaseId, why: LeaseEnd) -> Result<Answer, Refusal> {
    match why {
        // A broker may only report what it can see.
        LeaseEnd::WorkerGone | LeaseEnd::Returned => {}
        _ => return Err(Refusal::new(RefusalCode::Malformed, "a broker does not end leases for this reason")),
    }
    // A lease that is not there has ended before: the broker may forget it too.
    vault.end_lease(lease, &session.host, why).await;
    Ok(Answer::Done)
}

/// What is wanted, as policy looks at it.
pub(crate) struct Wanted<'a> {
    pub(crate) credential: &'a CredentialName,
    pub(crate) audience: Option<&'a Audience>,
    pub(crate) worker: ProcessFacts,
    pub(crate) inherited: &'a [VariableName],
    pub(crate) parent: ProcessFacts,
    pub(crate) approval: Option<Approver>,
}

async fn allow(vault: &Vault, session: &SessionEntry, action: Action, wanted: &Wanted<'_>) -> Result<Permit, Refusal> {
    match vault.decide(session, action, wanted).await {
        Ok(permit) => Ok(permit),
        Err(not) => Err(denied(vault, session, wanted.credential, not).await),
    }
}

async fn denied(vault: &Vault, session: &SessionEntry, credential: &CredentialName, not: NotPermitted) -> Refusal {
    let refusal = Refusal::from(not);
    vault.denied(credential, &session.host, &refusal).await;
    refusal
}

fn order_of<'a>(
    vault: &Vault,
    session: &'a SessionEntry,
    audience: &'a Option<Audience>,
    worker: ProcessFacts,
) -> Order<'a> {
    Order {
        audience: audience.as_ref(),
        host: &session.host,
        uid: worker.uid,
        now: vault.clock.now(),
        lifetime: u32::MAX,
    }
}

fn wrap(
    vault: &Vault,
    token: &Token,
    header: ParcelHeader,
    lease: LeaseId,
    lease_idle: u32,
) -> Result<Parcelled, Refusal> {
    let parcel = parcel::seal(token.secret(), header, &vault.parcel_keys)
        .map_err(|_| Refusal::new(RefusalCode::Malformed, "the worker's key cannot be used"))?;
    let parcel =
        Bytes::new(parcel.to_bytes()).map_err(|_| Refusal::new(RefusalCode::Upstream, "the token is too long"))?;
    Ok(Parcelled { lease, parcel, expires: token.expires(), lease_idle, token_type: token.token_type().clone() })
}
