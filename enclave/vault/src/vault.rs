//! The running vault: what its parts share, and the small steps that more than one of them takes.
//!
//! One thread runs it all. Locks are held for a few lines and never while something is waited for.

mod leases;
mod sessions;
mod tokens;

pub(crate) use tokens::{Demand, NotPermitted, Permit};

use crate::audit::{AuditError, Auditor, Entered, Recorded};
use crate::backup::MadeOfBackup;
use crate::cache::MasterCache;
use crate::clock::Clock;
use crate::confine::Confined;
use crate::figures::{Figures, Kind};
use crate::grant::GrantKeys;
use crate::hand_over::Guests;
use crate::handshakes::Handshakes;
use crate::host::{Knocks, Pin};
use crate::hpke_keys::{DepositKeyPair, ParcelKeyPair};
use crate::lease::Leases;
use crate::ledger::{Failure, Ledger};
use crate::link::FrontLink;
use crate::log;
use crate::mint::{Revocation, Token};
use crate::pending::Pending;
use crate::platform::SealedBy;
use crate::policy::Policy;
use crate::report::{Lately, Looking};
use crate::rotate::Prepared;
use crate::sealed::PolicyAuthority;
use crate::serve::Settings;
use crate::session::Over;
use crate::store::{Records, StoreError};
use blindferry_attest::attested::{Attested, Claims, Pinned};
use blindferry_attest::reference::ReferenceValues;
use blindferry_attest::snp::ReportId;
use blindferry_attest::tpm::QuoteClock;
use blindferry_device::client::Device;
use blindferry_handle::secret::SecretBytes;
use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::bounded::Text;
use blindferry_proto::causes::with_causes;
use blindferry_proto::identifier::{LeaseId, ReplicaId, SessionId};
use blindferry_proto::name::{CredentialName, HostName};
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{FromVault, LeaseEnd};
use blindferry_proto::waiting::AskingHost;
use blindferry_session::{Attester, Identity};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, Semaphore, mpsc};

/// Sessions at once.
pub const SESSIONS: usize = 12_288;
/// Messages that wait for a peer to read them; a peer that reads slower loses its session.
pub const OUTGOING: usize = 1024;
/// Handshakes at once; more connections are dropped, so that strangers cannot make the TPM busy without bound.
pub const HANDSHAKES: usize = 32;
/// Frames of fresh evidence with logs at once; further ones wait in their connections. Those of handshakes are bounded by
/// [`HANDSHAKES`].
pub const LARGE_FRAMES: usize = 16;
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
    pub(crate) authority: Mutex<Arc<PolicyAuthority>>,
    /// Held by whoever changes what is sealed. Inside: a key that was prepared.
    pub(crate) sealing: tokio::sync::Mutex<Option<Prepared>>,
    pub(crate) confined: Confined,
    pub(crate) sealed_by: SealedBy,
    pub(crate) made_of_backup: Option<MadeOfBackup>,
    pub(crate) guests: Mutex<Guests>,
    pub(crate) documents: Mutex<Documents>,
    /// Credentials whose public keys may have to be published: what is or was a JWT signer since the start.
    pub(crate) signers: Mutex<BTreeSet<CredentialName>>,
    /// When the time of a published key is over, in seconds since the epoch.
    pub(crate) publish_again: Mutex<Option<u64>>,
    pub(crate) figures: Figures,
    pub(crate) handshakes: Handshakes,
    pub(crate) large_frames: Semaphore,
    pub(crate) cache: MasterCache,
    pub(crate) grants: Mutex<GrantKeys>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) leases: Mutex<Leases<Revocable>>,
    pub(crate) pending: Mutex<Pending>,
    pub(crate) knocks: Mutex<Knocks>,
    pub(crate) sessions: Mutex<HashMap<SessionId, Connected>>,
    pub(crate) lately: Mutex<Lately>,
    pub(crate) looking: Mutex<Looking>,
    pub(crate) settings: Settings,
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
    pin: Pin,
    /// Of a guest, the one that the first report named: a guest that was started again is another.
    report_id: OnceLock<ReportId>,
    since: u64,
    pub(crate) outgoing: mpsc::Sender<FromVault>,
    believed: Arc<Mutex<Option<Believed>>>,
    suspicion: Arc<Notify>,
    clock: Clock,
}

/// The newest verdict about a session's peer.
struct Believed {
    _attested: Attested,
    claims: Claims,
    at: u64,
}

impl Believed {
    fn described(&self, host: &HostName, hardware: Text<160>) -> AskingHost {
        AskingHost {
            name: host.clone(),
            hardware,
            platform: Text::cut(self.claims.platform),
            reference: Text::cut(&self.claims.reference),
            attested: self.at,
        }
    }
}

