//! A vault that is killed at any step of a change of keys opens again, by the old key or by the new one, and goes on.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_proto::front::{StoreReply, StoreRequest};
use blindferry_proto::identifier::{EkDigest, Machine};
use blindferry_proto::role::Role;
use ring::rand::SystemRandom;

use super::super::memory::Memory;
use super::super::{Document, IfPresent};
use super::*;
use crate::audit::Signer;
use crate::host::{HostRecord, Place as HostPlace};

/// A store whose vault is killed after so many commits.
#[derive(Clone)]
struct Killing {
    memory: Arc<Memory>,
    left: Arc<AtomicUsize>,
}

impl Backing for Killing {
    async fn request(&self, request: StoreRequest) -> Result<StoreReply, StoreError> {
        if matches!(request, StoreRequest::Commit { .. }) {
            let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_err() {
                return Err(StoreError::Unreachable { why: "killed".to_owned() });
            }
        }
        self.memory.request(request).await
    }
}

fn kek(byte: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::from_secret(SecretBytes::copy_and_wipe(&mut [byte; 32]).unwrap()).unwrap()
}

fn next() -> KeyEncryptionKey {
    let mut both = [[2; 32], [0; 32]].concat();
    SecretBytes::copy_and_wipe(&mut both).map(KeyEncryptionKey::from_secret).unwrap().unwrap()
}

fn blobs() -> Vec<(SealedName, Vec<u8>)> {
    vec![(SealedName::Platform, vec![2]), (SealedName::Recovery, vec![2])]
}

async fn append<B: Backing>(records: &Records<B>, number: u64) {
    let signer = Signer::new(SecretBytes::copy_and_wipe(&mut [7; 32]).unwrap()).unwrap();
    let event = Event::Started { notes: Text::cut("x") };
    let made = records.append_audit(|head| {
        let mut chain = signer.chain(head).unwrap();
        assert_eq!(chain.append(event, Vec::new(), 1).unwrap(), number);
        let (rows, head) = chain.sign().unwrap();
        (rows, head, ())
    });
    made.await.unwrap();
}

/// A store with some of everything, and an empty shard.
async fn filled() -> Arc<Memory> {
    let memory = Arc::new(Memory::default());
    let records = Records::create(memory.clone(), &kek(1), vec![(SealedName::Platform, vec![1])]).await.unwrap();
    for name in ["a", "b", "gone"] {
        let settings = CredentialSettings { kind: Kind::Release, token_lifetime: 1, lease_idle: 60, cache_idle: None };
        let master = SecretBytes::copy_and_wipe(&mut format!("master {name}").into_bytes()).unwrap();
        records.put_master(&name.parse().unwrap(), settings, &master, IfPresent::Refuse).await.unwrap();
    }
    records.remove_master(&"gone".parse().unwrap()).await.unwrap();
    let machine = HostPlace::Allowed(Machine::Ek(EkDigest([3; 32])));
    let host = HostRecord { role: Role::Broker, place: machine, since: 5 };
    records.put_host(&"web-1".parse().unwrap(), &host).await.unwrap();
    records.put_document(Document::Policy, Text::new("policy").unwrap()).await.unwrap();
    for number in 0..40 {
        append(&records, number).await;
    }
    memory
}

async fn assert_whole<B: Backing>(records: &Records<B>, what: &str) {
    for name in ["a", "b"] {
        let master = records.master(&name.parse().unwrap()).await.unwrap().unwrap();
        let opened = master.secret.wake().unwrap();
        assert!(opened.ct_eq(format!("master {name}").as_bytes()), "{what}: {name}");
    }
    assert!(records.master(&"gone".parse().unwrap()).await.unwrap().is_none(), "{what}");
    assert!(records.host(&"web-1".parse().unwrap()).await.unwrap().is_some(), "{what}");
    assert_eq!(records.document(Document::Policy).await.unwrap().unwrap().text.as_str(), "policy", "{what}");
    let mut from = 0;
    while from < 40 {
        let page = records.audit_page(from, NonZeroUsize::new(64).unwrap()).await.unwrap();
        assert!(!page.is_empty(), "{what}: no record {from}");
        from += u64::try_from(page.len()).unwrap();
    }
}

/// The platform's form of the key that the store holds.
fn sealed_form(memory: &Memory) -> u8 {
    memory.contents.lock().unwrap()[&(Table::Sealed, b"platform".to_vec())][0]
}

fn under(kek: &KeyEncryptionKey, memory: &Memory) -> Vec<String> {
    let keys = Keys::of(kek).unwrap();
    let contents = memory.contents.lock().unwrap();
    let made = contents.iter().filter(|((table, key), stored)| keys.made(*table, key, stored));
    made.map(|((table, key), _)| format!("{table:?} {}", String::from_utf8_lossy(key))).collect()
}

