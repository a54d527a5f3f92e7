//! A lease lives as long as its process: no longer, whatever its connection or its process id do.

use crate::host::{Host, Process, code, lease, redeem};
use blindferry_proto::identifier::LeaseId;
use blindferry_proto::session::{BrokerRequest, LeaseEnd};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

async fn redeeming(host: &Host, then: &str) -> (Process, LeaseId) {
    let grant = host.grant().await;
    let mut worker = host.process(Some(grant), &[&redeem(1, 2).to_string(), then]);
    let (reply, _descriptors) = worker.hear().await;
    (worker, lease(&reply))
}

fn ended(lease: LeaseId, why: LeaseEnd) -> impl Fn(&BrokerRequest) -> bool {
    move |told| *told == BrokerRequest::End { lease, why }
}

#[tokio::test]
async fn a_worker_that_dies_ends_its_lease_within_a_second() {
    let host = Host::start();
    let (mut worker, lease) = redeeming(&host, "wait").await;
    worker.kill();
    let after = host.vault.wait_for(ended(lease, LeaseEnd::WorkerGone)).await;
    assert!(after < Duration::from_secs(1), "{after:?}");
}

#[tokio::test]
async fn a_lease_outlives_its_connection_when_the_launcher_becomes_the_program_and_ends_with_it() {
    let host = Host::start();
    let (mut worker, lease) = redeeming(&host, "exec").await;
    sleep(Duration::from_millis(500)).await;
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", worker.child.id())).unwrap();
    assert!(cmdline.starts_with(b"sleep\0"), "it has become the program");
    assert!(!host.vault.told().iter().any(|told| matches!(told, BrokerRequest::End { .. })));
    worker.kill();
    host.vault.wait_for(ended(lease, LeaseEnd::WorkerGone)).await;
}

#[tokio::test]
async fn an_end_is_told_again_until_the_vault_hears_it() {
    let host = Host::start();
    let (mut worker, lease) = redeeming(&host, "wait").await;
    host.vault.go_down();
    worker.kill();
    worker.reap();
    sleep(Duration::from_millis(300)).await;
    assert!(!host.vault.told().iter().any(ended(lease, LeaseEnd::WorkerGone)));
    host.vault.come_up().await;
    host.vault.wait_for(ended(lease, LeaseEnd::WorkerGone)).await;
    assert_eq!(host.vault.keeps_of(lease), 0, "the new session did not hear that it lives");
    sleep(Duration::from_millis(1500)).await;
    let times = host.vault.told().iter().filter(|told| ended(lease, LeaseEnd::WorkerGone)(told)).count();
    assert_eq!(times, 1, "heard once, told once");
}

#[tokio::test]
async fn living_leases_are_kept_in_time_and_at_once_over_a_new_session() {
    let host = Host::start();
    host.vault.set_idle(3);
    let (_worker, lease) = redeeming(&host, "wait").await;
    sleep(Duration::from_millis(2500)).await;
    assert!(host.vault.keeps_of(lease) >= 2, "{:?}", host.vault.told());
    host.vault.go_down();
    sleep(Duration::from_millis(100)).await;
    let before = host.vault.keeps_of(lease);
    host.vault.come_up().await;
    sleep(Duration::from_millis(200)).await;
    assert!(host.vault.keeps_of(lease) > before);
}

#[tokio::test]
async fn a_lease_that_the_vault_does_not_know_is_let_go_and_the_others_are_kept() {
    let host = Host::start();
    host.vault.set_idle(3);
    let (worker, other) = (host.worker(), host.worker());
    let lost = lease(&worker.redeem(&host.grant().await, 1, 2).await.0);
    let kept = lease(&other.redeem(&host.grant().await, 3, 4).await.0);
    host.vault.lose(lost);
    let (pushed, _) = worker.hear().await;
    assert_eq!(pushed["lease-ended"]["lease"], lost.to_string());
    let before = host.vault.keeps_of(kept);
    sleep(Duration::from_millis(1500)).await;
    assert!(host.vault.keeps_of(kept) > before);
}

