//! Does a crossing cost more where there are more credentials, or more sessions?
//!
//! Credentials are put over the operator's session, several at once, each in a change of its own. Sessions are those of
//! many operators on one machine: one TPM quotes for all of them, one process holds them, and they are idle but for what
//! the vault asks. Both take time to make, so that as many are made as fit into it, and the figures say how many there were.

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
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub(crate) fn section(extent: Extent) -> Vec<Figure> {
    let Some(mut ground) = Ground::start_with(
        Storage::Memory,
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
    let credentials = put(&ground, extent.of(100_000, 1000), deadline);
    let many = measure(&mut ground);
    let mut figures = compared(&format!("{credentials} credentials"), &many, "one credential", &few);

    let deadline = Instant::now() + extent.of(Duration::from_secs(600), Duration::from_secs(10));
    let crowd = Crowd::of(&ground, extent.of(10_000, 100), deadline);
    let crowded = measure(&mut ground);
    figures.extend(compared(&format!("{} more sessions", crowd.standing()), &crowded, "one session", &many));
    figures
}

/// Puts credentials beside the one that there is, until there are so many; how many there are then.
fn put(ground: &Ground, most: u32, deadline: Instant) -> u32 {
    let (operator, next) = (ground.fleet.operator(), AtomicU32::new(1));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= most {
                        break;
                    }
                    operator.put(&format!("c{number}"), settings(Kind::Release), MASTER);
                }
            });
        }
    });
    next.into_inner().min(most)
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
            let open = || {
                let settings = ClientSettings {
                    name: OPERATOR.parse().unwrap(),
                    role: Role::Operator,
                    vault: VaultReference::parse(&ground.fleet.enclave.reference).unwrap(),
                };
                let attester = Attester::new(device.clone(), PcrSelection::new(PCRS).unwrap());
                let address = ground.fleet.enclave.listen;
                async move {
                    let stream = TcpStream::connect(address).await.unwrap();
                    connect(stream, &settings, attester).await.unwrap()
                }
            };
            // Two at once, so that the TPMs at both ends have something to do.
            while sessions.len() < most && Instant::now() < deadline {
                for standing in <[_; 2]>::from(tokio::join!(open(), open())) {
                    sessions.push(tokio::spawn(async move {
                        // All of it is kept: a session ends when its caller is gone.
                        let _caller = (standing.caller, standing.pushes);
                        let _why = standing.driver.run().await;
                    }));
                }
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
/// Credentials that are put at once.
const AT_ONCE: usize = 16;
