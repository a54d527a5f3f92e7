//! `blindferryd`: reads its configuration, starts its device process, binds its sockets, gives up its powers, serves.
//!
//! On SIGTERM or SIGINT it ends in good order. Leases are not ended then: workers outlive a restart of the broker, and
//! whoever is gone when it comes back is not kept, so that the lease idles out at the vault.
//!
//! Exit codes: 0 ended as told, 1 could not start or not go on, 2 wrong arguments.

use blindferry_attest::tpm::{PcrSelection, pcr::PcrError};
use blindferry_broker::configuration::check::check;
use blindferry_broker::configuration::{Configuration, Limits};
use blindferry_broker::confine::{ConfineError, Confined, Needs, confine};
use blindferry_broker::dial::Dialler;
use blindferry_broker::figures::Sizes;
use blindferry_broker::listen::{ListenError, Listening, listen};
use blindferry_broker::notify::{Notices, NoticesError, Told};
use blindferry_broker::peer;
use blindferry_broker::serve::{Sockets, serve};
use blindferry_broker::traced::Tracer;
use blindferry_broker::uplink::{supervise, uplink};
use blindferry_configuration::Faults;
use blindferry_device::client::{Device, DeviceError};
use blindferry_handle::entry::{Entered, Entry, EntryError, enter};
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::causes::with_causes;
use blindferry_proto::limits::MAX_DOCUMENT;
use blindferry_proto::platform::{DeviceProcess, NoPlatform};
use blindferry_proto::role::Role;
use blindferry_seqpacket::AsyncListener;
use blindferry_session::client::VaultReferenceError;
use blindferry_session::{Attester, ClientSettings, VaultReference};
use blindferry_traces::Traces;
use blindferry_watch::resident::Resident;
use clap::Parser;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// The broker of a worker host: ferries grants and parcels between the vault, parents and workers.
#[derive(Debug, Parser)]
#[command(name = "blindferryd", version)]
struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/blindferry/broker.toml")]
    config: PathBuf,
    /// Check the configuration, the vault's reference, and that what they name is there; do nothing more
    #[arg(long)]
    check_config: bool,
    /// Say it as one JSON document
    #[arg(long, requires = "check_config")]
    json: bool,
    /// Go on although a debugger is attached, which can read every secret of this process: looked at before anything else
    #[arg(long)]
    allow_debugger: bool,
}

fn main() -> ExitCode {
    // Before anything else: nobody shall be able to look into this process.
    let entered = enter(&Entry::new().allow_debugger_by_option());
    let arguments = Arguments::parse();
    let entered = match entered {
        Ok(entered) => entered,
        Err(error) => return fail(&error.into()),
    };
    if arguments.check_config {
        return tell(check(&arguments.config), arguments.json).unwrap_or_else(|error| fail(&error));
    }
    match start(&arguments, &entered) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// What is wrong with the configuration, or with what it names.
fn tell(faults: Faults, json: bool) -> Result<ExitCode, StartError> {
    faults.print(json).map_err(|source| StartError::Json { source })?;
    Ok(faults.fatal().map_or(ExitCode::FAILURE, |_| ExitCode::SUCCESS))
}

fn fail(error: &StartError) -> ExitCode {
    if tracing::dispatcher::has_been_set() {
        error!(name: "ended", why = with_causes(error), "the broker ends");
    } else {
        eprintln!("blindferryd: {}", with_causes(error));
    }
    ExitCode::FAILURE
}

/// One thread until the powers are given up.
fn start(arguments: &Arguments, entered: &Entered) -> Result<(), StartError> {
    let configuration = Configuration::read(&arguments.config)?;
    let reference = read_reference(&configuration.vault_reference)?;
    // From here on: what is wrong with a file is for whoever wrote it, in lines as they are.
    let _form = blindferry_tracing::start("blindferryd");
    match &entered.warning() {
        Some(_) => warn!(name: "less-confined", "{entered}"),
        None => info!(name: "entered", "{entered}"),
    }
    for danger in reference.reference.dangers() {
        warn!(
            name: "dangerous-reference",
            key = danger.key,
            set = danger.name,
            reason = danger.reason,
            "the vault's reference accepts it dangerously"
        );
    }
    let selection = PcrSelection::new(configuration.pcrs.iter().map(|pcr| pcr.index()))?;
    let platform = configuration.platform(Path::exists)?;
    allow_descriptors(&configuration.limits);
    let listening = listen(&configuration)?;
    // While its socket can be connected to.
    let notices = Notices::of_this_process()?;
    let executable = configuration.device(&platform);
    let is_guest = matches!(platform, DeviceProcess::Snp(_));
    let (device, device_socket) = blindferry_device::spawn::spawn(&executable, platform)
        .map_err(|source| StartError::SpawnDevice { executable, source })?;
    let public = configuration.public.map(listen_plainly).transpose()?;
    let sizes = sizes(&device);
    let directories = [directory(&configuration.parents), directory(&configuration.workers)];
    let sockets: &[&Path] = if listening.own { &directories } else { &[] };
    let collector = configuration.traces.map(|traces| traces.endpoint.address());
    let confined = confine(&Needs { vault: &configuration.vault, collector, sockets })?;
    let settings = ClientSettings { name: configuration.name.clone(), role: Role::Broker, vault: reference };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::Runtime { source })?;
    let quoted = (!is_guest).then_some(selection);
    let listeners = (listening, public, notices);
    let running = run(confined, configuration, settings, quoted, (device, device_socket, sizes), listeners);
    // As a task: whenever the future that a runtime blocks on is woken, tokio writes to a descriptor and polls it.
    runtime.block_on(async { tokio::spawn(running).await.map_err(|source| StartError::BrokeOff { source })? })
}

