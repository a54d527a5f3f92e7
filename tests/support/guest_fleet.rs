//! A whole fleet of SEV-SNP guests on one machine: an enclave, a worker host and an operator, each on a chip of its own
//! that is none. The worker host has the device process that ships, over a configfs-tsm that is none.

use crate::account::{Account, BROKER, CALLER, ENCLAVE, USER};
use crate::fleet::{ALLOW_ALL, HOST, OPERATOR, SetUp, http_get};
use crate::operator::Operator;
use crate::peer::Peer;
use crate::process::{Running, eventually};
use crate::program::ours;
use crate::silicon::{Silicon, reference};
use crate::tpm::adjacent_ports;
use crate::tsm_tree::TsmTree;
use crate::worker::GRANT_FD;
use blindferry_device::client::Device;
use blindferry_parent::{Ask, Parent};
use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::{ChipId, Machine};
use blindferry_proto::key_mix::KeyMix;
use blindferry_proto::operator::Approvee;
use blindferry_proto::platform::{DeviceProcess, GuestPaths};
use blindferry_proto::role::Role;
use blindferry_proto::setup::{FirstOperator, InitOrder, RecoverOrder, SetupReply, VERSION};
use blindferry_session::Attester;
use blindferry_session::client::ConnectError;
use command_fds::{CommandFdExt, FdMapping};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tempfile::TempDir;

/// What the enclave's guest is launched from.
pub const ENCLAVE_IMAGE: &str = "enclave image";
/// What the worker host's guest is launched from.
pub const HOST_IMAGE: &str = "host image";
/// What the operator's guest is launched from.
pub const DESK_IMAGE: &str = "desk image";
/// The chips: the bytes of their ids.
pub const CHIPS: [u8; 3] = [0xe1, 0xb2, 0xd3];

/// A fleet, initialised, its host approved.
#[derive(Debug)]
pub struct GuestFleet {
    /// Front, vault and their device process.
    pub enclave: GuestEnclave,
    broker: Option<Running>,
    tree: TsmTree,
    directory: TempDir,
}

/// The enclave's side, on one chip.
#[derive(Debug)]
pub struct GuestEnclave {
    /// Where sessions are made.
    pub listen: SocketAddr,
    /// Where the plain endpoints are.
    pub public: SocketAddr,
    /// What hosts and operators have to know of the vault.
    pub reference: String,
    /// The recovery key as it was shown.
    pub recovery: String,
    pub(crate) directory: PathBuf,
    running: Option<Running>,
}

impl GuestFleet {
    /// A fleet whose vault serves and whose host is approved and connected.
    #[must_use]
    pub fn start() -> Self {
        let directory = TempDir::with_prefix("blindferry-").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let [enclave_chip, host_chip, desk_chip] = CHIPS;
        let host = directory.path().join("host");
        BROKER.make_directory(&host);
        BROKER.make_directory(&host.join("run"));
        boot(&host, &Silicon::launch(HOST_IMAGE, host_chip), BROKER);
        let desk = directory.path().join("operator");
        CALLER.make_directory(&desk);
        boot(&desk, &Silicon::launch(DESK_IMAGE, desk_chip), CALLER);
        let tree = TsmTree::serve(host.join("tsm"), host.join(SILICON), "sev_guest");
        let mut enclave = GuestEnclave::set_up(&directory.path().join("enclave"), ENCLAVE_IMAGE, enclave_chip);
        enclave.init();
        enclave.serve();
        let mut fleet = Self { enclave, broker: None, tree, directory };
        fleet.operator().approve(HOST, Approvee::Chip(ChipId([host_chip; 64])));
        fleet.trust(&fleet.enclave.reference.clone());
        fleet.start_broker();
        fleet.wait_for_session_after(0);
        fleet
    }

    /// A new session of the operator.
    #[must_use]
    pub fn operator(&self) -> Operator {
        Operator(self.peer(Role::Operator, OPERATOR, &self.enclave.reference).unwrap())
    }

    /// A session of the operator's machine under any role, name and idea of the vault.
    ///
    /// # Errors
    /// Which side refused the other.
    pub fn peer(&self, role: Role, name: &str, vault_reference: &str) -> Result<Peer, ConnectError> {
        let process = fake(&self.directory.path().join("operator").join(SILICON));
        let device = (ours("blindferry-fake-guest"), process);
        Peer::with(device, Attester::guest, role, name, vault_reference, self.enclave.listen)
    }

    /// The file with the chip of the worker host.
    #[must_use]
    pub fn host_silicon(&self) -> PathBuf {
        self.host().join(SILICON)
    }

    /// The kernel under the worker host.
    #[must_use]
    pub fn tree(&self) -> &TsmTree {
        &self.tree
    }