#[tokio::test]
async fn the_worker_hears_when_the_vault_ends_its_lease_and_nobody_elses() {
    let host = Host::start();
    let grant = host.grant().await;
    let (mine, others) = (host.worker(), host.worker());
    let lease = lease(&mine.redeem(&grant, 1, 2).await.0);
    others.redeem(&host.grant().await, 3, 4).await;
    host.vault.end(lease, LeaseEnd::Removed).await;
    let (pushed, _) = mine.hear().await;
    assert_eq!(pushed, json!({"lease-ended": {"lease": lease.to_string(), "why": "removed"}}));
    let nothing = tokio::time::timeout(Duration::from_millis(200), others.hear()).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn a_lease_that_is_given_back_ends_even_while_the_vault_is_away() {
    let host = Host::start();
    let worker = host.worker();
    let lease = lease(&worker.redeem(&host.grant().await, 1, 2).await.0);
    host.vault.go_down();
    assert_eq!(worker.ask(&json!({"end": {"lease": lease.to_string()}}), &[]).await.0, json!("done"));
    let renew = json!({"renew": {"lease": lease.to_string(), "request": hex::encode([3; 16])}});
    assert_eq!(worker.refusal(&renew, &[]).await, "unknown");
    host.vault.come_up().await;
    host.vault.wait_for(ended(lease, LeaseEnd::Returned)).await;
}

#[tokio::test]
async fn after_a_restart_of_the_broker_a_lease_belongs_to_the_process_that_renews_it() {
    let host = Host::start();
    let lease = LeaseId([0x77; 16]);
    let renew = json!({"renew": {"lease": lease.to_string(), "request": hex::encode([3; 16])}});
    let mut worker = host.process(None, &[&renew.to_string(), "wait"]);
    let (reply, descriptors) = worker.hear().await;
    assert_eq!((crate::host::lease(&reply), descriptors), (lease, 1));
    worker.kill();
    host.vault.wait_for(ended(lease, LeaseEnd::WorkerGone)).await;
}

#[tokio::test]
async fn a_connection_whose_maker_has_ended_is_refused() {
    let host = Host::start();
    let grant = host.grant().await;
    // Answered once, so that the broker has the connection before its maker ends.
    let mut heir = host.process(Some(grant), &["{}", "fork", &redeem(1, 2).to_string()]);
    for expected in ["malformed", "denied"] {
        let (reply, _descriptors) = heir.hear().await;
        assert_eq!(code(&reply), expected);
    }
    assert!(!host.vault.told().iter().any(|told| matches!(told, BrokerRequest::Redeem(_))));
}

#[tokio::test]
async fn a_recycled_process_id_does_not_revive_a_lease() {
    let host = Host::start();
    let (mut worker, lease) = redeeming(&host, "wait").await;
    let id = worker.child.id();
    host.vault.go_down();
    worker.kill();
    worker.reap();
    let renew = json!({"renew": {"lease": lease.to_string(), "request": hex::encode([3; 16])}}).to_string();
    let mut recycled = None;
    for _ in 0..200 {
        // The next process gets the next number, unless another process of this machine was quicker.
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (id - 1).to_string()).is_err() {
            println!("skipped: this user may not choose the next process id");
            return;
        }
        let process = host.process(None, &[&renew, "wait"]);
        if process.child.id() == id {
            recycled = Some(process);
            break;
        }
    }
    let Some(mut recycled) = recycled else {
        println!("skipped: the process id could not be had again");
        return;
    };
    assert_eq!(code(&recycled.hear().await.0), "unknown");
    host.vault.come_up().await;
    host.vault.wait_for(ended(lease, LeaseEnd::WorkerGone)).await;
    assert_eq!(host.vault.keeps_of(lease), 0);
}
