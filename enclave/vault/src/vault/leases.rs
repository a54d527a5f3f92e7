//! Grants and leases as the sessions share them: each step under its lock, and what follows from a lease's end.

use super::{Revocable, SessionEntry, Vault, lock};
use crate::grant::{GrantBody, GrantError, OpenedGrant};
use crate::lease::{Lease, LeaseError, RenewalTurn, Terms};
use crate::ledger::{Claim, Failure, LedgerError, Ticket, Turn};
use crate::traced;
use blindferry_proto::audit::Event;
use blindferry_proto::identifier::{LeaseId, RequestId};
use blindferry_proto::name::HostName;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::session::{FromVault, LeaseEnd, Parcelled};

impl Vault {
    pub(crate) fn seal_grant(&self, body: &GrantBody, now: u64) -> Result<Vec<u8>, Refusal> {
        let sealed = lock(&self.grants).seal(body, now, &self.random);
        sealed.map_err(|_| Refusal::from(RefusalCode::Internal))
    }

    pub(crate) fn open_grant(&self, bytes: &[u8], host: &HostName) -> Result<OpenedGrant, GrantError> {
        lock(&self.grants).open(bytes, host, self.clock.now())
    }

    pub(crate) fn spend(&self, grant: OpenedGrant, claim: Claim) -> Result<Turn, LedgerError> {
        lock(&self.ledger).redeem(grant, claim, self.clock.now())
    }

    pub(crate) fn settle(&self, ticket: Ticket, failure: Failure) {
        lock(&self.ledger).fail(ticket, failure);
    }

    pub(crate) fn fulfil(&self, ticket: Ticket, parcelled: Parcelled) {
        lock(&self.ledger).fulfil(ticket, parcelled);
    }

    pub(crate) fn room_for_lease(&self, host: &HostName) -> Result<(), Refusal> {
        lock(&self.leases).room(host).map_err(|_| Refusal::new(RefusalCode::Busy, "too many leases"))
    }

    pub(crate) fn begin_lease(&self, id: LeaseId, terms: Terms, revocable: Option<Revocable>) {
        let mut leases = lock(&self.leases);
        leases.begin(id, terms, revocable, self.clock.now());
        self.figures.set("leases", leases.len());
    }

    pub(crate) fn keep_lease(&self, id: LeaseId, session: &SessionEntry) -> bool {
        lock(&self.leases).keep(id, &session.host, session.id, self.clock.now())
    }

    pub(crate) fn lease_terms(&self, id: LeaseId, host: &HostName) -> Result<Terms, Refusal> {
        let leases = lock(&self.leases);
        let terms = leases.of_host(id, host).map(|lease| lease.terms.clone()).map_err(|_| RefusalCode::Unknown)?;
        traced::about(terms.grant);
        Ok(terms)
    }

    pub(crate) fn begin_renewal(
        &self,
        id: LeaseId,
        host: &HostName,
        request: RequestId,
    ) -> Result<RenewalTurn, LeaseError> {
        lock(&self.leases).renew(id, host, request)
    }

    pub(crate) fn not_renewed(&self, id: LeaseId) {
        lock(&self.leases).not_renewed(id);
    }

    pub(crate) fn renewed(
        &self,
        id: LeaseId,
        request: RequestId,
        parcelled: Parcelled,
        revocable: Option<Revocable>,
    ) -> Result<Vec<Revocable>, Option<Revocable>> {
        lock(&self.leases).renewed(id, request, parcelled, revocable, self.clock.now())
    }

    /// The worker has its parcel: it is forgotten, and tokens that it replaces are revoked. Whether there was one.
    pub(crate) async fn acknowledge(&self, id: LeaseId, host: &HostName, request: RequestId) -> Result<bool, Refusal> {
        let grant = self.lease_terms(id, host)?.grant;
        let first = lock(&self.ledger).acknowledge(grant, request, id);
        let renewal = lock(&self.leases).acknowledge(id, request);
        let acknowledged = first || renewal.is_some();
        for replaced in renewal.into_iter().flatten() {
            self.revoke(replaced).await;
        }
        Ok(acknowledged)
    }

    /// Ends one lease of a host, if it has it.
    pub(crate) async fn end_lease(&self, id: LeaseId, host: &HostName, why: LeaseEnd) {
        let ended = lock(&self.leases).end(id, host);
        if let Ok(lease) = ended {
            traced::about(lease.terms.grant);
            self.close(lease, why).await;
        }
    }

    /// Ends all leases that `over` says are over.
    pub(crate) async fn end_leases(&self, why: LeaseEnd, over: impl Fn(&Lease<Revocable>) -> bool) {
        let ended = lock(&self.leases).end_where(over);
        for lease in ended {
            self.close(lease, why).await;
        }
    }

    /// Ends the leases that nobody kept in time, and forgets what is over.
    pub(crate) async fn tidy(&self) {
        let now = self.clock.now();
        let idle = lock(&self.leases).end_idle(now);
        for lease in idle {
            self.close(lease, LeaseEnd::Idle).await;
        }
        lock(&self.ledger).forget(now);
        for credential in self.cache.evict(now) {
            let _unwritten = self.audit(Event::Evicted { credential }).await;
        }
        self.publish_when_due().await;
    }

    async fn close(&self, lease: Lease<Revocable>, why: LeaseEnd) {
        self.figures.set("leases", lock(&self.leases).len());
        let heard_from_host = matches!(why, LeaseEnd::WorkerGone | LeaseEnd::Returned);
        if !heard_from_host && let Some(session) = lock(&self.sessions).get(&lease.terms.session) {
            // A peer that does not read loses its session by its own queue.
            let _full = session.outgoing.try_send(FromVault::LeaseEnded { lease: lease.id, why });
        }
        let mut revoked = None;
        for revocable in lease.revocable {
            let done = self.revoke(revocable).await;
            revoked = Some(done && revoked.unwrap_or(true));
        }
        let event = Event::LeaseEnded { lease: lease.id, why, revoked };
        // Those that the vault ends come in numbers, one after the other.
        let _unwritten = if heard_from_host { self.audit_after(event).await } else { self.audit(event).await };
    }
}
