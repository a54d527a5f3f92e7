//! A whole fleet on one machine: an enclave, one worker host, an operator, each with a TPM of its own.
//!
//! ```text
//!   DIRECTORY/enclave    of ENCLAVE:  enclave.toml, store.redb, pins.toml, the TPM's state
//!   DIRECTORY/host       of BROKER:   broker.toml, vault.toml, pins.toml, run/*.sock, the TPM's state
//!   DIRECTORY/operator   of CALLER:   pins.toml, the TPM's state
//! ```

use crate::account::{BROKER, CALLER, ENCLAVE, USER};
use crate::bus::Bus;
use crate::operator::Operator;
use crate::peer::Peer;
use crate::process::{Running, child, eventually};
use crate::program::{TPM_TOOLS, missing, ours};
use crate::tpm::{PCRS, Tpm, adjacent_ports};
use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::Machine;
use blindferry_proto::key_mix::KeyMix;
use blindferry_proto::operator::Approvee;
use blindferry_proto::role::Role;
use blindferry_proto::setup::{FirstOperator, InitOrder, RecoverOrder, SetupReply, VERSION};
use blindferry_session::client::ConnectError;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tempfile::TempDir;

/// What a fleet shall be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Seconds between two looks at a host's evidence; `None`: as the vault has it.
    pub reattest_every: Option<u32>,
    /// Seconds after which a grant is over; `None`: as the vault has it.
    pub grant_life: Option<u32>,
    /// Write down what goes over the TPM buses of enclave and host.
    pub recorded: bool,
    /// The policy that `init` puts in force.
    pub policy: &'a str,
}

/// Everybody on the worker host may have everything.
pub const ALLOW_ALL: &str = "@id(\"everybody\") permit (principal, action, resource);";
/// What the worker host is called.
pub const HOST: &str = "worker-1";
/// What the operator's machine is called.
pub const OPERATOR: &str = "desk";

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { reattest_every: None, grant_life: None, recorded: false, policy: ALLOW_ALL }
    }
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    /// Front, vault and their device process.
    pub enclave: Enclave,
    /// The worker host.
    pub host: Host,
    /// The operator's machine.
    pub operator_tpm: Tpm,
    directory: TempDir,
}

impl Fleet {
    /// A fleet that stands: initialised, serving, its host approved and connected. `None`, and a line says why, where
    /// the machine has no software TPMs.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&Plan::default())
    }

    /// The same, by a plan.
    #[must_use]
    pub fn start_with(plan: &Plan<'_>) -> Option<Self> {
        let mut fleet = Self::set_up(plan)?;
        fleet.init(plan);
        fleet.enclave.serve();
        fleet.operator().approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
        fleet.host.serve();
        Some(fleet)
    }

    /// Machines with TPMs and configurations, and nothing running yet.
    #[must_use]
    pub fn set_up(plan: &Plan<'_>) -> Option<Self> {
        if missing(TPM_TOOLS) {
            return None;
        }
        let directory = TempDir::with_prefix("blindferry-").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let enclave = Enclave::set_up(&directory.path().join("enclave"), plan);
        let host = Host::set_up(&directory.path().join("host"), enclave.listen, plan);
        let operator_tpm = Tpm::boot(&directory.path().join("operator"), CALLER, "desk image");
        Some(Self { enclave, host, operator_tpm, directory })
    }

    /// Makes the vault, and carries its reference to the host.
    pub fn init(&mut self, plan: &Plan<'_>) {
        let order = self.init_order(plan);
        let made = self.enclave.init(&[], &order);
        assert!(made.status.success(), "init: {:?}\n{}", made.reply, self.enclave.log());
        match made.reply {
            Some(SetupReply::Done { vault_reference }) => self.enclave.reference = vault_reference.as_str().to_owned(),
            other => panic!("init answered {other:?}"),
        }
        self.enclave.recovery = made.rest.trim().to_owned();
        self.host.trust(&self.enclave.reference);
    }

    /// What `init` is told: this operator, these reference values, the plan's policy.
    #[must_use]
    pub fn init_order(&self, plan: &Plan<'_>) -> InitOrder {
        InitOrder {
            version: VERSION,
            pcrs: PCRS.to_vec(),
            insist_unextended: false,
            mix: KeyMix::default(),
            vault_reference: None,
            operator: FirstOperator { name: OPERATOR.parse().unwrap(), machine: Machine::Ek(self.operator_tpm.ek()) },
            operator_reference: Text::new(self.operator_tpm.reference(Role::Operator, "desk")).unwrap(),
            broker_reference: Some(Text::new(self.host.tpm.reference(Role::Broker, "production")).unwrap()),
            policy: Some(Text::new(plan.policy).unwrap()),
        }
    }

    /// A new session of the operator.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator(self.peer(&self.operator_tpm, Role::Operator, OPERATOR).unwrap())
    }

    /// A session that a test drives itself.
    ///
    /// # Errors
    /// Which side refused the other.
    pub fn peer(&self, tpm: &Tpm, role: Role, name: &str) -> Result<Peer, ConnectError> {
        Peer::connect(tpm, role, name, &self.enclave.reference, self.enclave.listen)
    }

    /// A directory that goes away with the fleet.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A directory of parents and workers.
    #[must_use]
    pub fn user_directory(&self) -> PathBuf {
        let path = self.directory.path().join("user");
        USER.make_directory(&path);
        path
    }
}

