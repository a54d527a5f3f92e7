//! A front in an attacker's hands: the real vault and its device process, and a test where the front would be.
//!
//! It relays connections honestly unless told otherwise, answers for the store from memory, and keeps all that it sees.

use crate::account::ENCLAVE;
use crate::fleet::Enclave;
use crate::process::{Running, eventually};
use crate::program::ours;
use blindferry_front::store::redb::Redb;
use blindferry_handle::packet::PacketSocket;
use blindferry_proto::bounded::{Text, decode, encode};
use blindferry_proto::front::{FromFront, FromVault, Key, Operation, StoreReply, StoreRequest, Table, Value};
use blindferry_proto::limits::{MAX_PACKET, MAX_PAGE};
use blindferry_proto::report::Report;
use command_fds::{CommandFdExt, FdMapping};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

/// What is stored, by table and key.
pub type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What a dial of the vault is answered with; `None`: that it did not work.
pub type Dialler = Box<dyn Fn() -> Option<OwnedFd> + Send>;

/// The attacker's place.
#[derive(Debug)]
pub struct TakenFront {
    /// Where clients connect, as they would to the front.
    pub address: SocketAddr,
    vault: Running,
    _device: Running,
    state: Arc<State>,
}

struct State {
    socket: PacketSocket,
    contents: Mutex<Contents>,
    dialler: Mutex<Dialler>,
    seen: Mutex<Vec<u8>>,
    ready: Mutex<bool>,
    reports: Mutex<Vec<Option<Box<Report>>>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl TakenFront {
    /// Starts the vault on the TPM of an enclave that does not run, over what its store holds.
    #[must_use]
    pub fn start(enclave: &Enclave, contents: Contents) -> Self {
        let (socket, vault_front) = PacketSocket::pair().unwrap();
        let (vault_device, device_vault) = PacketSocket::pair().unwrap();
        let log = enclave.log_file().with_extension("taken.log");
        let _earlier = std::fs::remove_file(&log);

        let mut device = ENCLAVE.command(&ours("blindferry-device"));
        device.args(["serve", "--tcti", &enclave.tpm.tcti(), "--pins"]).arg(enclave.tpm.pins());
        device.env_clear().stdin(Stdio::from(device_vault.into_fd())).stdout(Stdio::null());
        let device = Running::start(device, &log);

        let mut vault = ENCLAVE.command(&ours("blindferry-vault"));
        vault.arg("serve").env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let mapping = |parent_fd, child_fd| FdMapping { parent_fd, child_fd };
        vault.fd_mappings(vec![mapping(vault_front.into_fd(), 3), mapping(vault_device.into_fd(), 4)]).unwrap();
        let vault = Running::start(vault, &log);

        let state = Arc::new(State {
            socket,
            contents: Mutex::new(contents),
            dialler: Mutex::new(Box::new(|| None)),
            seen: Mutex::default(),
            ready: Mutex::default(),
            reports: Mutex::default(),
        });
        let answering = Arc::clone(&state);
        thread::spawn(move || answering.answer());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let relaying = Arc::clone(&state);
        thread::spawn(move || listener.incoming().flatten().for_each(|client| relaying.relay(client)));
        Self { address, vault, _device: device, state }
    }

    /// Waits until the vault says that it is ready.
    pub fn wait_until_ready(&mut self) {
        eventually("the vault to be ready", || {
            assert!(self.vault.ended().is_none(), "the vault ended: {}", self.log());
            self.state.ready.lock().unwrap().then_some(())
        });
    }

    /// Waits for the vault's end, and gives its log.
    pub fn wait_for_end(&mut self) -> String {
        assert!(!self.vault.wait().success());
        self.log()
    }

    /// The vault's process id.
    #[must_use]
    pub fn vault(&self) -> u32 {
        self.vault.id()
    }

    /// What vault and device process have logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.vault.log()
    }

    /// Sends any bytes with any descriptors; whether the vault still takes packets.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
        self.state.socket.send(bytes, descriptors).is_ok()
    }

    /// Sends a message with any descriptors.
    pub fn tell(&self, message: &FromFront, descriptors: &[BorrowedFd<'_>]) -> bool {
        self.send(&encode(message, MAX_PACKET).unwrap(), descriptors)
    }

    /// What dials are answered with from now on.
    pub fn answer_dials(&self, dialler: Dialler) {
        *self.state.dialler.lock().unwrap() = dialler;
    }

    /// What is stored now.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.state.contents.lock().unwrap().clone()
    }

    /// Puts something else in the store's place.
    pub fn replace(&self, contents: Contents) {
        *self.state.contents.lock().unwrap() = contents;
    }

    /// What it was told for the page, the newest last.
    #[must_use]
    pub fn reports(&self) -> Vec<Option<Box<Report>>> {
        self.state.reports.lock().unwrap().clone()
    }

    /// Adds to what was seen, to show that a search would find it.
    pub fn plant(&self, needle: &[u8]) {
        self.state.see(needle);
    }

    /// Whether this was ever seen: in a packet, in the store, on a connection.
    #[must_use]
    pub fn has_seen(&self, needle: &[u8]) -> bool {
        let find = |bytes: &[u8]| memchr::memmem::find(bytes, needle).is_some();
        find(&self.state.seen.lock().unwrap()) || self.contents().values().any(|value| find(value))
    }
}

