//! A broker's or an operator's end: judges the vault, proves itself, then calls and is called.

use crate::channel::{Channel, ChannelError, Exporter, Reader, Stream, Writer, fresh_context};
use crate::identity::{Identity, IdentityError};
use crate::platform::{Platform, PlatformError};
use crate::tls;
use blindferry_attest::attested::{AppraisalError, Expected, appraise};
use blindferry_attest::evidence::{Evidence, EvidenceError};
use blindferry_attest::reference::{ReferenceError, ReferenceValues};
use blindferry_attest::tpm::AkName;
use blindferry_attest::tpm::name::BadName;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::{AuditKey, Digest, LeaseId};
use blindferry_proto::limits::{MAX_FRAME, MAX_FRAME_UNATTESTED};
use blindferry_proto::name::HostName;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{
    Activated, Answer, Call, FromVault, LeaseEnd, Open, OpenReply, PeerProof, ProofReply, Request, VERSION, Welcome,
};
use ring::rand::SystemRandom;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::{TlsConnector, TlsStream};

/// From the first byte to the welcome; a hardware TPM takes seconds for its part.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// A call that is not answered in this time is given up; a mint with a slow upstream stays below it.
pub const CALL_TIME: Duration = Duration::from_secs(60);
/// Calls under way at once; more are refused as busy.
pub const CALLS: usize = 256;
/// Pushes that nobody has taken yet; one more ends the session, since a lease's end must not be lost.
pub const PUSHES: usize = 1024;

/// Who we are, and which vault we talk to.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// What this host is called.
    pub name: HostName,
    /// Broker or operator.
    pub role: Role,
    /// The one vault that we talk to.
    pub vault: VaultReference,
}

/// What is known of a vault beforehand: its key's Name, its software, the key of its audit. Written at `init`, carried
/// to hosts and operators like any reference value.
#[derive(Clone, Debug)]
pub struct VaultReference {
    /// The Name of the vault's attestation key.
    pub ak: AkName,
    /// The key that signs its audit records.
    pub audit_key: Option<AuditKey>,
    /// What its platform may run.
    pub reference: ReferenceValues,
}

impl VaultReference {
    /// Reads a vault's reference file: reference values whose role is `vault`, with two keys more at the top: `ak`, the
    /// Name of the vault's attestation key, and `audit_key`, both in hexadecimal.
    ///
    /// # Errors
    /// [`VaultReferenceError`] says what is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, VaultReferenceError> {
        let mut table: toml::Table =
            text.parse().map_err(|source| VaultReferenceError::Toml { source: Box::new(source) })?;
        let ak = match table.remove("ak") {
            Some(toml::Value::String(ak)) => ak,
            _ => return Err(VaultReferenceError::NoAk),
        };
        let ak = hex::decode(ak).map_err(|source| VaultReferenceError::Hex { source })?;
        let ak = AkName::from_bytes(&ak).map_err(|source| VaultReferenceError::Ak { source })?;
        let audit_key = match table.remove("audit_key") {
            None => None,
            Some(toml::Value::String(key)) => Some(key.parse().map_err(|_| VaultReferenceError::AuditKey)?),
            Some(_) => return Err(VaultReferenceError::AuditKey),
        };
        let reference = ReferenceValues::parse(&table.to_string())
            .map_err(|source| VaultReferenceError::Reference { source: Box::new(source) })?;
        if reference.role() != Role::Vault {
            return Err(VaultReferenceError::Role { found: reference.role() });
        }
        Ok(Self { ak, audit_key, reference })
    }
}

/// A text is no vault's reference.
#[derive(Debug, thiserror::Error)]
pub enum VaultReferenceError {
    /// Not TOML.
    #[error("the vault's reference is not TOML")]
    Toml {
        /// Why not.
        source: Box<toml::de::Error>,
    },
    /// The key `ak` is missing.
    #[error("the vault's reference has no `ak`: the Name of its attestation key, in hexadecimal")]
    NoAk,
    /// `ak` is not hexadecimal.
    #[error("`ak` is not hexadecimal")]
    Hex {
        /// Why not.
        source: hex::FromHexError,
    },
    /// `ak` is no Name.
    #[error("`ak` is not the Name of a key")]
    Ak {
        /// Why not.
        source: BadName,
    },
    /// `audit_key` is no key.
    #[error("`audit_key` is not 64 hexadecimal digits")]
    AuditKey,
    /// The reference values do not parse.
    #[error("the reference values cannot be used")]
    Reference {
        /// Why not.
        source: Box<ReferenceError>,
    },
    /// They judge somebody else.
    #[error("the reference values are for {found:?}, want a vault's")]
    Role {
        /// Whom.
        found: Role,
    },
}