/// The enclave's side.
#[derive(Debug)]
pub struct Enclave {
    /// Its machine.
    pub tpm: Tpm,
    /// What its bus says, if it is recorded.
    pub bus: Option<Bus>,
    /// Where sessions are made.
    pub listen: SocketAddr,
    /// Where the plain endpoints are.
    pub public: SocketAddr,
    /// What hosts and operators have to know of the vault, once it is made.
    pub reference: String,
    /// The recovery key as it was shown.
    pub recovery: String,
    /// What it is started with.
    pub environment: Vec<(&'static str, &'static str)>,
    directory: PathBuf,
    running: Option<Running>,
}

/// What a set-up said.
#[derive(Debug)]
pub struct SetUp {
    /// How the command ended.
    pub status: ExitStatus,
    /// The line with the answer.
    pub reply: Option<SetupReply>,
    /// What came after it: the recovery key.
    pub rest: String,
}

impl Enclave {
    fn set_up(directory: &Path, plan: &Plan<'_>) -> Self {
        let tpm = Tpm::boot(directory, ENCLAVE, "enclave image");
        let bus = plan.recorded.then(|| Bus::before(tpm.port()));
        let port = adjacent_ports();
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let enclave = Self {
            tpm,
            bus,
            listen: at(port),
            public: at(port + 1),
            reference: String::new(),
            recovery: String::new(),
            environment: Vec::new(),
            directory: directory.to_owned(),
            running: None,
        };
        enclave.configure(plan);
        enclave
    }

    /// Writes its configuration; it is read at the next start.
    pub fn configure(&self, plan: &Plan<'_>) {
        self.configure_with(plan, "");
    }

    /// The same with more lines at the end.
    pub fn configure_with(&self, plan: &Plan<'_>, more: &str) {
        let tcti = self.bus.as_ref().map_or_else(|| self.tpm.tcti(), Bus::tcti);
        let mut text = format!(
            "listen = \"{}\"\npublic = \"{}\"\nstore = \"{}\"\ntcti = \"{tcti}\"\npins = \"{}\"\n",
            self.listen,
            self.public,
            self.store().display(),
            self.tpm.pins().display(),
        );
        if let Some(seconds) = plan.reattest_every {
            text.push_str(&format!("reattest_every = {seconds}\n"));
        }
        if let Some(seconds) = plan.grant_life {
            text.push_str(&format!("grant_life = {seconds}\n"));
        }
        text.push_str(more);
        fs::write(self.configuration(), text).unwrap();
    }

