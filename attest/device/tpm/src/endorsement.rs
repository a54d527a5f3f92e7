//! The endorsement key (EK): the one the maker certified where there is such a one, else one from the default template.
//!
//! Numbers are of the TCG EK Credential Profile for TPM Family 2.0, version 2.5, sections 2.2.1 and B.

use blindferry_attest::tpm;
use blindferry_device::protocol::DeviceRefusal;
use ring::digest;
use serde::{Deserialize, Serialize};
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek};
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth};
use tss_esapi::structures::{CapabilityData, Public};
use tss_esapi::traits::Marshall;

use crate::failure::{During, Failure};
use crate::transaction::{Protect, Transaction};

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
    /// SHA-256 of its SubjectPublicKeyInfo: what allow-lists name a TPM by.
    pub(crate) hash: Vec<u8>,
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
    Ok(EndorsementKey { handle, hash: hash(&public)?, public, transient: true })
}

/// The certificate of this endorsement key, if NV memory holds one, and after it those of the maker's CAs that NV memory
/// holds too. Each as DER.
pub(crate) fn certificates(transaction: &mut Transaction, kind: EkKind) -> Result<Vec<Vec<u8>>, Failure> {
    let Some(leaf) = certificate(transaction, kind)? else { return Ok(Vec::new()) };
    let mut certificates = vec![leaf];
    let mut total = 0;
    for handle in handles(transaction, CHAIN_FIRST)? {
        let TpmHandle::NvIndex(index) = handle else { break };
        if u32::from(index) > CHAIN_LAST {
            break;
        }
        let bytes = read_index(transaction, index, false)?;
        let mut rest = &bytes[..];
        while let Some((der, after)) = der_len(rest).and_then(|len| rest.split_at_checked(len)) {
            total += der.len();
            if total > CHAIN_LIMIT {
                return Err(Failure::Refused(DeviceRefusal::BadCertificate { index: u32::from(index) }));
            }
            certificates.push(der.to_vec());
            rest = after;
        }
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
    let mut der = read_index(transaction, wanted, false)?;
    // The index may be larger than the certificate in it.
    let len = der_len(&der).filter(|len| *len <= der.len());
    der.truncate(len.ok_or(DeviceRefusal::BadCertificate { index: kind.certificate_index() })?);
    Ok(Some(der))
}

/// All of an index, by its own empty password, or the owner's.
pub(crate) fn read_index(
    transaction: &mut Transaction,
    wanted: NvIndexTpmHandle,
    by_owner: bool,
) -> Result<Vec<u8>, Failure> {
    let index: NvIndexHandle = transaction
        .plain("find an EK certificate", |context| context.tr_from_tpm_public(TpmHandle::NvIndex(wanted)))?
        .into();
    let (public, _) =
        transaction.protected(Protect::Response, "find an EK certificate", |context| context.nv_read_public(index))?;
    let size = u16::try_from(public.data_size()).ok().filter(|size| *size <= CERTIFICATE_LIMIT);
    let size = size.ok_or(DeviceRefusal::BadCertificate { index: u32::from(wanted) })?;
    let by = if by_owner { NvAuth::Owner } else { NvAuth::NvIndex(index) };
    let mut bytes = Vec::new();
    let mut offset = 0;
    while offset < size {
        let piece = NV_PIECE.min(size - offset);
        let read = transaction.protected(Protect::Response, "read an EK certificate", |context| {
            context.nv_read(by, index, piece, offset)
        })?;
        bytes.extend_from_slice(read.value());
        offset += piece;
    }
    Ok(bytes)
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
    let (public, ..) =
        transaction.protected(Protect::Response, "read the endorsement key", |context| context.read_public(handle))?;
    if !same_template(&public, template) {
        return Ok(None);
    }
    Ok(Some(EndorsementKey { handle, hash: hash(&public)?, public, transient: false }))
}

fn hash(public: &Public) -> Result<Vec<u8>, Failure> {
    let marshalled = public.marshall().during("marshal the endorsement key")?;
    let parsed = tpm::public::Public::parse(&marshalled).map_err(|error| DeviceRefusal::Tpm {
        operation: "use its endorsement key".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(digest::digest(&digest::SHA256, &parsed.key().spki()).as_ref().to_vec())
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

pub(crate) fn handles(transaction: &mut Transaction, first: u32) -> Result<Vec<TpmHandle>, Failure> {
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
const CERTIFICATE_LIMIT: u16 = 4096;

/// Where platforms keep the certificates of the maker's CAs, one or several to an index.
const CHAIN_FIRST: u32 = 0x01c0_0100;
const CHAIN_LAST: u32 = 0x01c0_01ff;

/// The most of them, in bytes.
const CHAIN_LIMIT: usize = 16 * 1024;

/// Every TPM reads at least this much NV memory at once.
const NV_PIECE: u16 = 512;