impl SessionEntry {
    /// Keeps the newest verdict; the one before is spent.
    pub(crate) fn believe(&self, attested: Attested) {
        let claims = attested.claims();
        if let Some(report_id) = attested.report_id() {
            // The judgement has compared with the first.
            let _kept = self.report_id.set(report_id);
        }
        *lock(&self.believed) = Some(Believed { _attested: attested, claims, at: self.clock.now() });
    }

    /// What the peer's next evidence must show.
    pub(crate) fn pinned<'a>(&'a self, earlier: Option<&'a QuoteClock>) -> Pinned<'a> {
        self.pin.pinned(earlier, self.report_id.get(), self.clock.now())
    }

    /// The hardware at the other end.
    pub(crate) fn hardware(&self) -> &Pin {
        &self.pin
    }

    /// The peer as it was last attested, for an operator to look at.
    pub(crate) fn described(&self) -> Option<AskingHost> {
        let believed = lock(&self.believed);
        Some(believed.as_ref()?.described(&self.host, Text::cut(&self.pin.to_string())))
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
    since: u64,
    hardware: Text<160>,
    believed: Arc<Mutex<Option<Believed>>>,
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
    /// The record that its master was opened, if nobody has waited for it: the token must not leave before.
    pub(crate) fetched: Option<Entered>,
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

    /// Has every record, the figures and the status name what trust the reference values extend in a `dangerously_` word.
    pub(crate) fn note_dangers(&self) {
        let dangers: Vec<String> = {
            let documents = lock(&self.documents);
            let dangers = documents.references.values().flat_map(|(_, reference)| reference.dangers());
            dangers.map(|danger| format!("{}: {}", danger.key, danger.name)).collect()
        };
        self.figures.set("dangers", dangers.len());
        self.auditor.set_dangers(&dangers);
    }

    /// Writes an audit record, durably.
    pub(crate) async fn audit(&self, event: Event) -> Result<(), Refusal> {
        let since = Instant::now();
        let recorded = self.auditor.record(self.noted(event)).await;
        self.audited(recorded, since)
    }

    /// Has an audit record written, to be waited for by [`Self::durable`].
    pub(crate) async fn enter(&self, event: Event) -> Result<Entered, Refusal> {
        self.auditor.enter(self.noted(event)).await.map_err(|error| self.unaudited(&error))
    }

    /// Writes an audit record of what has happened already, durably, a moment later.
    pub(crate) async fn audit_after(&self, event: Event) -> Result<(), Refusal> {
        let since = Instant::now();
        let recorded = self.auditor.report(self.noted(event)).await;
        self.audited(recorded, since)
    }

    /// Waits until a record that was entered is durable.
    pub(crate) async fn durable(&self, entered: Entered) -> Result<(), Refusal> {
        let since = Instant::now();
        let recorded = entered.durable().await;
        self.audited(recorded, since)
    }

    /// Each event passes here on its way to the audit: the operators' page counts those of the last hour.
    fn noted(&self, event: Event) -> Event {
        lock(&self.lately).note(&event, self.clock.now());
        event
    }

    fn audited(&self, recorded: Result<Recorded, AuditError>, since: Instant) -> Result<(), Refusal> {
        self.link.took(Kind::Audit, since.elapsed());
        recorded.map(|_recorded| ()).map_err(|error| self.unaudited(&error))
    }

    fn unaudited(&self, error: &AuditError) -> Refusal {
        let why = [("why", with_causes(error))];
        log::error("audit-failed", "cannot write an audit record, so nothing is granted", &why);
        self.figures.count("audit_failures_total", None);
        Refusal::new(RefusalCode::Store, "nothing is done that cannot be audited")
    }

    /// Something that should never happen in an honest fleet.
    pub(crate) async fn alarm(&self, alarm: Alarm) {
        log::alarm(&format!("{alarm:?}"));
        self.figures.count("alarms_total", None);
        // The alarm was printed and counted; a store that cannot take it has been complained about.
        let _unwritten = self.audit(Event::Alarm(alarm)).await;
    }

    /// Notes that evidence was refused.
    pub(crate) async fn not_attested(&self, host: &HostName, role: Role, code: &str, error: &(dyn Error + Sync)) {
        self.not_attested_because(host, role, code, &with_causes(error)).await;
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
        log::error("store-failed", "the store failed", &[("why", with_causes(error))]);
        if let StoreError::Tampered { .. } = error {
            self.alarm(Alarm::StoreTampered { detail: Text::cut(&with_causes(error)) }).await;
        }
        Refusal::new(RefusalCode::Store, "the store could not serve this; the vault's log says why")
    }

    pub(crate) fn reattest_every(&self) -> u32 {
        self.settings.reattest_every
    }
}

/// A lock that nobody leaves half-changed: a panic ends the process.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
