//! `blindferry-fake-guest`: the device process of SEV-SNP guests over a chip that is none, for tests alone.
//!
//! It is told what `blindferry-device-snp` is told; `--device` is the file that the chip lies in. What it makes is believed
//! by nobody whose reference values do not name the root of [`blindferry_amd`] in a `dangerously_` word, and what it seals
//! is sealed by a key that everybody knows.

use blindferry_device::protocol::DeviceRefusal;
use blindferry_device_snp::answer::serve;
use blindferry_device_snp::guest::Guest;
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::sev_guest::{DERIVED_KEY_LEN, ExtendedReport, KeyRequest};
use blindferry_tests::silicon::Silicon;
use clap::Parser;
use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

#[derive(Debug, Parser)]
enum Arguments {
    Serve {
        #[arg(long)]
        device: PathBuf,
        #[arg(long)]
        tsm: PathBuf,
        #[arg(long)]
        vmpl: u32,
        #[arg(long)]
        certificates: Option<PathBuf>,
    },
}

struct FakeGuest {
    silicon: PathBuf,
    vmpl: u32,
}

impl Guest for FakeGuest {
    fn interface(&self) -> &'static str {
        "a file of a test"
    }

    fn report(&self, data: &[u8; 64]) -> Result<ExtendedReport, DeviceRefusal> {
        Ok(Silicon::read(&self.silicon).report(data, self.vmpl))
    }

    fn derived_key(&self, request: &KeyRequest, slot: &mut [u8; DERIVED_KEY_LEN]) -> Result<(), DeviceRefusal> {
        let key = Silicon::read(&self.silicon).derived_key(request).ok_or_else(|| DeviceRefusal::Guest {
            operation: "derive a key".to_owned(),
            reason: "a version above the guest's own".to_owned(),
        })?;
        slot.copy_from_slice(&key);
        Ok(())
    }

    fn vmpl(&self) -> u32 {
        self.vmpl
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments::Serve { device, tsm: _, vmpl, certificates } = Arguments::parse();
    let socket = PacketSocket::from_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    Ok(serve(&socket, &FakeGuest { silicon: device, vmpl }, certificates.as_deref())?)
}
