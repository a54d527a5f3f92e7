//! The vault's end of the handshake: one type a stage, each made from the one before.
//!
//! [`Heard`] → [`Challenged`] → [`Claimed`] → [`Proven`] → [`Standing`]. A peer that fails is refused by the stage it
//! is in; it learns a code and, before it is proven, nothing else.

mod error;
mod rechallenge;

pub use error::ServerError;
pub use rechallenge::Rechallenge;

use crate::asked;
use crate::channel::{Channel, ChannelError, Exporter, Reader, Stream, Writer, fresh_context};
use crate::identity::Identity;
use crate::platform::{Platform, PlatformError};
use crate::vouched::vouched;
use blindferry_attest::attested::{Attested, Expected, Pinned, appraise};
use blindferry_attest::binder::Binder;
use blindferry_attest::evidence::Evidence;
use blindferry_attest::reference::ReferenceValues;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::name::HostName;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{
    Activate, Activated, Endorsement, Open, OpenError, OpenReply, PeerProof, ProofReply, VaultProof, Welcome,
};
use ring::rand::SecureRandom;
use rustls::ServerConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// A peer that finished TLS and said who it wants to be. Nothing of it is believed.
#[derive(Debug)]
pub struct Heard<S> {
    channel: Channel<S>,
    open: Open,
}

/// The vault proved itself; the peer's turn, over a context that is used once, with the logs that it was asked for.
#[derive(Debug)]
pub struct Challenged<S> {
    channel: Channel<S>,
    open: Open,
    context: Context,
    logs: WantedLogs,
}

/// The peer sent evidence: parsed, bounded, not believed.
#[derive(Debug)]
pub struct Claimed<S> {
    channel: Channel<S>,
    open: Open,
    evidence: Evidence,
    /// The logs that it may have.
    logs: WantedLogs,
    binder: Binder,
    endorsement: Option<Endorsement>,
}

/// The peer's evidence was accepted, over this channel. Only [`Claimed::judge`] makes one:
///
/// ```compile_fail,E0451
/// # use blindferry_attest::attested::Attested;
/// # use blindferry_session::channel::Channel;
/// # use blindferry_session::server::Proven;
/// fn skipped<S>(channel: Channel<S>, attested: Attested) -> Proven<S> {
///     Proven { channel, attested }
/// }
/// ```
///
/// and a peer is judged once:
///
/// ```compile_fail,E0382
/// # use blindferry_attest::{attested::Pinned, reference::ReferenceValues};
/// # use blindferry_session::{channel::Stream, server::Claimed};
/// async fn twice<S: Stream>(claimed: Claimed<S>, pinned: Pinned<'_>, reference: &ReferenceValues) {
///     let first = claimed.judge(pinned, reference).await;
///     let second = claimed.judge(pinned, reference).await;
/// }
/// ```
#[expect(missing_debug_implementations, reason = "a verdict is not for printing")]
pub struct Proven<S> {
    channel: Channel<S>,
    attested: Attested,
}

/// A session that stands.
#[expect(missing_debug_implementations, reason = "a verdict is not for printing")]
pub struct Standing<S> {
    /// What is known of the peer.
    pub attested: Attested,
    /// Calls from the peer.
    pub reader: Reader<S>,
    /// Answers and pushes to the peer.
    pub writer: Writer<S>,
    /// For binders of later evidence.
    pub exporter: Exporter<S>,
}

