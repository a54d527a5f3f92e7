//! Both ends of a session as they ship, and both as an attacker would write them: by hand, message by message.

use crate::platform::{SoftwareTpm, endorsement, reference};
use blindferry_attest::attested::Pinned;
use blindferry_attest::binder::Binder;
use blindferry_attest::tpm::AkName;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::{AuditKey, DepositKey, GrantId, LeaseId, ParcelKey, ReplicaId, SessionId};
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{
    Answer, BrokerRequest, Granted, LeaseEnd, Open, OpenReply, PeerProof, ProofReply, Request, VERSION, VOUCHED,
    VaultProof, Welcome,
};
use blindferry_session::channel::{Channel, Stream};
use blindferry_session::client::{ClientSettings, ConnectError, Established, VaultIdentity, VaultReference, connect};
use blindferry_session::server::{Claimed, ServerError, Standing, hear};
use blindferry_session::{Identity, tls};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::io;
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A vault, and one host that it knows.
pub(crate) struct World {
    pub(crate) vault: SoftwareTpm,
    pub(crate) host: SoftwareTpm,
    /// The key that evidence of the host must be signed with.
    pub(crate) pinned: AkName,
    /// The key of the vault's audit.
    pub(crate) audit: Ed25519KeyPair,
    pub(crate) identity: Identity,
    /// The logs that the vault asks for.
    pub(crate) asks: WantedLogs,
    pub(crate) tls: Arc<ServerConfig>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (vault, host) = (SoftwareTpm::new(), SoftwareTpm::new());
        let identity = Identity::generate().unwrap();
        let tls = tls::server(&identity).unwrap();
        let audit = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        Self { pinned: host.ak(), vault, host, audit, identity, asks: WantedLogs::NONE, tls }
    }

    /// Who the host must be.
    pub(crate) fn pin(&self) -> Pinned<'_> {
        Pinned::Ak { name: &self.pinned, earlier: None }
    }

    pub(crate) fn audit_key(&self) -> AuditKey {
        AuditKey(self.audit.public_key().as_ref().try_into().unwrap())
    }

    pub(crate) fn vouch(&self, message: &[u8]) -> Vec<u8> {
        self.audit.sign(message).as_ref().to_vec()
    }

    /// The word of the vault's audit key for evidence that is bound to this.
    pub(crate) fn vouched(&self, binder: &Binder) -> Bytes<64> {
        Bytes::new(self.vouch(&[VOUCHED, binder.as_bytes()].concat())).unwrap()
    }

    pub(crate) fn settings(&self, role: Role) -> ClientSettings {
        let vault = VaultReference {
            identity: VaultIdentity::Ak(self.vault.ak()),
            audit_key: Some(self.audit_key()),
            reference: reference(Role::Vault),
        };
        ClientSettings { name: "build-7".parse().unwrap(), role, vault }
    }

    /// The vault's end until the peer has sent evidence.
    pub(crate) async fn claim<S: Stream>(&self, stream: S) -> Result<Claimed<S>, ServerError> {
        let heard = hear(stream, &self.tls, &self.identity).await?;
        heard
            .prove(&self.vault, |message| Some(self.vouch(message)), self.asks, &SystemRandom::new())
            .await?
            .claim()
            .await
    }

    /// The vault's end until the session stands.
    pub(crate) async fn admit<S: Stream>(&self, stream: S) -> Result<Standing<S>, ServerError> {
        let claimed = self.claim(stream).await?;
        let reference = reference(claimed.role());
        claimed.judge(self.pin(), &reference).await?.welcome(welcome()).await
    }

    /// The host's end.
    pub(crate) async fn connect<S: Stream>(&self, stream: S) -> Result<Established<S, SoftwareTpm>, ConnectError> {
        connect(stream, &self.settings(Role::Broker), self.host.clone()).await
    }

    /// A session that stands, over a pipe.
    pub(crate) async fn session(&self) -> (Established<DuplexStream, SoftwareTpm>, Standing<DuplexStream>) {
        let (ours, theirs) = pipe();
        let (established, standing) = tokio::join!(self.connect(ours), self.admit(theirs));
        (established.unwrap(), standing.unwrap_or_else(|error| panic!("{error}")))
    }

    /// A host by hand, and the vault as it ships, up to the evidence of the host.
    pub(crate) async fn claim_by_hand(
        &self,
        role: Role,
        evidence: impl AsyncFnOnce(&Channel<DuplexStream>, VaultProof) -> Vec<u8>,
    ) -> Result<Standing<DuplexStream>, ServerError> {
        let (ours, theirs) = pipe();
        let host = async {
            let mut channel = peer_by_hand(ours).await;
            send(&mut channel, &open(role)).await;
            let OpenReply::Proof(proof) = receive(&mut channel).await else { panic!("refused") };
            let evidence = Bytes::new(evidence(&channel, proof).await).unwrap();
            send(&mut channel, &PeerProof { evidence, endorsement: Some(endorsement(&self.host)) }).await;
            channel
        };
        tokio::join!(self.admit(theirs), host).0
    }
}

