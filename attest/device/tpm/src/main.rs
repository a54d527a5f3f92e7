//! `blindferry-device`: the only process that links tss-esapi, and with it libtss2 and OpenSSL's libcrypto.
//!
//! ```text
//!  holds     no key at rest; a sealed key for the length of one request, then a new address space
//!  talks to  one client, over the socket that is its standard input; the TPM, over its command bus
//!  may       open the TPM; read the pin file, the logs that it is given, libraries and `/etc`; execute itself anew (see
//!            `confine.rs`)
//!  is        single-threaded and blocking; non-dumpable from exec, without core files and new privileges; ends with
//!            whoever started it
//! ```

mod attestation;
mod azure;
mod confine;
mod counter;
mod endorsement;
mod failure;
mod leftovers;
mod logs;
mod pcrs;
mod pins;
mod provision;
mod sealing;
mod serve;
mod tcti;
mod template;
mod transaction;

use blindferry_proto::causes::with_causes;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use blindferry_device::spawn::{LOG_NOTHING, LOG_VARIABLE};
use blindferry_handle::entry::{Entry, enter};
use blindferry_handle::inherit;
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::wiping::WipingAllocator;
use clap::{Parser, Subcommand};

use crate::confine::confine;
use crate::endorsement::EkKind;
use crate::logs::LogArguments;
use crate::serve::Machine;
use crate::tcti::Tcti;

#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

/// Makes evidence, seals and unseals with a TPM 2.0, for one client.
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
        tpm: TpmArguments,
        #[command(flatten)]
        logs: LogArguments,
    },
    /// Read the Names of the TPM's keys and pin them
    Provision {
        #[command(flatten)]
        tpm: TpmArguments,
        /// Which endorsement key to use [default: the best one with a certificate, else ecc-p256]
        #[arg(long, value_name = "KIND")]
        ek: Option<EkKind>,
        /// This is a confidential machine of Azure: pin the attestation key that its paravisor keeps in the vTPM
        #[arg(long)]
        azure: bool,
        /// Pin anew, over a pin file that exists
        #[arg(long)]
        force: bool,
    },
    /// Keep the certificate of an Azure machine's processor beside the pin file
    Import {
        #[command(flatten)]
        tpm: TpmArguments,
        /// The certificate in DER, as AMD or Azure gives it
        certificate: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct TpmArguments {
    /// Where the TPM is: swtpm:host=127.0.0.1,port=N or device:/dev/tpmrm0
    #[arg(long, value_name = "TCTI")]
    tcti: Tcti,
    /// The pin file
    #[arg(long, value_name = "FILE")]
    pins: PathBuf,
}

fn main() -> ExitCode {
    let outcome = silence_libtss2().and_then(|()| run());
    match outcome {
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
    match Arguments::parse().command {
        Subcommands::Serve { tpm, logs } => {
            let logs = logs.paths();
            let socket = PacketSocket::from_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
            let confined = confine(&tpm.tcti, &tpm.pins, logs.as_ref())?;
            serve::serve(confined, &socket, &Machine { tcti: tpm.tcti, pins: tpm.pins, logs })?;
        }
        Subcommands::Import { tpm, certificate } => {
            let mut der = Vec::new();
            File::open(certificate)?.take(MOST_BYTES).read_to_end(&mut der)?;
            let pins = pins::Pins::read(&tpm.pins)?;
            println!("kept in {}", azure::import(&tpm.tcti, &tpm.pins, &pins.salt_key_name, &der)?.display());
        }
        Subcommands::Provision { tpm, ek, azure, force } => {
            let pins = provision::provision(&tpm.tcti, &tpm.pins, ek, azure, force)?;
            println!("pinned in {}", tpm.pins.display());
            println!("salt key         {}", hex::encode(pins.salt_key_name));
            println!("attestation key  {}", hex::encode(pins.ak_name));
            println!("endorsement key  {} (SHA-256 of its SPKI, for an allow-list)", hex::encode(pins.ek_hash));
        }
    }
    Ok(())
}

/// libtss2 prints every refusal to standard error unless its environment says otherwise, and an environment can only be
/// set for a new process.
fn silence_libtss2() -> Result<(), Box<dyn Error>> {
    if std::env::var_os(LOG_VARIABLE).is_some() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error: io::Error = command.args(arguments).env(LOG_VARIABLE, LOG_NOTHING).exec();
    Err(error.into())
}

fn report(error: &dyn Error) {
    eprintln!("blindferry-device: {}", with_causes(error));
}

/// More than any certificate.
const MOST_BYTES: u64 = 64 * 1024;
