//! This machine's TPM, behind a device process of our own.

use crate::configuration::Pcrs;
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_device::client::{Device, DeviceError};
use blindferry_handle::packet::PacketSocket;
use std::path::PathBuf;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the TPM is, on the command line: for machines that have no operator's configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TpmArguments {
    /// Where the TPM is, such as device:/dev/tpmrm0 [default: as configured]
    #[arg(long, value_name = "TCTI", requires = "pins")]
    pub(crate) tcti: Option<String>,
    /// The pin file of the TPM [default: as configured]
    #[arg(long, value_name = "FILE", requires = "tcti")]
    pub(crate) pins: Option<PathBuf>,
    /// The PCRs, such as 0-7 or 0,2,4,7 [default: as configured, else 0-7]
    #[arg(long, value_name = "LIST")]
    pub(crate) pcrs: Option<Pcrs>,
}

/// Where the TPM is, and which PCRs are looked at.
#[derive(Clone, Debug)]
pub(crate) struct TpmPlace {
    executable: PathBuf,
    tcti: String,
    pins: PathBuf,
    /// Which PCRs.
    pub(crate) pcrs: Pcrs,
}

impl TpmPlace {
    /// As configured.
    ///
    /// # Errors
    /// [`Failure::NoNeighbour`].
    pub(crate) fn configured(
        invocation: &Invocation,
        configuration: &crate::configuration::Configuration,
    ) -> Result<Self, Failure> {
        let executable = match &configuration.device {
            Some(device) => device.clone(),
            None => invocation.neighbour(DEVICE)?,
        };
        let (tcti, pins) = (configuration.tcti.clone(), configuration.pins.clone());
        Ok(Self { executable, tcti, pins, pcrs: configuration.pcrs })
    }

    /// As the arguments say, else as configured.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the arguments leave something open and no configuration says it.
    pub(crate) fn of(invocation: &Invocation, arguments: &TpmArguments) -> Result<Self, Failure> {
        let place = match (&arguments.tcti, &arguments.pins) {
            (Some(tcti), Some(pins)) => Self {
                executable: invocation.neighbour(DEVICE)?,
                tcti: tcti.clone(),
                pins: pins.clone(),
                pcrs: Pcrs::default(),
            },
            _ => Self::configured(invocation, &invocation.configuration()?)?,
        };
        Ok(Self { pcrs: arguments.pcrs.unwrap_or(place.pcrs), ..place })
    }

    /// Starts the device process.
    ///
    /// # Errors
    /// [`Failure::SpawnDevice`].
    pub(crate) fn start(&self) -> Result<(DeviceProcess, PacketSocket), Failure> {
        let spawned = blindferry_device::spawn::spawn(&self.executable, &self.tcti, &self.pins);
        let (child, socket) =
            spawned.map_err(|source| Failure::SpawnDevice { executable: self.executable.clone(), source })?;
        Ok((DeviceProcess(child), socket))
    }

    /// Starts the device process and does `work` with it.
    ///
    /// # Errors
    /// Those of the device process, and [`Failure::Device`] with what was being done.
    pub(crate) fn with<T>(
        &self,
        doing: &'static str,
        work: impl AsyncFnOnce(Device) -> Result<T, DeviceError>,
    ) -> Result<T, Failure> {
        let (_process, socket) = self.start()?;
        let runtime = crate::session::runtime()?;
        let done = runtime.block_on(async { work(Device::new(socket)?).await });
        done.map_err(|source| Failure::Device { doing, source })
    }
}

/// The device process; it ends when its socket is closed, and is waited for here.
#[derive(Debug)]
pub(crate) struct DeviceProcess(Child);

impl Drop for DeviceProcess {
    fn drop(&mut self) {
        let deadline = Instant::now() + ENDING;
        // One that is still with its TPM then is adopted by init.
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
    }
}

/// The executable of the device process.
const DEVICE: &str = "blindferry-device";
/// How long a device process may take to end.
const ENDING: Duration = Duration::from_secs(2);