    /// Which vault the host takes for the right one.
    pub fn trust(&self, vault_reference: &str) {
        fs::write(self.host().join("vault.toml"), vault_reference).unwrap();
    }

    /// Starts the broker.
    pub fn start_broker(&mut self) {
        let host = self.host();
        let text = format!(
            "name = \"{HOST}\"\nvault = \"{}\"\nvault_reference = \"{}\"\nparents = \"{}\"\nworkers = \"{}\"\n\
             device = \"{}\"\nplatform = \"auto\"\n[snp]\ntsm = \"{}\"\n",
            self.enclave.listen,
            host.join("vault.toml").display(),
            self.parents().display(),
            self.workers().display(),
            ours("blindferry-device-snp").display(),
            self.tree.root().display(),
        );
        fs::write(host.join("broker.toml"), text).unwrap();
        let mut command = BROKER.command(&ours("blindferryd"));
        command.arg("--config").arg(host.join("broker.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
        self.broker = Some(Running::start(command, &host.join("broker.log")));
    }

    /// Ends the broker.
    pub fn stop_broker(&mut self) {
        self.broker.take().unwrap().stop();
    }

    /// How many sessions of the broker have come to stand.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.broker_log().matches("session with the vault stands").count()
    }

    /// Waits until a session stands that did not when there were `before`.
    pub fn wait_for_session_after(&self, before: usize) {
        eventually("the broker's next session", || (self.sessions() > before).then_some(()));
    }

    /// What broker and device process have logged.
    #[must_use]
    pub fn broker_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.host().join("broker.log")).unwrap_or_default()).into_owned()
    }

    /// The socket of parents.
    #[must_use]
    pub fn parents(&self) -> PathBuf {
        self.host().join("run/parents.sock")
    }

    /// The socket of workers.
    #[must_use]
    pub fn workers(&self) -> PathBuf {
        self.host().join("run/workers.sock")
    }

    /// A directory of parents and workers.
    #[must_use]
    pub fn user_directory(&self) -> PathBuf {
        let path = self.directory.path().join("user");
        USER.make_directory(&path);
        path
    }

    /// The token of a credential, as a program gets it from the launcher.
    #[must_use]
    pub fn released(&self, credential: &str) -> String {
        let ask = Ask::for_credential(credential.parse().unwrap());
        let grant = Parent::connect(&self.parents()).unwrap().ask(&ask).unwrap().into_descriptor();
        let mut command = USER.command(&ours("blindferry-launch"));
        command.args(["--grant-fd", &GRANT_FD.to_string(), "--credential-name", credential, "--deliver", "stdin"]);
        command.arg("--workers").arg(self.workers()).args(["--", "sh", "-c", "cat"]);
        command.current_dir(self.user_directory()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.fd_mappings(vec![FdMapping { parent_fd: grant, child_fd: GRANT_FD }]).unwrap();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Another enclave on the chip of this fleet's, of the same image, over a store of its own.
    #[must_use]
    pub fn second_enclave(&self) -> GuestEnclave {
        let [chip, ..] = CHIPS;
        GuestEnclave::set_up(&self.directory.path().join("second"), ENCLAVE_IMAGE, chip)
    }

    /// A guest that is launched from any image on any chip, to be an enclave.
    #[must_use]
    pub fn guest_of(&self, image: &str, chip: u8) -> GuestEnclave {
        let name = format!("{image} {chip}").replace(' ', "-");
        GuestEnclave::set_up(&self.directory.path().join(name), image, chip)
    }

    fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }
}

impl GuestEnclave {
    fn set_up(directory: &Path, image: &str, chip: u8) -> Self {
        ENCLAVE.make_directory(directory);
        boot(directory, &Silicon::launch(image, chip), ENCLAVE);
        let port = adjacent_ports();
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let enclave = Self {
            listen: at(port),
            public: at(port + 1),
            reference: String::new(),
            recovery: String::new(),
            directory: directory.to_owned(),
            running: None,
        };
        let text = format!(
            "listen = \"{}\"\npublic = \"{}\"\nstore = \"{}\"\nreattest_every = 1\ndevice = \"{}\"\n[snp]\ndevice = \"{}\"\n",
            enclave.listen,
            enclave.public,
            directory.join("store.redb").display(),
            ours("blindferry-fake-guest").display(),
            enclave.silicon().display(),
        );
        fs::write(directory.join("enclave.toml"), text).unwrap();
        enclave
    }

    /// Makes the vault.
    pub fn init(&mut self) {
        let made = self.try_init(&init_order());
        assert!(made.status.success(), "init: {:?}\n{}", made.reply, self.log());
        match made.reply {
            Some(SetupReply::Done { vault_reference }) => self.reference = vault_reference.as_str().to_owned(),
            other => panic!("init answered {other:?}"),
        }
        self.recovery = made.rest.trim().to_owned();
    }

