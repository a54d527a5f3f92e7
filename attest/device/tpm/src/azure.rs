//! A confidential machine of Azure: a paravisor beneath the guest keeps the vTPM, with an attestation key of its own, and
//! leaves a blob in it whose report of SEV-SNP vouches for that key (decision 30).
//!
//! The blob is read at each quote, since it is made anew when the machine starts. What the guest could write to NV index
//! 0x01400002, to have it in the next report, is not used: the quote carries the binder.

use std::path::{Path, PathBuf};

use blindferry_attest::azure::{AzureEvidence, Hcl};
use blindferry_attest::evidence::{Evidence, TpmEvidence};
use blindferry_attest::snp::Report;
use blindferry_device::certificates::{Cache, address};
use blindferry_device::protocol::DeviceRefusal;
use tss_esapi::handles::{KeyHandle, NvIndexTpmHandle, PersistentTpmHandle, TpmHandle};

use crate::attestation::AttestationKey;
use crate::endorsement::{handles, read_index};
use crate::failure::{During, Failure};
use crate::pins::{CERTIFICATES, Pins};
use crate::tcti::Tcti;
use crate::transaction::{Protect, SaltKey, Transaction, name};

/// The key that the paravisor made.
pub(crate) fn attestation_key(transaction: &mut Transaction) -> Result<AttestationKey, Failure> {
    let wanted = TpmHandle::Persistent(PersistentTpmHandle::new(KEY).during("name the vTPM's attestation key")?);
    if handles(transaction, KEY)?.first() != Some(&wanted) {
        return Err(refused(format!("there is no key at {KEY:#x}")));
    }
    let handle: KeyHandle =
        transaction.plain("find the vTPM's attestation key", |context| context.tr_from_tpm_public(wanted))?.into();
    let (public, ..) = transaction
        .protected(Protect::Response, "read the vTPM's attestation key", |context| context.read_public(handle))?;
    let name = name(&public)?;
    Ok(AttestationKey { handle, public, name })
}

/// What vouches for the key of this machine's vTPM: the paravisor's blob, and the certificates that vouch for the blob.
pub(crate) struct Vouching {
    blob: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

impl Vouching {
    /// Reads the blob; the certificates are those that are kept beside the pin file.
    pub(crate) fn read(transaction: &mut Transaction, pins: &Pins) -> Result<Self, Failure> {
        let blob = blob(transaction)?;
        let report = report(&blob)?;
        let cache = Cache::new(&pins.certificates);
        let certificate = cache.certificate(&report)?;
        let certificate = certificate.ok_or_else(|| DeviceRefusal::NoCertificate { address: address(&report) })?;
        let certificates = [certificate].into_iter().chain(cache.authority(&report)?).collect();
        let crls = cache.crl(&report)?.into_iter().collect();
        Ok(Self { blob, certificates, crls })
    }

    /// A quote beside it.
    pub(crate) fn with(self, quote: TpmEvidence) -> Result<Evidence, DeviceRefusal> {
        let evidence = AzureEvidence::new(self.blob, self.certificates, self.crls, quote);
        evidence.map(Evidence::Azure).map_err(|error| refusal(error.to_string()))
    }
}

/// Keeps the certificate of this machine's processor beside the pin file, and gives its path.
pub(crate) fn import(tcti: &Tcti, pins: &Path, salt_key_name: &[u8], der: &[u8]) -> Result<PathBuf, DeviceRefusal> {
    let cache = Cache::new(&pins.with_file_name(CERTIFICATES));
    Transaction::run(tcti, SaltKey::Pinned(salt_key_name), |transaction| {
        let report = report(&blob(transaction)?)?;
        let unusable = |error: std::io::Error| DeviceRefusal::CertificatesUnusable { reason: error.to_string() };
        Ok(cache.import(&report, der).map_err(unusable)?)
    })
}

fn blob(transaction: &mut Transaction) -> Result<Vec<u8>, Failure> {
    let index = NvIndexTpmHandle::new(BLOB).during("name the paravisor's blob")?;
    if handles(transaction, BLOB)?.first() != Some(&TpmHandle::NvIndex(index)) {
        return Err(refused(format!("there is no blob at NV index {BLOB:#x}")));
    }
    read_index(transaction, index, true)
}

fn report(blob: &[u8]) -> Result<Report, Failure> {
    let hcl = Hcl::parse(blob).map_err(|error| refused(error.to_string()))?;
    Report::parse(hcl.report()).map_err(|error| refused(error.to_string()))
}

fn refused(reason: String) -> Failure {
    Failure::Refused(refusal(reason))
}

fn refusal(reason: String) -> DeviceRefusal {
    DeviceRefusal::Tpm { operation: "prove a machine of Azure".to_owned(), reason }
}

/// Where the paravisor keeps its attestation key, and its blob.
const KEY: u32 = 0x8100_0003;
const BLOB: u32 = 0x0140_0001;
