//! The seam to the hardware: who makes reports and derives keys.

use std::path::PathBuf;

use blindferry_device::protocol::DeviceRefusal;
use blindferry_handle::sev_guest::{DERIVED_KEY_LEN, ExtendedReport, KeyRequest, SevGuest, SevGuestError};

use crate::tsm::Tsm;

/// An SEV-SNP guest as its firmware serves it.
pub trait Guest {
    /// Where its reports come from, in a word.
    fn interface(&self) -> &'static str;

    /// A report over `data`, and the certificates that the host has for it.
    ///
    /// # Errors
    /// [`DeviceRefusal`].
    fn report(&self, data: &[u8; 64]) -> Result<ExtendedReport, DeviceRefusal>;

    /// Writes the derived key into `slot`.
    ///
    /// # Errors
    /// [`DeviceRefusal`]; then `slot` is as it was.
    fn derived_key(&self, request: &KeyRequest, slot: &mut [u8; DERIVED_KEY_LEN]) -> Result<(), DeviceRefusal>;

    /// The VMPL at which this process asks.
    fn vmpl(&self) -> u32;
}

/// The firmware under this kernel.
#[derive(Clone, Debug)]
pub struct Firmware {
    tsm: Option<Tsm>,
    device: PathBuf,
    vmpl: u32,
}

impl Firmware {
    /// Reports come through configfs-tsm where its directory `tsm` exists, else from `device`; derived keys come from
    /// `device`, since configfs-tsm has none. Both are asked for at this VMPL.
    #[must_use]
    pub fn new(tsm: PathBuf, device: PathBuf, vmpl: u32) -> Self {
        Self { tsm: tsm.is_dir().then(|| Tsm::new(tsm)), device, vmpl }
    }

    fn open(&self) -> Result<SevGuest, DeviceRefusal> {
        SevGuest::open(&self.device).map_err(|error| DeviceRefusal::NoGuest {
            reason: format!("cannot open {}: {error}", self.device.display()),
        })
    }
}

impl Guest for Firmware {
    fn interface(&self) -> &'static str {
        if self.tsm.is_some() { "configfs-tsm" } else { "sev-guest" }
    }

    fn report(&self, data: &[u8; 64]) -> Result<ExtendedReport, DeviceRefusal> {
        match &self.tsm {
            Some(tsm) => tsm.report(data, self.vmpl),
            None => self.open()?.extended_report(data, self.vmpl).map_err(refused),
        }
    }

    fn derived_key(&self, request: &KeyRequest, slot: &mut [u8; DERIVED_KEY_LEN]) -> Result<(), DeviceRefusal> {
        self.open()?.derived_key(request, slot).map_err(refused)
    }

    fn vmpl(&self) -> u32 {
        self.vmpl
    }
}

fn refused(error: SevGuestError) -> DeviceRefusal {
    let reason = match &error {
        SevGuestError::Call { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    DeviceRefusal::Guest { operation: "answer".to_owned(), reason }
}
