//! Provisioning: the one time when the TPM's keys are taken as they are, and pinned.
//!
//! It is to be done where nobody sits between the machine and its TPM: whoever does it on an interposed bus pins the
//! interposer. Whoever can, compares the endorsement key that is printed with the maker's certificate.

use std::path::Path;

use blindferry_device::protocol::DeviceRefusal;
use thiserror::Error;

use crate::attestation;
use crate::azure;
use crate::endorsement::{self, EkKind};
use crate::pins::Pins;
use crate::tcti::Tcti;
use crate::transaction::{SaltKey, Transaction};

/// Reads the Names of the TPM's keys and writes them into the pin file.
pub(crate) fn provision(
    tcti: &Tcti,
    path: &Path,
    wanted: Option<EkKind>,
    azure: bool,
    force: bool,
) -> Result<Pins, ProvisionError> {
    if !force && path.exists() {
        return Err(ProvisionError::Exists { path: path.display().to_string() });
    }
    let pins = Transaction::run(tcti, SaltKey::TrustOnFirstUse, |transaction| {
        let kind = match wanted {
            Some(kind) => kind,
            None => endorsement::best_kind(transaction)?,
        };
        let endorsement_key = endorsement::load(transaction, kind)?;
        let salt_key_name = transaction.salt_key_name().to_vec();
        if endorsement_key.transient {
            transaction.flush(endorsement_key.handle)?;
        }
        let attestation_key =
            if azure { azure::attestation_key(transaction)? } else { attestation::create(transaction)? };
        let mut pins = Pins::new(salt_key_name, attestation_key.name, kind, endorsement_key.hash);
        pins.azure = azure;
        Ok(pins)
    })
    .map_err(|refusal| ProvisionError::Tpm { refusal })?;
    pins.write(path, force).map_err(|source| ProvisionError::Write { path: path.display().to_string(), source })?;
    Ok(pins)
}

/// Why nothing was provisioned.
#[derive(Debug, Error)]
pub(crate) enum ProvisionError {
    /// There are pins already.
    #[error(
        "{path} exists: this TPM is provisioned. With --force it is pinned anew; whatever was sealed under another TPM \
         stays lost, and hosts enrolled with another attestation key must be enrolled again"
    )]
    Exists { path: String },
    /// The TPM said no.
    #[error("cannot read the TPM's keys: {refusal}")]
    Tpm { refusal: DeviceRefusal },
    /// The file was not written.
    #[error("cannot write the pin file {path}")]
    Write { path: String, source: std::io::Error },
}
