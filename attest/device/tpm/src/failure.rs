//! What went wrong inside a transaction, and what the client is told of it.

use blindferry_device::protocol::DeviceRefusal;
use thiserror::Error;
use tss_esapi::Error as EsapiError;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind;

/// Why a transaction ended early.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The TPM, or libtss2, refused a command.
    #[error("cannot {operation}")]
    Esapi {
        /// What was being done.
        operation: &'static str,
        /// The response code, as tss-esapi has it.
        source: EsapiError,
    },
    /// We ourselves refuse.
    #[error(transparent)]
    Refused(#[from] DeviceRefusal),
}

impl Failure {
    /// The kind of the TPM's response, when there is one.
    pub(crate) fn kind(&self) -> Option<Tss2ResponseCodeKind> {
        match self {
            Self::Esapi { source: EsapiError::Tss2Error(code), .. } => code.kind(),
            _ => None,
        }
    }

    /// Whether the slots of the TPM are full, so that sweeping them may help.
    pub(crate) fn is_full(&self) -> bool {
        use Tss2ResponseCodeKind::{ObjectHandles, ObjectMemory, SessionHandles, SessionMemory};
        matches!(self.kind(), Some(ObjectMemory | ObjectHandles | SessionMemory | SessionHandles))
    }

    /// What the client is told.
    pub(crate) fn into_refusal(self) -> DeviceRefusal {
        match (self.kind(), self) {
            (Some(Tss2ResponseCodeKind::Lockout), _) => DeviceRefusal::Lockout,
            (_, Self::Esapi { operation, source }) => {
                DeviceRefusal::Tpm { operation: operation.to_owned(), reason: source.to_string() }
            }
            (_, Self::Refused(refusal)) => refusal,
        }
    }
}

/// Says during what a command of tss-esapi was refused.
pub(crate) trait During<T> {
    /// `operation` completes "cannot …".
    fn during(self, operation: &'static str) -> Result<T, Failure>;
}

impl<T> During<T> for tss_esapi::Result<T> {
    fn during(self, operation: &'static str) -> Result<T, Failure> {
        self.map_err(|source| Failure::Esapi { operation, source })
    }
}
