//! A host for the tests: the broker's sockets in a directory of their own, and processes that connect to them.

use crate::vault::Vault;
use blindferry_broker::configuration::{Configuration, Limits};
use blindferry_broker::serve::{Sockets, serve};
use blindferry_broker::uplink::uplink;
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::{PacketListener, PacketSocket};
use blindferry_proto::local::{ParentReply, WorkerReply};
use blindferry_seqpacket::{AsyncListener, AsyncPackets};
use command_fds::{CommandFdExt, FdMapping};
use serde_json::{Value, json};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) struct Host {
    directory: TempDir,
    pub(crate) vault: Vault,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<()>,
}

impl Host {
    pub(crate) fn start() -> Self {
        Self::with_limits("")
    }

    /// `limits` are the lines of the configuration's section.
    pub(crate) fn with_limits(limits: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listen = |name: &str| {
            AsyncListener::new(PacketListener::bind(&directory.path().join(name), 0o666).unwrap()).unwrap()
        };
        let sockets =
            Sockets { parents: listen("parents"), workers: listen("workers"), public: (None, Arc::default()) };
        let (uplink, orders) = uplink();
        let (events, heard) = mpsc::channel(8);
        let vault = Vault::play(orders, events);
        let limits = parse_limits(limits);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let stopped = async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            serve(sockets, &limits, uplink, heard, stopped).await;
        });
        Self { directory, vault, stop: Some(stop), served }
    }

    /// As by a signal.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) fn parents(&self) -> PathBuf {
        self.directory.path().join("parents")
    }

    pub(crate) fn workers(&self) -> PathBuf {
        self.directory.path().join("workers")
    }

    pub(crate) fn parent(&self) -> Client {
        Client::connect(&self.parents())
    }

    pub(crate) fn worker(&self) -> Client {
        Client::connect(&self.workers())
    }

    /// A grant as a parent gets it.
    pub(crate) async fn grant(&self) -> OwnedFd {
        let (reply, handle) = self.parent().ask(&json!({"ask": {"credential": "deploy"}}), &[]).await;
        assert!(reply.get("granted").is_some(), "{reply}");
        handle.unwrap()
    }

    /// A process of its own that connects and takes these steps; see `worker.py`.
    pub(crate) fn process(&self, grant: Option<OwnedFd>, steps: &[&str]) -> Process {
        Process::worker(&self.workers(), grant, steps)
    }
}

/// A connection of this process.
pub(crate) struct Client(AsyncPackets);

impl Client {
    fn connect(path: &Path) -> Self {
        Self(AsyncPackets::new(PacketSocket::connect(path).unwrap()).unwrap())
    }

    pub(crate) async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.0.send(bytes, descriptors).await.unwrap();
    }

    pub(crate) async fn hear(&self) -> (Value, Option<OwnedFd>) {
        let mut packet = timeout(Duration::from_secs(5), self.0.receive()).await.unwrap().unwrap();
        assert!(packet.descriptors.len() <= 1);
        // Whatever it is, it is a reply of one of the two sockets.
        let known = blindferry_proto::local::decode::<WorkerReply>(&packet.bytes).is_ok()
            || blindferry_proto::local::decode::<ParentReply>(&packet.bytes).is_ok();
        assert!(known);
        (serde_json::from_slice(&packet.bytes).unwrap(), packet.descriptors.pop())
    }

    pub(crate) async fn ask(&self, message: &Value, descriptors: &[BorrowedFd<'_>]) -> (Value, Option<OwnedFd>) {
        self.send(message.to_string().as_bytes(), descriptors).await;
        self.hear().await
    }

    /// The code of the refusal that this message meets.
    pub(crate) async fn refusal(&self, message: &Value, descriptors: &[BorrowedFd<'_>]) -> String {
        code(&self.ask(message, descriptors).await.0)
    }

    pub(crate) async fn redeem(&self, grant: &OwnedFd, request: u8, key: u8) -> (Value, Option<OwnedFd>) {
        self.ask(&redeem(request, key), &[grant.as_fd()]).await
    }

    /// Takes what comes next; true when that is the end.
    pub(crate) async fn is_hung_up(&self) -> bool {
        timeout(Duration::from_secs(5), self.0.receive()).await.unwrap().is_err()
    }
}

/// A child process, killed by its own id at the end.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: Lines<BufReader<Receiver>>,
}

impl Process {
    /// One that connects to a socket and takes these steps; see `worker.py`.
    pub(crate) fn worker(socket: &Path, grant: Option<OwnedFd>, steps: &[&str]) -> Self {
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worker.py")).arg(socket).args(steps);
        if let Some(parent_fd) = grant {
            command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).unwrap();
        }
        Self::start(command)
    }

    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = OwnedFd::from(child.stdout.take().unwrap());
        let lines = BufReader::new(Receiver::from_owned_fd(output).unwrap()).lines();
        Self { child, lines }
    }

    /// The next reply, and with how many descriptors it came.
    pub(crate) async fn hear(&mut self) -> (Value, usize) {
        let line = timeout(Duration::from_secs(5), self.lines.next_line()).await.unwrap().unwrap().unwrap();
        let (count, reply) = line.split_once(' ').unwrap();
        (serde_json::from_str(reply).unwrap(), count.parse().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    pub(crate) fn reap(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

pub(crate) fn redeem(request: u8, key: u8) -> Value {
    json!({"redeem": {"request": hex::encode([request; 16]), "key": hex::encode([key; 32])}})
}

pub(crate) fn code(reply: &Value) -> String {
    reply["refused"]["code"].as_str().unwrap_or_else(|| panic!("not a refusal: {reply}")).to_owned()
}

/// The lease in a reply.
pub(crate) fn lease(reply: &Value) -> blindferry_proto::identifier::LeaseId {
    reply["parcelled"]["lease"].as_str().unwrap_or_else(|| panic!("no parcel: {reply}")).parse().unwrap()
}

/// What a handle holds; refuses what is not sealed.
pub(crate) fn content(handle: Option<OwnedFd>) -> Vec<u8> {
    Handle::from_fd(handle.unwrap()).unwrap().read().unwrap()
}

fn parse_limits(limits: &str) -> Limits {
    let text =
        format!("name = \"h\"\nvault = \"v:1\"\nvault_reference = \"\"\ntcti = \"\"\npins = \"\"\n[limits]\n{limits}");
    Configuration::parse(&text).unwrap().limits
}
