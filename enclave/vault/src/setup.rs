//! Making a vault, and bringing one back with its recovery key: `init` and `recover`.
//!
//! Both prepare everything first and write what makes the vault usable last, in one transaction: the sealed blobs. A
//! process that is killed before that leaves a store that counts as not initialised, and a recovery key that opens
//! nothing. The recovery key leaves this process through the descriptor that it was given, and no other.

use crate::approvals::{Approvals, ApprovalsError, approve, policy_ref};
use crate::audit::{AuditError, Signer};
use crate::host::{HostRecord, Place};
use crate::policy::Policy;
use crate::sealed::{KeyEncryptionKey, PolicyAuthority, RecoveryKey, SealError};
use crate::store::{Backing, Document, Records, SealedName, StoreError, erase, sealed_get, sealed_put};
use crate::vault::chain;
use blindferry_attest::reference::{Firmware, ReferenceError, ReferenceValues};
use blindferry_attest::tpm::pcr::PcrError;
use blindferry_attest::tpm::{AkName, PcrSelection, PcrValues};
use blindferry_device::authority::{Authority, AuthorityError};
use blindferry_device::client::{Device, DeviceError};
use blindferry_device::pcr::never_extended;
use blindferry_handle::secret::{InitError, SecretBytes, SecretError, SharedSecret};
use blindferry_proto::bounded::{Text, TooLong};
use blindferry_proto::identifier::AuditKey;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::setup::{InitOrder, RecoverOrder, SetupReply, VERSION};
use ring::rand::SecureRandom;
use std::convert::Infallible;
use std::io::{self, Write};

/// Whether a vault that exists may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse where there is one.
    Keep,
    /// Start over: everything in the store is lost.
    Lose,
}

/// Makes a vault: its key, sealed to this platform as it is now, its recovery key, its first operator.
///
/// # Errors
/// [`SetupError`]; then there is no new vault.
pub async fn init<B: Backing + Clone>(
    backing: &B,
    device: &Device,
    order: &InitOrder,
    existing: Existing,
    random: &dyn SecureRandom,
    out: &mut impl Write,
    now: u64,
) -> Result<(), SetupError> {
    check_version(order.version)?;
    if existing == Existing::Keep && is_initialised(backing).await? {
        return Err(SetupError::Initialised);
    }
    let documents = documents_of(order)?;
    let values = approvable(device, &order.pcrs, order.insist_unextended).await?;

    let kek = KeyEncryptionKey::generate(random).map_err(SetupError::Seal)?;
    let authority = PolicyAuthority::generate(random).map_err(SetupError::Seal)?;
    let recovery = RecoveryKey::generate(random).map_err(SetupError::Seal)?;
    let wrapped = recovery.wrap(&kek, random).map_err(SetupError::Seal)?;
    let record_key = kek.record_key().map_err(SetupError::Seal)?;
    let stored_authority = authority.seal(random, &record_key).map_err(SetupError::Seal)?;
    let reference = reference_text(device, &kek, &values).await?;

    // From here on the store changes.
    erase(backing).await.map_err(SetupError::Store)?;
    let records = Records::create(backing.clone(), &kek, Vec::new()).await.map_err(SetupError::Store)?;
    let operator = HostRecord { role: Role::Operator, place: Place::Allowed(order.operator.ek), since: now };
    records.put_host(&order.operator.name, &operator).await.map_err(SetupError::Store)?;
    for (document, text) in documents {
        records.put_document(document, text).await.map_err(SetupError::Store)?;
    }
    let (kek, sealed) = seal(device, kek, &authority, values, random).await?;
    drop(kek);
    answer(out, &SetupReply::Done { vault_reference: reference }).map_err(SetupError::Out)?;
    recovery.write_to(out).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(SetupError::Out)?;
    let mut blobs = sealed;
    blobs.push((SealedName::Recovery, wrapped));
    blobs.push((SealedName::PolicyAuthority, stored_authority));
    sealed_put(backing, blobs).await.map_err(SetupError::Store)
}

/// Seals to this platform, as it is now, the key that the recovery key opens.
///
/// # Errors
/// [`SetupError`]; then what is stored is as it was.
pub async fn recover<B: Backing>(
    backing: &B,
    device: &Device,
    recovery: &RecoveryKey,
    order: &RecoverOrder,
    random: &dyn SecureRandom,
    out: &mut impl Write,
) -> Result<(), SetupError> {
    check_version(order.version)?;
    let wrapped = sealed_get(backing, SealedName::Recovery).await.map_err(SetupError::Store)?;
    let wrapped = wrapped.ok_or(SetupError::NotInitialised)?;
    let kek = recovery.unwrap(&wrapped).map_err(|_| SetupError::WrongRecoveryKey)?;
    let stored = sealed_get(backing, SealedName::PolicyAuthority).await.map_err(SetupError::Store)?;
    let stored = stored.ok_or(SetupError::NotInitialised)?;
    let record_key = kek.record_key().map_err(SetupError::Seal)?;
    let authority = PolicyAuthority::open(&record_key, &stored, random).map_err(SetupError::Seal)?;
    let values = approvable(device, &order.pcrs, order.insist_unextended).await?;
    let reference = reference_text(device, &kek, &values).await?;
    let (_kek, sealed) = seal(device, kek, &authority, values, random).await?;
    answer(out, &SetupReply::Done { vault_reference: reference }).map_err(SetupError::Out)?;
    sealed_put(backing, sealed).await.map_err(SetupError::Store)
}

