//! Masters that stay open for a while because their settings ask for it. Without that a master is opened for one use.
//!
//! An open master is used for the very version of its record that was asked for, and kept only while that is the newest.
//! Between its uses its pages are without access.

use crate::store::{Backing, Credential, Master, Records, StoreError};
use crate::vault::lock;
use blindferry_proto::name::CredentialName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Open masters by name. Each is wiped when nobody used it for as long as its settings say.
#[derive(Debug, Default)]
pub struct MasterCache(Mutex<HashMap<CredentialName, Cached>>);

#[derive(Debug)]
struct Cached {
    master: Arc<Master>,
    idle: u32,
    used: u64,
}

impl MasterCache {
    /// The master of a record that was read: the open one of the same version, or one that is opened now. Who drops the
    /// last copy wipes it.
    ///
    /// # Errors
    /// [`StoreError`] when it does not verify or there is no room for it.
    pub fn master<B: Backing>(
        &self,
        credential: &Credential,
        records: &Records<B>,
        now: u64,
    ) -> Result<Arc<Master>, StoreError> {
        let (name, version) = (credential.name().clone(), credential.version());
        if let Some(master) = self.open_one(&name, version, now) {
            return Ok(master);
        }
        let master = Arc::new(records.open_master(credential)?);
        // A record that was replaced or removed since it was read serves this one use. Whoever replaces it forgets it
        // here afterwards, so what is kept is either the newest or about to be forgotten.
        if let Some(idle) = master.settings.cache_idle
            && records.version_of(&name) == Some(version)
        {
            lock(&self.0).insert(name, Cached { master: Arc::clone(&master), idle, used: now });
        }
        Ok(master)
    }

    /// The master of that name as it is now: the open one, or one that is read and opened.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or does not verify.
    pub async fn newest<B: Backing>(
        &self,
        name: &CredentialName,
        records: &Records<B>,
        now: u64,
    ) -> Result<Option<Arc<Master>>, StoreError> {
        if let Some(master) = records.version_of(name).and_then(|version| self.open_one(name, version, now)) {
            return Ok(Some(master));
        }
        records.credential(name).await?.map(|credential| self.master(&credential, records, now)).transpose()
    }

    fn open_one(&self, name: &CredentialName, version: u64, now: u64) -> Option<Arc<Master>> {
        let mut open = lock(&self.0);
        let cached = open.get_mut(name).filter(|cached| cached.master.version == version)?;
        cached.used = now;
        Some(Arc::clone(&cached.master))
    }

    /// Wipes a master that was replaced or removed.
    pub fn forget(&self, name: &CredentialName) {
        lock(&self.0).remove(name);
    }

    /// Wipes what nobody used for its time, and says which.
    pub fn evict(&self, now: u64) -> Vec<CredentialName> {
        let mut cached = lock(&self.0);
        let idle: Vec<CredentialName> = cached
            .iter()
            .filter(|(_, cached)| now.saturating_sub(cached.used) >= u64::from(cached.idle))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &idle {
            cached.remove(name);
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::KeyEncryptionKey;
    use crate::store::IfPresent;
    use crate::store::memory::Memory;
    use blindferry_handle::secret::{Protection, SecretBytes, protection};
    use blindferry_proto::credential::{CredentialSettings, Kind};
    use ring::rand::SystemRandom;

    async fn records(cache_idle: Option<u32>) -> (Records<Arc<Memory>>, CredentialName) {
        let kek = KeyEncryptionKey::generate(&SystemRandom::new()).unwrap();
        let records = Records::create(Arc::new(Memory::default()), &kek, Vec::new()).await.unwrap();
        let name: CredentialName = "api".parse().unwrap();
        let settings = CredentialSettings { kind: Kind::Release, token_lifetime: 60, lease_idle: 60, cache_idle };
        let master = SecretBytes::copy_and_wipe(&mut b"master".to_vec()).unwrap();
        records.put_master(&name, settings, &master, IfPresent::Refuse).await.unwrap();
        (records, name)
    }

    async fn read(records: &Records<Arc<Memory>>, name: &CredentialName) -> Arc<Credential> {
        records.credential(name).await.unwrap().unwrap()
    }

    async fn replace(records: &Records<Arc<Memory>>, name: &CredentialName) {
        let settings = read(records, name).await.settings().clone();
        let other = SecretBytes::copy_and_wipe(&mut b"another".to_vec()).unwrap();
        records.put_master(name, settings, &other, IfPresent::Replace).await.unwrap();
    }

    #[tokio::test]
    async fn a_master_is_opened_for_one_use_unless_its_settings_say_otherwise() {
        let (records, name) = records(None).await;
        let cache = MasterCache::default();
        let master = cache.master(&*read(&records, &name).await, &records, 0).unwrap();
        assert_eq!(Arc::strong_count(&master), 1, "somebody else keeps it");
    }

    #[tokio::test]
    async fn a_cached_master_goes_when_nobody_used_it_for_its_time_and_not_before() {
        let (records, name) = records(Some(60)).await;
        let cache = MasterCache::default();
        let master = cache.newest(&name, &records, 0).await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&master), 2);
        assert!(cache.evict(59).is_empty());
        let again = cache.master(&*read(&records, &name).await, &records, 59).unwrap();
        assert!(Arc::ptr_eq(&master, &again), "it was opened twice");
        drop(again);
        assert!(cache.evict(118).is_empty(), "a use did not count");
        assert_eq!(cache.evict(119), [name]);
        assert_eq!(Arc::strong_count(&master), 1);
    }

