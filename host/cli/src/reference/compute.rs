//! `reference compute`: reference values from the files that a machine will boot, without booting it.

use crate::document::DocumentError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_attest::measure::pe::PeError;
use blindferry_attest::measure::snp::{FirmwareError, LaunchError};
use blindferry_attest::measure::uki::{UkiError, Unpredicted};
use blindferry_attest::reference::ReferenceError;
use clap::Subcommand;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Compute reference values from the files that a machine will boot
#[derive(Debug, Subcommand)]
pub(crate) enum Compute {
    Snp(super::snp::Snp),
    Uki(super::uki::UkiBoot),
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub(crate) fn run(invocation: &Invocation, compute: &Compute) -> Result<(), Failure> {
    match compute {
        Compute::Snp(snp) => super::snp::run(invocation, snp),
        Compute::Uki(uki) => super::uki::run(invocation, uki),
    }
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// [`Failure::Document`].
pub(super) fn read(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|source| DocumentError::Read { path: path.to_owned(), source })?;
    if bytes.len() > most {
        return Err(DocumentError::TooLong { path: path.to_owned(), most }.into());
    }
    Ok(bytes)
}

/// Why nothing was computed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComputeError {
    #[error("{path} is no firmware that SEV-SNP guests start with", path = path.display())]
    Firmware { path: PathBuf, source: FirmwareError },
    #[error("this guest cannot be launched")]
    Launch(#[source] LaunchError),
    #[error("--vcpu-type is needed: QEMU puts the processor's signature into a register, and so it is measured")]
    NoProcessor,
    #[error("{path} is no unified kernel image whose PCRs can be told", path = path.display())]
    Uki { path: PathBuf, source: UkiError },
    #[error("{path} is no boot loader", path = path.display())]
    Loader { path: PathBuf, source: PeError },
    #[error("PCR {pcr} cannot be told")]
    Untold {
        pcr: u8,
        #[source]
        reason: Unpredicted,
    },
    #[error("PCR {pcr} is not the image's: 4, 9, 11 and 12 are")]
    NotOfImage { pcr: u8 },
    #[error("cannot write that as reference values")]
    Reference(#[source] Box<ReferenceError>),
}

impl ComputeError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NoProcessor | Self::NotOfImage { .. } => Exit::Usage,
            _ => Exit::Local,
        }
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Firmware { source: FirmwareError::NoMetadata | FirmwareError::NoTable, .. } => {
                Some("the whole image in one file (OVMF.fd), built with SEV-SNP; not OVMF_CODE.fd of a 4 MB build")
            }
            Self::Launch(LaunchError::NoKernelHashes) => {
                Some("the AmdSev build of OVMF, which checks the kernel; or leave --kernel away and boot from a disk")
            }
            Self::Uki { source: UkiError::Stub(_), .. } => Some("say the version with --stub"),
            Self::Untold { .. } => {
                Some("leave it out of --pcrs; of 9 and 12, one is enough to show another command line")
            }
            _ => None,
        }
    }
}
