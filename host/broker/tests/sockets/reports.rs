//! What only reports keeps no local peer waiting, is bounded, and is heard before the broker stops.

use crate::host::{Client, Host, lease};
use blindferry_proto::session::{BrokerRequest, LeaseEnd};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Nothing comes within this; what does come, comes at once.
const QUIET: Duration = Duration::from_millis(300);

fn asks() -> Value {
    json!({"ask": {"credential": "deploy"}})
}

fn is_delivered(told: &BrokerRequest) -> bool {
    matches!(told, BrokerRequest::Delivered(_))
}

async fn is_granted(parent: &Client) {
    let (reply, _handle) = parent.ask(&asks(), &[]).await;
    assert!(reply.get("granted").is_some(), "{reply}");
}

#[tokio::test]
async fn a_worker_does_not_wait_until_the_vault_has_heard_that_it_has_its_parcel() {
    let host = Host::start();
    let worker = host.worker();
    let lease = lease(&worker.redeem(&host.grant().await, 1, 2).await.0);
    host.vault.slow_down();
    let acknowledge = json!({"acknowledge": {"lease": lease.to_string(), "request": hex::encode([1; 16])}});
    assert_eq!(worker.ask(&acknowledge, &[]).await.0, json!("done"));
    host.vault.wait_for(|told| matches!(told, BrokerRequest::Acknowledge { .. })).await;
    // And goes on with what it does wait for.
    let renew = json!({"renew": {"lease": lease.to_string(), "request": hex::encode([3; 16])}});
    assert!(worker.ask(&renew, &[]).await.0.get("parcelled").is_some());
}

#[tokio::test]
async fn a_parent_asks_again_while_the_vault_hears_of_its_grant_and_no_more_than_two_such_wait() {
    let host = Host::start();
    host.vault.slow_down();
    let parent = host.parent();
    is_granted(&parent).await;
    is_granted(&parent).await;
    parent.send(asks().to_string().as_bytes(), &[]).await;
    assert!(timeout(QUIET, parent.hear()).await.is_err(), "reports pile up");
    assert_eq!(host.vault.told().iter().filter(|told| is_delivered(told)).count(), 2);
    host.vault.speed_up();
    let (reply, _handle) = parent.hear().await;
    assert!(reply.get("granted").is_some(), "{reply}");
}

#[tokio::test]
async fn the_end_of_one_lease_does_not_wait_until_the_vault_has_heard_of_anothers() {
    let host = Host::start();
    let (first, second) = (host.worker(), host.worker());
    let slow = lease(&first.redeem(&host.grant().await, 1, 2).await.0);
    let other = lease(&second.redeem(&host.grant().await, 3, 4).await.0);
    host.vault.slow_down();
    for (worker, lease) in [(&first, slow), (&second, other)] {
        assert_eq!(worker.ask(&json!({"end": {"lease": lease.to_string()}}), &[]).await.0, json!("done"));
        let ended = BrokerRequest::End { lease, why: LeaseEnd::Returned };
        host.vault.wait_for(|told| *told == ended).await;
    }
    let ends = host.vault.told().iter().filter(|told| matches!(told, BrokerRequest::End { .. })).count();
    assert_eq!(ends, 2, "one was told twice while it was under way");
}

#[tokio::test]
async fn a_broker_that_stops_waits_until_the_vault_has_heard_what_became_of_a_grant() {
    for slow in [true, false] {
        let mut host = Host::start();
        if slow {
            host.vault.slow_down();
        }
        let parent = host.parent();
        is_granted(&parent).await;
        host.vault.wait_for(is_delivered).await;
        host.stop();
        if slow {
            assert!(timeout(QUIET, &mut host.served).await.is_err(), "it left while the vault had not heard");
            host.vault.speed_up();
        }
        // Well before it would give up.
        timeout(Duration::from_secs(2), &mut host.served).await.unwrap().unwrap();
    }
}
