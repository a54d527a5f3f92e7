//! What a broker or an operator knows of its vault beforehand, as a file.

use blindferry_attest::reference::{ReferenceError, ReferenceValues};
use blindferry_attest::tpm::AkName;
use blindferry_attest::tpm::name::BadName;
use blindferry_proto::identifier::AuditKey;
use blindferry_proto::role::Role;

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
