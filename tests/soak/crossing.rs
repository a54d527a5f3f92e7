//! Those who use credentials: parents and their workers, programs that are run, people who wait for a yes.

use crate::dice::Dice;
use crate::ground::Ground;
use blindferry_parent::{Ask, GrantHandle, Parent, ParentError};
use blindferry_proto::waiting::Words;
use blindferry_tests::account::USER;
use blindferry_tests::process::{Running, within};
use blindferry_tests::program::ours;
use blindferry_tests::worker::{GRANT_FD, ScriptedWorker};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Grants, each for a worker with a life of its own.
pub(crate) fn cross(ground: &Ground, mut dice: Dice) {
    let mut parent = None;
    while ground.goes_on(&mut dice, Duration::from_millis(400)) {
        let credential = dice.one_of(&["api", "minted"]);
        if let Some(grant) = granted(ground, &mut parent, |parent| parent.ask(&ask(credential))) {
            work(ground, &mut dice, grant);
        }
    }
}

/// Asks that wait for an operator.
pub(crate) fn wait(ground: &Ground, mut dice: Dice) {
    let mut parent = None;
    while ground.goes_on(&mut dice, Duration::from_secs(2)) {
        let asked = |parent: &mut Parent| parent.ask_and_wait(&ask("prod"), &Words::default(), |_| ());
        if let Some(grant) = granted(ground, &mut parent, asked) {
            work(ground, &mut dice, grant);
        }
    }
}

/// `blindferry run` with tokens that are renewed, and `blindferry read`.
pub(crate) fn run(ground: &Ground, mut dice: Dice) {
    while ground.goes_on(&mut dice, Duration::from_secs(4)) {
        let mut command = ground.blindferry();
        let reads = dice.below(3) == 0;
        match reads {
            true => command.args(["read", "api"]),
            false => command.args(["run", "minted:memfd", "--renew", "--", "sh", "-c", "echo here; read end"]),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command, &ground.log());
        let mut said = String::new();
        // Ends with the program at the latest, and whoever starts it waits for a broker for a bounded time.
        let _none = BufReader::new(running.child().stdout.take().unwrap()).read_line(&mut said);
        if said.is_empty() {
            ground.book.refused("no token for a program");
        } else {
            ground.book.write().programs += 1;
        }
        let life = dice.time(Duration::ZERO, Duration::from_secs(15));
        if !reads && within(life, || running.ended()).is_none() && dice.below(2) == 0 {
            running.kill();
        }
        drop(running.child().stdin.take());
        running.wait();
    }
}

fn ask(credential: &str) -> Ask {
    Ask::for_credential(credential.parse().unwrap())
}

/// A grant, by a connection that is kept while it is good.
fn granted(
    ground: &Ground,
    parent: &mut Option<Parent>,
    asked: impl FnOnce(&mut Parent) -> Result<GrantHandle, ParentError>,
) -> Option<GrantHandle> {
    let mut connected = match parent.take() {
        Some(parent) => parent,
        None => match Parent::connect(&ground.parents) {
            Ok(parent) => parent,
            Err(_) => {
                ground.book.refused("no broker");
                return None;
            }
        },
    };
    match asked(&mut connected) {
        Ok(grant) => {
            ground.book.write().granted.insert(grant.id().to_string());
            *parent = Some(connected);
            Some(grant)
        }
        Err(ParentError::Refused(refusal)) => {
            ground.book.refused(refusal.code.as_str());
            *parent = Some(connected);
            None
        }
        Err(_) => {
            ground.book.refused("the broker hung up on a parent");
            None
        }
    }
}

/// A worker with a grant: it ends in good order, or is killed at one moment or another.
fn work(ground: &Ground, dice: &mut Dice, grant: GrantHandle) {
    let mut command = USER.command(&ours("blindferry-scripted-worker"));
    command.args(["--grant-fd", &GRANT_FD.to_string(), "--workers"]).arg(&ground.workers);
    let descriptor = grant.into_descriptor();
    let mut worker = ScriptedWorker::run_in(&ground.user_directory, &ground.log(), command, descriptor);
    let fate = dice.below(10);
    if fate == 0 {
        sleep(dice.time(Duration::ZERO, Duration::from_millis(120)));
        worker.running.kill();
    }
    let Some(lease) = lease(ground, &mut worker) else { return };
    ground.book.write().redeemed.insert(lease.clone());
    for _ in 0..dice.below(3) {
        // Whoever was killed when he had said that he has a lease hears nothing any more.
        let _told = worker.try_order("renew");
        if fate == 1 {
            worker.running.kill();
        }
        if self::lease(ground, &mut worker).is_none() {
            return;
        }
        *ground.book.write().renewed.entry(lease.clone()).or_default() += 1;
    }
    if fate < 7 {
        let _told = worker.try_order("end");
        if said(&mut worker)["ended"] == true {
            ground.book.write().given_back.insert(lease, now());
        }
    }
    worker.finish();
}

/// The lease that a worker says it has.
fn lease(ground: &Ground, worker: &mut ScriptedWorker) -> Option<String> {
    let said = said(worker);
    let lease = said["lease"].as_str().map(str::to_owned);
    if lease.is_none() {
        let why = said["code"].as_str().or(said["error"].as_str()).unwrap_or("killed before it said anything");
        ground.book.refused(&format!("worker: {why}"));
    }
    lease
}

/// The next line of a worker, which may be killed before it is through with it.
fn said(worker: &mut ScriptedWorker) -> Value {
    serde_json::from_str(&worker.line()).unwrap_or(Value::Null)
}

/// Milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "compared with the dates of the audit")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}