async fn run(
    _: Confined,
    configuration: Configuration,
    settings: ClientSettings,
    quoted: Option<PcrSelection>,
    (device, device_socket, mut sizes): (Child, PacketSocket, Sizes),
    (listening, public, notices): (Listening, Option<TcpListener>, Notices),
) -> Result<(), StartError> {
    let runtime = |source| StartError::Runtime { source };
    let device_ended = peer::ended(pidfd_of(&device).map_err(runtime)?);
    let device = Device::new(device_socket)?;
    sizes.device = Some(device.clone());
    let public = public.map(tokio::net::TcpListener::from_std).transpose().map_err(runtime)?;
    let attester = match quoted {
        Some(selection) => Attester::new(device, selection),
        None => Attester::guest(device),
    };
    let (uplink, orders) = uplink();
    let uplink = match configuration.traces {
        Some(settings) => {
            let (traces, export) = Traces::new(settings.endpoint, configuration.name.as_str());
            sizes.traces = Some(traces.clone());
            tokio::spawn(export.run());
            uplink.traced(Tracer::new(traces))
        }
        None => uplink,
    };
    let sockets = Sockets {
        parents: AsyncListener::new(listening.parents).map_err(runtime)?,
        workers: AsyncListener::new(listening.workers).map_err(runtime)?,
        public: (public, Arc::new(sizes)),
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(runtime)?;
    let (events, heard) = mpsc::channel(EVENTS);
    let dialler = Dialler { vault: configuration.vault.clone(), settings, platform: attester };
    notices.ready(); // The sockets are there; who connects now is answered.
    let dialler = Told { dial: dialler, notices: notices.clone() };
    tokio::spawn(supervise(dialler, orders, events, random));
    info!(name: "serving", host = %configuration.name, vault = %configuration.vault, parents = %configuration.parents.display(),
        workers = %configuration.workers.display(), "serving");
    let mut device_is_gone = false;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = device_ended => device_is_gone = true,
        }
        notices.stopping();
    };
    tokio::select! {
        () = serve(sockets, &configuration.limits, uplink, heard, stop) => {}
        () = notices.live() => {}
    }
    // Its socket closes with the runtime, and with that the device process ends; it is reaped by whoever adopts it.
    if device_is_gone { Err(StartError::DeviceGone) } else { Ok(()) }
}

/// Bound before powers are given up: later nothing can be.
fn listen_plainly(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|source| StartError::Public { address, source })
}

/// Opened while paths still lead there. Where `/proc` hides a process, its memory is not among the metrics.
fn sizes(device: &Child) -> Sizes {
    let of = [("broker", std::process::id()), ("device", device.id())];
    let processes = of.into_iter().filter_map(|(name, id)| Some((name, Resident::of(id).ok()?)));
    Sizes { device: None, processes: processes.collect(), traces: None }
}

fn read_reference(path: &Path) -> Result<VaultReference, StartError> {
    let failed = |source| StartError::ReadReference { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_DOCUMENT as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAX_DOCUMENT {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "longer than a reference may be")));
    }
    VaultReference::parse(&text).map_err(|source| StartError::Reference { path: path.to_owned(), source })
}

/// Room for as many descriptors as the limits can use: for each connection its socket and a pidfd, for each lease the
/// pidfd that is watched.
fn allow_descriptors(limits: &Limits) {
    let wanted = 2 * (limits.parents.get() + limits.workers.get()) + 2 * limits.leases.get() + 64;
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let granted = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(granted), maximum });
    if granted < wanted || raised.is_err() {
        warn!(name: "few-descriptors", granted, wanted, "fewer open descriptors are allowed than the limits of the configuration can use");
    }
}

/// Our own child, which we have not waited for: its number cannot be another's yet.
fn pidfd_of(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(Pid::from_child(child), PidfdFlags::empty())?)
}

/// The directory of a socket.
fn directory(socket: &Path) -> &Path {
    match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Jitter. Nothing secret depends on it, so no number at all is as good as one when the kernel gives none.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let _filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u32::from_ne_bytes(bytes)
}

/// Why the broker does not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot make this process unreadable")]
    Enter(#[from] EntryError),
    #[error("cannot use the configuration")]
    Configuration(#[from] Faults),
    #[error("cannot write what was found")]
    Json { source: serde_json::Error },
    #[error("cannot read the vault's reference {path}", path = path.display())]
    ReadReference { path: PathBuf, source: io::Error },
    #[error("cannot use the vault's reference {path}", path = path.display())]
    Reference { path: PathBuf, source: VaultReferenceError },
    #[error("cannot tell the platform")]
    Platform(#[from] NoPlatform),
    #[error("cannot quote the PCRs of the configuration")]
    Pcrs(#[from] PcrError),
    #[error("cannot start the device process {executable}", executable = executable.display())]
    SpawnDevice { executable: PathBuf, source: io::Error },
    #[error("cannot talk to the device process")]
    Device(#[from] DeviceError),
    #[error("the device process has ended, and no other can be started from here: start the broker anew")]
    DeviceGone,
    #[error("cannot listen")]
    Listen(#[from] ListenError),
    #[error("cannot tell the service manager how the broker is")]
    Notices(#[from] NoticesError),
    #[error("cannot listen on {address} for those who ask for metrics")]
    Public { address: SocketAddr, source: io::Error },
    #[error("cannot give up powers")]
    Confine(#[from] ConfineError),
    #[error("cannot set up the runtime")]
    Runtime { source: io::Error },
    #[error("the broker broke off")]
    BrokeOff { source: tokio::task::JoinError },
}

/// Leases that ended at the vault and were not looked at yet.
const EVENTS: usize = 64;
