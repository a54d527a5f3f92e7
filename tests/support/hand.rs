//! A peer that takes the steps of the handshake one at a time, so that it can take a wrong one.

use crate::program::ours;
use crate::tpm::{PCRS, Tpm};
use blindferry_attest::tpm::{AkName, PcrSelection};
use blindferry_device::client::Device;
use blindferry_device::protocol::Description;
use blindferry_device::spawn::spawn;
use blindferry_proto::bounded::Bytes;
use blindferry_proto::identifier::Digest;
use blindferry_proto::limits::MAX_FRAME_UNATTESTED;
use blindferry_proto::logs::WantedLogs;
use blindferry_proto::role::{Context, Role};
use blindferry_proto::session::{Activated, Endorsement, Open, OpenReply, PeerProof, ProofReply, VERSION, VaultProof};
use blindferry_session::channel::Channel;
use blindferry_session::platform::Platform;
use blindferry_session::{Attester, Identity, tls};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::process::Child;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::{TlsConnector, TlsStream};

/// A machine with a TPM, and nobody in charge who would look at the vault's evidence.
#[derive(Debug)]
pub struct Hand {
    device: Device,
    process: Child,
    runtime: Runtime,
}

/// A connection on which the vault has proved itself, and waits for the peer to do the same.
#[derive(Debug)]
pub struct Begun {
    /// The vault's evidence and context.
    pub proof: VaultProof,
    role: Role,
    channel: Channel<TcpStream>,
}

impl Hand {
    /// On the machine of this TPM.
    #[must_use]
    pub fn on(tpm: &Tpm) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (process, socket) = spawn(&ours("blindferry-device"), tpm.device_process()).unwrap();
        let device = runtime.block_on(async { Device::new(socket).unwrap() });
        Self { device, process, runtime }
    }

    /// TLS with a fresh key, an `Open` with this context, and the vault's answer to it.
    #[must_use]
    pub fn begin(&self, address: SocketAddr, role: Role, name: &str, context: Context) -> Begun {
        self.runtime.block_on(async {
            let identity = Identity::generate().unwrap();
            let connector = TlsConnector::from(tls::client(&identity).unwrap());
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = connector.connect(ServerName::try_from("vault.invalid").unwrap(), stream).await.unwrap();
            let mut channel = Channel::new(TlsStream::Client(stream), identity.spki()).unwrap();
            let open = Open { version: VERSION, role, name: name.parse().unwrap(), context, logs: WantedLogs::NONE };
            channel.writer.send(&open, MAX_FRAME_UNATTESTED).await.unwrap();
            match channel.reader.receive(MAX_FRAME_UNATTESTED).await.unwrap() {
                OpenReply::Proof(proof) => Begun { proof, role, channel },
                OpenReply::Refused(refusal) => panic!("refused at once: {refusal}"),
            }
        })
    }

    /// Evidence as it has to be on this connection.
    #[must_use]
    pub fn evidence(&self, begun: &Begun) -> Vec<u8> {
        let binder = begun.channel.exporter.own_binder(begun.role, &begun.proof.context).unwrap();
        self.quote(*binder.as_bytes())
    }

    /// A quote over any challenge of the right length, as evidence.
    #[must_use]
    pub fn quote(&self, challenge: [u8; 32]) -> Vec<u8> {
        self.runtime.block_on(self.device.quote(challenge, Some(&PcrSelection::new(PCRS).unwrap()))).unwrap()
    }

    /// Who vouches for this machine's attestation key.
    #[must_use]
    pub fn endorsement(&self) -> Endorsement {
        self.runtime.block_on(self.attester().endorsement()).unwrap().unwrap()
    }

    /// The Name of this machine's attestation key.
    #[must_use]
    pub fn ak(&self) -> AkName {
        match self.runtime.block_on(self.device.describe()).unwrap() {
            Description::Tpm(tpm) => AkName::from_bytes(&tpm.ak_name).unwrap(),
            Description::Snp(_) => panic!("a guest"),
        }
    }

    /// Shows this evidence, activates a credential where that is asked for, and gives the last word.
    #[must_use]
    pub fn show(&self, mut begun: Begun, evidence: Vec<u8>) -> ProofReply {
        let proof = PeerProof { evidence: Bytes::new(evidence).unwrap(), endorsement: Some(self.endorsement()) };
        self.runtime.block_on(async {
            begun.channel.writer.send(&proof, MAX_FRAME_UNATTESTED).await.unwrap();
            let reply = begun.channel.reader.receive(MAX_FRAME_UNATTESTED).await.unwrap();
            let ProofReply::Activate(credential) = reply else { return reply };
            let secret = Digest(self.attester().activate(&credential).await.unwrap());
            begun.channel.writer.send(&Activated { secret }, MAX_FRAME_UNATTESTED).await.unwrap();
            begun.channel.reader.receive(MAX_FRAME_UNATTESTED).await.unwrap()
        })
    }

    fn attester(&self) -> Attester {
        Attester::new(self.device.clone(), PcrSelection::new(PCRS).unwrap())
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
