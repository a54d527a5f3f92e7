//! Starts the vault and serves until it is told to stop: unseal, open the store, read what operators decided, then take
//! connections.

use crate::audit::{AuditError, Auditor, Signer};
use crate::backup::MadeOfBackup;
use crate::cache::MasterCache;
use crate::clock::Clock;
use crate::confine::Confined;
use crate::figures::{Figures, durations};
use crate::grant::{GRANT_LIFE, GrantError, GrantKeys};
use crate::hand_over::Guests;
use crate::handshakes::Handshakes;
use crate::host::Knocks;
use crate::hpke_keys::{DepositKeyPair, KeyPairError, ParcelKeyPair};
use crate::lease::Leases;
use crate::ledger::Ledger;
use crate::link::{FrontLink, Incoming, LinkError};
use crate::log;
use crate::operator::certificates;
use crate::pending::{APPROVAL_WAIT, Pending};
use crate::platform::{Platform, PlatformError, SealedBy};
use crate::policy::Policy;
use crate::report::{self, Lately, Looking};
use crate::rotate;
use crate::sealed::{KeyEncryptionKey, PolicyAuthority, SealError};
use crate::session;
use crate::store::{Backing, Document, Records, SealedName, StoreError, sealed_get};
use crate::unseal::{UnsealError, Unsealed, unseal};
use crate::vault::{Documents, HANDSHAKES, LARGE_FRAMES, REATTEST_EVERY, Vault, lock};
use crate::waiting;
use blindferry_attest::reference::{ReferenceError, ReferenceValues};
use blindferry_attest::tpm::PcrSelection;
use blindferry_device::approval::Approval;
use blindferry_device::client::Device;
use blindferry_proto::audit::{Alarm, Event};
use blindferry_proto::bounded::Text;
use blindferry_proto::causes::with_causes;
use blindferry_proto::front::{Condition, FromVault};
use blindferry_proto::identifier::ReplicaId;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::source::Source;
use blindferry_session::identity::IdentityError;
use blindferry_session::{Attester, Identity, tls};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::interval;

/// Serves until the front says stop, or is gone.
///
/// # Errors
/// [`ServeError`]; the front has been told in one line.
pub async fn serve(confined: Confined, link: FrontLink, device: Device, settings: Settings) -> Result<(), ServeError> {
    // The link must be read while we start: what the store answers comes through it.
    let (arrived, mut arrivals) = mpsc::channel(ARRIVALS);
    let reading = link.clone();
    let reader = async move {
        loop {
            match reading.next().await {
                Ok(Incoming::Stop) => return Ok(()),
                // Connections that come before we are ready, or faster than we take them, are closed.
                Ok(incoming) => drop(arrived.try_send(incoming)),
                Err(error) => return Err(ServeError::Link(error)),
            }
        }
    };
    let work = async {
        let vault = match start(confined, &link, &device, settings).await {
            Ok(vault) => vault,
            Err(error) => {
                if let Some(alarm) = is_alarm(&error) {
                    log::alarm(&format!("{alarm:?}"));
                }
                let refusal = Refusal::new(RefusalCode::NotReady, &with_causes(&error));
                let _untold = link.tell(&FromVault::Failed(refusal)).await;
                return Err(error);
            }
        };
        run(vault, &mut arrivals).await;
        Ok(())
    };
    tokio::select! { ended = reader => ended, ended = work => ended }
}

/// What may be set about a vault that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Seconds between two looks at a peer's evidence.
    pub reattest_every: u32,
    /// Seconds after which a grant that nobody redeemed is over; at most [`GRANT_LIFE`].
    pub grant_life: u32,
    /// Seconds that an ask waits for a person; at most [`MAX_APPROVAL_WAIT`].
    pub approval_wait: u32,
    /// Tell the front what answering a broker's request took.
    pub traces: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reattest_every: REATTEST_EVERY, grant_life: GRANT_LIFE, approval_wait: APPROVAL_WAIT, traces: false }
    }
}

async fn run(vault: Arc<Vault>, arrivals: &mut mpsc::Receiver<Incoming>) {
    let mut tidy = interval(TIDY_EVERY);
    let mut condition = interval(CONDITION_EVERY);
    loop {
        tokio::select! {
            Some(incoming) = arrivals.recv() => match incoming {
                Incoming::Accepted { connection, from } => {
                    vault.figures.count("connections_total", None);
                    match tokio::net::TcpStream::from_std(connection) {
                        Ok(stream) => drop(tokio::spawn(session::serve(Arc::clone(&vault), stream, source(&from)))),
                        Err(_) => vault.figures.count("handshakes_refused_total", Some("connection")),
                    }
                }
                Incoming::Report => {
                    let vault = Arc::clone(&vault);
                    drop(tokio::spawn(async move { report::answer(&vault).await }));
                }
                // The reader ends us.
                Incoming::Stop => {}
            },
            _ = tidy.tick() => {
                let vault = Arc::clone(&vault);
                drop(tokio::spawn(async move {
                    waiting::lapse(&vault).await;
                    vault.tidy().await;
                }));
            }
            _ = condition.tick() => {
                vault.figures.set("ledger_entries", lock(&vault.ledger).len());
                vault.figures.set("tpm_waiting", vault.device.waiting());
                vault.figures.set("audit_records", vault.auditor.head().map_or(0, |head| head.number.try_into().unwrap_or(usize::MAX)));
                let steps = vault.link.steps().counted().chain([("tpm", vault.device.took())]);
                let condition = Condition { ready: true, figures: vault.figures.all(), steps: durations(steps) };
                // A front that is gone ends the reader, and with it this loop.
                let _gone = vault.link.tell(&FromVault::Condition(condition)).await;
            }
        }
    }
}