    /// `blindferry-enclave init` with these options.
    pub fn init(&self, options: &[&str], order: &InitOrder) -> SetUp {
        self.errand("init", options, &serde_json::to_vec(order).unwrap())
    }

    /// `blindferry-enclave recover` with this recovery key.
    pub fn recover(&self, key: &str, order: &RecoverOrder) -> SetUp {
        let order = serde_json::to_string(order).unwrap();
        self.errand("recover", &[], format!("{key}\n{order}").as_bytes())
    }

    /// Starts front, vault and device process, and waits until the vault is ready.
    pub fn serve(&mut self) {
        self.start();
        eventually("the vault to be ready", || {
            let ended = self.running.as_mut().and_then(Running::ended);
            assert!(ended.is_none(), "the enclave ended: {}", self.log());
            let (status, _) = http_get(self.public, "/readyz")?;
            (status == 200).then_some(())
        });
    }

    /// Starts it, and waits for nothing.
    pub fn start(&mut self) {
        let mut command = ENCLAVE.command(&ours("blindferry-enclave"));
        command.arg("serve").arg("--config").arg(self.configuration());
        command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear().current_dir(&self.directory);
        command.envs(self.environment.iter().copied());
        self.running = Some(Running::start(command, &self.log_file()));
    }

    /// Starts it where it cannot serve, and gives its log and how it ended.
    pub fn fail_to_serve(&mut self) -> (ExitStatus, String) {
        let before = self.log().len();
        self.start();
        let status = self.running.as_mut().unwrap().wait();
        self.running = None;
        (status, self.log()[before..].to_owned())
    }

    /// The front's process.
    pub fn front(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    /// The front's process id.
    #[must_use]
    pub fn front_id(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    /// Whether it was started and not stopped.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.running.is_some()
    }

    /// The vault's process id.
    #[must_use]
    pub fn vault(&self) -> u32 {
        child(self.running.as_ref().unwrap().id(), "blindferry-vault")
    }

    /// The device process's id.
    #[must_use]
    pub fn device(&self) -> u32 {
        child(self.running.as_ref().unwrap().id(), "blindferry-device")
    }

    /// SIGTERM to the front, and waits for the end of all three.
    pub fn stop(&mut self) -> ExitStatus {
        self.running.take().unwrap().stop()
    }

    /// Waits until the front has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.running.take().unwrap().wait()
    }

    /// SIGKILL to the front.
    pub fn kill_front(&mut self) {
        self.running.take().unwrap().kill();
    }

    /// The store's file.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.join("store.redb")
    }

    /// What all processes of the enclave have logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The file of [`Enclave::log`].
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("enclave.log")
    }

    /// What [`Enclave::configure`] writes.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("enclave.toml")
    }

    fn errand(&self, errand: &str, options: &[&str], input: &[u8]) -> SetUp {
        let mut running = self.begin(errand, options);
        // Who refuses at once does not read: its answer says why.
        let _refused = running.child().stdin.as_mut().unwrap().write_all(input);
        Self::conclude(running)
    }

    /// Starts a set-up, which waits for its order on standard input.
    #[must_use]
    pub fn begin(&self, errand: &str, options: &[&str]) -> Running {
        let mut command = ENCLAVE.command(&ours("blindferry-enclave"));
        command.arg(errand).arg("--config").arg(self.configuration()).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env_clear();
        Running::start(command, &self.log_file())
    }

    /// Ends the input of a set-up, and takes what it says.
    #[must_use]
    pub fn conclude(mut running: Running) -> SetUp {
        drop(running.child().stdin.take());
        let mut said = String::new();
        running.child().stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let status = running.wait();
        let (first, rest) = said.split_once('\n').unwrap_or((&said, ""));
        SetUp { status, reply: serde_json::from_str(first).ok(), rest: rest.to_owned() }
    }
}

/// The worker host.
#[derive(Debug)]
pub struct Host {
    /// Its machine.
    pub tpm: Tpm,
    /// What its bus says, if it is recorded.
    pub bus: Option<Bus>,
    /// Where it looks for the vault; written by [`Host::configure`].
    pub vault: SocketAddr,
    /// What the broker is started with.
    pub environment: Vec<(&'static str, &'static str)>,
    directory: PathBuf,
    running: Option<Running>,
}