    /// Secret pages of this process that it cannot access itself.
    fn shut_pages() -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("/secretmem") && line.contains(" ---s ")).count()
    }

    #[tokio::test]
    async fn a_cached_master_can_be_read_while_it_is_used_and_at_no_other_time() {
        if protection() != Protection::SecretMemory {
            println!("skipped: {}", protection().warning().unwrap());
            return;
        }
        let (records, name) = records(Some(60)).await;
        let cache = MasterCache::default();
        assert_eq!(shut_pages(), 0);
        let master = cache.newest(&name, &records, 0).await.unwrap().unwrap();
        assert_eq!(shut_pages(), 1);
        let used = master.secret.wake().unwrap();
        assert_eq!((shut_pages(), used.ct_eq(b"master")), (0, true));
        drop(used);
        drop(master);
        assert_eq!(shut_pages(), 1, "it is kept, and nobody uses it");
        cache.evict(60);
        assert_eq!(shut_pages(), 0, "its page serves again");
    }

    #[tokio::test]
    async fn a_master_that_was_replaced_is_not_served_from_the_cache_whether_forgotten_or_not() {
        let (records, name) = records(Some(60)).await;
        let cache = MasterCache::default();
        cache.newest(&name, &records, 0).await.unwrap().unwrap();
        replace(&records, &name).await;
        let master = cache.newest(&name, &records, 1).await.unwrap().unwrap();
        assert!(master.secret.wake().unwrap().ct_eq(b"another"), "served before it was forgotten");
        assert_eq!(Arc::strong_count(&master), 2, "the new one is not kept");
        cache.forget(&name);
        assert_eq!(Arc::strong_count(&master), 1);
    }

    /// Read, then replaced and forgotten, then opened: the one who read it gets what was read, and nobody else does.
    #[tokio::test]
    async fn a_master_that_was_replaced_between_reading_and_opening_is_used_once_and_not_kept() {
        let (records, name) = records(Some(60)).await;
        let cache = MasterCache::default();
        let before = read(&records, &name).await;
        replace(&records, &name).await;
        cache.forget(&name);
        let old = cache.master(&before, &records, 0).unwrap();
        assert!(old.secret.wake().unwrap().ct_eq(b"master"));
        assert_eq!(Arc::strong_count(&old), 1, "the old master stays open");
        let new = cache.newest(&name, &records, 0).await.unwrap().unwrap();
        assert!(new.secret.wake().unwrap().ct_eq(b"another") && new.version > old.version);
    }

    #[tokio::test]
    async fn a_master_that_was_removed_between_reading_and_opening_is_not_kept() {
        let (records, name) = records(Some(60)).await;
        let cache = MasterCache::default();
        let before = read(&records, &name).await;
        records.remove_master(&name).await.unwrap();
        cache.forget(&name);
        assert_eq!(Arc::strong_count(&cache.master(&before, &records, 0).unwrap()), 1);
        assert!(cache.newest(&name, &records, 0).await.unwrap().is_none());
    }
}
