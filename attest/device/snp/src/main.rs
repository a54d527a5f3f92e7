//! `blindferry-device-snp`: the device process of an SEV-SNP guest.
//!
//! ```text
//!  holds     no key at rest; a sealed key and a derived one for the length of one request, then a new address space
//!  talks to  one client, over the socket that is its standard input; the firmware, through the kernel
//!  may       open configfs-tsm, the guest device and the directory of certificates
//!  is        single-threaded and blocking; non-dumpable from exec, without core files, new privileges and io_uring
//! ```

use blindferry_proto::causes::with_causes;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use blindferry_attest::snp::Report;
use blindferry_calls::deny_io_uring;
use blindferry_device::certificates::{Cache, crl_address};
use blindferry_device_snp::answer::{describe, serve};
use blindferry_device_snp::guest::Firmware;
use blindferry_device_snp::tsm::TSM;
use blindferry_handle::attempt;
use blindferry_handle::entry::{Entry, enter};
use blindferry_handle::inherit;
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::wiping::WipingAllocator;
use clap::{Parser, Subcommand};

#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

/// Makes evidence, seals and unseals on an SEV-SNP guest, for one client.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Serve the client at the other end of standard input, a SOCK_SEQPACKET Unix socket
    Serve {
        #[command(flatten)]
        guest: GuestArguments,
    },
    /// Say who this guest is and where its certificate comes from, and keep one that was fetched
    Provision {
        #[command(flatten)]
        guest: GuestArguments,
        /// A certificate in DER, as AMD's key distribution service gives it, to keep in --certificates
        #[arg(long, value_name = "FILE", requires = "certificates")]
        import: Option<PathBuf>,
        /// A revocation list in DER, as AMD's key distribution service gives it, to keep in --certificates
        #[arg(long, value_name = "FILE", requires = "certificates")]
        import_crl: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct GuestArguments {
    /// The kernel's directory of reports; where it is not there, reports come from --device
    #[arg(long, value_name = "DIRECTORY", default_value = TSM)]
    tsm: PathBuf,
    /// The guest device, which derives keys
    #[arg(long, value_name = "FILE", default_value = "/dev/sev-guest")]
    device: PathBuf,
    /// Certificates that the host does not give
    #[arg(long, value_name = "DIRECTORY")]
    certificates: Option<PathBuf>,
    /// The privilege level to ask at: that of this kernel
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=3))]
    vmpl: u32,
}

impl GuestArguments {
    fn firmware(&self) -> Firmware {
        Firmware::new(self.tsm.clone(), self.device.clone(), self.vmpl)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    enter(&Entry::new())?;
    inherit::close_all_but(&[])?;
    // It outlives executing ourselves anew, and piles up: so it is asked for first.
    if attempt::io_uring().is_ok() {
        deny_io_uring()?;
    }
    match Arguments::parse().command {
        Subcommands::Serve { guest } => {
            let socket = PacketSocket::from_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
            serve(&socket, &guest.firmware(), guest.certificates.as_deref())?;
        }
        Subcommands::Provision { guest, import, import_crl } => provision(&guest, import, import_crl)?,
    }
    Ok(())
}

fn provision(
    guest: &GuestArguments,
    import: Option<PathBuf>,
    import_crl: Option<PathBuf>,
) -> Result<(), Box<dyn Error>> {
    let cache = guest.certificates.as_deref().map(Cache::new);
    let firmware = guest.firmware();
    let described = describe(&firmware, cache.as_ref())?;
    let report = Report::parse(&described.report)?;
    let body = report.body();
    println!("interface    {}", described.interface);
    println!("chip id      {}", body.chip_id);
    println!("measurement  {}", body.measurement);
    println!("TCB version  {}", body.reported_tcb);
    if let (Some(cache), Some(file)) = (&cache, &import_crl) {
        println!("list         kept in {}", cache.import_crl(&report, &read(file)?)?.display());
    } else if let Some(address) = crl_address(&report) {
        println!("list         at {address}");
    }
    if let (Some(cache), Some(file)) = (&cache, &import) {
        println!("certificate  kept in {}", cache.import(&report, &read(file)?)?.display());
        return Ok(());
    }
    match (described.certificates.is_empty(), described.certificate_address) {
        (false, _) => println!("certificate  at hand"),
        (true, Some(address)) => println!("certificate  missing: fetch {address} and give it to --import"),
        (true, None) => println!("certificate  missing, and the report does not tell where it would be"),
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut der = Vec::new();
    File::open(file)?.take(MOST_BYTES).read_to_end(&mut der)?;
    Ok(der)
}

fn report(error: &dyn Error) {
    eprintln!("blindferry-device-snp: {}", with_causes(error));
}

/// More than any certificate.
const MOST_BYTES: u64 = 64 * 1024;