#[tokio::test]
async fn whoever_is_killed_at_any_step_opens_again_and_ends_with_everything_under_the_new_key() {
    let (mut old, mut new) = (0, 0);
    for commits in 0.. {
        let memory = filled().await;
        let killing = Killing { memory: memory.clone(), left: Arc::new(AtomicUsize::new(commits)) };
        let records = Records::open(killing, &kek(1)).await.unwrap();
        let changed = async {
            records.change_keys(&next(), blobs(), SealedName::Successor).await?;
            records.renew_all().await
        };
        let done = changed.await.is_ok();
        drop(records);

        let what = format!("killed after {commits} commits");
        let sealed = sealed_form(&memory);
        let (right, wrong) = if sealed == 1 { (kek(1), next()) } else { (next(), kek(1)) };
        assert!(Records::open(memory.clone(), &wrong).await.is_err(), "{what}: the other key opens it too");
        let records = Records::open(memory.clone(), &right).await.unwrap();
        assert_whole(&records, &what).await;
        if sealed == 1 {
            old += 1;
            assert!(!records.are_keys_changing(), "{what}");
            records.change_keys(&next(), blobs(), SealedName::Successor).await.unwrap();
        } else {
            new += 1;
            assert_eq!(records.are_keys_changing(), !done, "{what}");
        }
        // What is stored meanwhile, and what was replaced, is under the new key.
        records.put_document(Document::Policy, Text::new("policy").unwrap()).await.unwrap();
        if records.are_keys_changing() {
            records.renew_all().await.unwrap();
        }
        assert!(!records.are_keys_changing());
        assert_whole(&records, &what).await;
        assert_eq!(under(&kek(1), &memory), Vec::<String>::new(), "{what}: left under the old key");
        drop(records);
        assert_whole(&Records::open(memory.clone(), &next()).await.unwrap(), &what).await;
        if done {
            break;
        }
    }
    println!("opened by the old key {old} times, by the new one {new} times");
    assert!(old == 1 && new > 10);
}

#[tokio::test]
async fn a_change_whose_answer_got_lost_is_settled_before_anything_is_written() {
    let memory = filled().await;
    let records = Records::open(memory.clone(), &kek(1)).await.unwrap();
    memory.lose_next_answer.store(true, Ordering::Relaxed);
    assert!(records.change_keys(&next(), blobs(), SealedName::Successor).await.is_err());
    assert_eq!(sealed_form(&memory), 2, "it was made");
    records.put_document(Document::Policy, Text::new("policy").unwrap()).await.unwrap();
    assert!(records.are_keys_changing());
    records.renew_all().await.unwrap();
    drop(records);
    assert_whole(&Records::open(memory, &next()).await.unwrap(), "after a lost answer").await;
}

#[tokio::test]
async fn a_change_that_the_store_refuses_changes_nothing() {
    let memory = filled().await;
    let records = Records::open(memory.clone(), &kek(1)).await.unwrap();
    memory.fail_next.store(true, Ordering::Relaxed);
    assert!(records.change_keys(&next(), blobs(), SealedName::Successor).await.is_err());
    assert!(!records.are_keys_changing());
    assert_eq!(sealed_form(&memory), 1);
    append(&records, 40).await;
    assert_whole(&Records::open(memory, &kek(1)).await.unwrap(), "refused").await;
}

#[tokio::test]
async fn one_change_at_a_time() {
    let memory = filled().await;
    let records = Records::open(memory, &kek(1)).await.unwrap();
    records.change_keys(&next(), blobs(), SealedName::Successor).await.unwrap();
    let third = KeyEncryptionKey::generate(&SystemRandom::new()).unwrap();
    let refused = records.change_keys(&third, blobs(), SealedName::Successor).await;
    assert!(matches!(refused, Err(StoreError::KeysChanging)));
}

#[tokio::test]
async fn versions_stay_and_records_that_come_and_go_meanwhile_are_no_trouble() {
    let memory = filled().await;
    let records = Arc::new(Records::open(memory.clone(), &kek(1)).await.unwrap());
    let name = "a".parse().unwrap();
    let before = (records.version_of(&name), records.counter());
    records.change_keys(&next(), blobs(), SealedName::Successor).await.unwrap();
    let others = async {
        for number in 40..60 {
            append(&records, number).await;
            let settings =
                CredentialSettings { kind: Kind::Release, token_lifetime: 1, lease_idle: 60, cache_idle: None };
            let master = SecretBytes::copy_and_wipe(&mut b"new".to_vec()).unwrap();
            let another = format!("n{number}").parse().unwrap();
            records.put_master(&another, settings, &master, IfPresent::Refuse).await.unwrap();
            assert_whole(&records, "meanwhile").await;
            records.remove_master(&another).await.unwrap();
        }
    };
    let (renewed, ()) = tokio::join!(records.renew_all(), others);
    renewed.unwrap();
    assert_eq!(records.version_of(&name), before.0, "it was not replaced");
    assert!(records.counter() > before.1);
    assert_eq!(under(&kek(1), &memory), Vec::<String>::new());
    assert_whole(&Records::open(memory, &next()).await.unwrap(), "after it").await;
}
