//! What an attacker does to the audit is found.

mod together;

use std::sync::Arc;
use std::time::Instant;

use blindferry_handle::secret::SecretBytes;
use blindferry_proto::audit::Event;
use blindferry_proto::bounded::{Text, decode, encode};
use blindferry_proto::front::Table;
use blindferry_proto::limits::MAX_STORED;

use super::*;
use crate::clock::Clock;
use crate::sealed::KeyEncryptionKey;
use crate::store::memory::Memory;

fn kek() -> KeyEncryptionKey {
    KeyEncryptionKey::from_secret(SecretBytes::copy_and_wipe(&mut [4; 32]).unwrap()).unwrap()
}

fn signer() -> Signer {
    Signer::new(kek().audit_signing_seed().unwrap()).unwrap()
}

fn event(text: &str) -> Event {
    Event::Started { notes: Text::new(text).unwrap() }
}

fn chain_of(count: u64) -> (AuditKey, Vec<Record>) {
    let signer = signer();
    let texts = (0..count).map(|n| n.to_string());
    (signer.key(), signed(&signer, None, texts))
}

/// Records of as few transactions as it takes, that follow `head`.
fn signed(signer: &Signer, head: Option<Head>, texts: impl IntoIterator<Item = String>) -> Vec<Record> {
    let mut chain = signer.chain(head).unwrap();
    for (at, text) in (0..).zip(texts) {
        let _number = chain.append(event(&text), Vec::new(), at).unwrap();
    }
    chain.sign().unwrap().0.into_iter().map(|(_, record)| record).collect()
}

#[test]
fn an_untouched_chain_verifies_whole_and_in_parts() {
    let (key, records) = chain_of(10);
    let whole = verify(&records, &key, None).unwrap();
    assert_eq!((whole.count(), whole.head().unwrap().number), (10, 9));
    let part = verify(&records[..4], &key, None).unwrap();
    let rest = verify(&records[4..], &key, part.head()).unwrap();
    assert_eq!(rest.head(), whole.head());
    assert_eq!(verify(&[], &key, None).unwrap().head(), None);
}

