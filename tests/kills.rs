//! Whoever is killed at whichever step: is there ever a second token for a grant, a store that does not open, a lease
//! that outlives its worker?
//!
//! Steps are reached by message and by state, never by time: a process is killed when the one before it has said that it
//! got there, and held by SIGSTOP where a message shall stay on its way.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use blindferry_proto::audit::Event;
use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_proto::identifier::{GrantId, LeaseId};
use blindferry_proto::session::LeaseEnd;
use blindferry_tests::account::{USER, is_root};
use blindferry_tests::attack_launch::Launcher;
use blindferry_tests::fleet::Fleet;
use blindferry_tests::oauth::OauthServer;
use blindferry_tests::operator::{oauth_client, settings};
use blindferry_tests::process::{eventually, lives, send};
use blindferry_tests::program::ours;
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker, ask_for};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Vault,
    Front,
    DeviceOfEnclave,
    Broker,
    DeviceOfHost,
    Worker,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The parent holds a grant.
    Granted,
    /// The redemption is at the vault, and the upstream was asked for a token and has not answered.
    Minting,
    /// The worker holds its token.
    Redeemed,
    /// The lease was renewed.
    Renewed,
}

const VICTIMS: [Victim; 6] =
    [Victim::Vault, Victim::Front, Victim::DeviceOfEnclave, Victim::Broker, Victim::DeviceOfHost, Victim::Worker];

#[test]
fn killed_when_a_grant_is_out() {
    kill_each_at(Step::Granted);
}

#[test]
fn killed_while_a_token_is_minted() {
    kill_each_at(Step::Minting);
}

#[test]
fn killed_when_the_worker_has_its_token() {
    kill_each_at(Step::Redeemed);
}

#[test]
fn killed_after_a_renewal() {
    kill_each_at(Step::Renewed);
}

#[test]
fn a_launcher_killed_before_and_after_it_became_the_program_leaves_no_lease() {
    let Some(mut fleet) = Fleet::start() else { return };
    let operator = fleet.operator();
    operator.put("api", settings(Kind::Release), b"for a program");
    for becomes_program in [false, true] {
        let mut command = USER.command(&ours("blindferry-launch"));
        command.args(["--grant-fd", &GRANT_FD.to_string(), "--workers"]).arg(fleet.host.workers());
        command.args(["--", "sh", "-c", "echo here; read end"]);
        let grant = ask_for(&fleet, "api").unwrap();
        if !becomes_program {
            fleet.host.broker().signal(Signal::STOP);
        }
        let mut launched = ScriptedWorker::run(&fleet, command, grant);
        if becomes_program {
            assert_eq!(launched.line(), "here");
        } else {
            eventually("the launcher's question", || asks(launched.running.id()).then_some(()));
        }
        launched.running.kill();
        fleet.host.broker().signal(Signal::CONT);
        eventually("no lease", || (operator.status().leases == 0).then_some(()));
    }
    judge(&operator.events());
}

/// How far a launch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launch {
    /// The launcher has asked, and the broker has not read it.
    Asking,
    /// The upstream was asked for a token and has not answered.
    Minting,
    /// The parcel is on its way to the launcher, which is held.
    Parcelled,
    /// The launcher is the program.
    Running,
}

#[test]
fn a_launch_that_is_killed_at_any_step_leaves_no_process_no_file_no_lease_and_no_good_token() {
    let Some(mut fleet) = Fleet::start() else { return };
    let server = OauthServer::start("client-secret-of-the-launches");
    let short = CredentialSettings { lease_idle: IDLE, ..settings(oauth_client(server.address)) };
    fleet.operator().put("minted", short, b"client-secret-of-the-launches");
    let files = files_of(&fleet);
    let launcher = Launcher::install("kills", &fleet.host.workers());
    // Only root installs a launcher that has a group to give.
    let levels: &[&str] = if is_root() { &["exec-only", "own-group"] } else { &["exec-only"] };
    let steps = [Launch::Asking, Launch::Minting, Launch::Parcelled, Launch::Running];
    for (level, launch) in levels.iter().flat_map(|level| steps.map(|step| (*level, step))) {
        for victim in [Victim::Worker, Victim::Broker] {
            let before = server.tokens().len();
            let mut launched = reach_in_launch(launch, (&launcher, level), &mut fleet, &server);
            assert_eq!(processes_in(&fleet).len(), 1, "what is looked for is seen");
            kill(victim, &mut fleet, &mut launched);
            match victim {
                Victim::Worker => fleet.host.broker().signal(Signal::CONT),
                _ => send(launched.running.id(), Signal::CONT),
            }
            if launch == Launch::Minting {
                server.go_on();
                eventually("the upstream's token", || (server.tokens().len() > before).then_some(()));
            }
            mend(victim, &mut fleet);
            let case = format!("{victim:?} at {launch:?}, {level}");
            if victim == Victim::Broker && launch != Launch::Running {
                // Without an answer the launcher ends by itself, and with one it is the program.
                eventually(&case, || (launched.running.ended().is_some() || is_program(&launched)).then_some(()));
            }
            if victim == Victim::Broker && launch == Launch::Running {
                assert!(launched.running.ended().is_none(), "{case}: a program outlives its broker");
            }
            launched.running.kill();
            let operator = fleet.operator();
            eventually("no lease", || (operator.status().leases == 0).then_some(()));
            eventually("no good token", || (server.good() == 0).then_some(()));
            assert_eq!(processes_in(&fleet), Vec::<String>::new(), "{case}");
            assert_eq!(files_of(&fleet), files, "{case}");
            println!("{case}: {} tokens so far, none good, nothing left", server.tokens().len());
        }
    }
    judge(&fleet.operator().events());
}

