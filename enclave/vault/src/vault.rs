//! The running vault: what its parts share, and the small steps that more than one of them takes.
//!
//! One thread runs it all. Locks are held for a few lines and never while something is waited for.

use crate::audit::Auditor;
use crate::cache::MasterCache;
use crate::clock::Clock;
use crate::confine::Confined;
use crate::crossing::{LeaseFacts, Wanted};
use crate::figures::Figures;
use crate::grant::{GrantBody, GrantError, GrantKeys, OpenedGrant};
use crate::host::Knocks;
use crate::hpke_keys::{DepositKeyPair, ParcelKeyPair};
use crate::lease::{Lease, LeaseError, Leases, RenewalTurn, Terms};
use crate::ledger::{Claim, Failure, Ledger, LedgerError, Ticket, Turn};
use crate::link::FrontLink;
use crate::mint::{self, MintError, Order, Revocation, Token};
use crate::policy::{Action, Allowed, Policy, Question};
use crate::sealed::PolicyAuthority;
use crate::session::Over;
use crate::store::{Records, StoreError};
use crate::upstream::UpstreamError;
use blindferry_attest::attested::{Attested, Claims};
use blindferry_attest::reference::ReferenceValues;
use blindferry_attest::tpm::{AkName, QuoteClock};
use blindferry_device::client::Device;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::audit::{Alarm, Event, Sight};
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::Kind;
use blindferry_proto::identifier::{EkDigest, LeaseId, ReplicaId, RequestId, SessionId};
use blindferry_proto::name::{CredentialName, HostName};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{FromVault, LeaseEnd, Parcelled};
use blindferry_session::{Attester, Identity};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, mpsc};

/// Sessions at once.
pub const SESSIONS: usize = 4096;
/// Messages that wait for a peer to read them; a peer that reads slower loses its session.
pub const OUTGOING: usize = 1024;
/// Handshakes at once; more connections are dropped, so that strangers cannot make the TPM busy without bound.
pub const HANDSHAKES: usize = 32;
/// Seconds between two looks at a host's evidence.
pub const REATTEST_EVERY: u32 = 300;

/// All of a running vault.
#[expect(missing_debug_implementations, reason = "holds keys")]
pub struct Vault {
    pub(crate) link: FrontLink,
    pub(crate) device: Device,
    pub(crate) platform: Attester,
    pub(crate) identity: Identity,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) random: SystemRandom,
    pub(crate) clock: Clock,
    pub(crate) replica: ReplicaId,
    pub(crate) parcel_keys: ParcelKeyPair,
    pub(crate) deposit_keys: DepositKeyPair,
    pub(crate) records: Arc<Records<FrontLink>>,
    pub(crate) auditor: Auditor<FrontLink>,
    pub(crate) authority: PolicyAuthority,
    pub(crate) confined: Confined,
    pub(crate) software_tpm: bool,
    pub(crate) documents: Mutex<Documents>,
    pub(crate) figures: Figures,
    pub(crate) handshakes: Semaphore,
    pub(crate) cache: MasterCache,
    pub(crate) grants: Mutex<GrantKeys>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) leases: Mutex<Leases<Revocable>>,
    pub(crate) knocks: Mutex<Knocks>,
    pub(crate) sessions: Mutex<HashMap<SessionId, Connected>>,
    pub(crate) reattest_every: u32,
}

/// What operators decided: read at start, replaced when they change it.
#[derive(Debug)]
pub struct Documents {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Reference values by the role that they judge, with their version.
    pub references: HashMap<Role, (u64, Arc<ReferenceValues>)>,
    /// Certificates (DER) of the CAs whose EK certificates are accepted.
    pub endorsement_roots: Vec<Vec<u8>>,
}

/// A token that can be revoked before its time.
#[derive(Debug)]
pub struct Revocable {
    credential: CredentialName,
    token: SecretBytes,
}

impl Revocable {
    /// Keeps a token for its revocation, if there is a way to revoke it.
    pub(crate) fn of(token: Token, credential: CredentialName) -> Option<Self> {
        token.revocation().map(|Revocation::AtUpstream| Self { credential, token: token.into_secret() })
    }
}

/// One session, from its welcome to its end.
#[expect(missing_debug_implementations, reason = "a verdict is not for printing")]
pub struct SessionEntry {
    pub(crate) id: SessionId,
    pub(crate) host: HostName,
    pub(crate) role: Role,
    pub(crate) ak: AkName,
    since: u64,
    pub(crate) outgoing: mpsc::Sender<FromVault>,
    believed: Mutex<Option<Believed>>,
    suspicion: Arc<Notify>,
    clock: Clock,
}

/// The newest verdict about a session's peer.
struct Believed {
    _attested: Attested,
    claims: Claims,
    at: u64,
}

