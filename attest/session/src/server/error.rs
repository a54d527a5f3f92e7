//! Why a peer got no session, and the stable code of each reason.

use crate::channel::ChannelError;
use crate::platform::PlatformError;
use blindferry_attest::attested::AppraisalError;
use blindferry_attest::evidence::EvidenceError;
use blindferry_proto::session::VERSION;
use std::io;

/// Why a peer got no session.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls {
        /// Why.
        source: io::Error,
    },
    /// The connection is not what it must be, or ended.
    #[error("the connection cannot go on")]
    Channel(
        /// Why.
        #[from]
        ChannelError,
    ),
    /// The peer speaks another version.
    #[error("the peer speaks version {version}, want {VERSION}")]
    Version {
        /// Its version.
        version: u16,
    },
    /// Only a reflection of the vault would claim this.
    #[error("the peer claims to be a vault")]
    RoleOfVault,
    /// The vault's own platform made no evidence.
    #[error("the vault cannot prove itself")]
    OwnEvidence {
        /// Why not.
        source: PlatformError,
    },
    /// The vault's audit key signs nothing.
    #[error("the vault cannot vouch for itself with its audit key")]
    NotVouched,
    /// The peer's evidence does not parse.
    #[error("the peer's evidence cannot be read")]
    Evidence {
        /// Why not.
        source: EvidenceError,
    },
    /// The peer's evidence was refused.
    #[error("the peer's evidence is refused")]
    Appraisal {
        /// Why.
        source: Box<AppraisalError>,
    },
}

impl ServerError {
    /// The stable code for audit and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tls { .. } => "tls",
            Self::Channel(error) => error.code(),
            Self::Version { .. } => "version",
            Self::RoleOfVault => "role-of-vault",
            Self::OwnEvidence { .. } => "own-evidence",
            Self::NotVouched => "not-vouched",
            Self::Evidence { source } => source.code(),
            Self::Appraisal { source } => source.code(),
        }
    }
}
