//! `check-config`: whether a service's configuration is in order, before the service is started with it.
//!
//! Each service checks its own, and this command asks the service's executable: what it says is what the service would
//! say, and no parser is here twice.

use crate::configuration::{Configuration, default_path};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use blindferry_configuration::{Checks, Faults, Severity, Source};
use blindferry_proto::causes::with_causes;
use blindferry_proto::platform::DeviceProcess;
use blindferry_proto::shown::visible;
use clap::ValueEnum;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Check configuration files: enclave.toml, broker.toml, operator.toml
///
/// What is wrong is told with its place, why, and what to do; files and programs that it names must be there. Run it as the
/// service's user. Without a file, those of /etc/blindferry that are there and the operator's own are checked.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckConfig {
    /// Which; by its name it is known whose it is
    files: Vec<PathBuf>,
    /// Whose they are, where they have other names
    #[arg(long, value_enum)]
    service: Option<Service>,
}

/// Who reads a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    Enclave,
    Broker,
    Operator,
}

impl Service {
    fn by_name(file: &Path) -> Option<Self> {
        [("enclave.toml", Self::Enclave), ("broker.toml", Self::Broker), ("operator.toml", Self::Operator)]
            .into_iter()
            .find_map(|(name, service)| (file.file_name() == Some(OsStr::new(name))).then_some(service))
    }
}

/// A configuration was not checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("{file} could be of any service", file = file.display())]
    WhoseIsIt { file: PathBuf },
    #[error("there is no configuration on this machine")]
    None,
    #[error("cannot execute {executable}, which checks {file}", executable = executable.display(), file = file.display())]
    Execute { executable: PathBuf, file: PathBuf, source: io::Error },
    #[error("{executable} did not check {file}: {said}", executable = executable.display(), file = file.display())]
    NotChecked { executable: PathBuf, file: PathBuf, said: String },
}

impl CheckError {
    /// The number that the command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::WhoseIsIt { .. } => Exit::Usage,
            Self::None | Self::Execute { .. } | Self::NotChecked { .. } => Exit::Local,
        }
    }

    /// The next step.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::WhoseIsIt { .. } => "say --service enclave, broker or operator",
            Self::None => "name a file",
            Self::Execute { .. } => "install the service's executable beside this one, or in PATH",
            Self::NotChecked { .. } => "run that executable by hand: it says why",
        }
    }
}

/// Runs it: success when every file is in order, warnings aside.
///
/// # Errors
/// [`Failure::Check`], and those of the output.
pub(crate) fn run(invocation: &Invocation, check: CheckConfig) -> Result<ExitCode, Failure> {
    let files = if check.files.is_empty() { present() } else { check.files };
    if files.is_empty() {
        return Err(CheckError::None.into());
    }
    let mut all = Vec::new();
    for file in files {
        let service = check.service.or_else(|| Service::by_name(&file));
        let service = service.ok_or_else(|| CheckError::WhoseIsIt { file: file.clone() })?;
        let _progress = invocation.progress("checking");
        all.push(match service {
            Service::Enclave => asked(invocation, "blindferry-enclave", "check-config", &file)?,
            Service::Broker => asked(invocation, "blindferryd", "--check-config", &file)?,
            Service::Operator => operator(invocation, &file),
        });
    }
    let fine = all.iter().all(|faults| faults.faults.iter().all(|fault| fault.severity != Severity::Error));
    invocation.output.show(&all, || all.iter().map(told).collect::<Vec<_>>().join("\n"))?;
    Ok(if fine { ExitCode::SUCCESS } else { Exit::Local.into() })
}

/// Those that are there.
fn present() -> Vec<PathBuf> {
    let services = ["enclave.toml", "broker.toml"].map(|name| Path::new("/etc/blindferry").join(name));
    services.into_iter().chain([default_path()]).filter(|path| path.exists()).collect()
}

fn told(faults: &Faults) -> String {
    if faults.faults.is_empty() {
        return format!("{}: in order\n", faults.path.display());
    }
    // What a file says cannot steer the terminal, though its lines stay lines.
    faults.to_string().lines().map(|line| visible(line) + "\n").collect()
}

/// What the service's own executable says.
fn asked(invocation: &Invocation, name: &'static str, how: &str, file: &Path) -> Result<Faults, CheckError> {
    let executable = found(invocation, name);
    let mut command = Command::new(&executable);
    command.args([how, "--json", "--config"]).arg(file).stdin(Stdio::null());
    let output = command.output();
    let output = output.map_err(|source| CheckError::Execute {
        executable: executable.clone(),
        file: file.to_owned(),
        source,
    })?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("nothing").to_owned();
        CheckError::NotChecked { executable, file: file.to_owned(), said: visible(&said) }
    })
}

/// Beside this executable, where services are installed, or wherever PATH says.
fn found(invocation: &Invocation, name: &'static str) -> PathBuf {
    let beside = invocation.neighbour(name).ok();
    let installed = INSTALLED.iter().map(|directory| Path::new(directory).join(name));
    beside.into_iter().chain(installed).find(|path| path.exists()).unwrap_or_else(|| name.into())
}

/// The operator's own, which this command reads.
fn operator(invocation: &Invocation, file: &Path) -> Faults {
    let source = match Source::read(file) {
        Ok(source) => source,
        Err(faults) => return faults,
    };
    let configuration = match Configuration::of(&source) {
        Ok(configuration) => configuration,
        Err(faults) => return faults,
    };
    let mut checks = Checks::of(&source);
    checks.file("vault_reference", &configuration.vault_reference);
    if configuration.vault_reference.exists()
        && let Err(failure) = crate::session::vault_reference(&configuration.vault_reference)
    {
        let fix = failure.hint().unwrap_or("get it from whoever runs the vault");
        let problem = format!("{} is not a vault's reference", configuration.vault_reference.display());
        checks.say(Severity::Error, "vault_reference", problem, Some(with_causes(&failure)), fix);
    }
    let tpm = (configuration.tcti.as_deref(), configuration.pins.as_deref());
    match DeviceProcess::choose(configuration.platform, tpm, &configuration.snp, Path::exists) {
        Ok(platform) => {
            let beside = || invocation.neighbour(platform.executable()).ok();
            if let Some(device) = configuration.device.clone().or_else(beside) {
                checks.executable("device", &device);
            }
            if let DeviceProcess::Tpm { tcti, pins, .. } = &platform {
                checks.tpm(tcti, pins);
            }
        }
        Err(error) => {
            let fix = "give `tcti` and `pins`, or run it in an SEV-SNP guest";
            checks.say(Severity::Error, "platform", error.to_string(), None, fix);
        }
    }
    checks.done()
}

/// Where a package puts services.
const INSTALLED: &[&str] = &["/usr/libexec/blindferry", "/usr/lib/blindferry", "/usr/sbin", "/usr/bin"];
