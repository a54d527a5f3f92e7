//! Why a peer got no session: a stable code for audit and metrics, a sentence for people.

use crate::asked::UnfitEvidence;
use crate::channel::ChannelError;
use crate::platform::PlatformError;
use blindferry_attest::attested::AppraisalError;
use blindferry_proto::session::OpenError;
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
    /// The first message is of another version, or none.
    #[error("the peer cannot be understood")]
    Open(
        /// Why not.
        #[from]
        OpenError,
    ),
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
    /// The peer's evidence does not parse, or is more than was asked for.
    #[error("what the peer sent as its evidence is not taken")]
    Evidence {
        /// Why not.
        source: UnfitEvidence,
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
            Self::Open(OpenError::Version { .. }) => "version",
            Self::Open(OpenError::Malformed(_)) => "malformed",
            Self::RoleOfVault => "role-of-vault",
            Self::OwnEvidence { .. } => "own-evidence",
            Self::NotVouched => "not-vouched",
            Self::Evidence { source } => source.code(),
            Self::Appraisal { source } => source.code(),
        }
    }
}
