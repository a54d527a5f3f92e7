//! `blindferry-enclave`: starts and confines everything on the enclave's side, then runs the front.

use blindferry_proto::causes::with_causes;
use std::error::Error;
use std::ffi::OsString;
use std::future::pending;
use std::net::SocketAddr;
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
use blindferry_front::metrics::{Counters, Sizes};
use blindferry_front::notify::Notices;
use blindferry_front::page::reports::Reports;
use blindferry_front::page::settings::{Carriage, PageSettings};
use blindferry_front::page::{self, Page};
use blindferry_front::public::{self, Shown};
use blindferry_front::publication::Publication;
use blindferry_front::pulse::{self, Pulse};
use blindferry_front::start::{self, Errand, Processes, Programs};
use blindferry_front::store::Store;
use blindferry_front::store::redb::Redb;
use blindferry_front::store::redb::restore::{self, Present, Restored};
use blindferry_handle::entry::{Entered, Entry, enter};
use blindferry_handle::inherit::close_all_but;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::front::Condition;
use blindferry_proto::platform::Choice;
use blindferry_proto::refusal::Refusal;
use blindferry_proto::setup::SetupReply;
use blindferry_seqpacket::AsyncPackets;
use blindferry_traces::{Export, Traces};
use blindferry_watch::line::Form;
use blindferry_watch::resident::Resident;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The enclave's side of Blindferry: the vault, its device process, and the front before them.
///
/// Logs go to standard error, or to the journal where that is it. BLINDFERRY_LOG sets their level (default: info),
/// BLINDFERRY_LOG_FORM their form: text, json or journal.
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
    /// Make the store of a backup, read from standard input, where there is none. Starts nothing.
    Restore {
        #[command(flatten)]
        file: File,
        /// Put it in the place of a store that is there. What that one holds is lost.
        #[arg(long)]
        force: bool,
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
            say_last(failure.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Why it ends: by the log, if that was begun, else as a line for whoever started it.
fn say_last(failure: &dyn Error) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(name: "ended", why = with_causes(failure), "the enclave ends");
    } else {
        eprintln!("blindferry-enclave: {}", with_causes(failure));
    }
}

fn obey(entered: &Entered) -> Result<ExitCode, Failure> {
    close_all_but(&[])?; // before a child could inherit what we were not meant to
    let command = Arguments::parse().command;
    let (What::Serve { file }
    | What::CheckConfig { file, .. }
    | What::Init { file, .. }
    | What::Recover { file, .. }
    | What::Restore { file, .. }
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
        What::Restore { force, .. } => return restore(&configuration, force),
        What::Serve { .. } => Errand::Serve {
            reattest_every: configuration.reattest_every,
            grant_life: configuration.grant_life,
            approval_wait: configuration.approval_wait,
            traces: configuration.traces.is_some(),
        },
        What::Init { force, options, .. } => Errand::Init { force, options },
        What::Recover { options, .. } => Errand::Recover { options },
        What::Succeed { .. } => Errand::Succeed,
    };
    // From here on: what is wrong with arguments and configuration is for whoever typed them, in lines as they are.
    let log = blindferry_tracing::start("blindferry-enclave");
    tracing::info!(name: "entered", "{entered}");
    run(&configuration, &errand, entered, log)
}

/// Says how it went as a vault that is set up would.
fn restore(configuration: &Configuration, force: bool) -> Result<ExitCode, Failure> {
    let present = if force { Present::Replace } else { Present::Refuse };
    let (reply, code) = match restore::restore(&configuration.store, &mut std::io::stdin().lock(), present) {
        Ok(Restored { manifest, values }) => (SetupReply::Restored { manifest, values }, ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("blindferry-enclave: {}", with_causes(&error));
            (SetupReply::Refused(Refusal::from(&error)), ExitCode::FAILURE)
        }
    };
    println!("{}", serde_json::to_string(&reply)?);
    Ok(code)
}

/// What is wrong with the configuration.
fn tell(faults: Faults, json: bool) -> Result<ExitCode, Failure> {
    faults.print(json)?;
    Ok(faults.fatal().map_or(ExitCode::FAILURE, |_| ExitCode::SUCCESS))
}

/// The order of starting. Each step needs what the one before it did, or would be forbidden by the one after it.
fn run(configuration: &Configuration, errand: &Errand, entered: &Entered, log: Form) -> Result<ExitCode, Failure> {
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
        log,
    };
    let (processes, socket) = start::start(&programs, errand)?;
    // While its socket can be connected to.
    let notices = if errand.serves() { Some(Arc::new(Notices::of_this_process()?)) } else { None };
    let sizes = sizes(&processes, &configuration.store);
    // Before any thread is started, and before a byte is read from outside.
    let confined = confine(&configuration.store, &listening(configuration))?;
    let (store, database_thread) = Store::start(database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(front(configuration, notices, &confined, (table, sizes), store, socket));

    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    // Answers no longer reach anybody, but what was taken is written and the file closed.
    drop(database_thread.join());
    let vault = processes.end();
    conclude(end?, errand, vault)
}

