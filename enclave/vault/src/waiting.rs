//! Grants that a person has to approve: held, shown, decided about, and collected by whoever asked.
//!
//! What an operator is shown is all that the grant is made from, and the decision names it by its hash. The rules are in
//! [`crate::pending`]; here they meet the audit, which is written before anything counts.

use crate::crossing;
use crate::log;
use crate::pending::{Collected, Full, Held, NotDecided, Said};
use crate::policy::Approver;
use crate::vault::{Demand, SessionEntry, Vault, lock};
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::{AskId, Digest};
use blindferry_proto::operator::OperatorReply;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{Answer, Ask};
use blindferry_proto::waiting::{AskEnd, Decision, MAX_DEMANDING, Waiting, WaitingAsk, Words};
use ring::digest::{SHA256, digest};

/// Has an ask wait for a person.
pub(crate) async fn hold(
    vault: &Vault,
    session: &SessionEntry,
    ask: Ask,
    words: Words,
    demand: Demand,
) -> Result<Answer, Refusal> {
    let asked = vault.clock.now();
    let shown = WaitingAsk {
        ask: AskId(vault.draw()?),
        credential: ask.credential,
        kind: Text::cut(demand.kind),
        version: demand.version,
        audience: ask.audience,
        host: session.described().ok_or_else(|| Refusal::from(RefusalCode::NotAttested))?,
        parent: ask.parent,
        worker: ask.worker,
        words,
        demanded_by: demand.by.iter().take(MAX_DEMANDING).map(|name| Text::cut(name)).collect(),
        policy_version: demand.policy_version,
        other_machine: demand.approver == Approver::OtherMachine,
        asked,
        until: asked + u64::from(vault.settings.approval_wait),
    };
    let id = shown.ask;
    let digest = digest_of(&shown)?;
    let event = Event::AskHeld {
        ask: id,
        shown: digest,
        credential: shown.credential.clone(),
        host: shown.host.name.clone(),
        parent: shown.parent,
        worker: shown.worker,
        words: shown.words.clone(),
    };
    let (credential, seconds) = (shown.credential.clone(), vault.settings.approval_wait);
    let held = Held { shown, digest, session: session.id, asker: session.hardware().clone() };
    let reserved = lock(&vault.pending).reserve(held);
    if let Err(full) = reserved {
        let refusal = Refusal::from(full);
        vault.denied(&credential, &session.host, &refusal).await;
        return Err(refusal);
    }
    if let Err(refusal) = vault.audit(event).await {
        lock(&vault.pending).forget(id);
        return Err(refusal);
    }
    let open = lock(&vault.pending).open(id);
    // A session that ended before the ask had its place has not taken it along.
    if !open || !vault.stands(session.id) {
        withdraw(vault, session, id, AskEnd::SessionOver).await;
        return Err(RefusalCode::NotReady.into());
    }
    note(vault, "held");
    let fields = [("ask", id.to_string()), ("credential", credential.to_string()), ("host", session.host.to_string())];
    log::info("ask-waits", "an ask waits for a person", &fields);
    Ok(Answer::Waiting(Waiting { ask: id, seconds }))
}

/// What became of an ask; a grant, once, if a person approved it and policy still permits it.
pub(crate) async fn collect(vault: &Vault, session: &SessionEntry, ask: AskId) -> Result<Answer, Refusal> {
    let collected = lock(&vault.pending).collect(ask, session.id, vault.clock.now());
    match collected {
        Collected::Waiting(seconds) => Ok(Answer::Waiting(Waiting { ask, seconds })),
        Collected::Approved(approved) => crossing::grant_approved(vault, session, *approved).await,
        Collected::Denied { by, reason } => {
            let detail = match reason {
                Some(reason) => format!("an operator on {by} said no: {reason}"),
                None => format!("an operator on {by} said no"),
            };
            Err(Refusal::new(RefusalCode::ApprovalDenied, &detail))
        }
        Collected::TimedOut => Err(Refusal::new(RefusalCode::ApprovalTimedOut, "nobody approved it in time")),
        Collected::Unknown => Err(Refusal::new(RefusalCode::Unknown, "that ask does not wait any more: ask again")),
    }
}