/// A session that stands.
#[derive(Debug)]
pub struct Established<S, P> {
    /// What the vault said.
    pub welcome: Welcome,
    /// Asks the vault.
    pub caller: Caller,
    /// What the vault tells us unasked.
    pub pushes: Pushes,
    /// Keeps the session going; to be run beside the rest.
    pub driver: Driver<S, P>,
}

/// Opens a session: TLS, then the vault's proof, then ours.
///
/// # Errors
/// [`ConnectError`] says which side refused which.
pub async fn connect<S: Stream, P: Platform>(
    stream: S,
    settings: &ClientSettings,
    platform: P,
) -> Result<Established<S, P>, ConnectError> {
    let handshake = async {
        let greeted = Greeted::open(stream, settings).await?;
        let judged = greeted.judge(settings).await?;
        judged.prove(settings, platform).await
    };
    tokio::time::timeout(HANDSHAKE_TIME, handshake).await.map_err(|_| ConnectError::Late)?
}

/// TLS stands and the vault has our context.
struct Greeted<S> {
    channel: Channel<S>,
    context: Context,
}

/// The vault is attested; nothing but a context has been said to it.
struct Judged<S> {
    channel: Channel<S>,
    context: Context,
}

impl<S: Stream> Greeted<S> {
    async fn open(stream: S, settings: &ClientSettings) -> Result<Self, ConnectError> {
        let identity = Identity::generate().map_err(|source| ConnectError::Identity { source })?;
        let config = tls::client(&identity).map_err(|source| ConnectError::Settings { source })?;
        // Never sent and never checked: raw public keys carry no name.
        let name = ServerName::try_from("vault.invalid").map_err(|_| ConnectError::Name)?;
        let connection = TlsConnector::from(config).connect(name, stream).await;
        let connection = connection.map_err(|source| ConnectError::Tls { source })?;
        let mut channel = Channel::new(TlsStream::Client(connection), identity.spki())?;
        let context = fresh_context(&SystemRandom::new())?;
        let open = Open { version: VERSION, role: settings.role, name: settings.name.clone(), context };
        channel.writer.send(&open, MAX_FRAME_UNATTESTED).await?;
        Ok(Self { channel, context })
    }

    async fn judge(mut self, settings: &ClientSettings) -> Result<Judged<S>, ConnectError> {
        let proof = match self.channel.reader.receive(MAX_FRAME_UNATTESTED).await? {
            OpenReply::Proof(proof) => proof,
            OpenReply::Refused(refusal) => return Err(ConnectError::Refused { refusal }),
        };
        let evidence =
            Evidence::decode(proof.evidence.as_slice()).map_err(|source| ConnectError::Evidence { source })?;
        let expected = Expected {
            binder: self.channel.exporter.peer_binder(Role::Vault, &self.context)?,
            role: Role::Vault,
            pinned_ak: &settings.vault.ak,
            earlier: None,
        };
        let _attested = appraise(evidence, expected, &settings.vault.reference)
            .map_err(|source| ConnectError::VaultRefused { source: Box::new(source) })?;
        Ok(Judged { channel: self.channel, context: proof.context })
    }
}