/// Tells whoever started us how it went.
///
/// # Errors
/// When nobody listens.
pub fn answer(out: &mut impl Write, reply: &SetupReply) -> io::Result<()> {
    let line = serde_json::to_string(reply).map_err(io::Error::other)?;
    writeln!(out, "{line}")?;
    out.flush()
}

async fn is_initialised<B: Backing>(backing: &B) -> Result<bool, SetupError> {
    let sealed = sealed_get(backing, SealedName::Platform).await.map_err(SetupError::Store)?;
    Ok(sealed.is_some())
}

type Documents = Vec<(Document, Text<{ blindferry_proto::limits::MAX_DOCUMENT }>)>;

fn documents_of(order: &InitOrder) -> Result<Documents, SetupError> {
    let mut documents = vec![(Document::OperatorReference, order.operator_reference.clone())];
    check_reference(order.operator_reference.as_str(), Role::Operator)?;
    if let Some(text) = &order.broker_reference {
        check_reference(text.as_str(), Role::Broker)?;
        documents.push((Document::BrokerReference, text.clone()));
    }
    if let Some(text) = &order.policy {
        Policy::parse(text.as_str(), 1).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            SetupError::Policy { problems: problems.join("; ") }
        })?;
        documents.push((Document::Policy, text.clone()));
    }
    Ok(documents)
}

fn check_reference(text: &str, wanted: Role) -> Result<(), SetupError> {
    let values = ReferenceValues::parse(text).map_err(|source| SetupError::Reference { role: wanted, source })?;
    if values.role() == wanted { Ok(()) } else { Err(SetupError::ReferenceRole { found: values.role(), wanted }) }
}

/// The PCRs as they are now, if sealing to them means anything.
async fn approvable(device: &Device, pcrs: &[u8], insist: bool) -> Result<PcrValues, SetupError> {
    let selection = PcrSelection::new(pcrs.iter().copied()).map_err(SetupError::Selection)?;
    let values = device.pcrs(&selection).await.map_err(SetupError::Device)?;
    let idle = never_extended(&values);
    if !idle.is_empty() && !insist {
        return Err(SetupError::NeverExtended { pcrs: idle });
    }
    Ok(values)
}

/// Seals the key, and opens it again to see that it works.
async fn seal(
    device: &Device,
    kek: KeyEncryptionKey,
    authority: &PolicyAuthority,
    values: PcrValues,
    random: &dyn SecureRandom,
) -> Result<(KeyEncryptionKey, Vec<(SealedName, Vec<u8>)>), SetupError> {
    let version = device.counter_create().await.map_err(SetupError::Device)?;
    let approval = approve(authority, values, version, random).map_err(SetupError::Approvals)?;
    let point = authority.public_point(random).map_err(SetupError::Seal)?;
    let public = Authority::from_point(&point).map_err(SetupError::Authority)?;
    let secret = kek.into_secret();
    let shared = share(&secret)?;
    let blob = device.seal(shared, &public, policy_ref()).await.map_err(SetupError::Device)?;
    let opened = device.unseal(&blob, &public, &approval).await.map_err(SetupError::Device)?;
    #[expect(clippy::disallowed_methods, reason = "compares what was sealed with what was unsealed")]
    if !opened.ct_eq(secret.expose()) {
        return Err(SetupError::SealedWrongly);
    }
    let approvals = Approvals { authority: public, list: vec![approval] }.to_blob().map_err(SetupError::Approvals)?;
    let kek = KeyEncryptionKey::from_secret(secret).map_err(SetupError::Seal)?;
    Ok((kek, vec![(SealedName::Platform, blob), (SealedName::Approvals, approvals)]))
}

fn share(secret: &SecretBytes) -> Result<SharedSecret, SetupError> {
    #[expect(clippy::disallowed_methods, reason = "from one secret page into another, which the device process maps")]
    let shared = SharedSecret::create(secret.len(), |place| {
        place.copy_from_slice(secret.expose());
        Ok::<_, Infallible>(())
    });
    shared.map_err(|error| match error {
        InitError::Secret(source) => SetupError::Memory(source),
        InitError::Fill(never) => match never {},
    })
}

