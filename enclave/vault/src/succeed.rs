//! Becoming the next guest of a vault that runs: takes its key over an attested session, seals it to this guest, and has
//! the other vault keep that in the store. Nothing is written here: the store is still the other vault's.
//!
//! Both ends are judged: the other vault by its reference, which names its processor, its software and its audit key; this
//! guest by the reference values for successors that an operator applied there.

use crate::audit::{AuditError, Signer};
use crate::hand_over::{CarriedError, receive};
use crate::hpke_keys::{DepositKeyPair, KeyPairError};
use crate::platform::{Platform, PlatformError, SealedBy, SealedKey, seal_to_guest};
use crate::sealed::{KeyEncryptionKey, SealError};
use crate::setup::{SetupError, answer, check_version, vault_reference};
use crate::upstream::{Dial, DialError};
use blindferry_device::client::Device;
use blindferry_proto::bounded::{Bytes, TooLong};
use blindferry_proto::causes::with_causes;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, Request, Welcome};
use blindferry_proto::setup::{SetupReply, SucceedOrder};
use blindferry_proto::succession::SuccessorRequest;
use blindferry_session::client::{
    CallError, Caller, ConnectError, Established, SessionOver, VaultReferenceError, connect,
};
use blindferry_session::{Attester, ClientSettings, VaultReference};
use ring::rand::SecureRandom;
use std::io::{self, Write};

/// Takes over from the vault that the order names, and answers with this guest's own vault reference.
///
/// # Errors
/// [`SucceedError`]; then the store opens for no guest that it did not open for before.
pub async fn succeed(
    dial: &impl Dial,
    device: &Device,
    order: &SucceedOrder,
    random: &(dyn SecureRandom + Sync),
    out: &mut impl Write,
    now: u64,
) -> Result<(), SucceedError> {
    check_version(order.version).map_err(SucceedError::Setup)?;
    let platform = Platform::find(device).await.map_err(SucceedError::Platform)?;
    if platform.sealed_by() != SealedBy::Guest {
        return Err(SucceedError::NotAGuest);
    }
    let vault = VaultReference::parse(order.predecessor.as_str()).map_err(SucceedError::Reference)?;
    let key = vault.audit_key.ok_or(SucceedError::NoAuditKey)?;
    let stream = dial.dial(order.host.as_str(), order.port).await.map_err(SucceedError::Dial)?;
    let settings = ClientSettings { name: order.name.clone(), role: Role::Successor, vault };
    let connected = connect(stream, &settings, Attester::guest(device.clone())).await;
    let Established { welcome, caller, pushes: _pushes, driver } = connected.map_err(SucceedError::Connect)?;
    let work = async {
        let kek = take(&caller, &welcome, random).await?;
        let signer = Signer::new(kek.audit_signing_seed().map_err(SucceedError::Seal)?).map_err(SucceedError::Audit)?;
        if signer.key() != key {
            return Err(SucceedError::OtherStore);
        }
        let given = order.vault_reference.as_ref();
        let reference = vault_reference(&platform, &kek, None, given, now).map_err(SucceedError::Setup)?;
        let SealedKey { key: _, blobs } =
            seal_to_guest(device, kek, order.mix).await.map_err(SucceedError::Platform)?;
        for (_, sealed) in blobs {
            let sealed = Bytes::new(sealed).map_err(SucceedError::TooLong)?;
            match call(&caller, SuccessorRequest::Keep { sealed }).await? {
                Answer::Done => {}
                _ => return Err(SucceedError::Unexpected),
            }
        }
        answer(out, &SetupReply::Done { vault_reference: reference }).map_err(SucceedError::Out)
    };
    tokio::select! {
        done = work => done,
        over = driver.run() => Err(SucceedError::Over(over)),
    }
}