impl<S: Stream> Judged<S> {
    async fn prove<P: Platform>(
        mut self,
        settings: &ClientSettings,
        platform: P,
    ) -> Result<Established<S, P>, ConnectError> {
        let binder = self.channel.exporter.own_binder(settings.role, &self.context)?;
        let own = |source| ConnectError::OwnEvidence { source };
        let evidence = platform.evidence(&binder).await.map_err(own)?;
        let evidence =
            Bytes::new(evidence).map_err(|source| own(PlatformError::TooLong { what: "evidence", source }))?;
        let endorsement = platform.endorsement().await.map_err(own)?;
        self.channel.writer.send(&PeerProof { evidence, endorsement }, MAX_FRAME_UNATTESTED).await?;
        let mut reply = self.channel.reader.receive(MAX_FRAME_UNATTESTED).await?;
        if let ProofReply::Activate(credential) = reply {
            let secret = Digest(platform.activate(&credential).await.map_err(own)?);
            self.channel.writer.send(&Activated { secret }, MAX_FRAME_UNATTESTED).await?;
            reply = self.channel.reader.receive(MAX_FRAME_UNATTESTED).await?;
        }
        match reply {
            ProofReply::Welcome(welcome) => Ok(self.establish(welcome, settings.role, platform)),
            ProofReply::Refused(refusal) => Err(ConnectError::Refused { refusal }),
            ProofReply::Activate(_) => Err(ConnectError::ActivateTwice),
        }
    }

    fn establish<P: Platform>(self, welcome: Welcome, role: Role, platform: P) -> Established<S, P> {
        let (calls, waiting) = mpsc::channel(CALLS);
        let (push, pushes) = mpsc::channel(PUSHES);
        let Channel { reader, writer, exporter } = self.channel;
        let driver = Driver { reader, writer, exporter, waiting, push, role, platform };
        Established { welcome, caller: Caller { calls }, pushes: Pushes { pushes }, driver }
    }
}

/// Asks the vault; any number of tasks may, through clones.
#[derive(Clone, Debug)]
pub struct Caller {
    calls: mpsc::Sender<Waiting>,
}

type Waiting = (Request, oneshot::Sender<Answer>);

impl Caller {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the vault said no, else what became of the session.
    pub async fn call(&self, request: Request) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        self.calls.try_send((request, reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::Busy,
            mpsc::error::TrySendError::Closed(_) => CallError::Over,
        })?;
        match tokio::time::timeout(CALL_TIME, answer).await {
            Ok(Ok(Answer::Refused(refusal))) => Err(CallError::Refused(refusal)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::Over),
            Err(_) => Err(CallError::Late),
        }
    }
}

/// What the vault tells us unasked.
#[derive(Debug)]
pub struct Pushes {
    pushes: mpsc::Receiver<(LeaseId, LeaseEnd)>,
}

impl Pushes {
    /// The next lease that ended at the vault; `None` when the session is over.
    pub async fn next(&mut self) -> Option<(LeaseId, LeaseEnd)> {
        self.pushes.recv().await
    }
}

/// Moves messages, and proves this host again whenever the vault asks.
#[derive(Debug)]
pub struct Driver<S, P> {
    reader: Reader<S>,
    writer: Writer<S>,
    exporter: Exporter<S>,
    waiting: mpsc::Receiver<Waiting>,
    push: mpsc::Sender<(LeaseId, LeaseEnd)>,
    role: Role,
    platform: P,
}

type UnderWay = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

impl<S: Stream, P: Platform> Driver<S, P> {
    /// Runs until the session is over, and says why. Calls under way then end with [`CallError::Over`].
    pub async fn run(self) -> SessionOver {
        let Self { mut reader, mut writer, exporter, mut waiting, push, role, platform } = self;
        let under_way = UnderWay::default();
        let (challenge, mut challenges) = mpsc::channel::<Context>(1);
        let (proof, mut proofs) = mpsc::channel::<Waiting>(1);

        let receive = async {
            loop {
                match reader.receive(MAX_FRAME).await {
                    Ok(FromVault::Answer { id, answer }) => {
                        let caller = under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                        // A caller that gave up has dropped its end; an answer nobody waits for is nothing.
                        let _given_up = caller.map(|caller| caller.send(answer));
                    }
                    Ok(FromVault::Reattest { context }) => {
                        if challenge.try_send(context).is_err() {
                            return SessionOver::Pressed;
                        }
                    }
                    Ok(FromVault::LeaseEnded { lease, why }) => {
                        if push.try_send((lease, why)).is_err() {
                            return SessionOver::Pressed;
                        }
                    }
                    Err(ChannelError::Closed) => return SessionOver::Closed,
                    Err(source) => return SessionOver::Failed { source },
                }
            }
        };
        let send = async {
            let mut id = 0;
            loop {
                let next = tokio::select! {
                    biased;
                    Some(next) = proofs.recv() => next,
                    next = waiting.recv() => match next {
                        Some(next) => next,
                        None => return SessionOver::Ended,
                    },
                };
                id += 1;
                under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(id, next.1);
                if let Err(source) = writer.send(&Call { id, request: next.0 }, MAX_FRAME).await {
                    return SessionOver::Failed { source };
                }
            }
        };
        let reattest = async {
            loop {
                let Some(context) = challenges.recv().await else { return SessionOver::Closed };
                match prove_again(&exporter, role, &context, &platform, &proof).await {
                    Ok(()) => {}
                    Err(over) => return over,
                }
            }
        };
        let over = tokio::select! { over = receive => over, over = send => over, over = reattest => over };
        writer.close().await;
        over
    }
}

