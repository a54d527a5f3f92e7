//! `blindferry-enclave`: starts and confines everything on the enclave's side, then runs the front.

use blindferry_proto::causes::with_causes;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use blindferry_configuration::Faults;
use blindferry_front::configuration::Configuration;
use blindferry_front::configuration::check::check;
use blindferry_front::confine::{Confined, confine};
use blindferry_front::connections::{Connections, KernelTable};
use blindferry_front::dial::Dials;
use blindferry_front::link::{self, LinkEnd, Outbox, Services};
use blindferry_front::listen::{accept_all, listen};
use blindferry_front::metrics::Counters;
use blindferry_front::public::{self, Shown};
use blindferry_front::publication::Publication;
use blindferry_front::start::{self, Errand, Programs};
use blindferry_front::store::Store;
use blindferry_front::store::redb::Redb;
use blindferry_handle::entry::{Entered, Entry, enter};
use blindferry_handle::inherit::close_all_but;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::front::Condition;
use blindferry_proto::platform::Choice;
use blindferry_seqpacket::AsyncPackets;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// The enclave's side of Blindferry: the vault, its device process, and the front before them.
///
/// Logs go to standard error; BLINDFERRY_LOG sets their level (default: info).
#[derive(Debug, Parser)]
#[command(name = "blindferry-enclave", version)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Serve brokers and operators until told to stop (SIGTERM).
    Serve {
        #[command(flatten)]
        file: File,
    },
    /// Make the key-encryption key, seal it to this machine, and show its recovery key once.
    Init {
        #[command(flatten)]
        file: File,
        /// Start over. What is stored cannot be read any more, unless its recovery key was kept.
        #[arg(long)]
        force: bool,
        /// Options for the vault, given to it as they are.
        #[arg(last = true)]
        options: Vec<OsString>,
    },
    /// Seal the key-encryption key to this machine from its recovery key, read from standard input.
    Recover {
        #[command(flatten)]
        file: File,
        /// Options for the vault, given to it as they are.
        #[arg(last = true)]
        options: Vec<OsString>,
    },
    /// Become the next guest of a vault that runs: take its key over and have its store open for this guest too.
    Succeed {
        #[command(flatten)]
        file: File,
    },
    /// Check the configuration, and that what it names is there; do nothing else.
    CheckConfig {
        #[command(flatten)]
        file: File,
        /// Say it as one JSON document.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct File {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which hardware seals and attests: auto, tpm or snp [default: as configured]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Choice>,
}

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    // First of all: until then others could look into this process, and take its socket to the vault.
    match enter(&Entry::new()).map_err(Failure::from).and_then(|entered| obey(&entered)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("blindferry-enclave: {}", with_causes(failure.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn obey(entered: &Entered) -> Result<ExitCode, Failure> {
    close_all_but(&[])?; // before a child could inherit what we were not meant to
    let command = Arguments::parse().command;
    let (What::Serve { file }
    | What::CheckConfig { file, .. }
    | What::Init { file, .. }
    | What::Recover { file, .. }
    | What::Succeed { file }) = &command;
    if let What::CheckConfig { json, .. } = command {
        return tell(check(&file.config, entered.executable()), json);
    }
    let mut configuration = Configuration::read(&file.config)?;
    if let Some(platform) = file.platform {
        configuration.platform = platform;
    }
    let errand = match command {
        What::CheckConfig { .. } => return Ok(ExitCode::SUCCESS),
        What::Serve { .. } => Errand::Serve {
            reattest_every: configuration.reattest_every,
            grant_life: configuration.grant_life,
            approval_wait: configuration.approval_wait,
        },
        What::Init { force, options, .. } => Errand::Init { force, options },
        What::Recover { options, .. } => Errand::Recover { options },
        What::Succeed { .. } => Errand::Succeed,
    };
    let filter = EnvFilter::try_from_env("BLINDFERRY_LOG").or_else(|_| EnvFilter::try_new("info"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    tracing::info!("{entered}");
    run(&configuration, &errand, entered)
}

/// What is wrong with the configuration.
fn tell(faults: Faults, json: bool) -> Result<ExitCode, Failure> {
    if json {
        println!("{}", faults.to_json()?);
    } else if faults.faults.is_empty() {
        println!("{} is in order", faults.path.display());
    } else {
        eprintln!("{faults}");
    }
    Ok(faults.fatal().map_or(ExitCode::FAILURE, |_| ExitCode::SUCCESS))
}

/// The order of starting. Each step needs what the one before it did, or would be forbidden by the one after it.
fn run(configuration: &Configuration, errand: &Errand, entered: &Entered) -> Result<ExitCode, Failure> {
    // Before anything is started: a second front ends here.
    let database = Redb::open(&configuration.store)?;
    // While paths still lead there.
    let table = KernelTable::open()?;
    // While programs may still be executed.
    let platform = configuration.device_process(Path::exists)?;
    let programs = Programs {
        vault: &configuration.vault(entered.executable())?,
        device: &configuration.device(&platform, entered.executable())?,
        platform: &platform,
    };
    let (processes, socket) = start::start(&programs, errand)?;
    // Before any thread is started, and before a byte is read from outside.
    let confined = confine(&configuration.store, &[configuration.listen, configuration.public])?;
    let (store, database_thread) = Store::start(database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(front(configuration, errand, &confined, table, store, socket));

    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    // Answers no longer reach anybody, but what was taken is written and the file closed.
    drop(database_thread.join());
    let vault = processes.end();
    conclude(end?, errand, vault)
}

/// Runs until the link to the vault ends.
async fn front(
    configuration: &Configuration,
    errand: &Errand,
    confined: &Confined,
    table: KernelTable,
    store: Store,
    socket: PacketSocket,
) -> Result<LinkEnd, Failure> {
    let limits = configuration.limits;
    let counters = Arc::new(Counters::default());
    let (condition, condition_seen) = watch::channel(Condition::default());
    let (publication, publication_seen) = watch::channel(Arc::new(Publication::default()));
    let (outbox, outgoings) = Outbox::new();

    let dials = Dials::new(&limits, Arc::clone(&counters));
    let services = Services { store: store.clone(), dials, condition, publication };
    let link = link::run(AsyncPackets::new(socket)?, services, (outbox.clone(), outgoings), told_to_stop()?);
    if !errand.serves() {
        return Ok(link.await?);
    }
    let sessions = listen(confined, configuration.listen)?;
    let plain = listen(confined, configuration.public)?;
    tracing::info!(listen = %sessions.local_addr()?, public = %plain.local_addr()?, "listening");
    let shown =
        Shown { condition: condition_seen, publication: publication_seen, counters: Arc::clone(&counters), store };
    tokio::select! {
        end = link => Ok(end?),
        () = accept_all(sessions, Connections::new(limits, table), outbox, counters) => Err("no longer accepting".into()),
        () = public::serve(plain, shown, limits.connections.get()) => Err("no longer serving HTTP".into()),
    }
}

/// Ready at SIGTERM, or SIGINT.
fn told_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}

fn conclude(end: LinkEnd, errand: &Errand, vault: Option<ExitStatus>) -> Result<ExitCode, Failure> {
    match (end, errand) {
        (LinkEnd::Stopped, _) => Ok(ExitCode::SUCCESS),
        (LinkEnd::Failed(refusal), _) => Err(format!("the vault cannot go on: {refusal}").into()),
        // Its errand is done, well or not; it has said so itself.
        (LinkEnd::Closed, Errand::Init { .. } | Errand::Recover { .. } | Errand::Succeed) => {
            Ok(vault.and_then(|status| u8::try_from(status.code()?).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        (LinkEnd::Closed, Errand::Serve { .. }) => Err(match vault {
            Some(status) => format!("the vault has ended ({status}); its own log lines say why").into(),
            None => "the vault has ended".into(),
        }),
    }
}