/// Nobody waits for the answer any more.
pub(crate) async fn withdraw(vault: &Vault, session: &SessionEntry, ask: AskId, why: AskEnd) {
    let withdrawn = lock(&vault.pending).withdraw(ask, session.id);
    if let Some(shown) = withdrawn {
        ended(vault, shown, why).await;
    }
}

/// A session is over, and all that waited in it.
pub(crate) async fn session_ended(vault: &Vault, session: &SessionEntry) {
    let waited = lock(&vault.pending).end_session(session.id);
    for shown in waited {
        ended(vault, shown, AskEnd::SessionOver).await;
    }
}

/// Ends what nobody decided about, or came for, in time.
pub(crate) async fn lapse(vault: &Vault) {
    let lapsed = lock(&vault.pending).lapse(vault.clock.now());
    for (shown, why) in lapsed {
        ended(vault, shown, why).await;
    }
}

/// A page of what waits, for an operator.
pub(crate) fn page(vault: &Vault, after: Option<AskId>) -> OperatorReply {
    OperatorReply::Asks(lock(&vault.pending).page(after))
}

/// An operator decides about what has this digest.
pub(crate) async fn decide(
    vault: &Vault,
    session: &SessionEntry,
    ask: AskId,
    shown: Digest,
    decision: Decision,
) -> Result<OperatorReply, Refusal> {
    let said = match decision {
        Decision::Approve => Said::Yes,
        Decision::Deny { reason } => Said::No { by: session.host.clone(), reason },
    };
    let begun = lock(&vault.pending).begin(ask, shown, session.hardware(), &said, vault.clock.now());
    let deciding = begun.map_err(Refusal::from)?;
    let about = deciding.shown();
    let event = Event::AskDecided {
        ask,
        shown,
        by: session.host.clone(),
        approved: said == Said::Yes,
        reason: match &said {
            Said::Yes => None,
            Said::No { reason, .. } => reason.clone(),
        },
        credential: about.credential.clone(),
        host: about.host.name.clone(),
        parent: about.parent,
    };
    if let Err(refusal) = vault.audit(event).await {
        lock(&vault.pending).reopen(deciding);
        return Err(refusal);
    }
    let word = if said == Said::Yes { "approved" } else { "denied" };
    let settled = lock(&vault.pending).settle(deciding, said, vault.clock.now());
    if !settled {
        return Err(NotDecided::Unknown.into());
    }
    note(vault, word);
    Ok(OperatorReply::Done)
}

async fn ended(vault: &Vault, shown: WaitingAsk, why: AskEnd) {
    note(
        vault,
        match why {
            AskEnd::TimedOut => "timed-out",
            AskEnd::Withdrawn => "withdrawn",
            AskEnd::SessionOver => "session-over",
            AskEnd::NotCollected => "not-collected",
        },
    );
    let event = Event::AskEnded { ask: shown.ask, why, credential: shown.credential, host: shown.host.name };
    // Nothing comes of this ask any more; a vault that cannot audit has said so.
    let _unwritten = vault.audit(event).await;
}

fn note(vault: &Vault, what: &'static str) {
    vault.figures.count("asks_total", Some(what));
    vault.figures.set("asks_waiting", lock(&vault.pending).waiting());
}

/// What an operator's decision has to name.
fn digest_of(shown: &WaitingAsk) -> Result<Digest, Refusal> {
    let input = shown.digest_input().map_err(|_| Refusal::from(RefusalCode::Internal))?;
    let hash = digest(&SHA256, &input);
    hash.as_ref().try_into().map(Digest).map_err(|_| RefusalCode::Internal.into())
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::new(RefusalCode::ApprovalQueueFull, &format!("too many asks wait for a person: {full}"))
    }
}

impl From<NotDecided> for Refusal {
    fn from(why: NotDecided) -> Self {
        let code = match why {
            NotDecided::Unknown => RefusalCode::Unknown,
            NotDecided::Decided | NotDecided::OtherShown => RefusalCode::ApprovalMismatch,
            NotDecided::SameMachine => RefusalCode::Denied,
        };
        Self::new(code, &why.to_string())
    }
}
