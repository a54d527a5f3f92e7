//! A parent asks, and gets the grant in a sealed handle.

use crate::host::{Host, Process, content, redeem};
use crate::vault::grant;
use blindferry_proto::session::BrokerRequest;
use serde_json::json;
use std::process::Command;

#[tokio::test]
async fn the_handle_is_a_sealed_memfd_with_exactly_the_grant() {
    let host = Host::start();
    let asked = json!({"ask": {"credential": "deploy", "audience": "https://api.example", "worker": {"uid": 7}}});
    let (reply, handle) = host.parent().ask(&asked, &[]).await;
    assert_eq!(reply["granted"]["grant"], hex::encode([1; 16]));
    assert_eq!(content(handle), grant(1));
    let told = host.vault.told();
    let BrokerRequest::Ask(ask) = &told[0] else { panic!("{told:?}") };
    assert_eq!(ask.parent.pid, std::process::id());
    assert_eq!(ask.parent.uid, rustix::process::geteuid().as_raw());
    assert_eq!((ask.parent.executable, ask.worker.uid), (None, Some(7)));
}

#[tokio::test]
async fn the_vault_hears_whether_the_parent_took_it() {
    let host = Host::start();
    let parent = host.parent();
    parent.ask(&json!({"ask": {"credential": "deploy"}}), &[]).await;
    host.vault.wait_for(|told| matches!(told, BrokerRequest::Delivered(delivered) if delivered.taken)).await;
    // It hangs up before the answer comes.
    parent.send(json!({"ask": {"credential": "deploy"}}).to_string().as_bytes(), &[]).await;
    drop(parent);
    host.vault.wait_for(|told| matches!(told, BrokerRequest::Delivered(delivered) if !delivered.taken)).await;
}

#[tokio::test]
async fn a_denial_and_a_missing_vault_have_their_codes_and_the_connection_goes_on() {
    let host = Host::start();
    let parent = host.parent();
    assert_eq!(parent.refusal(&json!({"ask": {"credential": "forbidden"}}), &[]).await, "denied");
    host.vault.go_down();
    assert_eq!(parent.refusal(&json!({"ask": {"credential": "deploy"}}), &[]).await, "not-ready");
    host.vault.come_up().await;
    let (reply, _handle) = parent.ask(&json!({"ask": {"credential": "deploy"}}), &[]).await;
    assert!(reply.get("granted").is_some());
}

#[tokio::test]
async fn a_parent_in_plain_python_starts_a_worker_that_redeems() {
    let host = Host::start();
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parent.py"))
        .args(["deploy", "python3", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/worker.py")])
        .arg(host.workers())
        .arg(redeem(1, 2).to_string())
        .env("BLINDFERRY_PARENTS", host.parents());
    let mut parent = Process::start(command);
    let (reply, descriptors) = parent.hear().await;
    assert!(reply.get("parcelled").is_some(), "{reply}");
    assert_eq!(descriptors, 1);
    let told = host.vault.told();
    let redeemed = told.iter().find_map(|told| match told {
        BrokerRequest::Redeem(redeem) => Some(redeem),
        _ => None,
    });
    assert_eq!(redeemed.unwrap().grant.as_slice(), grant(1));
    // The worker is the parent's child, and the broker knows it as a process of its own.
    assert_ne!(redeemed.unwrap().worker.pid, parent.child.id());
}

#[tokio::test]
async fn the_parent_in_python_says_whether_asking_again_may_help() {
    let host = Host::start();
    for (credential, down, expected) in [("forbidden", false, 77), ("deploy", true, 75)] {
        if down {
            host.vault.go_down();
        }
        let status = tokio::process::Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parent.py"))
            .args([credential, "true"])
            .env("BLINDFERRY_PARENTS", host.parents())
            .status();
        assert_eq!(status.await.unwrap().code(), Some(expected));
    }
}
