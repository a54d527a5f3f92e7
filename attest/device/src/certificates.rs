//! Certificates and revocation lists that the host does not give, in a directory that an operator fills: nothing is fetched
//! here.
//!
//! ```text
//! DIRECTORY/Genoa/<chip id, 128 digits>/<TCB version, 16 digits>.der
//! DIRECTORY/Genoa/crl.der
//! DIRECTORY/Genoa/ask.der      only where the certificate between is none that AMD has published
//! ```
//!
//! What lies there is in DER, byte for byte what AMD's key distribution service (KDS, AMD 57230) gives for the addresses of
//! [`address`] and [`crl_address`]; the TCB version is written as it stands in a report. Who verifies a report verifies the certificate
//! too, so a wrong file is a refusal and no more.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::protocol::DeviceRefusal;
use blindferry_attest::snp::{Product, Report};

/// A directory of certificates.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The certificates in this directory, which need not be there.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The certificate of the key that signed this report, if it is here.
    ///
    /// # Errors
    /// [`DeviceRefusal::CertificatesUnusable`] when it is here and cannot be read.
    pub fn certificate(&self, report: &Report) -> Result<Option<Vec<u8>>, DeviceRefusal> {
        self.place(report).map_or(Ok(None), |path| found(&path))
    }

    /// The revocation list of this report's product, if it is here.
    ///
    /// # Errors
    /// As [`Cache::certificate`].
    pub fn crl(&self, report: &Report) -> Result<Option<Vec<u8>>, DeviceRefusal> {
        self.place_of_crl(report).map_or(Ok(None), |path| found(&path))
    }

    /// The certificate above that of the signing key, if it is here.
    ///
    /// # Errors
    /// As [`Cache::certificate`].
    pub fn authority(&self, report: &Report) -> Result<Option<Vec<u8>>, DeviceRefusal> {
        let path = product_of(report).map(|product| self.directory.join(product.name()).join("ask.der"));
        path.map_or(Ok(None), |path| found(&path))
    }

    /// Puts a certificate in DER where [`Cache::certificate`] finds it for this report. Gives its path.
    ///
    /// # Errors
    /// When the report is not by a chip's own key or does not tell its product, or the file cannot be written.
    pub fn import(&self, report: &Report, der: &[u8]) -> io::Result<PathBuf> {
        let path = self.place(report).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the report is not by a chip's own key, or hides its chip")
        })?;
        keep(path, der)
    }

    /// Puts a revocation list in DER where [`Cache::crl`] finds it. Gives its path.
    ///
    /// # Errors
    /// When the report does not tell its product, or the file cannot be written.
    pub fn import_crl(&self, report: &Report, der: &[u8]) -> io::Result<PathBuf> {
        let path = self.place_of_crl(report);
        let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "the report does not tell its product");
        keep(path.ok_or_else(unknown)?, der)
    }

    fn place_of_crl(&self, report: &Report) -> Option<PathBuf> {
        Some(self.directory.join(product_of(report)?.name()).join("crl.der"))
    }

    fn place(&self, report: &Report) -> Option<PathBuf> {
        let (product, chip) = chip_of(report)?;
        let tcb = format!("{}.der", report.body().reported_tcb);
        Some(self.directory.join(product.name()).join(chip).join(tcb))
    }
}

/// Where AMD keeps the certificate of the key that signed a report (AMD 57230, section 4.1); `None` for a cloud's key,
/// which AMD gives to that cloud alone, and where the report hides its chip or does not name its product.
#[must_use]
pub fn address(report: &Report) -> Option<String> {
    let (product, chip) = chip_of(report)?;
    let tcb = report.body().reported_tcb.of(product)?;
    // Turin's chip ids have 8 bytes, with zeros after them in the report.
    let (chip, fmc) = match (product, tcb.fmc) {
        (Product::Turin, fmc) => (chip.get(..16)?.to_owned(), format!("fmcSPL={:02}&", fmc.unwrap_or(0))),
        _ => (chip, String::new()),
    };
    Some(format!(
        "https://kdsintf.amd.com/vcek/v1/{product}/{chip}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode
    ))
}

/// Where AMD keeps the revocation list for the chain of a report (AMD 57230, section 4.3); `None` where the report does not
/// name its product.
#[must_use]
pub fn crl_address(report: &Report) -> Option<String> {
    let kind = if report.body().signing_key == 1 { "vlek" } else { "vcek" };
    Some(format!("https://kdsintf.amd.com/{kind}/v1/{}/crl", product_of(report)?))
}

fn product_of(report: &Report) -> Option<Product> {
    report.body().cpu.and_then(|cpu| Product::of_cpu(cpu.family, cpu.model))
}

fn chip_of(report: &Report) -> Option<(Product, String)> {
    let body = report.body();
    if body.signing_key != 0 || body.chip_id.is_zero() {
        return None;
    }
    Some((product_of(report)?, body.chip_id.to_string()))
}

fn found(path: &Path) -> Result<Option<Vec<u8>>, DeviceRefusal> {
    match read(path) {
        Ok(der) => Ok(Some(der)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DeviceRefusal::CertificatesUnusable { reason: format!("{}: {error}", path.display()) }),
    }
}

/// Whole or not at all: who reads at the same time finds no half of it.
fn keep(path: PathBuf, der: &[u8]) -> io::Result<PathBuf> {
    if der.first() != Some(&0x30) || der.len() as u64 > MAX_CERTIFICATE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a certificate or list in DER"));
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    file.write_all(der)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    Ok(path)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut der = Vec::new();
    File::open(path)?.take(MAX_CERTIFICATE + 1).read_to_end(&mut der)?;
    if der.len() as u64 > MAX_CERTIFICATE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than a certificate"));
    }
    Ok(der)
}

/// Bytes of a certificate that evidence can carry.
const MAX_CERTIFICATE: u64 = 4096;
