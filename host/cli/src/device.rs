//! This machine's hardware, a TPM or the firmware under an SEV-SNP guest, behind a device process of our own.

use crate::configuration::Pcrs;
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_attest::tpm::PcrSelection;
use blindferry_device::client::{Device, DeviceError};
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::logs::LogPaths;
use blindferry_proto::platform::{Choice, DeviceProcess, GuestPaths};
use blindferry_session::Attester;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Which hardware, on the command line: for machines that have no operator's configuration.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PlatformArguments {
    /// Which hardware: auto, tpm or snp [default: as configured, else auto: a TPM where one is named, else this guest]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Choice>,
    /// Where the TPM is, such as device:/dev/tpmrm0 [default: as configured]
    #[arg(long, value_name = "TCTI", requires = "pins")]
    pub(crate) tcti: Option<String>,
    /// The pin file of the TPM [default: as configured]
    #[arg(long, value_name = "FILE", requires = "tcti")]
    pub(crate) pins: Option<PathBuf>,
    /// The PCRs, such as 0-7 or 0,2,4,7 [default: as configured, else 0-7]
    #[arg(long, value_name = "LIST")]
    pub(crate) pcrs: Option<Pcrs>,
    /// Certificates that the host of an SEV-SNP guest does not give [default: as configured]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) certificates: Option<PathBuf>,
    /// The TPM's event log [default: as configured, else that of the first TPM]
    #[arg(long, value_name = "FILE")]
    pub(crate) event_log: Option<PathBuf>,
    /// The list of files that Linux measured [default: as configured, else the kernel's]
    #[arg(long, value_name = "FILE")]
    pub(crate) ima_log: Option<PathBuf>,
}

impl PlatformArguments {
    /// The same device process with the logs that are named here.
    fn logs(&self, process: DeviceProcess) -> DeviceProcess {
        let DeviceProcess::Tpm { logs: Some(LogPaths { events, ima }), .. } = process.clone() else {
            return process;
        };
        let events = self.event_log.clone().unwrap_or(events);
        let ima = self.ima_log.clone().unwrap_or(ima);
        process.with_logs(Some(LogPaths { events, ima }))
    }
}

/// Which hardware, and which PCRs of a TPM are looked at.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    executable: PathBuf,
    process: DeviceProcess,
    /// Which PCRs.
    pcrs: Pcrs,
}

impl Hardware {
    /// As configured.
    ///
    /// # Errors
    /// [`Failure::NoPlatform`], [`Failure::NoNeighbour`].
    pub(crate) fn configured(
        invocation: &Invocation,
        configuration: &crate::configuration::Configuration,
    ) -> Result<Self, Failure> {
        Self::chosen(invocation, configuration, configuration.platform)
    }

    fn chosen(
        invocation: &Invocation,
        configuration: &crate::configuration::Configuration,
        choice: Choice,
    ) -> Result<Self, Failure> {
        let tpm = (configuration.tcti.as_deref(), configuration.pins.as_deref());
        let process = DeviceProcess::choose(choice, tpm, &configuration.snp, Path::exists)?
            .with_logs(Some(configuration.logs.clone()));
        let executable = match &configuration.device {
            Some(device) => device.clone(),
            None => invocation.neighbour(process.executable())?,
        };
        Ok(Self { executable, process, pcrs: configuration.pcrs })
    }

    /// As the arguments say, else as configured.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when the arguments leave something open and no configuration says it.
    pub(crate) fn of(invocation: &Invocation, arguments: &PlatformArguments) -> Result<Self, Failure> {
        let guest = GuestPaths { certificates: arguments.certificates.clone(), ..GuestPaths::default() };
        let tpm = (arguments.tcti.as_deref(), arguments.pins.as_deref());
        let named = tpm.0.is_some() || arguments.certificates.is_some() || arguments.platform == Some(Choice::Snp);
        let hardware = match invocation.configuration() {
            Ok(configuration) if !named => {
                Self::chosen(invocation, &configuration, arguments.platform.unwrap_or(configuration.platform))?
            }
            Err(failure) if !named => return Err(failure),
            _ => {
                let choice = arguments.platform.unwrap_or_default();
                let logs = Some(LogPaths::default());
                let process = DeviceProcess::choose(choice, tpm, &guest, Path::exists)?.with_logs(logs);
                Self { executable: invocation.neighbour(process.executable())?, process, pcrs: Pcrs::default() }
            }
        };
        Ok(Self {
            pcrs: arguments.pcrs.unwrap_or(hardware.pcrs),
            process: arguments.logs(hardware.process),
            ..hardware
        })
    }

    /// The PCRs to look at, if this is a TPM.
    pub(crate) fn pcrs(&self) -> Option<&PcrSelection> {
        match self.process {
            DeviceProcess::Tpm { .. } => Some(&self.pcrs.0),
            DeviceProcess::Snp(_) => None,
        }
    }

    /// What makes this machine's evidence.
    pub(crate) fn attester(&self, device: Device) -> Attester {
        match self.pcrs() {
            Some(selection) => Attester::new(device, *selection),
            None => Attester::guest(device),
        }
    }

    /// Starts the device process.
    ///
    /// # Errors
    /// [`Failure::SpawnDevice`].
    pub(crate) fn start(&self) -> Result<(Served, PacketSocket), Failure> {
        let spawned = blindferry_device::spawn::spawn(&self.executable, self.process.clone());
        let (child, socket) =
            spawned.map_err(|source| Failure::SpawnDevice { executable: self.executable.clone(), source })?;
        Ok((Served(child), socket))
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
pub(crate) struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let deadline = Instant::now() + ENDING;
        // One that is still with its TPM then is adopted by init.
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
    }
}

/// How long a device process may take to end.
const ENDING: Duration = Duration::from_secs(2);
