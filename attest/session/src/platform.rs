//! The hardware seam: what makes evidence for one end of a session.

use blindferry_attest::binder::Binder;
use blindferry_attest::tpm::PcrSelection;
use blindferry_device::client::{Device, DeviceError};
use blindferry_device::protocol::Description;
use blindferry_proto::bounded::{Bytes, TooLong};
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::session::{Activate, Endorsement};
use std::future::Future;

/// Makes evidence. A trait because tests need an end without a TPM; there is one implementation that ships.
pub trait Platform: Clone + Send + Sync + 'static {
    /// Evidence over `binder`, with these logs of a TPM's machine, encoded.
    fn evidence(
        &self,
        binder: &Binder,
        logs: WantedLogs,
    ) -> impl Future<Output = Result<Vec<u8>, PlatformError>> + Send;
    /// Who vouches for the platform's attestation key; nothing where the evidence brings that itself.
    fn endorsement(&self) -> impl Future<Output = Result<Option<Endorsement>, PlatformError>> + Send;
    /// What is inside a credential that was made for this platform.
    fn activate(&self, credential: &Activate) -> impl Future<Output = Result<[u8; 32], PlatformError>> + Send;
}

/// A TPM 2.0, or an SEV-SNP guest, behind its device process.
#[derive(Clone, Debug)]
pub struct Attester {
    device: Device,
    /// What a TPM quotes; a guest's report covers what it covers.
    selection: Option<PcrSelection>,
}

impl Attester {
    /// Evidence from `device`, over the PCRs of `selection`.
    #[must_use]
    pub fn new(device: Device, selection: PcrSelection) -> Self {
        Self { device, selection: Some(selection) }
    }

    /// Evidence from the SEV-SNP guest of `device`.
    #[must_use]
    pub fn guest(device: Device) -> Self {
        Self { device, selection: None }
    }
}

impl Platform for Attester {
    async fn evidence(&self, binder: &Binder, logs: WantedLogs) -> Result<Vec<u8>, PlatformError> {
        let quote = self.device.quote_with(*binder.as_bytes(), self.selection.as_ref(), logs).await;
        quote.map_err(|source| PlatformError::Device { doing: "quote", source })
    }

    async fn endorsement(&self) -> Result<Option<Endorsement>, PlatformError> {
        let described = self.device.describe().await;
        let tpm = match described.map_err(|source| PlatformError::Device { doing: "describe the platform", source })? {
            Description::Tpm(tpm) => tpm,
            Description::Snp(_) => return Ok(None),
        };
        let too_long = |source| PlatformError::TooLong { what: "endorsement", source };
        Ok(Some(Endorsement {
            ek_public: Bytes::new(tpm.ek_public).map_err(too_long)?,
            certificates: tpm
                .ek_certificates
                .into_iter()
                .take(blindferry_proto::limits::MAX_CERTIFICATES)
                .map(Bytes::new)
                .collect::<Result<_, _>>()
                .map_err(too_long)?,
            ak_public: Bytes::new(tpm.ak_public).map_err(too_long)?,
        }))
    }

    async fn activate(&self, credential: &Activate) -> Result<[u8; 32], PlatformError> {
        let activated =
            self.device.activate(credential.credential.as_slice(), credential.encrypted_secret.as_slice()).await;
        let secret = activated.map_err(|source| PlatformError::Device { doing: "activate a credential", source })?;
        #[expect(
            clippy::disallowed_methods,
            reason = "proves enrolment once and opens nothing; it goes into one message"
        )]
        let bytes = secret.expose();
        bytes.try_into().map_err(|_| PlatformError::Other("the activated secret is not 32 bytes"))
    }
}

/// The platform did not make what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The device process said no, or is gone.
    #[error("cannot {doing}")]
    Device {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: DeviceError,
    },
    /// What it made is longer than a message may be.
    #[error("the {what} is too long for a message")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long.
        source: TooLong,
    },
    /// A platform that is no TPM, in a test.
    #[error("{0}")]
    Other(&'static str),
}
