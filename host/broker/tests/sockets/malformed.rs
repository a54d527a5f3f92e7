//! What is not a message is refused with a code, and does not reach the vault.

use crate::host::{Host, code};
use proptest::prelude::*;
use serde_json::json;
use std::os::fd::AsFd;

#[tokio::test]
async fn packets_that_are_no_messages_are_refused_and_the_connection_goes_on() {
    let host = Host::start();
    let (parent, worker) = (host.parent(), host.worker());
    let long = json!({"ask": {"credential": "deploy", "audience": "a".repeat(5000)}}).to_string();
    let huge = "x".repeat(100_000);
    let packets = [
        "not json",
        "\0",
        "{}",
        "[]",
        "{\"ask\":{}}",
        "{\"unheard-of\":{}}",
        r#"{"ask":{"credential":"Deploy"}}"#,
        r#"{"ask":{"credential":"deploy","more":1}}"#,
        r#"{"ask":{"credential":"deploy","worker":{"pid":1}}}"#,
        r#"{"end":{"lease":"00"}}"#,
        r#"{"end":{"lease":"00000000000000000000000000000000","more":1}}"#,
        r#"{"redeem":{"request":"00000000000000000000000000000000","key":"00"}}"#,
        &long,
        &huge,
    ];
    for packet in packets {
        for client in [&parent, &worker] {
            client.send(packet.as_bytes(), &[]).await;
            assert_eq!(code(&client.hear().await.0), "malformed", "{packet:.40}");
        }
    }
    assert!(host.vault.told().is_empty());
    assert!(parent.ask(&json!({"ask": {"credential": "deploy"}}), &[]).await.0.get("granted").is_some());
}

#[tokio::test]
async fn descriptors_where_none_belong_are_refused() {
    let host = Host::start();
    let grant = host.grant().await;
    let ask = json!({"ask": {"credential": "deploy"}});
    assert_eq!(host.parent().refusal(&ask, &[grant.as_fd()]).await, "malformed");
    let end = json!({"end": {"lease": hex::encode([1; 16])}});
    assert_eq!(host.worker().refusal(&end, &[grant.as_fd()]).await, "malformed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let host = Host::start();
            for client in [host.parent(), host.worker()] {
                client.send(&bytes, &[]).await;
                assert_eq!(code(&client.hear().await.0), "malformed");
            }
        });
    }
}
