//! Whatever the store does, the vault reads what it wrote, or finds out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::bounded::Text;
use blindferry_proto::credential::{CredentialSettings, Kind};
use blindferry_proto::identifier::{EkDigest, Machine};
use blindferry_proto::name::{CredentialName, HostName};
use blindferry_proto::role::Role;
use proptest::prelude::*;

use super::memory::{Contents, Memory};
use super::*;
use crate::host::{HostRecord, Place as HostPlace};

fn kek() -> KeyEncryptionKey {
    KeyEncryptionKey::from_secret(SecretBytes::copy_and_wipe(&mut [9; 32]).unwrap()).unwrap()
}

fn settings(lifetime: u32) -> CredentialSettings {
    CredentialSettings { kind: Kind::Release, token_lifetime: lifetime, lease_idle: 60, cache_idle: None }
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_and_wipe(&mut text.as_bytes().to_vec()).unwrap()
}

fn name(text: &str) -> CredentialName {
    text.parse().unwrap()
}

fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

fn host_record(byte: u8) -> HostRecord {
    HostRecord { role: Role::Broker, place: HostPlace::Allowed(Machine::Ek(EkDigest([byte; 32]))), since: 5 }
}

async fn fresh() -> (Arc<Memory>, Records<Arc<Memory>>) {
    let memory = Arc::new(Memory::default());
    let records = Records::create(memory.clone(), &kek(), vec![(SealedName::Recovery, vec![1])]).await.unwrap();
    (memory, records)
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let (memory, records) = fresh().await;
    records.put_master(&name("a"), settings(1), &secret("hunter2"), IfPresent::Refuse).await.unwrap();
    records.put_host(&host("web-1"), &host_record(1)).await.unwrap();
    assert_eq!(records.put_document(Document::Policy, Text::new("one").unwrap()).await.unwrap(), 1);
    assert_eq!(records.put_document(Document::Policy, Text::new("two").unwrap()).await.unwrap(), 2);
    let counter = records.counter();
    drop(records);

    let records = Records::open(memory.clone(), &kek()).await.unwrap();
    let master = records.master(&name("a")).await.unwrap().unwrap();
    assert!(master.secret.wake().unwrap().ct_eq(b"hunter2"));
    assert_eq!(master.settings, settings(1));
    assert_eq!(records.host(&host("web-1")).await.unwrap(), Some(host_record(1)));
    assert_eq!(records.document(Document::Policy).await.unwrap().unwrap().text.as_str(), "two");
    assert_eq!(records.document(Document::BrokerReference).await.unwrap(), None);
    assert_eq!(records.counter(), counter);
    assert_eq!(sealed_get(&memory, SealedName::Recovery).await.unwrap(), Some(vec![1]));
    for stored in memory.contents.lock().unwrap().values() {
        assert!(!stored.windows(7).any(|window| window == b"hunter2"));
    }
}

#[tokio::test]
async fn a_master_is_not_replaced_unless_asked() {
    let (_, records) = fresh().await;
    let put = async |lifetime, text: &str, present| {
        records.put_master(&name("a"), settings(lifetime), &secret(text), present).await
    };
    put(1, "one", IfPresent::Refuse).await.unwrap();
    assert!(matches!(put(2, "two", IfPresent::Refuse).await, Err(StoreError::Exists { .. })));
    assert!(records.master(&name("a")).await.unwrap().unwrap().secret.wake().unwrap().ct_eq(b"one"));
    put(2, "two", IfPresent::Replace).await.unwrap();
    assert!(records.master(&name("a")).await.unwrap().unwrap().secret.wake().unwrap().ct_eq(b"two"));
    assert_eq!(records.remove_master(&name("a")).await.unwrap(), Removed::Gone);
    assert_eq!(records.remove_master(&name("a")).await.unwrap(), Removed::WasNotThere);
    assert!(records.master(&name("a")).await.unwrap().is_none());
}

