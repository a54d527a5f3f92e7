//! The endorsement key (EK): the one the maker certified where there is such a one, else one from the default template.
//!
//! Numbers are of the TCG EK Credential Profile for TPM Family 2.0, version 2.5, sections 2.2.1 and B.

use blindferry_device::protocol::DeviceRefusal;
use serde::{Deserialize, Serialize};
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek};
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth};
use tss_esapi::structures::{CapabilityData, Public};

use crate::failure::{During, Failure};
use crate::transaction::{Protect, Transaction, name};

/// The endorsement keys that we know how to make, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EkKind {
    /// Template L-2, certificate at 0x01c0000a.
    #[value(name = "ecc-p256")]
    #[serde(rename = "ecc-p256")]
    EccP256,
    /// Template H-3, certificate at 0x01c00016.
    #[value(name = "ecc-p384")]
    #[serde(rename = "ecc-p384")]
    EccP384,
    /// Template L-1, certificate at 0x01c00002.
    #[value(name = "rsa-2048")]
    #[serde(rename = "rsa-2048")]
    Rsa2048,
}

impl EkKind {
    pub(crate) const ALL: [Self; 3] = [Self::EccP256, Self::EccP384, Self::Rsa2048];

    const fn certificate_index(self) -> u32 {
        match self {
            Self::EccP256 => 0x01c0_000a,
            Self::EccP384 => 0x01c0_0016,
            Self::Rsa2048 => 0x01c0_0002,
        }
    }

    const fn algorithm(self) -> AsymmetricAlgorithmSelection {
        match self {
            Self::EccP256 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            Self::EccP384 => AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP384),
            Self::Rsa2048 => AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048),
        }
    }
}

/// An endorsement key in the TPM.
pub(crate) struct EndorsementKey {
    pub(crate) handle: KeyHandle,
    pub(crate) public: Public,
    pub(crate) name: Vec<u8>,
    /// Persistent keys must not be flushed, and take no slot.
    pub(crate) transient: bool,
}

/// Loads the endorsement key of this kind: the persistent one where the platform has one, else from the template.
pub(crate) fn load(transaction: &mut Transaction, kind: EkKind) -> Result<EndorsementKey, Failure> {
    let template =
        ek::create_ek_public_from_default_template_2(kind.algorithm(), None).during("build the EK's template")?;
    for handle in handles(transaction, PERSISTENT_EK_FIRST)? {
        let TpmHandle::Persistent(persistent) = handle else { continue };
        if u32::from(persistent) > PERSISTENT_EK_LAST {
            break;
        }
        if let Some(key) = persistent_key(transaction, persistent, &template)? {
            return Ok(key);
        }
    }
    let (handle, public) = transaction.primary(Hierarchy::Endorsement, template, "create the endorsement key")?;
    Ok(EndorsementKey { handle, name: name(&public)?, public, transient: true })
}

/// The EK certificates in NV memory, that of `first` before the others, each as DER.
pub(crate) fn certificates(transaction: &mut Transaction, first: EkKind) -> Result<Vec<Vec<u8>>, Failure> {
    let mut kinds = vec![first];
    kinds.extend(EkKind::ALL.into_iter().filter(|kind| *kind != first));
    let mut certificates = Vec::new();
    for kind in kinds {
        certificates.extend(certificate(transaction, kind)?);
    }
    Ok(certificates)
}

/// The best kind for which there is a certificate, else the best kind.
pub(crate) fn best_kind(transaction: &mut Transaction) -> Result<EkKind, Failure> {
    for kind in EkKind::ALL {
        if certificate(transaction, kind)?.is_some() {
            return Ok(kind);
        }
    }
    Ok(EkKind::EccP256)
}

fn certificate(transaction: &mut Transaction, kind: EkKind) -> Result<Option<Vec<u8>>, Failure> {
    let wanted = NvIndexTpmHandle::new(kind.certificate_index()).during("name an NV index")?;
    let defined = handles(transaction, kind.certificate_index())?.first() == Some(&TpmHandle::NvIndex(wanted));
    if !defined {
        return Ok(None);
    }
    let index: NvIndexHandle = transaction
        .plain("find an EK certificate", |context| context.tr_from_tpm_public(TpmHandle::NvIndex(wanted)))?
        .into();
    let (public, _) = transaction.plain("find an EK certificate", |context| context.nv_read_public(index))?;
    if public.data_size() > CERTIFICATE_LIMIT {
        return Err(Failure::Refused(DeviceRefusal::BadCertificate { index: kind.certificate_index() }));
    }
    let size = u16::try_from(public.data_size()).unwrap_or(u16::MAX);
    let mut der = Vec::new();
    while der.len() < public.data_size() {
        let offset = u16::try_from(der.len()).unwrap_or(u16::MAX);
        let piece = transaction.protected(Protect::Response, "read an EK certificate", |context| {
            context.nv_read(NvAuth::NvIndex(index), index, NV_PIECE.min(size - offset), offset)
        })?;
        der.extend_from_slice(piece.value());
    }
    // The index may be larger than the certificate in it.
    let len = der_len(&der).filter(|len| *len <= der.len());
    der.truncate(len.ok_or(DeviceRefusal::BadCertificate { index: kind.certificate_index() })?);
    Ok(Some(der))
}

/// The key behind this handle, if it was made from this template.
fn persistent_key(
    transaction: &mut Transaction,
    persistent: PersistentTpmHandle,
    template: &Public,
) -> Result<Option<EndorsementKey>, Failure> {
    let handle: KeyHandle = transaction
        .plain("find the endorsement key", |context| context.tr_from_tpm_public(TpmHandle::Persistent(persistent)))?
        .into();
    let (public, ..) = transaction.protected(Protect::Response, "read the endorsement key", |context| {
        context.read_public(handle)
    })?;
    if !same_template(&public, template) {
        return Ok(None);
    }
    Ok(Some(EndorsementKey { handle, name: name(&public)?, public, transient: false }))
}

fn same_template(public: &Public, template: &Public) -> bool {
    let parameters_agree = match (public, template) {
        (Public::Ecc { parameters: one, .. }, Public::Ecc { parameters: other, .. }) => one == other,
        (Public::Rsa { parameters: one, .. }, Public::Rsa { parameters: other, .. }) => one == other,
        _ => false,
    };
    parameters_agree
        && public.auth_policy() == template.auth_policy()
        && public.object_attributes() == template.object_attributes()
        && public.name_hashing_algorithm() == template.name_hashing_algorithm()
}

fn handles(transaction: &mut Transaction, first: u32) -> Result<Vec<TpmHandle>, Failure> {
    match transaction.plain("list handles", |context| context.get_capability(CapabilityType::Handles, first, 64))? {
        (CapabilityData::Handles(handles), _) => Ok(handles.iter().copied().collect()),
        _ => Ok(Vec::new()),
    }
}

/// The length of the DER value at the start of `bytes`: certificates have a length of two bytes.
fn der_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// Where platforms keep endorsement keys (TCG Registry of Reserved TPM 2.0 Handles, section 2.3.1).
const PERSISTENT_EK_FIRST: u32 = 0x8101_0000;
const PERSISTENT_EK_LAST: u32 = 0x8101_ffff;

/// No certificate of a TPM is longer, in bytes.
const CERTIFICATE_LIMIT: usize = 4096;

/// Every TPM reads at least this much NV memory at once.
const NV_PIECE: u16 = 512;