/// Brings a launch at a level to this step.
fn reach_in_launch(
    launch: Launch,
    (launcher, level): (&Launcher, &str),
    fleet: &mut Fleet,
    server: &OauthServer,
) -> ScriptedWorker {
    let minted = server.tokens().len();
    let mut command = launcher.command(GRANT_FD, level);
    command.args(["--deliver", "memfd", "--", "sh", "-c", "echo here; read end"]);
    let grant = ask_for(fleet, "minted").unwrap();
    match launch {
        Launch::Asking => fleet.host.broker().signal(Signal::STOP),
        Launch::Minting | Launch::Parcelled => server.hold(),
        Launch::Running => {}
    }
    let mut launched = ScriptedWorker::run(fleet, command, grant);
    match launch {
        Launch::Asking => eventually("the launcher's question", || asks(launched.running.id()).then_some(())),
        Launch::Minting | Launch::Parcelled => server.wait_until_asked(),
        Launch::Running => assert_eq!(launched.line(), "here"),
    }
    if launch == Launch::Parcelled {
        launched.running.signal(Signal::STOP);
        server.go_on();
        eventually("a token", || (server.tokens().len() > minted).then_some(()));
        let operator = fleet.operator();
        eventually("its lease", || (operator.status().leases == 1).then_some(()));
    }
    launched
}

fn is_program(launched: &ScriptedWorker) -> bool {
    fs::read(format!("/proc/{}/cmdline", launched.running.id())).is_ok_and(|line| line.starts_with(b"sh\0"))
}

/// The user's processes that still are where the launches were, zombies of this test included.
fn processes_in(fleet: &Fleet) -> Vec<String> {
    let place = fleet.user_directory();
    let own = format!("PPid:\t{}\n", std::process::id());
    let left = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == place);
        let zombie = status.contains("State:\tZ") && status.contains(&own);
        (there || zombie).then(|| status.lines().take(7).collect::<Vec<_>>().join(" "))
    });
    left.collect()
}

/// Names in the user's directory and among what is mounted below it.
fn files_of(fleet: &Fleet) -> BTreeSet<String> {
    let place = fleet.user_directory();
    let files = fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(place.to_str().unwrap())).map(str::to_owned);
    // The log of parents and workers comes with the first launch.
    files.filter(|name| name != "user.log").chain(mounts).collect()
}

fn kill_each_at(step: Step) {
    for victim in VICTIMS {
        let Some(mut fleet) = Fleet::start() else { return };
        let secret = "client-secret-of-the-kills";
        let server = OauthServer::start(secret);
        let short = CredentialSettings { lease_idle: IDLE, ..settings(oauth_client(server.address)) };
        fleet.operator().put("minted", short, secret.as_bytes());
        let grant = ask_for(&fleet, "minted").unwrap();
        let again = grant.try_clone().unwrap();
        let mut worker = reach(step, &fleet, &server, grant);

        kill(victim, &mut fleet, &mut worker);
        if step == Step::Minting {
            server.go_on();
            eventually("the upstream's token", || (server.tokens().len() == 1).then_some(()));
        }
        mend(victim, &mut fleet);

        // Whatever happened, the grant buys at most one token; another worker with it gets none if there was one.
        let tokens_before = server.tokens().len();
        let mut second = start(&fleet, again);
        let answer = second.says();
        if step != Step::Granted {
            assert!(answer["lease"].is_null(), "{victim:?} at {step:?}: a second worker got a token: {answer}");
            assert_eq!(server.tokens().len(), tokens_before, "{victim:?} at {step:?}");
        }
        second.running.kill();
        drop(worker);
        let operator = fleet.operator();
        eventually("no lease without a worker", || (operator.status().leases == 0).then_some(()));
        judge(&operator.events());
        println!(
            "{victim:?} at {step:?}: {} tokens minted, {} still good, no lease",
            server.tokens().len(),
            server.good()
        );
    }
}