async fn take(
    caller: &Caller,
    welcome: &Welcome,
    random: &(dyn SecureRandom + Sync),
) -> Result<KeyEncryptionKey, SucceedError> {
    let own = DepositKeyPair::generate(random).map_err(SucceedError::KeyPair)?;
    match call(caller, SuccessorRequest::Take { key: own.public() }).await? {
        Answer::HandedOver(handed) => {
            let secret = receive(&handed, &own, &welcome.session).map_err(SucceedError::Carried)?;
            KeyEncryptionKey::from_secret(secret).map_err(SucceedError::Seal)
        }
        _ => Err(SucceedError::Unexpected),
    }
}

async fn call(caller: &Caller, request: SuccessorRequest) -> Result<Answer, SucceedError> {
    caller.call(Request::Successor(request)).await.map_err(SucceedError::Call)
}

/// This guest did not become a successor.
#[derive(Debug, thiserror::Error)]
pub enum SucceedError {
    /// The order, or this guest's own report.
    #[error(transparent)]
    Setup(SetupError),
    /// The platform does not seal.
    #[error(transparent)]
    Platform(PlatformError),
    /// It is a TPM.
    #[error("this machine is no SEV-SNP guest: with a TPM, approve the new PCR values and start the vault on them")]
    NotAGuest,
    /// The other vault's reference does not parse.
    #[error("cannot use the reference of the vault to succeed")]
    Reference(#[source] VaultReferenceError),
    /// The reference names no audit key.
    #[error("the reference of the vault to succeed names no audit key, so any store could pass for its")]
    NoAuditKey,
    /// No connection.
    #[error("cannot reach the vault to succeed")]
    Dial(#[source] DialError),
    /// No session.
    #[error("no attested session with the vault to succeed")]
    Connect(#[source] ConnectError),
    /// A call failed.
    #[error("the vault to succeed does not hand over")]
    Call(#[source] CallError),
    /// The session ended.
    #[error("the session with the vault to succeed is over")]
    Over(#[source] SessionOver),
    /// It answered something else than it was asked.
    #[error("the vault to succeed answered something else than it was asked")]
    Unexpected,
    /// The key did not arrive.
    #[error("the key did not arrive")]
    Carried(#[source] CarriedError),
    /// The key is another store's.
    #[error("the key that arrived is not that of the vault of the reference")]
    OtherStore,
    /// A key could not be used.
    #[error("cannot use the vault's keys")]
    Seal(#[source] SealError),
    /// No key pair.
    #[error("cannot make a key pair")]
    KeyPair(#[source] KeyPairError),
    /// The audit key cannot be derived.
    #[error("cannot derive the audit key")]
    Audit(#[source] AuditError),
    /// The sealed key is too long.
    #[error("the sealed key is too long")]
    TooLong(#[source] TooLong),
    /// Nobody reads the result.
    #[error("cannot hand out the result")]
    Out(#[source] io::Error),
}

impl From<&SucceedError> for Refusal {
    fn from(error: &SucceedError) -> Self {
        let code = match error {
            SucceedError::Setup(error) => return Self::from(error),
            SucceedError::Call(CallError::Refused(refusal))
            | SucceedError::Connect(ConnectError::Refused { refusal }) => refusal.code,
            SucceedError::NotAGuest | SucceedError::Reference(_) | SucceedError::NoAuditKey => RefusalCode::Malformed,
            SucceedError::Platform(_) | SucceedError::Dial(_) | SucceedError::Over(_) => RefusalCode::NotReady,
            SucceedError::Connect(_) | SucceedError::OtherStore => RefusalCode::NotAttested,
            SucceedError::Call(_)
            | SucceedError::Unexpected
            | SucceedError::Carried(_)
            | SucceedError::Seal(_)
            | SucceedError::KeyPair(_)
            | SucceedError::Audit(_)
            | SucceedError::TooLong(_)
            | SucceedError::Out(_) => RefusalCode::Internal,
        };
        Self::new(code, &with_causes(error))
    }
}
