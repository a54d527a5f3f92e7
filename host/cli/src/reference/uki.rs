//! `reference compute uki`: the PCRs of a machine that boots a Unified Kernel Image.

use super::CapturedRole;
use super::compute::{ComputeError, read};
use crate::failure::Failure;
use crate::host::role_name;
use crate::invocation::Invocation;
use crate::output::note;
use blindferry_attest::measure::pe::{Image, MAX_IMAGE};
use blindferry_attest::measure::uki::{Boot, Phases, Prediction, SecureBoot, StubVersion, Uki, Way};
use blindferry_attest::reference::{Firmware, ReferenceValues};
use blindferry_proto::role::Role;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The PCRs that a Unified Kernel Image leaves behind, as reference values
///
/// PCR 12 is among them because 4 and 11 do not show another command line, which the boot menu can give while Secure
/// Boot is off. Values of PCRs that depend on the machine (0 to 3, and 7 for Secure Boot) come from `reference capture`.
#[derive(Debug, Args)]
pub(crate) struct UkiBoot {
    /// The image, signed as it will be booted
    file: PathBuf,
    /// Which PCRs, of 4, 9, 11 and 12 [default: all that can be told]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u8))]
    pcrs: Vec<u8>,
    /// The boot phases that have been reached, as enter-initrd:leave-initrd:sysinit:ready; several are several values
    /// [default: none, as without systemd-pcrphase]
    #[arg(long, value_name = "PHASES")]
    phase: Vec<Phases>,
    /// A boot loader between firmware and image, first to last
    #[arg(long, value_name = "FILE")]
    through: Vec<PathBuf>,
    /// Whether Secure Boot is on, which changes PCR 4; either gives both values
    #[arg(long, value_enum, default_value_t = SecureBootWord::Either)]
    secure_boot: SecureBootWord,
    /// Who loads the image
    #[arg(long, value_enum, default_value_t = WayWord::Disk)]
    from: WayWord,
    /// The version of systemd-stub, for an image that does not say it
    #[arg(long, value_name = "VERSION")]
    stub: Option<StubVersion>,
    /// Whose evidence the values shall judge
    #[arg(long, value_enum, default_value_t = CapturedRole::Broker)]
    role: CapturedRole,
    /// What the platform is called in audit and errors [default: the image's file name]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SecureBootWord {
    On,
    Off,
    Either,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WayWord {
    /// The firmware, from a disk
    Disk,
    /// OVMF, from QEMU's -kernel
    Kernel,
}

#[derive(Serialize)]
struct Computed<'a> {
    role: &'static str,
    name: &'a str,
    stub: String,
    cmdline: Option<String>,
    pcrs: BTreeMap<u8, Vec<String>>,
    text: &'a str,
}

/// Runs it.
///
/// # Errors
/// [`Failure::Compute`], or a file that cannot be read.
pub(super) fn run(invocation: &Invocation, arguments: &UkiBoot) -> Result<(), Failure> {
    let bytes = read(&arguments.file, MAX_IMAGE)?;
    let bad = |source| ComputeError::Uki { path: arguments.file.clone(), source };
    let uki = match arguments.stub {
        Some(stub) => Uki::parse_with_stub(&bytes, stub),
        None => Uki::parse(&bytes),
    }
    .map_err(bad)?;
    let loaders = arguments.through.iter().map(|path| read(path, MAX_IMAGE)).collect::<Result<Vec<_>, _>>()?;
    let through = loaders
        .iter()
        .zip(&arguments.through)
        .map(|(bytes, path)| Image::parse(bytes).map_err(|source| ComputeError::Loader { path: path.clone(), source }));
    let boot = Boot {
        way: arguments.from.into(),
        through: through.collect::<Result<_, _>>()?,
        secure_boot: arguments.secure_boot.into(),
        phases: arguments.phase.clone(),
    };
    let pcrs = chosen(&arguments.pcrs, uki.predict(&boot).map_err(bad)?)?;

    let role = Role::from(arguments.role);
    let file = arguments.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = arguments.name.clone().unwrap_or(file);
    let listed = pcrs.iter().map(|(pcr, values)| (*pcr, values.iter().map(hex::encode).collect())).collect();
    let values = ReferenceValues::computed(role, &name, Firmware::Any, pcrs);
    let text = values.map_err(|source| ComputeError::Reference(Box::new(source)))?.to_toml();
    let computed = Computed {
        role: role_name(role),
        name: &name,
        stub: uki.stub().to_string(),
        cmdline: uki.cmdline().map_err(bad)?,
        pcrs: listed,
        text: &text,
    };
    invocation.output.show(&computed, || text.clone())
}

/// The PCRs that were asked for, or all that can be told.
fn chosen(pcrs: &[u8], prediction: Prediction) -> Result<BTreeMap<u8, BTreeSet<[u8; 32]>>, Failure> {
    let Prediction { pcrs: mut told, without } = prediction;
    for (pcr, reason) in without {
        if pcrs.contains(&pcr) {
            return Err(ComputeError::Untold { pcr, reason }.into());
        }
        if pcrs.is_empty() {
            note(&format!("without PCR {pcr}, which cannot be told: {reason}"));
        }
    }
    if let Some(pcr) = pcrs.iter().find(|pcr| !told.contains_key(pcr)) {
        return Err(ComputeError::NotOfImage { pcr: *pcr }.into());
    }
    told.retain(|pcr, _| pcrs.is_empty() || pcrs.contains(pcr));
    if !told.contains_key(&9) && !told.contains_key(&12) {
        note("warning: without PCR 9 or 12, the image is accepted with any command line unless Secure Boot is on");
    }
    Ok(told)
}

impl From<SecureBootWord> for SecureBoot {
    fn from(word: SecureBootWord) -> Self {
        match word {
            SecureBootWord::On => Self::On,
            SecureBootWord::Off => Self::Off,
            SecureBootWord::Either => Self::Either,
        }
    }
}

impl From<WayWord> for Way {
    fn from(word: WayWord) -> Self {
        match word {
            WayWord::Disk => Self::BootOption,
            WayWord::Kernel => Self::Monitor,
        }
    }
}
