//! What a broker or an operator knows of its vault beforehand, as a file.

use blindferry_attest::attested::{Pinned, PinnedGuest, PinnedMachine};
use blindferry_attest::reference::{ReferenceError, ReferenceValues};
use blindferry_attest::snp::ChipId;
use blindferry_attest::tpm::AkName;
use blindferry_attest::tpm::name::BadName;
use blindferry_proto::identifier::AuditKey;
use blindferry_proto::role::Role;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is known of a vault beforehand: its hardware, its software, the key of its audit. Written at `init`, carried to
/// hosts and operators like any reference value.
#[derive(Clone, Debug)]
pub struct VaultReference {
    /// Its hardware.
    pub identity: VaultIdentity,
    /// The key that signs its audit records, and vouches for it in each session. Without it any vault of the same
    /// software on the same hardware passes; only a vault on a TPM may be without.
    pub audit_key: Option<AuditKey>,
    /// What its platform may run.
    pub reference: ReferenceValues,
}

/// The hardware of a vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultIdentity {
    /// A TPM, by the Name of the vault's attestation key.
    Ak(AkName),
    /// A processor under an SEV-SNP guest.
    Chip(ChipId),
    /// Any processor of this cloud, whose reports are signed by a VLEK and do not tell the chip.
    Provider(String),
}

impl VaultIdentity {
    /// Who the vault must be, now.
    #[expect(clippy::disallowed_methods, reason = "the shell of a session: certificates are judged by this clock")]
    pub(crate) fn pinned(&self) -> Pinned<'_> {
        let machine = match self {
            Self::Ak(name) => return Pinned::Ak { name, earlier: None },
            Self::Chip(chip) => PinnedMachine::Chip(chip),
            Self::Provider(provider) => PinnedMachine::Provider(provider),
        };
        // Before 1970 no certificate is valid.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Pinned::Guest(PinnedGuest { machine, report_id: None, now, crls: &[], endorsed: None })
    }
}

impl VaultReference {
    /// Reads a vault's reference file: reference values whose role is `vault`, with two keys more at the top. One is
    /// `audit_key`. The other names the hardware: `ak`, the Name of the vault's attestation key; or `chip_id`, the
    /// processor of an SEV-SNP guest; or `provider`, the cloud whose VLEK signs. All but the last are in hexadecimal.
    ///
    /// # Errors
    /// [`VaultReferenceError`] says what is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, VaultReferenceError> {
        let mut table: toml::Table =
            text.parse().map_err(|source| VaultReferenceError::Toml { source: Box::new(source) })?;
        let identity = identity(&mut table)?;
        let audit_key = match table.remove("audit_key") {
            None => None,
            Some(toml::Value::String(key)) => Some(key.parse().map_err(|_| VaultReferenceError::AuditKey)?),
            Some(_) => return Err(VaultReferenceError::AuditKey),
        };
        if audit_key.is_none() && !matches!(identity, VaultIdentity::Ak(_)) {
            return Err(VaultReferenceError::AuditKey);
        }
        let reference = ReferenceValues::parse(&table.to_string())
            .map_err(|source| VaultReferenceError::Reference { source: Box::new(source) })?;
        if reference.role() != Role::Vault {
            return Err(VaultReferenceError::Role { found: reference.role() });
        }
        Ok(Self { identity, audit_key, reference })
    }
}

fn identity(table: &mut toml::Table) -> Result<VaultIdentity, VaultReferenceError> {
    let hexadecimal = |text: String| hex::decode(text).map_err(|source| VaultReferenceError::Hex { source });
    match (table.remove("ak"), table.remove("chip_id"), table.remove("provider")) {
        (Some(toml::Value::String(ak)), None, None) => AkName::from_bytes(&hexadecimal(ak)?)
            .map(VaultIdentity::Ak)
            .map_err(|source| VaultReferenceError::Ak { source }),
        (None, Some(toml::Value::String(chip)), None) => <[u8; 64]>::try_from(hexadecimal(chip)?)
            .ok()
            .map(ChipId::new)
            .filter(|chip| !chip.is_zero())
            .map(VaultIdentity::Chip)
            .ok_or(VaultReferenceError::ChipId),
        (None, None, Some(toml::Value::String(provider))) => Ok(VaultIdentity::Provider(provider)),
        _ => Err(VaultReferenceError::NoIdentity),
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
    /// Not exactly one of the keys that name the hardware.
    #[error(
        "the vault's reference has not exactly one of `ak`, the Name of its attestation key, `chip_id`, the processor of \
         its guest, and `provider`, the cloud that its guest runs at"
    )]
    NoIdentity,
    /// `chip_id` is no processor.
    #[error("`chip_id` is not 128 hexadecimal digits, or zero")]
    ChipId,
    /// The value is not hexadecimal.
    #[error("`ak` or `chip_id` is not hexadecimal")]
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
    /// `audit_key` is no key, or is missing where the hardware alone does not tell the vault.
    #[error("`audit_key` is not 64 hexadecimal digits; on SEV-SNP there must be one")]
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