#[test]
fn a_removed_record_is_found_wherever_it_was() {
    let (key, records) = chain_of(6);
    let head = verify(&records, &key, None).unwrap().head();
    for gone in 0..records.len() {
        let mut left = records.clone();
        left.remove(gone);
        match verify(&left, &key, None) {
            Err(ChainError::Number { expected, .. }) => assert_eq!(expected, gone as u64),
            // The last one leaves no gap: the head tells.
            Ok(verified) => assert!(gone == 5 && verified.head() != head),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_reordered_chain_and_one_cut_in_its_middle_are_found() {
    let (key, records) = chain_of(6);
    let mut swapped = records.clone();
    swapped.swap(2, 3);
    assert!(matches!(verify(&swapped, &key, None), Err(ChainError::Number { found: 3, expected: 2 })));
    let cut: Vec<_> = records[..2].iter().chain(&records[4..]).collect();
    assert!(matches!(verify(cut, &key, None), Err(ChainError::Number { found: 4, expected: 2 })));
}

#[test]
fn a_changed_record_is_found_in_every_byte() {
    let (key, records) = chain_of(3);
    let encoded = encode(&records[1], MAX_STORED).unwrap();
    for at in 0..encoded.len() {
        let mut bytes = encoded.clone();
        bytes[at] ^= 1;
        let Ok(changed) = decode::<Record>(&bytes, MAX_STORED) else { continue };
        assert!(verify([&records[0], &changed, &records[2]], &key, None).is_err(), "byte {at}");
    }
}

#[test]
fn a_record_signed_by_another_key_is_found() {
    let (key, records) = chain_of(3);
    let other = Signer::new(SecretBytes::copy_and_wipe(&mut [8; 32]).unwrap()).unwrap();
    let head = verify(&records[..1], &key, None).unwrap().head();
    let forged = signed(&other, head, ["forged".to_owned()]);
    assert!(matches!(verify([&records[0], &forged[0]], &key, None), Err(ChainError::Signature { number: 1 })));
}

#[test]
fn a_history_rewritten_with_the_right_key_does_not_lead_to_a_remembered_head() {
    let (key, records) = chain_of(3);
    let remembered = verify(&records[..2], &key, None).unwrap().head();
    let rewritten = signed(&signer(), None, vec!["other".to_owned(); 3]);
    assert!(matches!(verify(&rewritten[2..], &key, remembered), Err(ChainError::Link { number: 2 })));
}

#[test]
fn the_longest_event_fits_a_record() {
    let event = Event::NotAttested {
        host: "h".repeat(128).parse().unwrap(),
        role: blindferry_proto::role::Role::Broker,
        code: Text::new("c".repeat(64)).unwrap(),
        detail: Text::new("d".repeat(512)).unwrap(),
    };
    assert!(signer().chain(None).unwrap().append(event, Vec::new(), u64::MAX).is_ok());
}

type Attack<'a> = &'a dyn Fn(&mut crate::store::memory::Contents);

async fn running(memory: Arc<Memory>) -> Auditor<Arc<Memory>> {
    let records = match Records::open(memory.clone(), &kek()).await {
        Err(StoreError::NotInitialised) => Records::create(memory, &kek(), vec![]).await.unwrap(),
        other => other.unwrap(),
    };
    let (auditor, writer) = Auditor::open(Arc::new(records), signer(), Clock::start().unwrap()).await.unwrap();
    tokio::spawn(writer.run());
    auditor
}

async fn all(auditor: &Auditor<Arc<Memory>>) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let page = auditor.read(records.len() as u64, 64).await.unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

#[tokio::test]
async fn records_survive_a_restart_and_the_chain_goes_on() {
    let memory = Arc::new(Memory::default());
    let auditor = running(memory.clone()).await;
    for n in 0..40 {
        assert_eq!(auditor.record(event("x")).await.unwrap().number(), n);
    }
    let auditor = running(memory.clone()).await;
    assert_eq!(auditor.record(event("later")).await.unwrap().number(), 40);
    let records = all(&auditor).await;
    let verified = verify(&records, &auditor.key(), None).unwrap();
    assert_eq!((verified.count(), verified.head()), (41, auditor.head()));
    for ((table, _), stored) in memory.contents.lock().unwrap().iter() {
        assert!(*table != Table::Audit || !stored.windows(5).any(|window| window == b"later"));
    }
}

/// Who compares what it was given with the head would take the record for a made-up one.
#[tokio::test]
async fn a_record_that_is_stored_before_its_writer_has_heard_so_is_not_given_out() {
    let memory = Arc::new(Memory::default());
    let auditor = running(memory.clone()).await;
    assert_eq!(auditor.record(event("known")).await.unwrap().number(), 0);
    // Writes to the same store, as a commit does whose answer is still on its way.
    let other = running(memory.clone()).await;
    assert_eq!(other.record(event("under way")).await.unwrap().number(), 1);
    let rows = memory.contents.lock().unwrap().keys().filter(|(table, _)| *table == Table::Audit).count();
    assert_eq!(rows, 2, "it is in the store");
    let records = all(&auditor).await;
    assert_eq!(verify(&records, &auditor.key(), None).unwrap().head(), auditor.head());
    assert_eq!(records.len(), 1);
}

#[tokio::test]
async fn concurrent_events_are_all_recorded_in_one_chain() {
    let auditor = running(Arc::new(Memory::default())).await;
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let auditor = auditor.clone();
            tokio::spawn(async move { auditor.record(event(&n.to_string())).await.unwrap().number() })
        })
        .collect();
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(verify(&all(&auditor).await, &auditor.key(), None).unwrap().count(), 100);
}

/// Time stands still but for what waits for it.
#[tokio::test(start_paused = true)]
async fn a_report_goes_with_what_follows_it_and_waits_for_it_no_longer_than_a_moment() {
    let auditor = running(Arc::new(Memory::default())).await;
    let transactions = || auditor.records.counter();
    let (before, start) = (transactions(), tokio::time::Instant::now());
    let (first, second, third) =
        tokio::join!(auditor.report(event("a")), auditor.report(event("b")), auditor.record(event("c")));
    assert_eq!([first, second, third].map(|recorded| recorded.unwrap().number()), [0, 1, 2]);
    assert_eq!((transactions(), start.elapsed()), (before + 1, Duration::ZERO), "what has haste waits for nobody");

    // The writer waits already when somebody comes who has haste.
    let waiting = tokio::spawn({
        let auditor = auditor.clone();
        async move { auditor.report(event("d")).await.is_ok() }
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished(), "a report was written by itself at once");
    assert_eq!(auditor.record(event("e")).await.unwrap().number(), 4);
    assert!(waiting.await.unwrap());
    assert_eq!((transactions(), start.elapsed()), (before + 2, Duration::ZERO));

    assert_eq!(auditor.report(event("f")).await.unwrap().number(), 5);
    assert!((LINGER..LINGER * 2).contains(&start.elapsed()), "alone it took {:?}", start.elapsed());
    assert_eq!(transactions(), before + 3);
}

#[tokio::test]
async fn events_that_are_entered_one_after_the_other_share_a_transaction_and_are_durable_together() {
    let auditor = running(Arc::new(Memory::default())).await;
    let before = auditor.records.counter();
    let first = auditor.enter(event("opened")).await.unwrap();
    let second = auditor.enter(event("handed over")).await.unwrap();
    assert_eq!(auditor.records.counter(), before, "it was written before it was waited for");
    assert_eq!((first.durable().await.unwrap().number(), second.durable().await.unwrap().number()), (0, 1));
    assert_eq!(auditor.records.counter(), before + 1);

    let first = auditor.record(event("opened")).await.unwrap().number();
    let second = auditor.record(event("handed over")).await.unwrap().number();
    assert_eq!((first, second, auditor.records.counter()), (2, 3, before + 3), "each by itself");
}

#[tokio::test]
async fn what_the_store_does_to_the_audit_is_found_at_the_start() {
    let memory = Arc::new(Memory::default());
    let auditor = running(memory.clone()).await;
    for _ in 0..5 {
        let _ = auditor.record(event("x")).await.unwrap();
    }
    let honest = memory.contents.lock().unwrap().clone();
    let row = |number: u64| (Table::Audit, number.to_be_bytes().to_vec());
    let attacks: [(&str, Attack<'_>); 4] = [
        ("cut the last", &|contents| drop(contents.remove(&row(4)))),
        ("empty it", &|contents| contents.retain(|(table, _), _| *table != Table::Audit)),
        ("replay an older row as the last", &|contents| drop(contents.insert(row(4), contents[&row(3)].clone()))),
        ("add one", &|contents| drop(contents.insert(row(5), contents[&row(4)].clone()))),
    ];
    for (what, attack) in attacks {
        let mut contents = honest.clone();
        attack(&mut contents);
        let tampered = Arc::new(Memory { contents: contents.into(), ..Memory::default() });
        let records = Arc::new(Records::open(tampered, &kek()).await.unwrap());
        let opened = Auditor::open(records, signer(), Clock::start().unwrap()).await;
        assert!(
            matches!(opened, Err(AuditError::Store(error)) if matches!(*error, StoreError::Tampered { .. })),
            "{what}"
        );
    }
    // A gap in the middle is found by who reads.
    memory.contents.lock().unwrap().remove(&row(2));
    assert!(auditor.read(0, 64).await.is_err());
    assert!(auditor.read(2, 64).await.is_err());
}

#[tokio::test]
async fn a_record_whose_answer_got_lost_does_not_break_the_chain() {
    let memory = Arc::new(Memory::default());
    let auditor = running(memory.clone()).await;
    let _ = auditor.record(event("one")).await.unwrap();
    memory.lose_next_answer.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(auditor.record(event("two")).await.is_err());
    assert_eq!(auditor.record(event("three")).await.unwrap().number(), 2);
    assert_eq!(verify(&all(&auditor).await, &auditor.key(), None).unwrap().count(), 3);
}

#[tokio::test]
async fn throughput_is_printed() {
    let auditor = running(Arc::new(Memory::default())).await;
    let start = Instant::now();
    let tasks: Vec<_> = (0..300)
        .map(|_| {
            let auditor = auditor.clone();
            tokio::spawn(async move { auditor.record(event("x")).await.is_ok() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    println!("300 records in {:?} over a store in memory", start.elapsed());
}

#[test]
fn dangers_are_bounded_and_those_that_are_left_out_are_counted() {
    let lines = |count: usize| (0..count).map(|n| format!("dangerously_{n}")).collect::<Vec<_>>();
    for count in 0..=MAX_DANGERS {
        let all: Vec<String> = named(&lines(count)).iter().map(ToString::to_string).collect();
        assert_eq!(all, lines(count));
    }
    let named = named(&lines(300));
    assert_eq!(named.len(), MAX_DANGERS);
    assert_eq!(named.last().unwrap().as_str(), format!("dangerously: and {} more", 300 - MAX_DANGERS + 1));
}