/// Whom a connection is counted for, as the front says.
fn source(from: &Text<64>) -> Option<Source> {
    Some(Source::of(from.as_str().parse::<SocketAddr>().ok()?.ip()))
}

async fn start(
    confined: Confined,
    link: &FrontLink,
    device: &Device,
    settings: Settings,
) -> Result<Arc<Vault>, ServeError> {
    let random = SystemRandom::new();
    let clock = Clock::start().map_err(|_| ServeError::Clock)?;
    let platform = Platform::find(device).await.map_err(ServeError::Platform)?;
    let unsealed = unseal(link, device, platform.sealed_by()).await.map_err(ServeError::Unseal)?;
    let Unsealed { key: kek, form, outdated } = unsealed;
    let handed = sealed_get(link, SealedName::Successor).await.map_err(ServeError::Store)?;
    let records = Records::open(link.clone(), &kek).await.map_err(ServeError::Store)?;
    let kek = kek.with_audit_seed(records.audit_seed().await.map_err(ServeError::Store)?);
    let records = Arc::new(records);
    let signer = Signer::new(kek.audit_signing_seed().map_err(ServeError::Keys)?).map_err(ServeError::Audit)?;
    let (auditor, writer) = Auditor::open(Arc::clone(&records), signer, clock).await.map_err(ServeError::Audit)?;
    drop(tokio::spawn(writer.run()));
    let made_of_backup = MadeOfBackup::find(&records).await.map_err(ServeError::Store)?;
    if let Some(backup) = made_of_backup {
        eprintln!("blindferry-vault: WARNING: {}", backup.warning());
        let _recorded = auditor.record(backup.event()).await.map_err(ServeError::Audit)?;
    }
    let authority = authority(link, &kek, &random).await?;
    let kek = match outdated {
        Some(outdated) => {
            let anew = outdated.seal_anew(link, device, kek).await;
            let (kek, risen) = anew.map_err(ServeError::Unseal)?;
            let event = Event::SealedAnew { risen: Text::cut(&risen) };
            let _recorded = auditor.record(event).await.map_err(ServeError::Audit)?;
            kek
        }
        None => kek,
    };
    drop(kek);
    let documents = documents(&records).await?;
    let attester = match platform.sealed_by() {
        SealedBy::Tpm | SealedBy::SoftwareTpm => Attester::new(device.clone(), selection(link).await?),
        SealedBy::Guest => Attester::guest(device.clone()),
    };
    let identity = Identity::generate().map_err(ServeError::Identity)?;
    let mut replica = ReplicaId([0; ReplicaId::LEN]);
    random.fill(&mut replica.0).map_err(|_| ServeError::Random)?;
    let vault = Vault {
        link: link.clone(),
        device: device.clone(),
        platform: attester,
        tls: tls::server(&identity).map_err(ServeError::Tls)?,
        identity,
        clock,
        replica,
        parcel_keys: ParcelKeyPair::generate(&random).map_err(ServeError::KeyPair)?,
        deposit_keys: DepositKeyPair::generate(&random).map_err(ServeError::KeyPair)?,
        records,
        auditor,
        authority: Mutex::new(Arc::new(authority)),
        sealing: tokio::sync::Mutex::new(None),
        sealed_by: platform.sealed_by(),
        made_of_backup,
        guests: Mutex::new(Guests::found(form, handed.is_some())),
        documents: Mutex::new(documents),
        signers: Mutex::default(),
        publish_again: Mutex::new(None),
        figures: Figures::default(),
        handshakes: Handshakes::new(HANDSHAKES),
        large_frames: Semaphore::new(LARGE_FRAMES),
        cache: MasterCache::default(),
        grants: Mutex::new(GrantKeys::new(replica, clock.now(), &random).map_err(ServeError::Grants)?),
        ledger: Mutex::new(Ledger::new(&random).map_err(ServeError::Grants)?),
        leases: Mutex::new(Leases::default()),
        pending: Mutex::new(Pending::default()),
        knocks: Mutex::new(Knocks::default()),
        sessions: Mutex::new(HashMap::new()),
        lately: Mutex::new(Lately::default()),
        looking: Mutex::new(Looking::default()),
        settings,
        confined,
        random,
    };
    vault.note_dangers();
    let notes = vault.confined.notes().join("; ");
    vault.audit(Event::Started { notes: Text::cut(&notes) }).await.map_err(ServeError::Refused)?;
    vault.find_signers().await.map_err(ServeError::Refused)?;
    vault.publish().await.map_err(ServeError::Refused)?;
    let vault = Arc::new(vault);
    drop(tokio::spawn(rotate::renew(Arc::clone(&vault))));
    Ok(vault)
}