impl SessionEntry {
    /// Keeps the newest verdict; the one before is spent.
    pub(crate) fn believe(&self, attested: Attested) {
        let claims = attested.claims();
        *lock(&self.believed) = Some(Believed { _attested: attested, claims, at: self.clock.now() });
    }

    /// Tells the peer that a lease ended.
    pub(crate) fn push_lease_end(&self, lease: LeaseId, why: LeaseEnd) {
        // A peer that does not read loses its session by its own queue.
        let _full = self.outgoing.try_send(FromVault::LeaseEnded { lease, why });
    }

    /// Waits until somebody wants to see fresh evidence at once.
    pub(crate) async fn suspected(&self) {
        self.suspicion.notified().await;
    }
}

/// How the vault reaches a session.
pub(crate) struct Connected {
    host: HostName,
    role: Role,
    end: mpsc::Sender<Over>,
    outgoing: mpsc::Sender<FromVault>,
    suspicion: Arc<Notify>,
}

/// A new session: what the vault keeps of it, and the two queues that the task of the session reads.
pub(crate) struct NewSession {
    pub(crate) entry: SessionEntry,
    /// Orders to end.
    pub(crate) ended: mpsc::Receiver<Over>,
    /// Messages for the peer.
    pub(crate) queue: mpsc::Receiver<FromVault>,
}

/// A token and what its credential says about leases.
pub(crate) struct Minted {
    pub(crate) token: Token,
    pub(crate) lease_idle: u32,
}

/// Why there is no token, for the ledger and for the peer.
pub(crate) struct NotMinted {
    pub(crate) failure: Failure,
    pub(crate) refusal: Refusal,
}

impl From<Refusal> for NotMinted {
    fn from(refusal: Refusal) -> Self {
        Self { failure: Failure::NoToken, refusal }
    }
}

/// Small steps.
impl Vault {
    /// Random bytes for an identifier.
    pub(crate) fn draw<const N: usize>(&self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| Refusal::from(RefusalCode::Internal))?;
        Ok(bytes)
    }

    /// Writes an audit record, durably.
    pub(crate) async fn audit(&self, event: Event) -> Result<(), Refusal> {
        match self.auditor.record(event).await {
            Ok(_recorded) => Ok(()),
            Err(error) => {
                eprintln!("blindferry-vault: cannot write an audit record, so nothing is granted: {}", chain(&error));
                self.figures.count("audit_failures_total", None);
                Err(Refusal::new(RefusalCode::Store, "nothing is done that cannot be audited"))
            }
        }
    }

    /// Something that should never happen in an honest fleet.
    pub(crate) async fn alarm(&self, alarm: Alarm) {
        eprintln!("blindferry-vault: ALARM: {alarm:?}");
        self.figures.count("alarms_total", None);
        // The alarm was printed and counted; a store that cannot take it has been complained about.
        let _unwritten = self.audit(Event::Alarm(alarm)).await;
    }

    /// Notes that evidence was refused.
    pub(crate) async fn not_attested(&self, host: &HostName, role: Role, code: &str, error: &(dyn Error + Sync)) {
        self.not_attested_because(host, role, code, &chain(error)).await;
    }

    /// Notes that a peer was refused before it was attested.
    pub(crate) async fn not_attested_because(&self, host: &HostName, role: Role, code: &str, why: &str) {
        let event = Event::NotAttested { host: host.clone(), role, code: Text::cut(code), detail: Text::cut(why) };
        let _unwritten = self.audit(event).await;
    }

    /// Notes that a request was refused.
    pub(crate) async fn denied(&self, credential: &CredentialName, host: &HostName, refusal: &Refusal) {
        let event = Event::Denied {
            credential: credential.clone(),
            host: host.clone(),
            code: refusal.code,
            detail: Text::cut(refusal.detail.as_str()),
        };
        let _unwritten = self.audit(event).await;
    }

    /// Notes that the store failed, with an alarm where it was tampered with.
    pub(crate) async fn store_failed(&self, error: &StoreError) -> Refusal {
        eprintln!("blindferry-vault: {}", chain(error));
        if let StoreError::Tampered { .. } = error {
            self.alarm(Alarm::StoreTampered { detail: Text::cut(&chain(error)) }).await;
        }
        Refusal::new(RefusalCode::Store, "the store could not serve this; the vault's log says why")
    }

    pub(crate) fn reattest_every(&self) -> u32 {
        self.reattest_every
    }
}

/// Hosts and sessions.
impl Vault {
    pub(crate) fn reference(&self, role: Role) -> Option<Arc<ReferenceValues>> {
        lock(&self.documents).references.get(&role).map(|(_, reference)| Arc::clone(reference))
    }

