//! Credentials that were read a moment ago, their masters still encrypted: a crossing asks for the same record twice, and
//! a busy one is asked for all the time.
//!
//! What is held is used only while the manifest names the very bytes that it was read from, so it is never older than
//! the newest change. What a store has done to its own copy meanwhile is found when it is read again, [`HELD`] later at
//! most.

use super::manifest::Entry;
use super::typed::Credential;
use blindferry_proto::name::CredentialName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// After this time a record is read again.
pub(super) const HELD: Duration = Duration::from_secs(1);
/// Records that are held at once; others are read each time.
const MOST: usize = 256;
/// Bytes of an encrypted master that is held: with [`MOST`] this is 1 MiB at most.
const LONGEST: usize = 4096;

/// Credentials by name, each for a moment.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashMap<CredentialName, Reading>>);

#[derive(Debug)]
struct Reading {
    entry: Entry,
    credential: Arc<Credential>,
    until: Instant,
}

impl Held {
    /// The credential, if it is held as the manifest has it.
    pub(super) fn get(&self, name: &CredentialName, known: Option<Entry>, now: Instant) -> Option<Arc<Credential>> {
        let held = self.lock();
        let reading = held.get(name).filter(|reading| Some(reading.entry) == known && now < reading.until)?;
        Some(Arc::clone(&reading.credential))
    }

    /// Holds what was read as the manifest has it.
    pub(super) fn keep(&self, entry: Entry, credential: &Arc<Credential>, now: Instant) {
        if credential.sealed_len() > LONGEST {
            return;
        }
        let mut held = self.lock();
        if held.len() >= MOST {
            held.retain(|_, reading| now < reading.until);
        }
        if held.len() < MOST || held.contains_key(credential.name()) {
            let reading = Reading { entry, credential: Arc::clone(credential), until: now + HELD };
            held.insert(credential.name().clone(), reading);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CredentialName, Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::KeyEncryptionKey;
    use crate::store::memory::Memory;
    use crate::store::{IfPresent, Records, StoreError, Tampering};
    use blindferry_handle::secret::SecretBytes;
    use blindferry_proto::credential::{CredentialSettings, Kind};
    use ring::rand::SystemRandom;
    use tokio::time::advance;

    async fn fresh() -> (Arc<Memory>, Records<Arc<Memory>>) {
        let memory = Arc::new(Memory::default());
        let kek = KeyEncryptionKey::generate(&SystemRandom::new()).unwrap();
        (Arc::clone(&memory), Records::create(memory, &kek, Vec::new()).await.unwrap())
    }

    async fn put(records: &Records<Arc<Memory>>, name: &CredentialName, master: &[u8]) {
        let settings = CredentialSettings { kind: Kind::Release, token_lifetime: 60, lease_idle: 60, cache_idle: None };
        let master = SecretBytes::copy_and_wipe(&mut master.to_vec()).unwrap();
        records.put_master(name, settings, &master, IfPresent::Replace).await.unwrap();
    }

    fn name(text: &str) -> CredentialName {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_just_read_is_not_asked_for_again_and_a_lie_about_it_is_found_when_its_moment_is_over() {
        let (memory, records) = fresh().await;
        put(&records, &name("a"), b"one").await;
        records.credential(&name("a")).await.unwrap().unwrap();
        memory.contents.lock().unwrap().clear();
        advance(HELD - Duration::from_millis(1)).await;
        assert!(records.credential(&name("a")).await.unwrap().is_some(), "it was asked for again");
        // Being used does not lengthen it.
        advance(Duration::from_millis(1)).await;
        let found = records.credential(&name("a")).await.unwrap_err();
        assert!(matches!(found, StoreError::Tampered { what: Tampering::Missing, .. }), "{found}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_replaced_or_removed_is_not_served_for_a_moment_longer() {
        let (_, records) = fresh().await;
        for master in [b"one", b"two"] {
            put(&records, &name("a"), master).await;
            assert!(records.master(&name("a")).await.unwrap().unwrap().secret.wake().unwrap().ct_eq(master));
        }
        records.remove_master(&name("a")).await.unwrap();
        assert!(records.credential(&name("a")).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_held_than_there_is_room_for_and_nothing_that_is_long() {
        let (memory, records) = fresh().await;
        put(&records, &name("long"), &[7; LONGEST]).await;
        let names: Vec<_> = (0..=MOST).map(|n| name(&format!("m{n}"))).chain([name("long")]).collect();
        for name in &names[..=MOST] {
            put(&records, name, b"a master").await;
        }
        for name in &names {
            records.credential(name).await.unwrap().unwrap();
        }
        memory.contents.lock().unwrap().clear();
        let mut served = 0;
        for name in &names {
            served += usize::from(records.credential(name).await.is_ok());
        }
        assert_eq!(served, MOST, "the long one and one of the others are asked for again");
    }
}
