//! Floods cost bounded memory, and whoever is silent or does not listen is hung up on.

use crate::host::{Client, Host, code};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn a_user_cannot_take_all_connections() {
    let host = Host::with_limits("per_uid = 4");
    let held: Vec<Client> = (0..4).map(|_| host.parent()).collect();
    for parent in &held {
        assert!(parent.ask(&json!({"ask": {"credential": "deploy"}}), &[]).await.0.get("granted").is_some());
    }
    for _ in 0..50 {
        let flooding = host.parent();
        assert_eq!(code(&flooding.hear().await.0), "busy");
        assert!(flooding.is_hung_up().await);
    }
    drop(held);
    sleep(Duration::from_millis(100)).await;
    assert!(host.parent().ask(&json!({"ask": {"credential": "deploy"}}), &[]).await.0.get("granted").is_some());
}

#[tokio::test]
async fn a_user_cannot_take_all_leases() {
    let host = Host::with_limits("per_uid = 2");
    let worker = host.worker();
    for n in 1..=2 {
        assert!(worker.redeem(&host.grant().await, n, n).await.0.get("parcelled").is_some());
    }
    let (refused, _) = worker.redeem(&host.grant().await, 3, 3).await;
    assert_eq!(code(&refused), "busy");
    let end = json!({"end": {"lease": hex::encode([0x10; 16])}});
    assert_eq!(worker.ask(&end, &[]).await.0, json!("done"));
    sleep(Duration::from_millis(100)).await;
    assert!(worker.redeem(&host.grant().await, 4, 4).await.0.get("parcelled").is_some(), "a place is free again");
}

#[tokio::test]
async fn whoever_connects_and_says_nothing_is_hung_up_on() {
    let host = Host::start();
    let (parent, worker) = (host.parent(), host.worker());
    sleep(Duration::from_millis(100)).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert!(parent.is_hung_up().await);
    assert!(worker.is_hung_up().await);
}

#[tokio::test]
async fn idle_connections_are_hung_up_on_unless_they_wait_for_the_end_of_a_lease() {
    let host = Host::with_limits("idle_seconds = 1");
    let (parent, holder) = (host.parent(), host.worker());
    parent.ask(&json!({"ask": {"credential": "deploy"}}), &[]).await;
    holder.redeem(&host.grant().await, 1, 2).await;
    let end = json!({"end": {"lease": hex::encode([0x99; 16])}});
    let mut idler = host.process(None, &[&end.to_string(), "hear"]);
    assert_eq!(idler.hear().await.0, json!("done"));
    sleep(Duration::from_millis(2500)).await;
    assert!(parent.is_hung_up().await);
    assert!(idler.child.try_wait().unwrap().is_some(), "a worker without a lease is hung up on");
    let (reply, _) = holder.ask(&json!({"end": {"lease": hex::encode([0x10; 16])}}), &[]).await;
    assert_eq!(reply, json!("done"), "the holder of a lease may be silent");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_dropped() {
    let host = Host::start();
    let parent = host.parent();
    // The broker stops reading once it cannot write: the rest of the flood waits in the sender, not in the broker.
    let flood = async {
        loop {
            parent.send(b"not json", &[]).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), flood).await.is_err());
    let other = host.parent();
    assert!(other.ask(&json!({"ask": {"credential": "deploy"}}), &[]).await.0.get("granted").is_some());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    sleep(Duration::from_millis(100)).await;
    // What was answered before can still be read; then the connection is over.
    while !parent.is_hung_up().await {}
}