async fn authority<B: Backing>(
    backing: &B,
    kek: &KeyEncryptionKey,
    random: &(dyn SecureRandom + Sync),
) -> Result<PolicyAuthority, ServeError> {
    let stored = sealed_get(backing, SealedName::PolicyAuthority).await.map_err(ServeError::Store)?;
    let stored = stored.ok_or(ServeError::NoAuthority)?;
    let key = kek.record_key().map_err(ServeError::Keys)?;
    PolicyAuthority::open(&key, &stored, random).map_err(ServeError::Keys)
}

/// The PCRs that the vault's own evidence covers: those that its newest approval speaks of.
async fn selection<B: Backing>(backing: &B) -> Result<PcrSelection, ServeError> {
    let approvals = crate::approvals::Approvals::load(backing).await.map_err(ServeError::Approvals)?;
    let newest = approvals.list.last().map(Approval::unverified_terms);
    newest.map(|terms| terms.values().selection()).ok_or(ServeError::NoAuthority)
}

async fn documents<B: Backing>(records: &Records<B>) -> Result<Documents, ServeError> {
    let policy = match records.document(Document::Policy).await.map_err(ServeError::Store)? {
        Some(stored) => Policy::parse(stored.text.as_str(), stored.version).map_err(|_| ServeError::Policy)?,
        None => Policy::deny_all(),
    };
    let mut references = HashMap::new();
    for (document, role) in [
        (Document::BrokerReference, Role::Broker),
        (Document::OperatorReference, Role::Operator),
        (Document::SuccessorReference, Role::Successor),
    ] {
        if let Some(stored) = records.document(document).await.map_err(ServeError::Store)? {
            let values = ReferenceValues::parse(stored.text.as_str())
                .map_err(|source| ServeError::Reference { role, source })?;
            references.insert(role, (stored.version, Arc::new(values)));
        }
    }
    let endorsement_roots = match records.document(Document::EndorsementRoots).await.map_err(ServeError::Store)? {
        Some(stored) => certificates(stored.text.as_str()).map_err(ServeError::Refused)?,
        None => Vec::new(),
    };
    Ok(Documents { policy: Arc::new(policy), references, endorsement_roots })
}

/// What an unverifiable store at start means: nobody can be told by audit, so it is said aloud.
fn is_alarm(error: &ServeError) -> Option<Alarm> {
    let store: &StoreError = match error {
        ServeError::Store(store) => store,
        ServeError::Audit(AuditError::Store(store)) => store,
        _ => return None,
    };
    matches!(store, StoreError::Tampered { .. }).then(|| Alarm::StoreTampered { detail: Text::cut(&store.to_string()) })
}

/// The vault does not serve, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The front is gone.
    #[error("the front is gone")]
    Link(#[source] LinkError),
    /// The clock cannot be used.
    #[error("the system's clock stands before 1970")]
    Clock,
    /// The key stays sealed.
    #[error("the key-encryption key stays sealed")]
    Unseal(#[source] UnsealError),
    /// The store does not verify.
    #[error("cannot open the store")]
    Store(#[source] StoreError),
    /// Keys cannot be derived.
    #[error("cannot derive the vault's keys")]
    Keys(#[source] SealError),
    /// The audit does not verify.
    #[error("cannot open the audit")]
    Audit(#[source] AuditError),
    /// The key that approves PCR values is not there.
    #[error("the store lacks the key that approves PCR values, or its approvals")]
    NoAuthority,
    /// The approvals do not parse.
    #[error("cannot read the approvals")]
    Approvals(#[source] crate::approvals::ApprovalsError),
    /// The stored policy does not parse; a newer version may have written it.
    #[error("the stored policy does not parse")]
    Policy,
    /// Stored reference values do not parse.
    #[error("the stored reference values for {role} do not parse")]
    Reference {
        /// Whose.
        role: Role,
        /// Why not.
        source: ReferenceError,
    },
    /// The platform does not answer.
    #[error("the platform does not answer")]
    Platform(#[source] PlatformError),
    /// No TLS key.
    #[error("cannot make a TLS key")]
    Identity(#[source] IdentityError),
    /// No TLS.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// No key pair.
    #[error("cannot make a key pair")]
    KeyPair(#[source] KeyPairError),
    /// No grant key.
    #[error("cannot make a grant key")]
    Grants(#[source] GrantError),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A step that a session could be refused for.
    #[error("cannot begin to serve")]
    Refused(#[source] Refusal),
}

/// Nobody can have an ask wait for longer, in seconds.
pub const MAX_APPROVAL_WAIT: u32 = 3600;
/// Connections that wait to be taken.
const ARRIVALS: usize = 256;
/// How often idle leases and old entries are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How often the front hears how we are.
const CONDITION_EVERY: Duration = Duration::from_secs(2);
