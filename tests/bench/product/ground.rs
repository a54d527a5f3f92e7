//! The fleet that is measured, and one crossing in it.

use blindferry_handle::memfd::Handle;
use blindferry_parent::{Ask, Parent};
use blindferry_proto::credential::Kind;
use blindferry_proto::operator::Approvee;
use blindferry_tests::account::ENCLAVE;
use blindferry_tests::fleet::{Fleet, HOST, Plan};
use blindferry_tests::operator::settings;
use blindferry_tests::tpm::PCRS;
use blindferry_worker::{Leased, Worker};
use std::fs;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where a server keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In memory: of ours the same file, in a file system that no disk is under. OpenBao writes and audits nothing then.
    Memory,
    /// On a disk, flushed before it is answered. OpenBao: its integrated storage, and an audit log in a file.
    Disk,
}

/// A fleet with one credential.
pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
    /// Goes after the fleet.
    _memory: Option<TempDir>,
}

impl Ground {
    /// `None`, and a line says why, where the machine has no software TPMs.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(Storage::Disk, "")
    }

    /// The same with its store there, and more lines in the configuration of the enclave.
    pub(crate) fn start_with(storage: Storage, more: &str) -> Option<Self> {
        let plan = Plan::default();
        let mut fleet = Fleet::set_up(&plan)?;
        fleet.enclave.configure_with(&plan, more);
        let memory = (storage == Storage::Memory).then(|| in_memory(&fleet));
        // One user is all of the load here.
        fleet.host.configure_with(HOST, &PCRS, "[limits]\nper_uid = 1024\n");
        fleet.init(&plan);
        fleet.enclave.serve();
        fleet.operator().approve(HOST, Approvee::Ek(fleet.host.tpm.ek()));
        fleet.host.serve();
        fleet.operator().put(CREDENTIAL, settings(Kind::Release), MASTER);
        Some(Self { fleet, _memory: memory })
    }

    /// Vault, front and broker.
    pub(crate) fn processes(&mut self) -> [(&'static str, u32); 3] {
        let front = self.fleet.enclave.front().id();
        [("vault", self.fleet.enclave.vault()), ("front", front), ("broker", self.fleet.host.broker().id())]
    }

    /// Device processes of enclave and host.
    pub(crate) fn devices(&self) -> [(&'static str, u32); 2] {
        [
            ("device process of the vault", self.fleet.enclave.device()),
            ("device process of the broker", self.fleet.host.device()),
        ]
    }

    /// A parent.
    pub(crate) fn parent(&self) -> Parent {
        Parent::connect(&self.fleet.host.parents()).unwrap()
    }

    /// One crossing: from the parent's question to the token in the worker's secret memory. The worker is a new one each
    /// time, with a connection and a key of its own.
    pub(crate) fn cross(&self, parent: &mut Parent) -> (Duration, Leased) {
        let ask = Ask::for_credential(CREDENTIAL.parse().unwrap());
        let start = Instant::now();
        let grant = parent.ask(&ask).unwrap().into_descriptor();
        let worker = Worker::connect(&self.fleet.host.workers()).unwrap();
        let leased = worker.redeem(Handle::from_fd(grant).unwrap()).unwrap();
        (start.elapsed(), leased)
    }

    /// The same, and the lease given back, which does not count into the time.
    pub(crate) fn cross_and_end(&self, parent: &mut Parent) -> Duration {
        let (time, leased) = self.cross(parent);
        leased.end().unwrap();
        time
    }
}

/// Has the enclave keep its store in memory.
fn in_memory(fleet: &Fleet) -> TempDir {
    let directory = TempDir::with_prefix_in("blindferry-bench-", "/dev/shm").unwrap();
    ENCLAVE.give(directory.path());
    let configuration = fleet.enclave.configuration();
    let text = fs::read_to_string(&configuration).unwrap();
    let [from, to] =
        [fleet.enclave.store(), directory.path().join("store.redb")].map(|path| path.display().to_string());
    let moved = text.replace(&from, &to);
    assert_ne!(moved, text, "the store is where it was");
    fs::write(&configuration, moved).unwrap();
    directory
}

/// What is asked for.
pub(crate) const CREDENTIAL: &str = "api";
/// As long as tokens of an API are.
pub(crate) const MASTER: &[u8] = b"sk-live-7d2f9a4c1be8063551f0-of-the-benchmark-0123456789";