    pub(crate) fn endorsement_roots(&self) -> Vec<Vec<u8>> {
        lock(&self.documents).endorsement_roots.clone()
    }

    pub(crate) fn clock_of(&self, host: &HostName) -> Option<QuoteClock> {
        lock(&self.knocks).clock(host).copied()
    }

    pub(crate) fn keep_clock(&self, host: &HostName, attested: &Attested) {
        lock(&self.knocks).keep_clock(host.clone(), attested);
    }

    pub(crate) fn knocked(&self, host: HostName, ek: EkDigest, role: Role) {
        lock(&self.knocks).remember(host, ek, role, self.clock.now());
    }

    /// A session for a peer that was judged. A broker's new session takes the place of its old one.
    pub(crate) fn new_session(&self, host: HostName, role: Role, ak: AkName) -> Result<NewSession, Refusal> {
        let id = SessionId(self.draw()?);
        let (end, ended) = mpsc::channel(1);
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let suspicion = Arc::new(Notify::new());
        let mut sessions = lock(&self.sessions);
        if role == Role::Broker {
            for older in sessions.values().filter(|older| older.host == host && older.role == role) {
                // One that is ending already needs no second word.
                let _ending = older.end.try_send(Over::because("replaced"));
            }
        }
        if sessions.len() >= SESSIONS {
            return Err(RefusalCode::Busy.into());
        }
        let suspicious = Arc::clone(&suspicion);
        let connected = Connected { host: host.clone(), role, end, outgoing: outgoing.clone(), suspicion: suspicious };
        sessions.insert(id, connected);
        self.figures.set("sessions", sessions.len());
        let entry = SessionEntry {
            id,
            host,
            role,
            ak,
            since: self.clock.now(),
            outgoing,
            believed: Mutex::new(None),
            suspicion,
            clock: self.clock,
        };
        Ok(NewSession { entry, ended, queue })
    }

    pub(crate) fn forget_session(&self, entry: &SessionEntry) {
        let mut sessions = lock(&self.sessions);
        sessions.remove(&entry.id);
        self.figures.set("sessions", sessions.len());
    }

    /// Ends the sessions of a host, and says how.
    pub(crate) fn end_sessions(&self, host: &HostName, over: &Over) {
        for session in lock(&self.sessions).values().filter(|session| session.host == *host) {
            let _ending = session.end.try_send(over.clone());
        }
    }

    /// Asks every peer of this role for fresh evidence at once: what it is judged by has changed.
    pub(crate) fn suspect(&self, role: Role) {
        for session in lock(&self.sessions).values().filter(|session| session.role == role) {
            session.suspicion.notify_one();
        }
    }

    pub(crate) fn is_connected(&self, host: &HostName) -> bool {
        lock(&self.sessions).values().any(|session| session.host == *host)
    }
}

/// Policy and minting.
impl Vault {
    /// Asks the policy about a session's host as it was last attested.
    pub(crate) async fn decide(
        &self,
        session: &SessionEntry,
        action: Action,
        wanted: &Wanted<'_>,
    ) -> Result<Allowed, Refusal> {
        let settings = match self.records.settings(wanted.credential).await {
            Ok(Some(settings)) => settings,
            Ok(None) => return Err(Refusal::new(RefusalCode::Unknown, "no such credential")),
            Err(error) => return Err(self.store_failed(&error).await),
        };
        let policy = Arc::clone(&lock(&self.documents).policy);
        let now = self.clock.now();
        let believed = lock(&session.believed);
        let believed = believed.as_ref().ok_or_else(|| Refusal::from(RefusalCode::NotAttested))?;
        let question = Question {
            action,
            host: &session.host,
            worker: &wanted.worker,
            parent: &wanted.parent,
            credential: wanted.credential,
            kind: kind_of(&settings.kind),
            audience: wanted.audience,
            claims: &believed.claims,
            session_age: now.saturating_sub(session.since),
            attestation_age: now.saturating_sub(believed.at),
        };
        policy.decide(&question).map_err(|denied| Refusal::new(RefusalCode::Denied, &denied.to_string()))
    }

    /// Opens the master, trades it for one token, and wipes it. The verdict is spent here.
    pub(crate) async fn mint(
        &self,
        credential: &CredentialName,
        order: &Order<'_>,
        allowed: Allowed,
    ) -> Result<Minted, NotMinted> {
        let master = match self.cache.master(credential, &self.records, self.clock.now()).await {
            Ok(Some(master)) => master,
            Ok(None) => return Err(Refusal::new(RefusalCode::Unknown, "no such credential").into()),
            Err(error) => return Err(self.store_failed(&error).await.into()),
        };
        self.audit(Event::Fetched { credential: credential.clone(), sight: Sight::Plaintext }).await?;
        drop(allowed);
        let minted = mint::mint(&master.secret, &master.settings, order, &self.link, &self.random).await;
        match minted {
            Ok(token) => Ok(Minted { token, lease_idle: master.settings.lease_idle }),
            Err(error) => {
                eprintln!("blindferry-vault: no token of {credential}: {}", chain(&error));
                self.figures.count("mint_failures_total", Some(error.code()));
                Err(NotMinted { failure: failure_of(&error), refusal: Refusal::new(error.refusal(), error.code()) })
            }
        }
    }