impl State {
    fn see(&self, bytes: &[u8]) {
        self.seen.lock().unwrap().extend_from_slice(bytes);
    }

    /// Until the vault is gone.
    fn answer(&self) {
        while let Ok(packet) = self.socket.receive() {
            self.see(&packet.bytes);
            let (answer, connection) = match decode(&packet.bytes, MAX_PACKET).unwrap() {
                FromVault::Store { id, request } => (FromFront::Stored { id, reply: self.stored(request) }, None),
                FromVault::Dial { id, .. } => match (self.dialler.lock().unwrap())() {
                    Some(connection) => (FromFront::Dialled { id }, Some(connection)),
                    None => (FromFront::NotDialled { id, why: Text::cut("no") }, None),
                },
                FromVault::Condition(condition) => {
                    *self.ready.lock().unwrap() = condition.ready;
                    continue;
                }
                // Where it says that the page is, is up to it.
                FromVault::Ticket { id, .. } => {
                    (FromFront::PageAt { id, origin: Some(Text::cut("http://page.example")) }, None)
                }
                FromVault::Report(report) => {
                    self.reports.lock().unwrap().push(report);
                    continue;
                }
                FromVault::Publish { .. } | FromVault::Failed(_) | FromVault::Here { .. } | FromVault::Traced(_) => {
                    continue;
                }
            };
            let descriptors: Vec<BorrowedFd<'_>> = connection.iter().map(AsFd::as_fd).collect();
            let _gone = self.socket.send(&encode(&answer, MAX_PACKET).unwrap(), &descriptors);
        }
    }

    fn stored(&self, request: StoreRequest) -> StoreReply {
        let mut contents = self.contents.lock().unwrap();
        let found = |(place, value): (&(Table, Vec<u8>), &Vec<u8>)| {
            (Key::new(place.1.clone()).unwrap(), Value::new(value.clone()).unwrap())
        };
        match request {
            StoreRequest::Get { table, key } => {
                let value = contents.get(&(table, key.into_vec()));
                StoreReply::Got(value.map(|value| Value::new(value.clone()).unwrap()))
            }
            StoreRequest::List { table, after, .. } => {
                let after =
                    after.map_or(Bound::Included((table, Vec::new())), |key| Bound::Excluded((table, key.into_vec())));
                // One at a time: always fits.
                let next = contents.range((after, Bound::Unbounded)).take_while(|(place, _)| place.0 == table);
                StoreReply::Page(next.take(1).map(found).collect())
            }
            StoreRequest::Last { table } => {
                StoreReply::Last(contents.iter().rfind(|(place, _)| place.0 == table).map(found))
            }
            StoreRequest::Snapshot | StoreRequest::Pieces { .. } => StoreReply::Failed { why: Text::cut("no") },
            StoreRequest::Commit { operations } => {
                for operation in operations {
                    match operation {
                        Operation::Put { table, key, value } => {
                            contents.insert((table, key.into_vec()), value.into_vec())
                        }
                        Operation::Create { table, key, value } => {
                            if contents.contains_key(&(table, key.as_slice().to_vec())) {
                                return StoreReply::Exists;
                            }
                            contents.insert((table, key.into_vec()), value.into_vec())
                        }
                        Operation::Delete { table, key } => contents.remove(&(table, key.into_vec())),
                    };
                }
                StoreReply::Committed
            }
        }
    }

    /// Hands the vault one end of a connection of our own, and passes on what goes through it.
    fn relay(self: &Arc<Self>, client: TcpStream) {
        let between = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ours = TcpStream::connect(between.local_addr().unwrap()).unwrap();
        let (vaults, _) = between.accept().unwrap();
        let accepted = encode(&FromFront::Accepted { from: Text::cut("somewhere") }, MAX_PACKET).unwrap();
        if self.socket.send(&accepted, &[vaults.as_fd()]).is_err() {
            return;
        }
        for (mut from, mut to) in [(client.try_clone().unwrap(), ours.try_clone().unwrap()), (ours, client)] {
            let state = Arc::clone(self);
            thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    state.see(&buffer[..length]);
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                let _gone = to.shutdown(Shutdown::Write);
            });
        }
    }
}

/// Everything that the vault has stored in this file, which no front holds.
#[must_use]
pub fn contents_of(store: &Path) -> Contents {
    let mut redb = Redb::open(store).unwrap();
    let mut all = Contents::new();
    for table in [Table::Sealed, Table::Manifest, Table::Masters, Table::Hosts, Table::Documents, Table::Audit] {
        let mut after: Option<Key> = None;
        loop {
            let most = u16::try_from(MAX_PAGE).unwrap();
            let StoreReply::Page(page) = redb.list(table, after.as_ref(), most) else { panic!("no page of {table:?}") };
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            all.extend(page.into_iter().map(|(key, value)| ((table, key.into_vec()), value.into_vec())));
        }
    }
    all
}