#[tokio::test]
async fn listing_turns_pages_in_order() {
    let (memory, records) = fresh().await;
    for number in 0..150 {
        records.put_host(&host(&format!("h{number:03}")), &host_record(1)).await.unwrap();
    }
    let first = records.hosts(None).await.unwrap();
    assert_eq!(first.len(), MAX_PAGE);
    let last = &first.last().unwrap().0;
    assert_eq!(last.as_str(), "h063");
    assert_eq!(records.hosts(Some(last)).await.unwrap()[0].0.as_str(), "h064");
    assert!(records.hosts(Some(&host("h149"))).await.unwrap().is_empty());
    assert!(Records::open(memory, &kek()).await.is_ok());
}

#[tokio::test]
async fn initialising_twice_changes_nothing_and_erasing_allows_it() {
    let (memory, records) = fresh().await;
    records.put_host(&host("h"), &host_record(1)).await.unwrap();
    let before = memory.contents.lock().unwrap().clone();
    let again = Records::create(memory.clone(), &kek(), vec![]).await;
    assert!(matches!(again, Err(StoreError::AlreadyInitialised)));
    assert_eq!(*memory.contents.lock().unwrap(), before);
    erase(&memory).await.unwrap();
    assert!(memory.contents.lock().unwrap().is_empty());
    assert!(matches!(Records::open(memory.clone(), &kek()).await, Err(StoreError::NotInitialised)));
    Records::create(memory, &kek(), vec![]).await.unwrap();
}

#[tokio::test]
async fn another_key_opens_nothing() {
    let (memory, _) = fresh().await;
    let other = KeyEncryptionKey::generate(&SystemRandom::new()).unwrap();
    assert!(matches!(Records::open(memory, &other).await, Err(StoreError::Tampered { .. })));
}

#[tokio::test]
async fn a_change_whose_answer_got_lost_is_settled_by_the_next_turn() {
    let (memory, records) = fresh().await;
    records.put_host(&host("h"), &host_record(1)).await.unwrap();
    memory.lose_next_answer.store(true, Ordering::Relaxed);
    assert!(records.put_host(&host("h"), &host_record(2)).await.is_err());
    assert_eq!(records.host(&host("h")).await.unwrap(), Some(host_record(2)));
    records.put_host(&host("h"), &host_record(3)).await.unwrap();
    assert!(Records::open(memory, &kek()).await.is_ok());
}