/// Room for everything that a handshake sends.
pub(crate) fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(256 * 1024)
}

/// TLS as a host does it, with any key.
pub(crate) async fn peer_by_hand<S: Stream>(stream: S) -> Channel<S> {
    let identity = Identity::generate().unwrap();
    let stream = peer_tls(stream, tls::client(&identity).unwrap()).await.unwrap();
    Channel::new(TlsStream::Client(stream), identity.spki()).unwrap()
}

/// TLS as a vault does it, with any key.
pub(crate) async fn vault_by_hand<S: Stream>(stream: S) -> Channel<S> {
    let identity = Identity::generate().unwrap();
    let stream = vault_tls(stream, tls::server(&identity).unwrap()).await.unwrap();
    Channel::new(TlsStream::Server(stream), identity.spki()).unwrap()
}

pub(crate) async fn peer_tls<S: Stream>(
    stream: S,
    config: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<S>> {
    TlsConnector::from(config).connect(ServerName::try_from("vault.invalid").unwrap(), stream).await
}

pub(crate) async fn vault_tls<S: Stream>(
    stream: S,
    config: Arc<ServerConfig>,
) -> io::Result<tokio_rustls::server::TlsStream<S>> {
    TlsAcceptor::from(config).accept(stream).await
}

pub(crate) async fn send<S: Stream, T: serde::Serialize>(channel: &mut Channel<S>, message: &T) {
    channel.writer.send(message, MAX_FRAME_UNATTESTED).await.unwrap();
}

pub(crate) async fn receive<S: Stream, T: serde::de::DeserializeOwned>(channel: &mut Channel<S>) -> T {
    channel.reader.receive(MAX_FRAME_UNATTESTED).await.unwrap()
}

/// Everything that a host sends, without a look at what the vault says.
pub(crate) async fn prove(world: &World, channel: &mut Channel<DuplexStream>) -> ProofReply {
    send(channel, &open(Role::Broker)).await;
    let OpenReply::Proof(proof) = receive(channel).await else { panic!("refused") };
    let binder = channel.exporter.own_binder(Role::Broker, &proof.context).unwrap();
    let evidence = Bytes::new(world.host.quote(binder.as_bytes())).unwrap();
    send(channel, &PeerProof { evidence, endorsement: Some(endorsement(&world.host)) }).await;
    receive(channel).await
}

pub(crate) fn open(role: Role) -> Open {
    let context = Context([0xa5; 32]);
    Open { version: VERSION, role, name: "build-7".parse().unwrap(), context, logs: WantedLogs::NONE }
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        session: SessionId([1; _]),
        replica: ReplicaId([2; _]),
        parcel_key: ParcelKey([3; _]),
        deposit_key: DepositKey([4; _]),
        reattest_every: 300,
    }
}

/// A request that can be told from others.
pub(crate) fn request(number: u8) -> Request {
    Request::Broker(BrokerRequest::End { lease: LeaseId([number; _]), why: LeaseEnd::Returned })
}

/// The number of such a request.
pub(crate) fn number(request: &Request) -> u8 {
    match request {
        Request::Broker(BrokerRequest::End { lease, .. }) => lease.0[0],
        other => panic!("unexpected request: {other:?}"),
    }
}

/// An answer that can be told from others.
pub(crate) fn answer(number: u8) -> Answer {
    Answer::Granted(Granted { id: GrantId([number; _]), grant: Bytes::new(vec![number]).unwrap(), expires: 1 })
}
