//! Does a crossing cost more where there are more credentials, or more sessions?
//!
//! Credentials are put by the operator's session, each in a change of its own. Sessions are those of many operators on one
//! machine: one TPM quotes for all of them, one process holds them, and they are idle but for what the vault asks. Both
//! take time to make, so that as many are made as fit into it, and the figures say how many there were.

use crate::Extent;
use crate::crossing::{Served, served};
use crate::figure::Figure;
use crate::ground::{Ground, MASTER, Storage};
use blindferry_attest::tpm::PcrSelection;
use blindferry_device::client::Device;
use blindferry_device::spawn::spawn;
use blindferry_proto::credential::Kind;
use blindferry_proto::role::Role;
use blindferry_session::client::connect;
use blindferry_session::{Attester, ClientSettings, VaultReference};
use blindferry_tests::fleet::OPERATOR;
use blindferry_tests::operator::settings;
use blindferry_tests::program::ours;
use blindferry_tests::tpm::PCRS;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub(crate) fn section(extent: Extent) -> Vec<Figure> {
    let Some(mut ground) = Ground::start_with(
        Storage::Disk,
        "reattest_every = 86400\n[limits]\nconnections = 12000\nconnections_per_source = 12000\n",
    ) else {
        return Vec::new();
    };
    let time = extent.of(Duration::from_secs(6), Duration::from_secs(2));
    let measure = |ground: &mut Ground| {
        let processes = ground.processes();
        served(ground, &processes, WORKERS, time)
    };
    let few = measure(&mut ground);

    let deadline = Instant::now() + extent.of(Duration::from_secs(900), Duration::from_secs(10));
    let operator = ground.fleet.operator();
    let mut credentials = 1;
    while credentials < extent.of(100_000, 1000) && Instant::now() < deadline {
        operator.put(&format!("c{credentials}"), settings(Kind::Release), MASTER);
        credentials += 1;
    }
    drop(operator);
    let many = measure(&mut ground);
    let mut figures = compared(&format!("{credentials} credentials"), &many, "one credential", &few);

    let deadline = Instant::now() + extent.of(Duration::from_secs(900), Duration::from_secs(10));
    let crowd = Crowd::of(&ground, extent.of(10_000, 100), deadline);
    let crowded = measure(&mut ground);
    figures.extend(compared(&format!("{} more sessions", crowd.standing()), &crowded, "one session", &many));
    figures
}

fn compared(name: &str, figure: &Served, peer: &str, other: &Served) -> Vec<Figure> {
    let processor = Figure::new(format!("crossing, 8 workers, {name}: processor"), figure.whole(), "ms");
    let vault = Figure::new(format!("crossing, 8 workers, {name}: processor, vault"), figure.of("vault"), "ms");
    vec![processor.beside(peer, other.whole()), vault.beside(peer, other.of("vault"))]
}

/// Sessions that stand until this is dropped.
struct Crowd {
    sessions: Vec<JoinHandle<()>>,
    _runtime: Runtime,
}

impl Crowd {
    fn of(ground: &Ground, most: usize, deadline: Instant) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tpm = &ground.fleet.operator_tpm;
        let (mut device, socket) = spawn(&ours("blindferry-device"), tpm.device_process()).unwrap();
        let mut sessions = Vec::new();
        runtime.block_on(async {
            let device = Device::new(socket).unwrap();
            while sessions.len() < most && Instant::now() < deadline {
                let settings = ClientSettings {
                    name: OPERATOR.parse().unwrap(),
                    role: Role::Operator,
                    vault: VaultReference::parse(&ground.fleet.enclave.reference).unwrap(),
                };
                let attester = Attester::new(device.clone(), PcrSelection::new(PCRS).unwrap());
                let stream = TcpStream::connect(ground.fleet.enclave.listen).await.unwrap();
                let standing = connect(stream, &settings, attester).await.unwrap();
                sessions.push(tokio::spawn(async move {
                    // All of it is kept: a session ends when its caller is gone.
                    let _caller = (standing.caller, standing.pushes);
                    let _why = standing.driver.run().await;
                }));
            }
        });
        // It ends with its socket, which the runtime holds.
        std::thread::spawn(move || device.wait());
        Self { sessions, _runtime: runtime }
    }

    /// How many have not ended.
    fn standing(&self) -> usize {
        self.sessions.iter().filter(|session| !session.is_finished()).count()
    }
}

const WORKERS: usize = 8;
