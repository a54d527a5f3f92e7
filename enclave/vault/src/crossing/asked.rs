//! Ask → grant: at once, or once a person has approved.

use super::{Wanted, allow, denied};
use crate::grant::GrantBody;
use crate::pending::Approved;
use crate::policy::{Action, Approver};
use crate::traced;
use crate::vault::{NotPermitted, Permit, SessionEntry, Vault};
use crate::waiting;
use blindferry_proto::audit::{Event, Sight};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::{AskId, GrantId};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{Answer, Ask, Granted, ProcessFacts};
use blindferry_proto::waiting::WaitingAsk;

/// A right to one token, for whoever fits: the parent gets it as an opaque blob. Where a person has to approve, the ask
/// waits if its parent does.
pub(super) async fn grant(vault: &Vault, session: &SessionEntry, mut ask: Ask) -> Result<Answer, Refusal> {
    let words = ask.wait.take();
    match (vault.decide(session, Action::Grant, &announced(&ask, None)).await, words) {
        (Ok(permit), _) => issue(vault, session, ask, permit, None).await,
        (Err(NotPermitted::Unapproved(demand)), Some(words)) => waiting::hold(vault, session, ask, words, demand).await,
        (Err(not), _) => Err(denied(vault, session, &ask.credential, not).await),
    }
}

/// The grant that a person approved: of what was shown, and if policy still permits it. The approval is spent either way.
pub(crate) async fn grant_approved(
    vault: &Vault,
    session: &SessionEntry,
    approved: Approved,
) -> Result<Answer, Refusal> {
    let (shown, by) = approved.spend();
    let WaitingAsk { ask: id, credential, version, audience, worker, parent, .. } = shown;
    let ask = Ask { credential, audience, worker, parent, wait: None };
    let permit = allow(vault, session, Action::Grant, &announced(&ask, Some(by))).await?;
    if permit.credential_version() != version {
        let refusal = Refusal::new(RefusalCode::ApprovalMismatch, "the credential was replaced after it was shown");
        vault.denied(&ask.credential, &session.host, &refusal).await;
        return Err(refusal);
    }
    issue(vault, session, ask, permit, Some((id, by))).await
}

/// Makes the grant that was permitted.
async fn issue(
    vault: &Vault,
    session: &SessionEntry,
    ask: Ask,
    permit: Permit,
    approval: Option<(AskId, Approver)>,
) -> Result<Answer, Refusal> {
    let now = vault.clock.now();
    let body = GrantBody {
        id: GrantId(vault.draw()?),
        credential: ask.credential,
        host: session.host.clone(),
        audience: ask.audience,
        worker: ask.worker,
        parent: ask.parent,
        expires: now + u64::from(vault.settings.grant_life),
        approval: approval.map(|(_, by)| by),
    };
    traced::about(body.id);
    let bytes = vault.seal_grant(&body, now)?;
    vault
        .audit(Event::Granted {
            grant: body.id,
            credential: body.credential,
            host: body.host,
            parent: body.parent,
            sight: Sight::Opaque,
            approval: approval.map(|(ask, _)| ask),
        })
        .await?;
    drop(permit);
    vault.figures.count("grants_total", None);
    let grant = Bytes::new(bytes).map_err(|_| Refusal::from(RefusalCode::Internal))?;
    Ok(Answer::Granted(Granted { id: body.id, grant, expires: body.expires }))
}

/// The worker as its parent announces it.
fn announced(ask: &Ask, approval: Option<Approver>) -> Wanted<'_> {
    let worker = ProcessFacts {
        uid: ask.worker.uid.unwrap_or(ask.parent.uid),
        gid: ask.parent.gid,
        pid: 0,
        executable: ask.worker.executable,
        protection: ask.worker.protection,
    };
    Wanted {
        credential: &ask.credential,
        audience: ask.audience.as_ref(),
        worker,
        inherited: &[],
        parent: ask.parent,
        approval,
    }
}
