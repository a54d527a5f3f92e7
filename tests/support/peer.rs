//! One end of an attested session that a test drives itself: an operator, or a broker without a socket.

use crate::program::ours;
use crate::tpm::{PCRS, Tpm};
use blindferry_attest::tpm::PcrSelection;
use blindferry_device::client::Device;
use blindferry_device::spawn::spawn;
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::platform::DeviceProcess;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::role::Role;
use blindferry_proto::session::{Answer, BrokerRequest, LeaseEnd, Request, Welcome};
use blindferry_session::client::{CallError, Caller, ConnectError, Established, connect};
use blindferry_session::{Attester, ClientSettings, VaultReference};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A session that stands.
#[derive(Debug)]
pub struct Peer {
    /// What the vault said at its beginning.
    pub welcome: Welcome,
    caller: Caller,
    ended: Arc<Mutex<Vec<(LeaseId, LeaseEnd)>>>,
    over: Arc<Mutex<Option<String>>>,
    runtime: Runtime,
    device: Child,
}

impl Peer {
    /// Opens a session under `name` with the machine of `tpm`.
    ///
    /// # Errors
    /// Which side refused the other.
    pub fn connect(
        tpm: &Tpm,
        role: Role,
        name: &str,
        vault_reference: &str,
        address: SocketAddr,
    ) -> Result<Self, ConnectError> {
        let device = (ours("blindferry-device"), tpm.device_process());
        let attester = |device| Attester::new(device, PcrSelection::new(PCRS).unwrap());
        Self::with(device, attester, role, name, vault_reference, address)
    }

    /// Opens a session under `name` with any device process, its executable first.
    ///
    /// # Errors
    /// Which side refused the other.
    pub fn with(
        (executable, process): (PathBuf, DeviceProcess),
        attester: impl FnOnce(Device) -> Attester,
        role: Role,
        name: &str,
        vault_reference: &str,
        address: SocketAddr,
    ) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let settings = ClientSettings {
            name: name.parse().unwrap(),
            role,
            vault: VaultReference::parse(vault_reference).unwrap(),
        };
        let (mut device, socket) = spawn(&executable, process).unwrap();
        let connected = runtime.block_on(async {
            let attester = attester(Device::new(socket).unwrap());
            // Nobody listens there, or not yet again.
            let stream = TcpStream::connect(address).await.map_err(|source| ConnectError::Tls { source })?;
            connect(stream, &settings, attester).await
        });
        let Established { welcome, caller, mut pushes, driver } = match connected {
            Ok(established) => established,
            Err(error) => {
                drop(runtime);
                device.wait().unwrap();
                return Err(error);
            }
        };
        let (ended, over) = (Arc::default(), Arc::default());
        let (keep_ended, keep_over) = (Arc::clone(&ended), Arc::clone(&over));
        runtime.spawn(async move {
            let reason = driver.run().await.to_string();
            *Mutex::lock(&keep_over).unwrap() = Some(reason);
        });
        runtime.spawn(async move {
            while let Some(end) = pushes.next().await {
                Vec::push(&mut Mutex::lock(&keep_ended).unwrap(), end);
            }
        });
        Ok(Self { welcome, caller, ended, over, runtime, device })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The vault's refusal; [`RefusalCode::NotReady`] when the session is over.
    pub fn ask(&self, request: Request) -> Result<Answer, Refusal> {
        self.runtime.block_on(self.caller.call(request)).map_err(refusal)
    }

    /// Asks as a broker.
    ///
    /// # Errors
    /// As [`Peer::ask`].
    pub fn ask_as_broker(&self, request: BrokerRequest) -> Result<Answer, Refusal> {
        self.ask(Request::Broker(request))
    }

    /// Asks all of these at once.
    pub fn ask_all(&self, requests: Vec<BrokerRequest>) -> Vec<Result<Answer, Refusal>> {
        self.runtime.block_on(async {
            let asked: Vec<_> = requests
                .into_iter()
                .map(|request| {
                    let caller = self.caller.clone();
                    tokio::spawn(async move { caller.call(Request::Broker(request)).await })
                })
                .collect();
            let mut answers = Vec::new();
            for one in asked {
                answers.push(one.await.unwrap().map_err(refusal));
            }
            answers
        })
    }

    /// The leases that the vault has said to be over.
    #[must_use]
    pub fn ended(&self) -> Vec<(LeaseId, LeaseEnd)> {
        self.ended.lock().unwrap().clone()
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub fn over(&self) -> Option<String> {
        self.over.lock().unwrap().clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its client's end of the socket goes with the runtime, which is dropped after this.
        let _gone = self.device.kill();
        let _reaped = self.device.wait();
    }
}

fn refusal(error: CallError) -> Refusal {
    match error {
        CallError::Refused(refusal) => refusal,
        error => Refusal::new(RefusalCode::NotReady, &error.to_string()),
    }
}
