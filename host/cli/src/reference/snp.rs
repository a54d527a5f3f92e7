//! `reference compute snp`: the launch measurement of an SEV-SNP guest.

use super::CapturedRole;
use super::compute::{ComputeError, read};
use crate::failure::Failure;
use crate::host::role_name;
use crate::invocation::Invocation;
use crate::output::note;
use blindferry_attest::measure::pe::MAX_IMAGE;
use blindferry_attest::measure::snp::{CpuSignature, Firmware, KernelHashes, Launch, MAX_FIRMWARE, MAX_VCPUS, Monitor};
use blindferry_proto::role::Role;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// The launch measurement of an AMD SEV-SNP guest, and a file to begin with
///
/// What the file does not say, and what has to be written before it is used, is which AMD firmware is new enough: the floors.
#[derive(Debug, Args)]
pub(crate) struct Snp {
    /// The guest's firmware: the whole OVMF image
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// How many virtual processors it has
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_VCPUS)))]
    vcpus: u16,
    /// Their model, as QEMU calls it, or their signature, as 0x00a10f10; needed with QEMU
    #[arg(long, value_name = "MODEL")]
    vcpu_type: Option<CpuSignature>,
    /// `SEV_FEATURES` of the guest: 0x1 is SNP alone, 0x21 debug swap too
    #[arg(long, value_name = "BITS", default_value = "0x1", value_parser = bits)]
    guest_features: u64,
    /// Who launches it
    #[arg(long, value_enum, default_value_t = MonitorWord::Qemu)]
    monitor: MonitorWord,
    /// The kernel that the monitor loads, whose hash it puts into the guest
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initrd that it loads with the kernel
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The command line of the kernel
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "", hide_default_value = true)]
    append: String,
    /// The processors that it runs on
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    product: Vec<ProductWord>,
    /// Whose evidence the values shall judge
    #[arg(long, value_enum, default_value_t = CapturedRole::Vault)]
    role: CapturedRole,
    /// What the guest is called in audit and errors [default: the firmware's file name, and the processors]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MonitorWord {
    /// QEMU with KVM
    Qemu,
    /// Amazon EC2
    Ec2,
    /// Google Compute Engine
    Gce,
}

/// Processors that are judged by AMD's keys. Milan has to be written into the file, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProductWord {
    Genoa,
    Turin,
}

#[derive(Serialize)]
struct Computed<'a> {
    role: &'static str,
    name: &'a str,
    measurement: &'a str,
    text: &'a str,
}

/// Runs it.
///
/// # Errors
/// [`Failure::Compute`], or a file that cannot be read.
pub(super) fn run(invocation: &Invocation, snp: &Snp) -> Result<(), Failure> {
    let measurement = hex::encode(measure(snp)?);
    let role = role_name(Role::from(snp.role));
    let file = snp.firmware.file_name().unwrap_or_default().to_string_lossy();
    let name = snp.name.clone().unwrap_or_else(|| format!("{file}, {} vcpus", snp.vcpus));
    let text = document(role, &name, &measurement, &snp.product);
    note("the floors are missing: write them into the file, as `reference capture` on such a machine shows them");
    invocation.output.show(&Computed { role, name: &name, measurement: &measurement, text: &text }, || text.clone())
}

fn measure(snp: &Snp) -> Result<[u8; 48], Failure> {
    let image = read(&snp.firmware, MAX_FIRMWARE)?;
    let path = || snp.firmware.clone();
    let firmware = Firmware::parse(&image).map_err(|source| ComputeError::Firmware { path: path(), source })?;
    let kernel = snp.kernel.as_ref().map(|kernel| {
        let kernel = read(kernel, MAX_IMAGE)?;
        let initrd = snp.initrd.as_ref().map_or(Ok(Vec::new()), |initrd| read(initrd, MAX_IMAGE))?;
        Ok::<_, Failure>(KernelHashes::new(&kernel, &initrd, &snp.append))
    });
    let monitor = Monitor::from(snp.monitor);
    let cpu = match (snp.vcpu_type, monitor) {
        (Some(cpu), _) => cpu,
        (None, Monitor::Qemu) => return Err(ComputeError::NoProcessor.into()),
        // Not measured there.
        (None, Monitor::Ec2 | Monitor::Gce) => CpuSignature::new(0),
    };
    let launch = Launch {
        firmware: &firmware,
        kernel: kernel.transpose()?,
        // The arguments have a range.
        vcpus: NonZeroU16::new(snp.vcpus).unwrap_or(NonZeroU16::MIN),
        cpu,
        guest_features: snp.guest_features,
        monitor,
    };
    Ok(launch.measurement().map_err(ComputeError::Launch)?)
}

/// Reference values that want for nothing but the floors, which nobody can compute.
fn document(role: &str, name: &str, measurement: &str, products: &[ProductWord]) -> String {
    let words = products.iter().map(|product| format!("\"{}\"", product.word())).collect::<Vec<_>>().join(", ");
    let name = toml::Value::String(name.to_owned());
    let mut text = format!(
        "version = 2\nrole = \"{role}\"\n\n[[snp]]\nname = {name}\nproducts = [{words}]\nsigned_by = \"vcek\"\n\
         chips = \"any\"\nvmpl = [0]\nmeasurements = [\n    \"{measurement}\",\n]\ncrl = \"optional\"\n"
    );
    for product in products {
        let fields = match product {
            ProductWord::Genoa => "# bootloader =\n# tee =\n# snp =\n# microcode =\n",
            ProductWord::Turin => "# fmc =\n# bootloader =\n# tee =\n# snp =\n# microcode =\n",
        };
        text.push_str(&format!("\n[snp.floor.{}] # the least of each that is accepted\n{fields}", product.word()));
    }
    text
}

/// A number in hexadecimal with 0x, or in decimal.
fn bits(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

impl ProductWord {
    fn word(self) -> &'static str {
        match self {
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }
}

impl From<MonitorWord> for Monitor {
    fn from(word: MonitorWord) -> Self {
        match word {
            MonitorWord::Qemu => Self::Qemu,
            MonitorWord::Ec2 => Self::Ec2,
            MonitorWord::Gce => Self::Gce,
        }
    }
}
