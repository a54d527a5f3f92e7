//! Answers a client: what a guest can, from its firmware; what only a TPM can, with a refusal.

use std::path::Path;

use blindferry_attest::evidence::Evidence;
use blindferry_attest::snp::{Report, SnpEvidence};
use blindferry_device::protocol::{Description, DeviceRefusal, Reply, Request, SnpDescription};
use blindferry_device::serve::{self, Answer, ServeError, bad};
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::secret::SecretBytes;
use blindferry_handle::sev_guest::ExtendedReport;
use ring::rand::SystemRandom;

use crate::guest::Guest;
use crate::sealing::{self, Unsealed};
use crate::table::Table;
use blindferry_device::certificates::{self as cache, Cache};

/// Serves until the client is gone. `cache` holds certificates that the host does not give.
///
/// # Errors
/// [`ServeError`].
pub fn serve(socket: &PacketSocket, guest: &impl Guest, cache: Option<&Path>) -> Result<(), ServeError> {
    let cache = cache.map(Cache::new);
    serve::serve(socket, |request, key| answer(guest, cache.as_ref(), request, key))
}

fn answer(
    guest: &impl Guest,
    cache: Option<&Cache>,
    request: Request,
    key: Option<SecretBytes>,
) -> Result<Answer, DeviceRefusal> {
    match (request, key) {
        (Request::Describe, _) => {
            describe(guest, cache).map(|it| Reply::Description(Box::new(Description::Snp(it))).into())
        }
        (Request::Quote { binder, .. }, _) => evidence(guest, cache, &binder).map(|it| Reply::Evidence(it).into()),
        (Request::SealToGuest { mix }, Some(key)) => {
            sealing::seal(guest, &key, mix, &SystemRandom::new()).map(|blob| Reply::Sealed(blob).into())
        }
        (Request::SealToGuest { .. }, None) => Err(bad("the key to seal is missing")),
        (Request::UnsealAsGuest { blob }, _) => {
            let Unsealed { secret, mix, risen } = sealing::unseal(guest, &blob)?;
            Ok(Answer::with(Reply::GuestSecret { mix, risen }, secret))
        }
        (
            Request::Pcrs { .. }
            | Request::Activate { .. }
            | Request::Seal { .. }
            | Request::Unseal { .. }
            | Request::Counter(_),
            _,
        ) => Err(DeviceRefusal::OtherPlatform {
            platform: "an SEV-SNP guest".to_owned(),
            wanted: "a TPM 2.0".to_owned(),
        }),
    }
}

/// Who the guest is.
///
/// # Errors
/// [`DeviceRefusal`].
pub fn describe(guest: &impl Guest, cache: Option<&Cache>) -> Result<SnpDescription, DeviceRefusal> {
    let made = guest.report(&no_binder())?;
    let report = parsed(&made)?;
    let certificates = match certificates(&made, &report, cache) {
        Ok((certificates, _)) => certificates,
        // Who asks who this is wants to know what is missing.
        Err(DeviceRefusal::NoCertificate { .. }) => Vec::new(),
        Err(refusal) => return Err(refusal),
    };
    Ok(SnpDescription {
        interface: guest.interface().to_owned(),
        report: made.report,
        certificates,
        certificate_address: cache::address(&report),
    })
}

fn evidence(guest: &impl Guest, cache: Option<&Cache>, binder: &[u8; 32]) -> Result<Vec<u8>, DeviceRefusal> {
    let data = data_of(binder);
    let made = guest.report(&data)?;
    let report = parsed(&made)?;
    if report.body().report_data.as_bytes() != &data {
        return Err(DeviceRefusal::ForeignReport { reason: "it is over other data than ours".to_owned() });
    }
    let (certificates, crls) = certificates(&made, &report, cache)?;
    let evidence = SnpEvidence::new(made.report, certificates, crls)
        .map_err(|error| DeviceRefusal::CertificatesUnusable { reason: error.to_string() })?;
    Ok(Evidence::Snp(evidence).encode())
}

type Certificates = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The certificate of the key that signed, those above it, revocation lists. The cache first: it is filled for exactly
/// this chip and TCB version, while a host may not have looked since its firmware was updated.
fn certificates(made: &ExtendedReport, report: &Report, cache: Option<&Cache>) -> Result<Certificates, DeviceRefusal> {
    let table =
        Table::parse(&made.table).map_err(|error| DeviceRefusal::CertificatesUnusable { reason: error.to_string() })?;
    let given = match report.body().signing_key {
        0 => table.vcek,
        1 => table.vlek,
        _ => None,
    };
    let cached = cache.map_or(Ok(None), |cache| cache.certificate(report))?;
    let Some(own) = cached.or(given) else {
        return Err(DeviceRefusal::NoCertificate { address: cache::address(report) });
    };
    let mut certificates = vec![own];
    certificates.extend(cache.map_or(Ok(None), |cache| cache.authority(report))?);
    certificates.extend(table.authorities);
    // The one that an operator brought first: a host's may be old.
    let mut crls: Vec<Vec<u8>> = cache.map_or(Ok(None), |cache| cache.crl(report))?.into_iter().collect();
    crls.extend(table.crls);
    crls.truncate(MOST_CRLS);
    Ok((certificates, crls))
}

fn parsed(made: &ExtendedReport) -> Result<Report, DeviceRefusal> {
    Report::parse(&made.report)
        .map_err(|error| DeviceRefusal::Guest { operation: "make a report".to_owned(), reason: error.to_string() })
}

/// `REPORT_DATA` over a binder: the binder, then zeros.
#[must_use]
pub fn data_of(binder: &[u8; 32]) -> [u8; 64] {
    let mut data = [0; 64];
    let (first, _) = data.split_at_mut(binder.len());
    first.copy_from_slice(binder);
    data
}

/// `REPORT_DATA` of a report that answers nobody: no binder ends in these bytes, since binders are followed by zeros.
#[must_use]
pub fn no_binder() -> [u8; 64] {
    let mut data = [0; 64];
    let (_, second) = data.split_at_mut(32);
    second.copy_from_slice(b"blindferry: evidence for nobody.");
    data
}

/// Revocation lists that evidence can carry.
const MOST_CRLS: usize = 3;
