//! Making a vault, and bringing one back with its recovery key: `init` and `recover`.
//!
//! Both prepare everything first and write what makes the vault usable last, in one transaction: the sealed blobs. A
//! process that is killed before that leaves a store that counts as not initialised, and a recovery key that opens
//! nothing. The recovery key leaves this process through the descriptor that it was given, and no other.

use crate::audit::{AuditError, Signer};
use crate::host::{HostRecord, Place};
use crate::platform::{Platform, PlatformError, SealedKey};
use crate::policy::Policy;
use crate::sealed::{KeyEncryptionKey, PolicyAuthority, RecoveryKey, SealError};
use crate::store::{Backing, Document, Records, SealedName, StoreError, audit_seed, erase, sealed_get, sealed_put};
use blindferry_attest::reference::{Firmware, ReferenceError, ReferenceValues};
use blindferry_attest::snp::vek::Holder;
use blindferry_attest::snp::{Anchors, EndorsedVek, KeyKind, Report, SnpRefusal};
use blindferry_attest::tpm::{AkName, PcrValues};
use blindferry_device::client::Device;
use blindferry_device::protocol::SnpDescription;
use blindferry_proto::bounded::{Text, TooLong};
use blindferry_proto::causes::with_causes;
use blindferry_proto::limits::MAX_DOCUMENT;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::setup::{InitOrder, RecoverOrder, SetupReply, VERSION};
use ring::rand::SecureRandom;
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
    random: &(dyn SecureRandom + Sync),
    out: &mut impl Write,
    now: u64,
) -> Result<(), SetupError> {
    check_version(order.version)?;
    if existing == Existing::Keep && is_initialised(backing).await? {
        return Err(SetupError::Initialised);
    }
    let documents = documents_of(order)?;
    let platform = Platform::find(device).await.map_err(SetupError::Platform)?;
    let sealing = platform.sealing(device, &order.pcrs, order.insist_unextended, order.mix).await;
    let sealing = sealing.map_err(SetupError::Platform)?;

    let kek = KeyEncryptionKey::generate(random).map_err(SetupError::Seal)?;
    let authority = PolicyAuthority::generate(random).map_err(SetupError::Seal)?;
    let recovery = RecoveryKey::generate(random).map_err(SetupError::Seal)?;
    let wrapped = recovery.wrap(&kek, random).map_err(SetupError::Seal)?;
    let record_key = kek.record_key().map_err(SetupError::Seal)?;
    let stored_authority = authority.seal(random, &record_key).map_err(SetupError::Seal)?;
    let reference = vault_reference(&platform, &kek, sealing.approved(), order.vault_reference.as_ref(), now)?;

    // From here on the store changes.
    erase(backing).await.map_err(SetupError::Store)?;
    let records = Records::create(backing.clone(), &kek, Vec::new()).await.map_err(SetupError::Store)?;
    let operator = HostRecord { role: Role::Operator, place: Place::Allowed(order.operator.machine), since: now };
    records.put_host(&order.operator.name, &operator).await.map_err(SetupError::Store)?;
    for (document, text) in documents {
        records.put_document(document, text).await.map_err(SetupError::Store)?;
    }
    let sealed = sealing.seal(device, kek, &authority, random).await.map_err(SetupError::Platform)?;
    let SealedKey { key, mut blobs } = sealed;
    drop(key);
    answer(out, &SetupReply::Done { vault_reference: reference }).map_err(SetupError::Out)?;
    recovery.write_to(out).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(SetupError::Out)?;
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
    random: &(dyn SecureRandom + Sync),
    out: &mut impl Write,
    now: u64,
) -> Result<(), SetupError> {
    check_version(order.version)?;
    let wrapped = sealed_get(backing, SealedName::Recovery).await.map_err(SetupError::Store)?;
    let wrapped = wrapped.ok_or(SetupError::NotInitialised)?;
    let kek = recovery.unwrap(&wrapped).map_err(|_| SetupError::WrongRecoveryKey)?;
    let stored = sealed_get(backing, SealedName::PolicyAuthority).await.map_err(SetupError::Store)?;
    let stored = stored.ok_or(SetupError::NotInitialised)?;
    let record_key = kek.record_key().map_err(SetupError::Seal)?;
    let authority = PolicyAuthority::open(&record_key, &stored, random).map_err(SetupError::Seal)?;
    let kek = kek.with_audit_seed(audit_seed(backing, &record_key).await.map_err(SetupError::Store)?);
    let platform = Platform::find(device).await.map_err(SetupError::Platform)?;
    let sealing = platform.sealing(device, &order.pcrs, order.insist_unextended, order.mix).await;
    let sealing = sealing.map_err(SetupError::Platform)?;
    let reference = vault_reference(&platform, &kek, sealing.approved(), order.vault_reference.as_ref(), now)?;
    let sealed = sealing.seal(device, kek, &authority, random).await.map_err(SetupError::Platform)?;
    answer(out, &SetupReply::Done { vault_reference: reference }).map_err(SetupError::Out)?;
    sealed_put(backing, sealed.blobs).await.map_err(SetupError::Store)
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

type Documents = Vec<(Document, Text<MAX_DOCUMENT>)>;

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

/// What hosts and operators have to know of this vault beforehand.
pub(crate) fn vault_reference(
    platform: &Platform,
    kek: &KeyEncryptionKey,
    approved: Option<&PcrValues>,
    given: Option<&Text<MAX_DOCUMENT>>,
    now: u64,
) -> Result<Text<MAX_DOCUMENT>, SetupError> {
    let key = Signer::new(kek.audit_signing_seed().map_err(SetupError::Seal)?).map_err(SetupError::Audit)?.key();
    let name = "as it was at init";
    let (identity, values) = match (platform, approved) {
        (Platform::Tpm(tpm), Some(values)) => {
            let ak = AkName::from_bytes(&tpm.ak_name).map_err(|_| SetupError::AkName)?;
            let captured = ReferenceValues::capture(Role::Vault, name, Firmware::Any, values);
            (format!("ak = \"{ak}\""), captured.map_err(|source| SetupError::Reference { role: Role::Vault, source })?)
        }
        (Platform::Guest(guest), None) => guest_reference(guest, name, given, now)?,
        (Platform::Tpm(_), None) | (Platform::Guest(_), Some(_)) => return Err(SetupError::OtherPlatform),
    };
    let text = format!(
        "# What a host or an operator has to know of this vault before it talks to it.\n\
         # ak or chip_id: its hardware. audit_key: what vouches for it, and verifies its audit.\n\
         {identity}\naudit_key = \"{key}\"\n{}",
        values.to_toml()
    );
    Text::new(text).map_err(SetupError::TooLong)
}

/// The hardware of this guest and what is accepted of it. A host could hand us any report: so it is believed only when
/// AMD vouches for it, or whoever else the given values name.
fn guest_reference(
    guest: &SnpDescription,
    name: &str,
    given: Option<&Text<MAX_DOCUMENT>>,
    now: u64,
) -> Result<(String, ReferenceValues), SetupError> {
    let wrong = |source| SetupError::Reference { role: Role::Vault, source };
    let given = given.map(|text| ReferenceValues::parse(text.as_str()).map_err(wrong)).transpose()?;
    if let Some(found) = given.as_ref().map(ReferenceValues::role).filter(|role| *role != Role::Vault) {
        return Err(SetupError::ReferenceRole { found, wanted: Role::Vault });
    }
    let own = |source| SetupError::OwnReport(Box::new(source));
    let report = Report::parse(&guest.report).map_err(own)?;
    let certificates: Vec<&[u8]> = guest.certificates.iter().map(Vec::as_slice).collect();
    let amd = Anchors::amd();
    let anchors = given.as_ref().map_or(&amd, ReferenceValues::anchors);
    let kind = if report.body().signing_key == 1 { KeyKind::Vlek } else { KeyKind::Vcek };
    let vek = EndorsedVek::endorse(kind, &certificates, &[], anchors, now).map_err(own)?;
    let authentic = vek.authenticate(report, now).map_err(own)?;
    let identity = match vek.holder() {
        Holder::Chip(chip) => format!("chip_id = \"{chip}\""),
        Holder::Provider(provider) => format!("provider = {provider:?}"),
    };
    let values = match given {
        Some(values) => values,
        None => ReferenceValues::capture_guest(Role::Vault, name, &authentic, None).map_err(wrong)?,
    };
    Ok((identity, values))
}

pub(crate) fn check_version(version: u32) -> Result<(), SetupError> {
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
    /// The platform does not seal.
    #[error(transparent)]
    Platform(PlatformError),
    /// The plan is for another platform.
    #[error("the platform changed while the vault was made")]
    OtherPlatform,
    /// The guest's own report is not one that anybody would believe.
    #[error("this guest's own report is not believed, so nobody would believe the vault; is its certificate at hand?")]
    OwnReport(#[source] Box<SnpRefusal>),
    /// A key could not be made or used.
    #[error("cannot make the vault's keys")]
    Seal(#[source] SealError),
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
            SetupError::Platform(PlatformError::Selection(_) | PlatformError::NeverExtended { .. })
            | SetupError::Reference { .. }
            | SetupError::ReferenceRole { .. }
            | SetupError::Policy { .. } => RefusalCode::Malformed,
            SetupError::Platform(PlatformError::Device(_)) | SetupError::OwnReport(_) => RefusalCode::NotReady,
            SetupError::Store(_) => RefusalCode::Store,
            SetupError::Seal(_)
            | SetupError::Platform(_)
            | SetupError::OtherPlatform
            | SetupError::Audit(_)
            | SetupError::AkName
            | SetupError::TooLong(_)
            | SetupError::Out(_) => RefusalCode::Internal,
        };
        Refusal::new(code, &with_causes(error))
    }
}