/// What hosts and operators have to know of this vault beforehand.
async fn reference_text(
    device: &Device,
    kek: &KeyEncryptionKey,
    values: &PcrValues,
) -> Result<Text<{ blindferry_proto::limits::MAX_DOCUMENT }>, SetupError> {
    let description = device.describe().await.map_err(SetupError::Device)?;
    let ak = AkName::from_bytes(&description.ak_name).map_err(|_| SetupError::AkName)?;
    let key = Signer::new(kek.audit_signing_seed().map_err(SetupError::Seal)?).map_err(SetupError::Audit)?.key();
    let reference = ReferenceValues::capture(Role::Vault, "as it was at init", Firmware::Any, values)
        .map_err(|source| SetupError::Reference { role: Role::Vault, source })?;
    Text::new(reference_file(&ak, &key, &reference)).map_err(SetupError::TooLong)
}

fn reference_file(ak: &AkName, key: &AuditKey, reference: &ReferenceValues) -> String {
    format!(
        "# What a host or an operator has to know of this vault before it talks to it.\n\
         # ak: the Name of its attestation key. audit_key: what verifies its audit.\n\
         ak = \"{ak}\"\naudit_key = \"{key}\"\n{}",
        reference.to_toml()
    )
}

fn check_version(version: u32) -> Result<(), SetupError> {
    if version == VERSION { Ok(()) } else { Err(SetupError::Version { version }) }
}

/// There is no vault, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The order is of another version.
    #[error("the order has version {version}, want {VERSION}")]
    Version {
        /// Its version.
        version: u32,
    },
    /// There is a vault.
    #[error(
        "this vault is initialised already and nothing was changed; starting over with --force loses all masters, \
         hosts, policies and the audit"
    )]
    Initialised,
    /// There is no vault to recover.
    #[error("there is nothing to recover: this store was never initialised")]
    NotInitialised,
    /// Not its recovery key.
    #[error("this is not the recovery key of this vault")]
    WrongRecoveryKey,
    /// Not a selection of PCRs.
    #[error("these are not PCRs to seal to")]
    Selection(#[source] PcrError),
    /// Sealing to these PCRs would bind to nothing.
    #[error(
        "PCRs {pcrs:?} were never extended, so sealing to them protects nothing: measure the boot, or choose other PCRs, \
         or insist with --insist-unextended"
    )]
    NeverExtended {
        /// Which.
        pcrs: Vec<u8>,
    },
    /// Reference values do not parse.
    #[error("cannot use the reference values for {role}")]
    Reference {
        /// Whose.
        role: Role,
        /// Why not.
        source: ReferenceError,
    },
    /// Reference values of another role.
    #[error("these reference values are for {found}, want those for {wanted}")]
    ReferenceRole {
        /// Whose they are.
        found: Role,
        /// Whose they should be.
        wanted: Role,
    },
    /// The policy does not parse.
    #[error("cannot use the policy: {problems}")]
    Policy {
        /// Why not.
        problems: String,
    },
    /// The platform says no.
    #[error("the platform refuses")]
    Device(#[source] DeviceError),
    /// A key could not be made or used.
    #[error("cannot make the vault's keys")]
    Seal(#[source] SealError),
    /// An approval could not be made.
    #[error("cannot approve the present PCR values")]
    Approvals(#[source] ApprovalsError),
    /// The authority's key is none.
    #[error("the authority's key is not one")]
    Authority(#[source] AuthorityError),
    /// The platform gave back something else than it was given.
    #[error("what the platform unsealed is not what was sealed")]
    SealedWrongly,
    /// No secret memory.
    #[error("cannot keep a secret")]
    Memory(#[source] SecretError),
    /// The store says no.
    #[error("cannot write the store")]
    Store(#[source] StoreError),
    /// The audit key cannot be derived.
    #[error("cannot derive the audit key")]
    Audit(#[source] AuditError),
    /// The TPM's description is wrong.
    #[error("the platform's attestation key has no usable Name")]
    AkName,
    /// The reference is too long.
    #[error("the vault's reference is too long")]
    TooLong(#[source] TooLong),
    /// Nobody reads the recovery key.
    #[error("cannot hand out the result")]
    Out(#[source] io::Error),
}

impl From<&SetupError> for Refusal {
    fn from(error: &SetupError) -> Self {
        let code = match error {
            SetupError::Initialised => RefusalCode::Exists,
            SetupError::NotInitialised => RefusalCode::Unknown,
            SetupError::WrongRecoveryKey => RefusalCode::Denied,
            SetupError::Version { .. } => RefusalCode::Version,
            SetupError::Selection(_)
            | SetupError::NeverExtended { .. }
            | SetupError::Reference { .. }
            | SetupError::ReferenceRole { .. }
            | SetupError::Policy { .. } => RefusalCode::Malformed,
            SetupError::Device(_) => RefusalCode::NotReady,
            SetupError::Store(_) => RefusalCode::Store,
            SetupError::Seal(_)
            | SetupError::Approvals(_)
            | SetupError::Authority(_)
            | SetupError::SealedWrongly
            | SetupError::Memory(_)
            | SetupError::Audit(_)
            | SetupError::AkName
            | SetupError::TooLong(_)
            | SetupError::Out(_) => RefusalCode::Internal,
        };
        Refusal::new(code, &chain(error))
    }
}