    /// `blindferry-enclave init`.
    #[must_use]
    pub fn try_init(&self, order: &InitOrder) -> SetUp {
        self.errand("init", &serde_json::to_vec(order).unwrap())
    }

    /// `blindferry-enclave recover` with the recovery key.
    #[must_use]
    pub fn recover(&self) -> SetUp {
        let order = RecoverOrder {
            version: VERSION,
            pcrs: Vec::new(),
            insist_unextended: false,
            mix: KeyMix::default(),
            vault_reference: Some(Text::new(reference("vault", ENCLAVE_IMAGE)).unwrap()),
        };
        self.errand("recover", format!("{}\n{}", self.recovery, serde_json::to_string(&order).unwrap()).as_bytes())
    }

    /// Starts it, and waits until the vault is ready.
    pub fn serve(&mut self) {
        self.start();
        eventually("the vault to be ready", || {
            let ended = self.running.as_mut().and_then(Running::ended);
            assert!(ended.is_none(), "the enclave ended: {}", self.log());
            let (status, _) = http_get(self.public, "/readyz")?;
            (status == 200).then_some(())
        });
    }

    /// Starts it where it cannot serve, and gives its log and how it ended.
    pub fn fail_to_serve(&mut self) -> (ExitStatus, String) {
        let before = self.log().len();
        self.start();
        let status = self.running.take().unwrap().wait();
        (status, self.log()[before..].to_owned())
    }

    /// SIGTERM to the front, and waits for the end of all.
    pub fn stop(&mut self) {
        self.running.take().unwrap().stop();
    }

    /// The file with its chip.
    #[must_use]
    pub fn silicon(&self) -> PathBuf {
        self.directory.join(SILICON)
    }

    /// What all its processes have logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("enclave.log")).unwrap_or_default()).into_owned()
    }

    fn start(&mut self) {
        let mut command = ENCLAVE.command(&ours("blindferry-enclave"));
        command.arg("serve").arg("--config").arg(self.directory.join("enclave.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
        self.running = Some(Running::start(command, &self.directory.join("enclave.log")));
    }

    fn errand(&self, errand: &str, input: &[u8]) -> SetUp {
        let mut command = ENCLAVE.command(&ours("blindferry-enclave"));
        command.arg(errand).arg("--config").arg(self.directory.join("enclave.toml"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env_clear();
        let mut running = Running::start(command, &self.directory.join("enclave.log"));
        let mut stdin = running.child().stdin.take().unwrap();
        // Who refuses at once does not read: its answer says why.
        let _refused = stdin.write_all(input);
        drop(stdin);
        let mut said = String::new();
        running.child().stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let status = running.wait();
        let (first, rest) = said.split_once('\n').unwrap_or((&said, ""));
        SetUp { status, reply: serde_json::from_str(first).ok(), rest: rest.to_owned() }
    }
}

/// What `init` is told on guests.
#[must_use]
pub fn init_order() -> InitOrder {
    let [_, _, desk_chip] = CHIPS;
    let text = |role, image| Text::new(reference(role, image)).unwrap();
    InitOrder {
        version: VERSION,
        pcrs: Vec::new(),
        insist_unextended: false,
        mix: KeyMix::default(),
        vault_reference: Some(text("vault", ENCLAVE_IMAGE)),
        operator: FirstOperator { name: OPERATOR.parse().unwrap(), machine: Machine::Chip(ChipId([desk_chip; 64])) },
        operator_reference: text("operator", DESK_IMAGE),
        broker_reference: Some(text("broker", HOST_IMAGE)),
        policy: Some(Text::new(ALLOW_ALL).unwrap()),
    }
}

fn boot(directory: &Path, silicon: &Silicon, account: Account) {
    let path = directory.join(SILICON);
    silicon.write(&path);
    account.give(&path);
}

fn fake(silicon: &Path) -> DeviceProcess {
    DeviceProcess::Snp(GuestPaths { device: silicon.to_owned(), ..GuestPaths::default() })
}

/// The file in which a machine's chip lies.
const SILICON: &str = "silicon.json";

/// A device process that a test asks itself, with a directory of certificates.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn device_over(tree: &TsmTree, certificates: Option<&Path>) -> (Device, std::process::Child) {
    let certificates = certificates.map(Path::to_owned);
    let (tsm, device) = (tree.root().to_owned(), "/dev/null".into());
    let paths = GuestPaths { tsm, device, certificates, ..GuestPaths::default() };
    let spawned = blindferry_device::spawn::spawn(&ours("blindferry-device-snp"), DeviceProcess::Snp(paths));
    let (child, socket) = spawned.unwrap();
    (Device::new(socket).unwrap(), child)
}
