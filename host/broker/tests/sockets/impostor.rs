//! Somebody connects, leaves the connection to a child of his, and becomes another program: is the child taken for that
//! program?
//!
//! ```text
//!   attacker ── connect ──▶ socket        SO_PEERCRED, SO_PEERPIDFD and /proc/PID/exe name the process that connected,
//!      ├─ fork ──▶ child, speaks          which is by now what everybody trusts
//!      └─ becomes sleep
//! ```

use crate::host::{Host, Process, code, lease, redeem};
use blindferry_handle::packet::{PacketListener, PacketSocket};
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::session::{BrokerRequest, LeaseEnd, ProcessFacts};
use rustix::process::{getegid, geteuid};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, spawn};
use std::{env, fs};

/// What both servers are asked.
const ASK: &str = r#"{"ask":{"credential":"deploy"}}"#;

#[tokio::test]
async fn a_server_that_looks_at_the_executable_of_who_connected_is_fooled_and_the_broker_looks_at_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("naive");
    for (steps, taken_for_sleep) in [(&[ASK][..], false), (&["impostor", ASK], true)] {
        let naive = answer_sleep_alone(PacketListener::bind(&path, 0o666).unwrap());
        let mut attacker = Process::worker(&path, None, steps);
        assert_eq!(attacker.hear().await.0, json!({"trusted": taken_for_sleep}), "{steps:?}");
        let (asked_by, executable) = naive.join().unwrap();
        assert_eq!((asked_by, executable == sleep()), (attacker.child.id(), taken_for_sleep), "{executable:?}");
    }

    // The same steps: the vault hears who connected, and of no executable, whether it is what was trusted or another.
    let host = Host::start();
    for steps in [&[ASK][..], &["impostor", ASK]] {
        let mut attacker = Process::worker(&host.parents(), None, steps);
        assert!(attacker.hear().await.0["granted"].is_object());
        let of = attacker.child.id();
        host.vault.wait_for(|told| matches!(told, BrokerRequest::Ask(ask) if ask.parent == only_who(of))).await;
    }
}

#[tokio::test]
async fn an_impostor_redeems_as_nobody_in_particular_and_his_lease_ends_with_the_program_that_he_hides_behind() {
    let host = Host::start();
    let request = hex::encode([3; 16]);
    let renew = json!({"renew": {"lease": LeaseId([0x10; 16]).to_string(), "request": request}}).to_string();
    let steps = ["impostor", &redeem(1, 2).to_string(), &renew, "orphan", &renew];
    let mut attacker = Process::worker(&host.workers(), Some(host.grant().await), &steps);
    let leased = lease(&attacker.hear().await.0);
    let who = only_who(attacker.child.id());
    assert_eq!(executable_of(who.pid), sleep());
    host.vault.wait_for(|told| matches!(told, BrokerRequest::Redeem(redeem) if redeem.worker == who)).await;
    assert_eq!(lease(&attacker.hear().await.0), leased, "while that lives, it is renewed");

    attacker.kill();
    let ended = BrokerRequest::End { lease: leased, why: LeaseEnd::WorkerGone };
    host.vault.wait_for(|told| *told == ended).await;
    // The child lives, and has the connection and the key.
    assert_eq!(code(&attacker.hear().await.0), "denied");
    assert_eq!(host.vault.told().iter().filter(|told| matches!(told, BrokerRequest::Renew(_))).count(), 1);
}

/// Answers one request by what the process that connected executes at that time; says who that was, and what.
fn answer_sleep_alone(listener: PacketListener) -> JoinHandle<(u32, PathBuf)> {
    spawn(move || {
        let socket: PacketSocket = listener.accept().unwrap();
        assert_eq!(socket.receive().unwrap().bytes, ASK.as_bytes());
        let peer = socket.peer().unwrap();
        assert!(peer.is_alive());
        let process = u32::try_from(peer.pid()).unwrap();
        let executable = executable_of(process);
        let answer = json!({"trusted": executable == sleep()}).to_string();
        socket.send(answer.as_bytes(), &[]).unwrap();
        (process, executable)
    })
}

/// Facts about a process of this user that name neither an executable nor a level.
fn only_who(pid: u32) -> ProcessFacts {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    ProcessFacts { uid, gid, pid, executable: None, protection: None }
}

fn executable_of(process: u32) -> PathBuf {
    fs::read_link(format!("/proc/{process}/exe")).unwrap()
}

/// Where `sleep` is.
fn sleep() -> PathBuf {
    let path = env::var_os("PATH").unwrap();
    let found = env::split_paths(&path).map(|directory| directory.join("sleep")).find(|file| Path::is_file(file));
    fs::canonicalize(found.unwrap()).unwrap()
}