/// Brings a crossing to this step.
fn reach(step: Step, fleet: &Fleet, server: &OauthServer, grant: OwnedFd) -> ScriptedWorker {
    if step == Step::Granted {
        let mut command = USER.command(&ours("blindferry-scripted-worker"));
        command.args(["--wait", "--grant-fd", &GRANT_FD.to_string(), "--workers"]).arg(fleet.host.workers());
        let mut worker = ScriptedWorker::run(fleet, command, grant);
        assert_eq!(worker.says()["waiting"], true);
        return worker;
    }
    if step == Step::Minting {
        server.hold();
    }
    let mut worker = start(fleet, grant);
    match step {
        Step::Minting => server.wait_until_asked(),
        _ => assert!(worker.says()["lease"].is_string()),
    }
    if step == Step::Renewed {
        assert!(worker.tell("renew")["lease"].is_string());
    }
    worker
}

fn start(fleet: &Fleet, grant: OwnedFd) -> ScriptedWorker {
    let mut command = USER.command(&ours("blindferry-scripted-worker"));
    command.args(["--grant-fd", &GRANT_FD.to_string(), "--workers"]).arg(fleet.host.workers());
    ScriptedWorker::run(fleet, command, grant)
}

fn kill(victim: Victim, fleet: &mut Fleet, worker: &mut ScriptedWorker) {
    match victim {
        Victim::Vault => send(fleet.enclave.vault(), Signal::KILL),
        Victim::DeviceOfEnclave => send(fleet.enclave.device(), Signal::KILL),
        Victim::DeviceOfHost => send(fleet.host.device(), Signal::KILL),
        Victim::Front => {
            let vault = fleet.enclave.vault();
            fleet.enclave.kill_front();
            eventually("the vault to go with its front", || (!lives(vault)).then_some(()));
        }
        Victim::Broker => fleet.host.kill(),
        Victim::Worker => worker.running.kill(),
    }
}

/// Starts what is gone, as a supervisor would.
fn mend(victim: Victim, fleet: &mut Fleet) {
    match victim {
        Victim::Vault => {
            assert!(!fleet.enclave.wait().success(), "a front without a vault says that something is wrong");
            enclave_again(fleet);
        }
        Victim::Front => enclave_again(fleet),
        Victim::DeviceOfEnclave => {
            // The vault serves on with what it has opened, and cannot prove itself to anybody new: started anew, it can.
            if fleet.enclave.front().ended().is_none() {
                fleet.enclave.stop();
            }
            enclave_again(fleet);
        }
        Victim::DeviceOfHost => {
            assert!(!fleet.host.broker().wait().success(), "a broker without its device process ends");
            fleet.host.serve();
        }
        Victim::Broker => fleet.host.serve(),
        Victim::Worker => {}
    }
}

fn enclave_again(fleet: &mut Fleet) {
    let sessions = fleet.host.sessions();
    fleet.enclave.serve();
    fleet.host.wait_for_session_after(sessions);
}

/// Each grant was redeemed at most once, and no lease ended twice. (That the audit verifies has been seen by then.)
fn judge(events: &[Event]) {
    let mut redeemed = BTreeMap::<GrantId, LeaseId>::new();
    let mut ended = BTreeSet::<LeaseId>::new();
    for event in events {
        match event {
            Event::Redeemed { grant, lease, .. } => {
                assert_eq!(redeemed.insert(*grant, *lease), None, "a grant bought two tokens");
            }
            Event::LeaseEnded { lease, why, .. } => {
                assert!(ended.insert(*lease), "a lease ended twice");
                assert!(matches!(why, LeaseEnd::WorkerGone | LeaseEnd::Idle), "{why:?}");
            }
            _ => {}
        }
    }
}

/// Whether a process is connected to the broker; where that cannot be seen, whether it cannot be seen any more.
fn asks(process: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else { return true };
    let mut links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link.display().to_string().starts_with("socket:"))
}

/// Seconds after which a lease that nobody keeps ends.
const IDLE: u32 = 5;