#[tokio::test]
async fn a_change_that_is_abandoned_half_way_leaves_the_store_whole() {
    let (memory, records) = fresh().await;
    records.put_host(&host("h"), &host_record(1)).await.unwrap();
    {
        let (name, record) = (host("h"), host_record(2));
        let mut change = Box::pin(records.put_host(&name, &record));
        // Polled until it waits for the store, then dropped, as when a session ends.
        std::future::poll_fn(|context| {
            let _ = change.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert_eq!(records.host(&host("h")).await.unwrap(), Some(host_record(1)));
    records.put_host(&host("other"), &host_record(3)).await.unwrap();
    assert_eq!(records.host(&host("h")).await.unwrap(), Some(host_record(2)));
    assert!(Records::open(memory, &kek()).await.is_ok());
}

#[tokio::test]
async fn a_refused_change_changes_nothing() {
    let (memory, records) = fresh().await;
    memory.fail_next.store(true, Ordering::Relaxed);
    assert!(matches!(records.put_host(&host("h"), &host_record(1)).await, Err(StoreError::Refused { .. })));
    assert_eq!(records.host(&host("h")).await.unwrap(), None);
    records.put_host(&host("h"), &host_record(2)).await.unwrap();
    assert!(Records::open(memory, &kek()).await.is_ok());
}

#[tokio::test]
async fn rollback_of_the_whole_store_is_found_while_the_vault_runs() {
    let (memory, records) = fresh().await;
    records.put_host(&host("h"), &host_record(1)).await.unwrap();
    let earlier = memory.contents.lock().unwrap().clone();
    records.put_host(&host("h"), &host_record(2)).await.unwrap();
    *memory.contents.lock().unwrap() = earlier;
    let read = records.host(&host("h")).await;
    assert!(matches!(read, Err(StoreError::Tampered { what: Tampering::Changed, .. })), "{read:?}");
}

#[tokio::test]
async fn a_full_manifest_refuses_and_stays_whole() {
    let (memory, records) = fresh().await;
    // The longest names; all in one shard, as an attacker who may choose names would have it.
    let long = |number: u32| host(&format!("{number:0>128}"));
    let names = (0_u32..).map(long).filter(|name| Place::new(Table::Hosts, name.as_str()).falls_to() == 0);
    let mut kept = 0;
    for name in names.take(1000) {
        match records.put_host(&name, &host_record(1)).await {
            Ok(()) => kept += 1,
            Err(StoreError::Full) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!((150..500).contains(&kept), "{kept}");
    records.put_host(&host("another-shard"), &host_record(1)).await.unwrap();
    assert!(Records::open(memory, &kek()).await.is_ok());
}

/// What the attacker does to the store.
#[derive(Clone, Debug)]
enum Tamper {
    Drop(prop::sample::Index),
    Replay(prop::sample::Index, prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Truncate(prop::sample::Index, prop::sample::Index),
    Flip(prop::sample::Index, prop::sample::Index, u8),
    Copy(prop::sample::Index, u8),
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u32),
    Remove(u8),
    Host(u8, u8),
    Policy(u8),
    Reopen,
    Tamper(Tamper),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let tamper = prop_oneof![
        index().prop_map(Tamper::Drop),
        (index(), index()).prop_map(|(a, b)| Tamper::Replay(a, b)),
        (index(), index()).prop_map(|(a, b)| Tamper::Swap(a, b)),
        (index(), index()).prop_map(|(a, b)| Tamper::Truncate(a, b)),
        (index(), index(), 0..8_u8).prop_map(|(a, b, bit)| Tamper::Flip(a, b, bit)),
        (index(), 0..6_u8).prop_map(|(a, to)| Tamper::Copy(a, to)),
    ];
    prop_oneof![
        4 => (0..4_u8, any::<u32>()).prop_map(|(n, v)| Step::Put(n, v)),
        1 => (0..4_u8).prop_map(Step::Remove),
        3 => (0..4_u8, any::<u8>()).prop_map(|(n, v)| Step::Host(n, v)),
        1 => any::<u8>().prop_map(Step::Policy),
        1 => Just(Step::Reopen),
        2 => tamper.prop_map(Step::Tamper),
    ]
}

fn tamper(contents: &mut Contents, history: &[Contents], how: &Tamper) {
    let keys: Vec<_> = contents.keys().filter(|(table, _)| *table != Table::Sealed).cloned().collect();
    if keys.is_empty() {
        return;
    }
    let pick = |index: &prop::sample::Index| keys[index.index(keys.len())].clone();
    match how {
        Tamper::Drop(at) => {
            contents.remove(&pick(at));
        }
        Tamper::Replay(at, when) => {
            let key = pick(at);
            if let Some(old) = history[when.index(history.len())].get(&key) {
                contents.insert(key, old.clone());
            }
        }
        Tamper::Swap(one, other) => {
            let (one, other) = (pick(one), pick(other));
            let (a, b) = (contents[&one].clone(), contents[&other].clone());
            contents.insert(one, b);
            contents.insert(other, a);
        }
        Tamper::Truncate(at, length) => {
            let value = contents.get_mut(&pick(at)).unwrap();
            value.truncate(length.index(value.len().max(1)));
        }
        Tamper::Flip(at, byte, bit) => {
            let value = contents.get_mut(&pick(at)).unwrap();
            if !value.is_empty() {
                let byte = byte.index(value.len());
                value[byte] ^= 1 << bit;
            }
        }
        Tamper::Copy(at, to) => {
            let (table, key) = pick(at);
            let value = contents[&(table, key)].clone();
            contents.insert((table, format!("m{to}").into_bytes()), value);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_tampering_store_gives_right_data_or_is_found_out(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (memory, mut records) = fresh().await;
            let mut masters: BTreeMap<u8, u32> = BTreeMap::new();
            let mut hosts: BTreeMap<u8, u8> = BTreeMap::new();
            let mut policy = None;
            let mut history = vec![memory.contents.lock().unwrap().clone()];
            let mut tampered = false;
            for step in steps {
                // A change on top of a tampered store may be refused, never misapplied.
                match step {
                    Step::Put(n, v) => {
                        let (name, master) = (name(&format!("m{n}")), secret(&v.to_string()));
                        let put = records.put_master(&name, settings(v), &master, IfPresent::Replace).await;
                        prop_assert!(put.is_ok());
                        masters.insert(n, v);
                    }
                    Step::Remove(n) => {
                        let name = name(&format!("m{n}"));
                        prop_assert!(records.remove_master(&name).await.is_ok());
                        masters.remove(&n);
                    }
                    Step::Host(n, v) => {
                        let name = host(&format!("m{n}"));
                        prop_assert!(records.put_host(&name, &host_record(v)).await.is_ok());
                        hosts.insert(n, v);
                    }
                    Step::Policy(v) => match records.put_document(Document::Policy, Text::new(v.to_string()).unwrap()).await {
                        Ok(_) => policy = Some(v),
                        Err(StoreError::Tampered { .. }) => prop_assert!(tampered),
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    },
                    Step::Reopen => match Records::open(memory.clone(), &kek()).await {
                        // The whole as it was earlier: this cannot be seen in the store, only in its counter.
                        Ok(opened) if opened.counter() < records.counter() => {
                            prop_assert!(tampered);
                            return Ok(());
                        }
                        Ok(opened) => records = opened,
                        Err(StoreError::Tampered { .. } | StoreError::NotInitialised) => {
                            prop_assert!(tampered);
                            return Ok(());
                        }
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    },
                    Step::Tamper(how) => {
                        tamper(&mut memory.contents.lock().unwrap(), &history, &how);
                        tampered = true;
                    }
                }
                history.push(memory.contents.lock().unwrap().clone());

                for n in 0..6 {
                    match records.master(&name(&format!("m{n}"))).await {
                        Ok(Some(master)) => {
                            let right = masters.get(&n).copied();
                            prop_assert_eq!(Some(master.settings.token_lifetime), right);
                            prop_assert!(master.secret.wake().unwrap().ct_eq(right.unwrap().to_string().as_bytes()));
                        }
                        Ok(None) => prop_assert!(!masters.contains_key(&n)),
                        Err(StoreError::Tampered { .. }) => prop_assert!(tampered),
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    }
                    match records.host(&host(&format!("m{n}"))).await {
                        Ok(found) => prop_assert_eq!(found, hosts.get(&n).map(|v| host_record(*v))),
                        Err(StoreError::Tampered { .. }) => prop_assert!(tampered),
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    }
                }
                match records.document(Document::Policy).await {
                    Ok(found) => prop_assert_eq!(found.map(|d| d.text.as_str().to_owned()), policy.map(|v: u8| v.to_string())),
                    Err(StoreError::Tampered { .. }) => prop_assert!(tampered),
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                }
            }
            Ok(())
        })?;
    }
}

/// What policy judged is what is minted: settings and master are of one reading, whatever is stored meanwhile.
#[tokio::test]
async fn a_credential_that_was_read_opens_as_it_was_read_whatever_takes_its_place() {
    let (memory, records) = fresh().await;
    records.put_master(&name("a"), settings(1), &secret("one"), IfPresent::Refuse).await.unwrap();
    let judged = records.credential(&name("a")).await.unwrap().unwrap();
    let version = judged.version();
    assert_eq!(records.version_of(&name("a")), Some(version));
    records.put_master(&name("a"), settings(2), &secret("two"), IfPresent::Replace).await.unwrap();
    assert!(records.version_of(&name("a")) > Some(version));
    memory.contents.lock().unwrap().clear(); // nor is the store asked again
    let master = records.open_master(&judged).unwrap();
    assert_eq!((master.settings, master.version), (settings(1), version));
    assert!(master.secret.wake().unwrap().ct_eq(b"one"));
}