/// Does TLS with a peer and hears whom it wants to be.
///
/// # Errors
/// [`ServerError`]; the connection is dropped.
pub async fn hear<S: Stream>(stream: S, tls: &Arc<ServerConfig>, own: &Identity) -> Result<Heard<S>, ServerError> {
    let tls = TlsAcceptor::from(Arc::clone(tls)).accept(stream).await.map_err(|source| ServerError::Tls { source })?;
    let mut channel = Channel::new(TlsStream::Server(tls), own.spki())?;
    let frame = channel.reader.announced().await?.bytes(MAX_FRAME_UNATTESTED).await;
    let frame = told(&mut channel, frame, OpenReply::Refused).await?;
    let open = match Open::read(&frame) {
        Ok(open) => open,
        Err(error) => {
            let code = match error {
                OpenError::Version { .. } => RefusalCode::Version,
                OpenError::Malformed(_) => RefusalCode::Malformed,
            };
            say_and_close(&mut channel, &OpenReply::Refused(code.into())).await;
            return Err(error.into());
        }
    };
    let heard = Heard { channel, open };
    if heard.open.role == Role::Vault {
        heard.refuse(RefusalCode::Malformed.into()).await;
        return Err(ServerError::RoleOfVault);
    }
    Ok(heard)
}

impl<S: Stream> Heard<S> {
    /// What the peer wants to be called.
    #[must_use]
    pub fn name(&self) -> &HostName {
        &self.open.name
    }

    /// What the peer wants to be.
    #[must_use]
    pub fn role(&self) -> Role {
        self.open.role
    }

    /// Proves the vault over the peer's context, with the logs that the peer asks for, and gives the peer a context of its
    /// own. `logs` are those that the peer shall send: they make room for its next message. `vouch` signs as the holder of
    /// the audit key.
    ///
    /// # Errors
    /// [`ServerError`] when the platform makes no evidence, nobody signs or the connection fails.
    pub async fn prove<P: Platform>(
        mut self,
        platform: &P,
        vouch: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
        logs: WantedLogs,
        random: &(dyn SecureRandom + Sync),
    ) -> Result<Challenged<S>, ServerError> {
        let binder = self.channel.exporter.own_binder(Role::Vault, &self.open.context)?;
        let vouched = vouch(&vouched(&binder)).and_then(|signature| Bytes::new(signature).ok());
        let Some(vouched) = vouched else {
            self.refuse(RefusalCode::Internal.into()).await;
            return Err(ServerError::NotVouched);
        };
        let evidence = match platform.evidence(&binder, self.open.logs).await {
            Ok(evidence) => evidence,
            Err(source) => {
                self.refuse(RefusalCode::NotReady.into()).await;
                return Err(ServerError::OwnEvidence { source });
            }
        };
        let evidence = Bytes::new(evidence).map_err(|source| ServerError::OwnEvidence {
            source: PlatformError::TooLong { what: "evidence", source },
        })?;
        let context = fresh_context(random)?;
        let reply = OpenReply::Proof(VaultProof { evidence, context, logs, vouched });
        self.channel.writer.send(&reply, MAX_FRAME_UNATTESTED + self.open.logs.most()).await?;
        Ok(Challenged { channel: self.channel, open: self.open, context, logs })
    }

    /// Ends it.
    pub async fn refuse(mut self, refusal: Refusal) {
        say_and_close(&mut self.channel, &OpenReply::Refused(refusal)).await;
    }
}

impl<S: Stream> Challenged<S> {
    /// Receives the peer's evidence.
    ///
    /// # Errors
    /// [`ServerError`] when it does not come, does not parse, or is more than was asked for.
    pub async fn claim(mut self) -> Result<Claimed<S>, ServerError> {
        let most = MAX_FRAME_UNATTESTED + self.logs.most();
        let proof: PeerProof = receive(&mut self.channel, most, ProofReply::Refused).await?;
        let binder = self.channel.exporter.peer_binder(self.open.role, &self.context)?;
        match asked::read(proof.evidence.as_slice(), self.logs) {
            Ok(evidence) => Ok(Claimed {
                channel: self.channel,
                open: self.open,
                evidence,
                logs: self.logs,
                binder,
                endorsement: proof.endorsement,
            }),
            Err(source) => {
                let refusal = ProofReply::Refused(RefusalCode::NotAttested.into());
                say_and_close(&mut self.channel, &refusal).await;
                Err(ServerError::Evidence { source })
            }
        }
    }
}