async fn prove_again<S: Stream, P: Platform>(
    exporter: &Exporter<S>,
    role: Role,
    context: &Context,
    platform: &P,
    proof: &mpsc::Sender<Waiting>,
) -> Result<(), SessionOver> {
    let binder = exporter.own_binder(role, context).map_err(|source| SessionOver::Failed { source })?;
    let own = |source| SessionOver::OwnEvidence { source };
    let evidence = platform.evidence(&binder).await.map_err(own)?;
    let evidence = Bytes::new(evidence).map_err(|source| own(PlatformError::TooLong { what: "evidence", source }))?;
    let (reply, answer) = oneshot::channel();
    let sent = proof.send((Request::Reattest { evidence }, reply)).await;
    sent.map_err(|_| SessionOver::Closed)?;
    match answer.await {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(SessionOver::Refused { refusal }),
        Ok(_) | Err(_) => Err(SessionOver::Closed),
    }
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionOver {
    /// Nobody on our side has anything more to ask.
    #[error("the session was ended here")]
    Ended,
    /// The vault closed it.
    #[error("the vault closed the session")]
    Closed,
    /// The vault no longer accepts our evidence.
    #[error("the vault refused this host's fresh evidence: {refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
    },
    /// The vault pushed faster than we could take it.
    #[error("the vault pushed more than its bound")]
    Pressed,
    /// Our own platform made no fresh evidence.
    #[error("this host cannot prove itself again")]
    OwnEvidence {
        /// Why not.
        source: PlatformError,
    },
    /// The connection failed.
    #[error("the connection to the vault failed")]
    Failed {
        /// Why.
        source: ChannelError,
    },
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The vault said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The session is over; whether the vault acted on the call is not known.
    #[error("the session with the vault is over")]
    Over,
    /// No answer in [`CALL_TIME`]; whether the vault acted on the call is not known.
    #[error("the vault did not answer in time")]
    Late,
    /// [`CALLS`] calls are under way.
    #[error("too many calls are under way")]
    Busy,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No key for TLS.
    #[error("cannot make a TLS key")]
    Identity {
        /// Why.
        source: IdentityError,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Settings {
        /// Why.
        source: rustls::Error,
    },
    /// The placeholder name is not one.
    #[error("the placeholder server name is not legal")]
    Name,
    /// The TLS handshake failed.
    #[error("the TLS handshake with the vault failed")]
    Tls {
        /// Why.
        source: io::Error,
    },
    /// The connection is not what it must be, or ended.
    #[error("the connection to the vault cannot go on")]
    Channel(
        /// Why.
        #[from]
        ChannelError,
    ),
    /// What came as the vault's evidence does not parse.
    #[error("the vault's evidence cannot be read")]
    Evidence {
        /// Why not.
        source: EvidenceError,
    },
    /// We refuse the vault.
    #[error("the vault's evidence is refused, nothing was said to it")]
    VaultRefused {
        /// Why.
        source: Box<AppraisalError>,
    },
    /// Our own platform made no evidence.
    #[error("this host cannot prove itself")]
    OwnEvidence {
        /// Why not.
        source: PlatformError,
    },
    /// The vault refuses us.
    #[error("the vault refused: {refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
    },
    /// The vault asks for two activations.
    #[error("the vault asked for a second activation")]
    ActivateTwice,
    /// It took longer than [`HANDSHAKE_TIME`].
    #[error("the vault did not let us in within {} seconds", HANDSHAKE_TIME.as_secs())]
    Late,
}
