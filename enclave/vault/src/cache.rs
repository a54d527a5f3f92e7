//! Masters that stay open for a while because their settings ask for it. Without that a master is opened for one use.

use crate::store::{Backing, Master, Records, StoreError};
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
    /// The master of that name: the open one, or one that is opened now. Who drops the last copy wipes it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or does not verify.
    pub async fn master<B: Backing>(
        &self,
        name: &CredentialName,
        records: &Records<B>,
        now: u64,
    ) -> Result<Option<Arc<Master>>, StoreError> {
        if let Some(cached) = lock(&self.0).get_mut(name) {
            cached.used = now;
            return Ok(Some(Arc::clone(&cached.master)));
        }
        let Some(master) = records.master(name).await?.map(Arc::new) else { return Ok(None) };
        if let Some(idle) = master.settings.cache_idle {
            lock(&self.0).insert(name.clone(), Cached { master: Arc::clone(&master), idle, used: now });
        }
        Ok(Some(master))
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
    use blindferry_handle::secret::SecretBytes;
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

    #[tokio::test]
    async fn a_master_is_opened_for_one_use_unless_its_settings_say_otherwise() {
        let (records, name) = records(None).await;
        let cache = MasterCache::default();
        let master = cache.master(&name, &records, 0).await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&master), 1, "somebody else keeps it");
    }

    #[tokio::test]
    async fn a_cached_master_goes_when_nobody_used_it_for_its_time_and_not_before() {
        let (records, name) = records(Some(60)).await;
        let cache = MasterCache::default();
        let master = cache.master(&name, &records, 0).await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&master), 2);
        assert!(cache.evict(59).is_empty());
        cache.master(&name, &records, 59).await.unwrap().unwrap();
        assert!(cache.evict(118).is_empty(), "a use did not count");
        assert_eq!(cache.evict(119), [name]);
        assert_eq!(Arc::strong_count(&master), 1);
    }

    #[tokio::test]
    async fn a_master_that_was_replaced_is_not_served_from_the_cache() {
        let (records, name) = records(Some(60)).await;
        let cache = MasterCache::default();
        cache.master(&name, &records, 0).await.unwrap().unwrap();
        let settings = records.settings(&name).await.unwrap().unwrap();
        let other = SecretBytes::copy_and_wipe(&mut b"another".to_vec()).unwrap();
        records.put_master(&name, settings, &other, IfPresent::Replace).await.unwrap();
        cache.forget(&name);
        let master = cache.master(&name, &records, 1).await.unwrap().unwrap();
        assert!(master.secret.ct_eq(b"another"));
    }
}