    /// Revokes a token at its upstream. Whether that worked.
    pub(crate) async fn revoke(&self, revocable: Revocable) -> bool {
        let Revocable { credential, token } = revocable;
        let now = self.clock.now();
        let master = match self.cache.master(&credential, &self.records, now).await {
            Ok(Some(master)) => master,
            Ok(None) | Err(_) => return false,
        };
        match mint::revoke(&master.secret, &master.settings, &token, &self.link, now, &self.random).await {
            Ok(_revoked) => true,
            Err(error) => {
                eprintln!("blindferry-vault: cannot revoke a token of {credential}: {}", chain(&error));
                self.figures.count("revocation_failures_total", Some(error.code()));
                false
            }
        }
    }

    pub(crate) async fn revoke_if(&self, revocable: Option<Revocable>) {
        if let Some(revocable) = revocable {
            self.revoke(revocable).await;
        }
    }
}

/// Grants and leases.
impl Vault {
    pub(crate) fn seal_grant(&self, body: &GrantBody, now: u64) -> Result<Vec<u8>, Refusal> {
        let sealed = lock(&self.grants).seal(body, now, &self.random);
        sealed.map_err(|_| Refusal::from(RefusalCode::Internal))
    }

    pub(crate) fn open_grant(&self, bytes: &[u8], host: &HostName) -> Result<OpenedGrant, GrantError> {
        lock(&self.grants).open(bytes, host, self.clock.now())
    }

    pub(crate) fn spend(&self, grant: OpenedGrant, claim: Claim) -> Result<Turn, LedgerError> {
        let mut ledger = lock(&self.ledger);
        ledger.forget(self.clock.now());
        ledger.redeem(grant, claim)
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

    pub(crate) fn lease_facts(&self, id: LeaseId, host: &HostName) -> Result<LeaseFacts, Refusal> {
        let leases = lock(&self.leases);
        leases.of_host(id, host).map(LeaseFacts::from).map_err(|_| RefusalCode::Unknown.into())
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
        let grant = self.lease_facts(id, host)?.grant;
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
    }

    async fn close(&self, lease: Lease<Revocable>, why: LeaseEnd) {
        self.figures.set("leases", lock(&self.leases).len());
        if !matches!(why, LeaseEnd::WorkerGone | LeaseEnd::Returned)
            && let Some(session) = lock(&self.sessions).get(&lease.session)
        {
            // A peer that does not read loses its session by its own queue.
            let _full = session.outgoing.try_send(FromVault::LeaseEnded { lease: lease.id, why });
        }
        let mut revoked = None;
        for revocable in lease.revocable {
            let done = self.revoke(revocable).await;
            revoked = Some(done && revoked.unwrap_or(true));
        }
        let _unwritten = self.audit(Event::LeaseEnded { lease: lease.id, why, revoked }).await;
    }
}

/// A lock that nobody leaves half-changed: a panic ends the process.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes, in one line for the log.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// How policies call a kind.
pub(crate) fn kind_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Release => "release",
        Kind::OauthClient(_) => "oauth-client",
        Kind::JwtSigner(_) => "jwt-signer",
    }
}

/// Whether a token may exist although minting failed: then its grant is spent.
fn failure_of(error: &MintError) -> Failure {
    match error {
        MintError::Upstream(
            UpstreamError::Request { .. }
            | UpstreamError::TlsSettings(_)
            | UpstreamError::Dial { .. }
            | UpstreamError::Untrusted { .. }
            | UpstreamError::Tls { .. },
        ) => Failure::NoToken,
        MintError::Refused { status, .. } if *status < 500 => Failure::NoToken,
        MintError::Upstream(_) | MintError::Answer { .. } | MintError::Refused { .. } | MintError::Memory(_) => {
            Failure::Unknown
        }
        MintError::Settings(_)
        | MintError::Key(_)
        | MintError::ClientSecret
        | MintError::MasterTooLong
        | MintError::Audience { .. }
        | MintError::Lifetime
        | MintError::Clock { .. }
        | MintError::Random
        | MintError::Sign
        | MintError::Claims(_)
        | MintError::NotRevocable => Failure::NoToken,
    }
}