impl Host {
    fn set_up(directory: &Path, vault: SocketAddr, plan: &Plan<'_>) -> Self {
        let tpm = Tpm::boot(directory, BROKER, "host image");
        BROKER.make_directory(&directory.join("run"));
        let bus = plan.recorded.then(|| Bus::before(tpm.port()));
        let host = Self { tpm, bus, directory: directory.to_owned(), vault, environment: Vec::new(), running: None };
        host.configure(HOST);
        host
    }

    /// Writes its configuration, under this name.
    pub fn configure(&self, name: &str) {
        self.configure_with(name, &PCRS, "");
    }

    /// The same, where its TPM quotes these PCRs, with more lines at the end.
    pub fn configure_with(&self, name: &str, pcrs: &[u8], more: &str) {
        let tcti = self.bus.as_ref().map_or_else(|| self.tpm.tcti(), Bus::tcti);
        let text = format!(
            "name = \"{name}\"\nvault = \"{}\"\nvault_reference = \"{}\"\nparents = \"{}\"\nworkers = \"{}\"\n\
             device = \"{}\"\ntcti = \"{tcti}\"\npins = \"{}\"\npcrs = {pcrs:?}\n{more}",
            self.vault,
            self.reference_file().display(),
            self.parents().display(),
            self.workers().display(),
            ours("blindferry-device").display(),
            self.tpm.pins().display(),
        );
        fs::write(self.configuration(), text).unwrap();
    }

    /// Which vault is the right one.
    pub fn trust(&self, vault_reference: &str) {
        fs::write(self.reference_file(), vault_reference).unwrap();
    }

    /// Starts the broker, and waits until its session stands.
    pub fn serve(&mut self) {
        let before = self.log().matches(STANDS).count();
        self.start();
        eventually("the broker's session", || {
            let ended = self.running.as_mut().and_then(Running::ended);
            assert!(ended.is_none(), "the broker ended: {}", self.log());
            (self.log().matches(STANDS).count() > before).then_some(())
        });
    }

    /// Starts the broker, and waits for nothing.
    pub fn start(&mut self) {
        let mut command = BROKER.command(&ours("blindferryd"));
        command.arg("--config").arg(self.configuration());
        command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear().current_dir(&self.directory);
        command.envs(self.environment.iter().copied());
        self.running = Some(Running::start(command, &self.log_file()));
    }

    /// Waits until a session stands that did not when the log had `before` of them.
    pub fn wait_for_session_after(&self, before: usize) {
        eventually("the broker's next session", || (self.sessions() > before).then_some(()));
    }

    /// How many sessions have come to stand so far.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.log().matches(STANDS).count()
    }

    /// The broker's process.
    pub fn broker(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    /// The broker's process id.
    #[must_use]
    pub fn broker_id(&self) -> u32 {
        self.running.as_ref().unwrap().id()
    }

    /// The broker's device process.
    #[must_use]
    pub fn device(&self) -> u32 {
        child(self.running.as_ref().unwrap().id(), "blindferry-device")
    }

    /// SIGTERM, and waits.
    pub fn stop(&mut self) -> ExitStatus {
        self.running.take().unwrap().stop()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    /// The socket of parents.
    #[must_use]
    pub fn parents(&self) -> PathBuf {
        self.directory.join("run/parents.sock")
    }

    /// The socket of workers.
    #[must_use]
    pub fn workers(&self) -> PathBuf {
        self.directory.join("run/workers.sock")
    }

    /// What broker and device process have logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The file of [`Host::log`].
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("broker.log")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("broker.toml")
    }

    fn reference_file(&self) -> PathBuf {
        self.directory.join("vault.toml")
    }
}

/// Status and body of a plain GET, or `None` where nobody answers.
#[must_use]
pub fn http_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// What the broker logs when its session stands.
const STANDS: &str = "session with the vault stands";