impl<S: Stream> Claimed<S> {
    /// What the peer wants to be called.
    #[must_use]
    pub fn name(&self) -> &HostName {
        &self.open.name
    }

    /// What the peer wants to be.
    #[must_use]
    pub fn role(&self) -> Role {
        self.open.role
    }

    /// What it says about itself.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The logs that it was asked for.
    #[must_use]
    pub fn asked(&self) -> WantedLogs {
        self.logs
    }

    /// Who, it says, vouches for the key of its TPM.
    #[must_use]
    pub fn endorsement(&self) -> Option<&Endorsement> {
        self.endorsement.as_ref()
    }

    /// Sends a credential and receives what the peer's TPM made of it.
    ///
    /// # Errors
    /// [`ServerError`] when the connection fails or another message comes.
    pub async fn activate(mut self, credential: Activate) -> Result<(Self, Activated), ServerError> {
        self.channel.writer.send(&ProofReply::Activate(credential), MAX_FRAME_UNATTESTED).await?;
        let activated = receive(&mut self.channel, MAX_FRAME_UNATTESTED, ProofReply::Refused).await?;
        Ok((self, activated))
    }

    /// Judges the evidence, once.
    ///
    /// # Errors
    /// [`ServerError::Appraisal`]; the peer is told that it was refused, and the connection is closed.
    pub async fn judge(mut self, pinned: Pinned<'_>, reference: &ReferenceValues) -> Result<Proven<S>, ServerError> {
        let expected = Expected { binder: self.binder, role: self.open.role, pinned };
        match appraise(self.evidence, expected, reference) {
            Ok(attested) => Ok(Proven { channel: self.channel, attested }),
            Err(source) => {
                let refusal = ProofReply::Refused(RefusalCode::NotAttested.into());
                say_and_close(&mut self.channel, &refusal).await;
                Err(ServerError::Appraisal { source: Box::new(source) })
            }
        }
    }

    /// Ends it.
    pub async fn refuse(mut self, refusal: Refusal) {
        say_and_close(&mut self.channel, &ProofReply::Refused(refusal)).await;
    }
}

impl<S: Stream> Proven<S> {
    /// What is known of the peer.
    pub fn attested(&self) -> &Attested {
        &self.attested
    }

    /// Lets the peer in.
    ///
    /// # Errors
    /// [`ServerError`] when the connection fails.
    pub async fn welcome(mut self, welcome: Welcome) -> Result<Standing<S>, ServerError> {
        self.channel.writer.send(&ProofReply::Welcome(welcome), MAX_FRAME_UNATTESTED).await?;
        let Channel { reader, writer, exporter } = self.channel;
        Ok(Standing { attested: self.attested, reader, writer, exporter })
    }

    /// Ends it although the evidence was good.
    pub async fn refuse(mut self, refusal: Refusal) {
        say_and_close(&mut self.channel, &ProofReply::Refused(refusal)).await;
    }
}

/// The peer's next message. One that is no message, or too long, is refused as such: an honest peer of another version
/// then knows what to look for.
async fn receive<S: Stream, T: DeserializeOwned, R: Serialize>(
    channel: &mut Channel<S>,
    most: usize,
    refused: fn(Refusal) -> R,
) -> Result<T, ServerError> {
    let received = channel.reader.receive(most).await;
    told(channel, received, refused).await
}

async fn told<S: Stream, T, R: Serialize>(
    channel: &mut Channel<S>,
    received: Result<T, ChannelError>,
    refused: fn(Refusal) -> R,
) -> Result<T, ServerError> {
    if let Err(ChannelError::FrameTooLong { .. } | ChannelError::Message { .. }) = &received {
        say_and_close(channel, &refused(RefusalCode::Malformed.into())).await;
    }
    Ok(received?)
}

async fn say_and_close<S: Stream, T: Serialize>(channel: &mut Channel<S>, reply: &T) {
    // The peer is refused whether or not it hears so.
    let _unheard = channel.writer.send(reply, MAX_FRAME_UNATTESTED).await;
    channel.writer.close().await;
}
