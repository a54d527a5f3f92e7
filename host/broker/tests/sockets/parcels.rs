//! A worker redeems, and gets the parcel in a sealed handle; what is no grant is refused.

use crate::host::{Host, code, content, lease, redeem};
use crate::vault::{PARCEL_KEY, parcel};
use blindferry_handle::memfd::Handle;
use blindferry_proto::identifier::RequestId;
use blindferry_proto::limits::MAX_GRANT;
use blindferry_proto::session::BrokerRequest;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde_json::json;
use std::os::fd::{AsFd, OwnedFd};

#[tokio::test]
async fn a_redeemed_grant_gives_the_parcel_in_a_sealed_memfd() {
    let host = Host::start();
    let grant = host.grant().await;
    let (reply, handle) = host.worker().redeem(&grant, 1, 2).await;
    assert_eq!(reply["parcelled"]["sender"], PARCEL_KEY.to_string());
    assert_eq!(reply["parcelled"]["token_type"], "Bearer");
    assert_eq!(content(handle), parcel(lease(&reply), RequestId([1; 16])));
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_and_another_key_is_refused() {
    let host = Host::start();
    let grant = host.grant().await;
    let (first, first_handle) = host.worker().redeem(&grant, 1, 2).await;
    // The same process over another connection: the first one broke.
    let (again, again_handle) = host.worker().redeem(&grant, 1, 2).await;
    assert_eq!(first, again);
    assert_eq!(content(first_handle), content(again_handle));
    let (stolen, handle) = host.worker().redeem(&grant, 1, 3).await;
    assert_eq!(code(&stolen), "grant-spent");
    assert!(handle.is_none());
}

#[tokio::test]
async fn a_retry_from_another_process_does_not_get_hold_of_the_lease() {
    let host = Host::start();
    let grant = host.grant().await;
    let (reply, _handle) = host.worker().redeem(&grant, 1, 2).await;
    let lease = lease(&reply).to_string();
    let request = hex::encode([9; 16]);
    let mut thief = host.process(
        Some(grant),
        &[
            &redeem(1, 2).to_string(),
            &json!({"renew": {"lease": lease, "request": request}}).to_string(),
            &json!({"acknowledge": {"lease": lease, "request": request}}).to_string(),
            &json!({"end": {"lease": lease}}).to_string(),
        ],
    );
    for _ in 0..4 {
        let (refused, descriptors) = thief.hear().await;
        assert_eq!(code(&refused), "denied");
        assert_eq!(descriptors, 0);
    }
}

#[tokio::test]
async fn what_the_launcher_measured_is_passed_on() {
    let host = Host::start();
    let grant = host.grant().await;
    let mut message = redeem(1, 2);
    message["redeem"]["executable"] = json!(hex::encode([5; 32]));
    host.worker().ask(&message, &[grant.as_fd()]).await;
    host.vault
        .wait_for(|told| {
            matches!(told, BrokerRequest::Redeem(redeem)
                if redeem.worker.executable.is_some_and(|digest| digest.0 == [5; 32])
                    && redeem.worker.pid == std::process::id())
        })
        .await;
}

#[tokio::test]
async fn a_redemption_without_exactly_one_descriptor_is_refused() {
    let host = Host::start();
    let grant = host.grant().await;
    let worker = host.worker();
    assert_eq!(worker.refusal(&redeem(1, 2), &[]).await, "malformed");
    assert_eq!(worker.refusal(&redeem(1, 2), &[grant.as_fd(), grant.as_fd()]).await, "malformed");
    assert!(!host.vault.told().iter().any(|told| matches!(told, BrokerRequest::Redeem(_))));
    let (reply, _handle) = worker.redeem(&grant, 1, 2).await;
    assert!(reply.get("parcelled").is_some(), "the connection goes on");
}

#[tokio::test]
async fn descriptors_that_are_no_sealed_memfd_are_refused() {
    let memfd = |seals: SealFlags| {
        let memfd = memfd_create("test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&memfd, b"a grant").unwrap();
        fcntl_add_seals(&memfd, seals).unwrap();
        memfd
    };
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    let (pipe, _writer) = std::io::pipe().unwrap();
    let host = Host::start();
    let worker = host.worker();
    let wrong: [(&str, OwnedFd); 6] = [
        ("a pipe", pipe.into()),
        ("a file", std::fs::File::open("/proc/self/exe").unwrap().into()),
        ("a memfd without a seal", memfd(SealFlags::empty())),
        ("a memfd that can grow", memfd(all.difference(SealFlags::GROW))),
        ("a memfd that can be written", memfd(all.difference(SealFlags::WRITE))),
        ("a handle that is too long", Handle::seal("test", &vec![0; MAX_GRANT + 1]).unwrap().into_fd()),
    ];
    for (what, descriptor) in wrong {
        let refused = worker.refusal(&redeem(1, 2), &[descriptor.as_fd()]).await;
        assert_eq!(refused, "malformed", "{what}");
    }
    assert!(host.vault.told().is_empty());
}
