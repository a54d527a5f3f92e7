//! A broker's or an operator's end: judges the vault, proves itself, then calls and is called.

use crate::asked::{self, UnfitEvidence};
use crate::channel::{Channel, ChannelError, Stream, fresh_context};
use crate::identity::{Identity, IdentityError};
use crate::platform::{Platform, PlatformError};
use crate::tls;
use crate::vouched::Vouched;
use blindferry_attest::attested::{AppraisalError, Expected, appraise};
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::name::HostName;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Activated, Open, OpenReply, PeerProof, ProofReply, VERSION, Welcome};
use ring::rand::SystemRandom;
use rustls::pki_types::ServerName;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_rustls::{TlsConnector, TlsStream};

mod call;
mod driver;
mod outgoing;
mod reference;

pub use call::{CallError, Caller};
pub use driver::{Driver, Pushes, SessionOver};
pub use outgoing::{REPORT_TIME, REPORTS};
pub use reference::{VaultIdentity, VaultReference, VaultReferenceError};

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
    /// Broker, operator or successor.
    pub role: Role,
    /// The one vault that we talk to.
    pub vault: VaultReference,
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

/// TLS stands; the vault has our context, and knows which logs it is asked for.
struct Greeted<S> {
    channel: Channel<S>,
    context: Context,
    logs: WantedLogs,
}

/// The vault is attested; nothing but a context has been said to it. These logs it asks us for.
struct Judged<S> {
    channel: Channel<S>,
    context: Context,
    logs: WantedLogs,
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
        let logs = settings.vault.reference.wanted_logs();
        let open = Open { version: VERSION, role: settings.role, name: settings.name.clone(), context, logs };
        channel.writer.send(&open, MAX_FRAME_UNATTESTED).await?;
        Ok(Self { channel, context, logs })
    }

    async fn judge(mut self, settings: &ClientSettings) -> Result<Judged<S>, ConnectError> {
        let proof = match self.channel.reader.receive(MAX_FRAME_UNATTESTED + self.logs.most()).await? {
            OpenReply::Proof(proof) => proof,
            OpenReply::Refused(refusal) => return Err(ConnectError::Refused { refusal }),
        };
        let evidence =
            asked::read(proof.evidence.as_slice(), self.logs).map_err(|source| ConnectError::Evidence { source })?;
        let binder = self.channel.exporter.peer_binder(Role::Vault, &self.context)?;
        let vouched = settings.vault.audit_key.map(|key| Vouched::by(&key, &binder, proof.vouched.as_slice()));
        let expected = Expected { binder, role: Role::Vault, pinned: settings.vault.identity.pinned() };
        let _attested = appraise(evidence, expected, &settings.vault.reference)
            .map_err(|source| ConnectError::VaultRefused { source: Box::new(source) })?;
        if matches!(vouched, Some(None)) {
            return Err(ConnectError::AnotherVault);
        }
        Ok(Judged { channel: self.channel, context: proof.context, logs: proof.logs })
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
        let evidence = platform.evidence(&binder, self.logs).await.map_err(own)?;
        let evidence =
            Bytes::new(evidence).map_err(|source| own(PlatformError::TooLong { what: "evidence", source }))?;
        let endorsement = platform.endorsement().await.map_err(own)?;
        let most = MAX_FRAME_UNATTESTED + self.logs.most();
        self.channel.writer.send(&PeerProof { evidence, endorsement }, most).await?;
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
        let (caller, asked, serving) = Caller::new();
        let (push, pushes) = mpsc::channel(PUSHES);
        let Channel { reader, writer, exporter } = self.channel;
        let driver = Driver { reader, writer, exporter, asked, serving, push, role, platform };
        Established { welcome, caller, pushes: Pushes { pushes }, driver }
    }
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
    /// What came as the vault's evidence does not parse, or is more than was asked for.
    #[error("what came as the vault's evidence is not taken")]
    Evidence {
        /// Why not.
        source: UnfitEvidence,
    },
    /// We refuse the vault.
    #[error("the vault's evidence is refused, nothing was said to it")]
    VaultRefused {
        /// Why.
        source: Box<AppraisalError>,
    },
    /// The right software on the right hardware, over another store.
    #[error("this is not the vault of the reference: it lacks the key of its audit; nothing was said to it")]
    AnotherVault,
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