/// Opened while paths still lead there. Where `/proc` hides a process, its memory is not among the metrics.
fn sizes(processes: &Processes, store: &Path) -> Sizes {
    let [vault, device] = processes.ids();
    let of = [("front", std::process::id()), ("vault", vault), ("device", device)];
    let processes = of.into_iter().filter_map(|(name, id)| Some((name, Resident::of(id).ok()?)));
    Sizes { processes: processes.collect(), store: store.to_owned(), traces: None }
}

/// Runs until the link to the vault ends. Without notices it serves nobody but the vault, which has an errand.
async fn front(
    configuration: &Configuration,
    notices: Option<Arc<Notices>>,
    confined: &Confined,
    (table, mut sizes): (KernelTable, Sizes),
    store: Store,
    socket: PacketSocket,
) -> Result<LinkEnd, Failure> {
    let limits = configuration.limits;
    let counters = Arc::new(Counters::default());
    let (condition, condition_seen) = watch::channel(Condition::default());
    let (publication, publication_seen) = watch::channel(Arc::new(Publication::default()));
    let (outbox, outgoings) = Outbox::new();

    let (reported, reported_seen) = watch::channel(None);
    let page = configuration.page.clone();
    let page = page.map(|page| Arc::new(Page::new(page, Reports::new(outbox.clone(), reported_seen))));
    let dials = Dials::new(&limits, Arc::clone(&counters));
    let pulse = Arc::new(Pulse::default());
    let (traces, export) = traced(configuration);
    sizes.traces.clone_from(&traces);
    let services = Services {
        store: store.clone(),
        dials,
        pulse: Arc::clone(&pulse),
        condition,
        publication,
        traces,
        reported,
        page: page.clone(),
    };
    let link =
        link::run(AsyncPackets::new(socket)?, services, (outbox.clone(), outgoings), told_to_stop(notices.clone())?);
    // As a task: whenever the future that a runtime blocks on is woken, tokio writes to a descriptor and polls it.
    let link = tokio::spawn(link);
    let Some(notices) = notices else { return Ok(link.await??) };
    let sessions = listen(confined, configuration.listen)?;
    let plain = listen(confined, configuration.public)?;
    tracing::info!(name: "listening", listen = %sessions.local_addr()?, public = %plain.local_addr()?, "listening");
    let notified = notices.tell(condition_seen.clone());
    let shown = Shown {
        condition: condition_seen,
        publication: publication_seen,
        counters: Arc::clone(&counters),
        store,
        pulse: Arc::clone(&pulse),
        sizes: Arc::new(sizes),
    };
    let beat = pulse::beat(pulse, outbox.clone());
    if let Some(export) = export {
        tokio::spawn(export.run());
    }
    let paging = serve_page(confined, configuration, page)?;
    tokio::select! {
        end = link => Ok(end??),
        () = notified => Err("no longer telling the service manager".into()),
        () = paging => Err("no longer serving the operators' page".into()),
        () = accept_all(sessions, Connections::new(limits, table), outbox, counters) => Err("no longer accepting".into()),
        () = beat => Err("no longer asking the vault".into()),
        () = public::serve(plain, shown, limits.connections.get()) => Err("no longer serving HTTP".into()),
    }
}

/// Spans go to a collector where one is configured.
fn traced(configuration: &Configuration) -> (Option<Traces>, Option<Export>) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    configuration.traces.map(|traces| Traces::new(traces.endpoint, &host)).unzip()
}

/// Every address that is listened on.
fn listening(configuration: &Configuration) -> Vec<SocketAddr> {
    let page = configuration.page.as_ref().map(PageSettings::listen);
    [configuration.listen, configuration.public].into_iter().chain(page).collect()
}

/// Serves the operators' page; without one, is never ready.
fn serve_page(
    confined: &Confined,
    configuration: &Configuration,
    page: Option<Arc<Page>>,
) -> Result<impl Future<Output = ()>, Failure> {
    let listener = match &configuration.page {
        Some(settings) => {
            if settings.carriage() == Carriage::Plain {
                tracing::warn!(
                    name: "page-plain",
                    "the operators' page is plain HTTP over a network: put a TLS proxy before it, and say origin"
                );
            }
            tracing::info!(name: "page-on", page = settings.origin(), "the operators' page is on");
            Some(listen(confined, settings.listen())?)
        }
        None => None,
    };
    Ok(async move {
        match listener.zip(page) {
            Some((listener, page)) => public::serve_router(listener, page.router(), page::CONNECTIONS).await,
            None => pending().await,
        }
    })
}

/// Ready at SIGTERM, or SIGINT.
fn told_to_stop(notices: Option<Arc<Notices>>) -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(name: "stopping", "stopping");
        notices.iter().for_each(|notices| notices.stopping());
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
